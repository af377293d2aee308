"""Places and keys that a pod finds in files."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.base import places
from components.base.errors import UsageError
from components.params.document import parse, read_params
from components.params.kubeflow import EnvironmentSource, KubeflowParams


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A config map and a secret, as Kubernetes mounts them: links to a hidden directory that it exchanges at once."""
    sources = {
        "mura-places": {"AWS_ENDPOINT_URL": b"http://s3:8333\n"},
        "mura-s3": {"AWS_SECRET_ACCESS_KEY": b"s3cr et "},
    }
    for source, files in sources.items():
        real = tmp_path / source / "..2026_11_28_14_35_54.1"
        real.mkdir(parents=True)
        (tmp_path / source / "..data").symlink_to(real.name)
        for name, content in files.items():
            (real / name).write_bytes(content)
            (tmp_path / source / name).symlink_to(f"..data/{name}")
    # An optional source that is missing is an empty directory.
    (tmp_path / "mura-mlflow").mkdir()
    monkeypatch.setenv("MURA_PLACES", str(tmp_path))
    for name in ("AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def test_files_set_the_variables_of_their_names(mounted: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    before = set(os.environ)
    places.settle()
    assert os.environ["AWS_ENDPOINT_URL"] == "http://s3:8333"
    # Only the end of the last line is not part of it.
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "s3cr et "
    assert set(os.environ) - before == {"AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY"}
    assert caplog.text == ""


@pytest.mark.parametrize("value", ["http://other:1", ""])
def test_a_variable_that_is_set_wins(mounted: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    places.settle()
    assert os.environ["AWS_ENDPOINT_URL"] == value


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_an_empty_file_sets_nothing(mounted: Path, content: bytes) -> None:
    (mounted / "mura-mlflow/MURA_TEST_EMPTY").write_bytes(content)
    places.settle()
    assert "MURA_TEST_EMPTY" not in os.environ


@pytest.mark.parametrize(
    ("content", "value"), [(b"a\r\n", "a"), (b"a\nb\n", "a\nb"), ("Zürich".encode(), "Zürich"), (b" a\n\n", " a\n")]
)
def test_a_value_is_what_is_before_the_last_line_s_end(mounted: Path, content: bytes, value: str) -> None:
    (mounted / "mura-mlflow/MURA_TEST_VALUE").write_bytes(content)
    places.settle()
    assert os.environ["MURA_TEST_VALUE"] == value


@pytest.mark.parametrize("name", ["ca.crt", "1st", "A-B", ".hidden", "a b", "Ä"])
def test_other_files_are_not_read(mounted: Path, name: str) -> None:
    (mounted / "mura-mlflow" / name).write_bytes(b"\0")
    (mounted / "mura-mlflow" / "DIRECTORY").mkdir()
    places.settle()
    assert name not in os.environ
    assert "DIRECTORY" not in os.environ


def test_without_the_directory_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MURA_PLACES", str(tmp_path / "none"))
    places.settle()


def test_what_no_variable_can_have_is_refused_without_showing_it(mounted: Path) -> None:
    (mounted / "mura-mlflow/TOKEN").write_bytes(b"s3cret\0")
    with pytest.raises(UsageError, match=r"mura-mlflow/TOKEN: a variable cannot have a zero byte") as refused:
        places.settle()
    assert "s3cret" not in str(refused.value)


@pytest.mark.long
def test_the_command_reads_them_before_anything_uses_them(mounted: Path) -> None:
    (mounted / "mura-mlflow/MLFLOW_TRACKING_URI").write_text("ftp://mlflow.example")
    (mounted / "mura-mlflow/MURA_WEBHOOK_URL").write_text("nonsense")
    words = ["notify", "--status", "{}", "--run", "r"]
    command = [sys.executable, "-c", "from components.cli.main import main; main()", *words]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "MURA_WEBHOOK"))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    # Without an address nothing would be sent.
    assert "not sent to no host" in done.stderr
    (mounted / "mura-mlflow/TOKEN").write_bytes(b"\0")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "TOKEN: a variable cannot have a zero byte" in done.stderr


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        # A volume is named as the secret.
        ({"secret": "mura.s3"}, "secret"),
        ({"secret": "s" * 64}, "secret"),
        ({"secret": "kfp-launcher"}, "volume of Kubeflow's own"),
        ({"secret": "shm"}, "volume of Kubeflow's own"),
        ({"keys": ["not-a-variable"]}, "keys"),
        ({"steps": ["training"]}, "expected ingest, .*, notify, found training"),
    ],
)
def test_what_cannot_be_mounted_or_set_is_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse(EnvironmentSource, {"secret": "mura-s3", "keys": ["A"]} | changes, "params.yaml")


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ([{"secret": "a", "keys": ["A"]}, {"config_map": "a", "keys": ["B"]}], "gives ingest the name a twice"),
        ([{"secret": "a", "keys": ["A"]}, {"secret": "b", "keys": ["A"]}], "gives ingest the key A twice"),
        (
            [{"secret": "a", "keys": ["A"]}, {"secret": "a", "keys": ["B"], "steps": ["train"]}],
            "gives train the name a twice",
        ),
    ],
)
def test_a_pod_has_each_volume_and_each_variable_once(others: list[dict[str, object]], why: str) -> None:
    profile = read_params(Path(__file__).parents[2] / "params.yaml").kubeflow.model_dump()
    with pytest.raises(UsageError, match=why):
        parse(KubeflowParams, profile | {"environment": others}, "params.yaml")


def test_steps_may_have_different_keys_of_one_name() -> None:
    profile = read_params(Path(__file__).parents[2] / "params.yaml").kubeflow.model_dump()
    read = {"secret": "reader", "keys": ["AWS_ACCESS_KEY_ID"], "steps": ["ingest", "shard"]}
    written = {"secret": "writer", "keys": ["AWS_ACCESS_KEY_ID"], "steps": ["train"]}
    assert (
        parse(KubeflowParams, profile | {"environment": [read, written]}, "params.yaml").environment[1].name == "writer"
    )
