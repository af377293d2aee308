"""`mura doctor` says what is wrong, and where."""

from pathlib import Path

import pytest

from components.cli import doctor, main


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
    assert told.err.splitlines()[-1] == "error: doctor: 2 of 9 checks failed; the lines with `no` say what to do."


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
