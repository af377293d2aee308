"""`mura doctor` says what is wrong, and where."""

import os
import re
from pathlib import Path

import pytest

from components.cli import doctor, main
from components.signing import keys


@pytest.fixture(autouse=True)
def well(no_mlflow: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A place where nothing is missing."""
    no_mlflow.setenv("MPLCONFIGDIR", str(tmp_path / "new/matplotlib"))
    no_mlflow.setenv("KERAS_HOME", str(tmp_path))
    no_mlflow.setattr(doctor, "NVIDIA_DRIVER", tmp_path / "driver")


def lines(text: str, sign: str) -> list[str]:
    return [line.split("  ")[1] for line in text.splitlines() if line.startswith(sign)]


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["doctor"]) == 0
    told = capsys.readouterr().out
    assert lines(told, "no") == []
    assert lines(told, "ok")[-2:] == ["TensorFlow", "GPU"]
    assert "computes on CPU" in told


def test_a_place_that_cannot_be_written_to_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "file"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main.run(["doctor"]) == 2
    told = capsys.readouterr()
    assert lines(told.out, "no") == ["Matplotlib's cache", "MLflow"]
    assert str(tmp_path / "file") in told.out
    assert told.err.splitlines()[-1] == "error: doctor: 2 of 10 checks failed; the lines with `no` say what to do."


def test_variables_with_a_wrong_value_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {
        "MURA_MEETING_SECONDS": "soon",
        "MURA_CHECKPOINTS": "/checkpoints",
        "MURA_WEBHOOK_URL": "secret",
        "MURA_PATIENCE": "abc",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    assert main.run(["doctor"]) == 2
    told = capsys.readouterr().out
    assert lines(told, "no") == [*wrong]
    assert "MURA_PATIENCE is abc: expected seconds" in told
    assert "secret" not in told


def test_who_signs_and_who_is_trusted_is_told_and_no_key_is_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def told() -> str:
        code = main.run(["doctor"])
        (line,) = [line for line in capsys.readouterr().out.splitlines() if re.match(r"\S+ +keys ", line)]
        return f"{code} {' '.join(line.split())}"

    signs, trusted = os.environ[keys.SIGNING_KEY], os.environ[keys.TRUSTED_KEYS]
    assert re.search(r"keys signs as \w+; trusted: \w+$", told())
    monkeypatch.setenv(keys.SIGNING_KEY, str(tmp_path / "missing.pem"))
    assert re.match(r"2 no keys .*missing\.pem: cannot be read", told())
    monkeypatch.setenv(keys.SIGNING_KEY, keys.drawn().decode())
    assert "is not among the trusted keys" in told()
    monkeypatch.delenv(keys.SIGNING_KEY)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert "none that signs: versions can be verified here, not registered; trusted: " in told()
    monkeypatch.delenv(keys.TRUSTED_KEYS)
    monkeypatch.chdir(tmp_path)
    assert "none yet: the first `mura register` in a checkout makes a pair" in told()
    assert not (tmp_path / "config").exists()
    monkeypatch.setenv(keys.SIGNING_KEY, signs)
    assert "nobody is trusted yet" in told()
    assert not (tmp_path / keys.TRUSTED).exists()
    monkeypatch.setenv(keys.TRUSTED_KEYS, trusted)


def test_a_silent_mlflow_alone_is_a_service_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main.run(["doctor"]) == 5


@pytest.mark.parametrize(("driver", "flags"), [(False, ["--require-gpu"]), (True, [])])
def test_a_gpu_that_should_be_there_and_is_not(
    driver: bool, flags: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if driver:
        (tmp_path / "driver").touch()
    assert main.run(["doctor", *flags]) == 2
    assert lines(capsys.readouterr().out, "no") == ["GPU"]


def test_a_gpu_that_was_promised_and_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MURA_REQUIRE_GPU", "1")
    assert main.run(["doctor"]) == 2
    assert lines(capsys.readouterr().out, "no") == ["TensorFlow"]
