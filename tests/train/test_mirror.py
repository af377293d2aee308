"""A checkpoint's second home on S3: a real server, another machine, and what can go wrong between them."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import SECRET, USER, serving
from servers import free_port

from components.archive import s3
from components.base.errors import ServiceUnreachable, UsageError
from components.base.files import INPUTS
from components.train import mirror


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 server with a bucket."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    with serving(folder, free_port(), cached=True) as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> s3.Tree:
    """What is stored below a prefix of this test."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", USER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setenv(mirror.PLACE, f"s3://bucket/{tmp_path.name}/")
    return s3.Tree(s3.Place("bucket", f"{tmp_path.name}/f00d"))


def checkpoint(folder: Path, inputs: str = "f00d", **files: str) -> Path:
    """A directory of these files that knows its inputs."""
    folder.mkdir()
    (folder / INPUTS).write_text(inputs)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != INPUTS}


def test_another_machine_goes_on_where_the_first_was(bucket: s3.Tree, tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "first", state="1", epoch1="variables")
    mirror.keep(first)
    (first / "epoch1").unlink()
    (first / "state").write_text("2")
    (first / "epoch2").write_text("more variables")
    mirror.keep(first)
    second = checkpoint(tmp_path / "second")
    mirror.fetch(second)
    assert texts(second) == {"state": "2", "epoch2": "more variables"} == texts(first)
    assert [name for name, _ in bucket.files()] == ["epoch2", "index.json", "state"]


def test_other_inputs_have_another_checkpoint(bucket: s3.Tree, tmp_path: Path) -> None:
    mirror.keep(checkpoint(tmp_path / "first", inputs="f00d", state="1"))
    other = checkpoint(tmp_path / "other", inputs="beef")
    mirror.fetch(other)
    assert texts(other) == {}


def test_what_is_here_is_not_replaced(bucket: s3.Tree, tmp_path: Path) -> None:
    mirror.keep(checkpoint(tmp_path / "first", state="1"))
    here = checkpoint(tmp_path / "here", state="2")
    mirror.fetch(here)
    assert texts(here) == {"state": "2"}


def index_of(name: str, content: bytes = b"1", inputs: str = "f00d") -> bytes:
    """An index that names one file."""
    file = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return json.dumps({"inputs": inputs, "files": {name: file}}).encode()


DAMAGED = {
    "no JSON": b"{",
    "empty": b"",
    "a list": b"[]",
    "deep": b"[" * 1_000_000,
    "too long": b" " * 2_000_000,
    "outside": index_of("../f00d/state"),
    "the file of the inputs": index_of(INPUTS, b"beef"),
    "a hidden name": index_of(".state"),
    "a long name": index_of("a" * 300),
    "no size": json.dumps({"inputs": "f00d", "files": {"state": {}}}).encode(),
    "more than there is": index_of("state", b"1" * 1000),
    "other inputs": index_of("state", inputs="beef"),
}


@pytest.mark.parametrize("index", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_index_is_told_in_one_line_and_written_anew(
    index: bytes, bucket: s3.Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = checkpoint(tmp_path / "first", state="1", epoch1="variables")
    mirror.keep(first)
    s3.put(s3.Place("bucket", bucket.place.key + "index.json"), index)
    second = checkpoint(tmp_path / "second")
    mirror.fetch(second)
    assert texts(second) == {}
    assert (second / INPUTS).read_text() == "f00d"
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith(f"s3://bucket/{tmp_path.name}/f00d: the checkpoint is damaged (")
    assert "\n" not in told
    if b"beef" in index and b"state" in index:
        assert "it is of other inputs, beef" in told
    assert mirror.keep(first) is not None
    mirror.fetch(second)
    assert texts(second) == texts(first)


def test_a_file_that_is_lost_there_is_copied_again(bucket: s3.Tree, tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "first", state="1", epoch1="variables", best="weights")
    mirror.keep(first)
    s3.remove(s3.Place("bucket", bucket.place.key + "epoch1"))
    s3.put(s3.Place("bucket", bucket.place.key + "best"), b"w")
    mirror.keep(first)
    second = checkpoint(tmp_path / "second")
    mirror.fetch(second)
    assert texts(second) == texts(first)


def test_what_a_killed_attempt_left_half_written_is_neither_copied_nor_in_the_way(
    bucket: s3.Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = checkpoint(tmp_path / "first", state="1")
    (first / ".state.json.partial").write_text("{")
    mirror.keep(first)
    second = checkpoint(tmp_path / "second")
    (second / ".state.json.partial").write_text("{")
    mirror.fetch(second)
    assert (second / "state").read_text() == "1"
    assert [name for name, _ in bucket.files()] == ["index.json", "state"]
    assert caplog.text == ""


@pytest.mark.parametrize("damage", ["changed", "missing", "outside"])
def test_a_damaged_checkpoint_is_not_begun_from(
    damage: str, bucket: s3.Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror.keep(checkpoint(tmp_path / "first", state="1", epoch1="variables"))
    epoch, index = (s3.Place("bucket", bucket.place.key + name) for name in ("epoch1", "index.json"))
    if damage == "changed":
        s3.put(epoch, b"variablez")
    elif damage == "missing":
        s3.remove(epoch)
    else:
        s3.put(index, index_of("../f00d/state"))
    second = checkpoint(tmp_path / "second")
    mirror.fetch(second)
    assert texts(second) == {}
    assert "training starts anew" in caplog.text
    assert not list(tmp_path.glob(".*"))
    mirror.keep(checkpoint(tmp_path / "third", state="3"))


def test_a_store_that_is_away_stops_nothing_that_runs_and_lets_nothing_begin_anew(
    bucket: s3.Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    mirror.keep(checkpoint(tmp_path / "first", state="1"))
    assert "the checkpoint is not copied to S3, the training goes on" in caplog.text
    with pytest.raises(ServiceUnreachable):
        mirror.fetch(checkpoint(tmp_path / "second"))


def test_a_place_that_is_none_is_told_at_the_beginning(
    tmp_path: Path, bucket: s3.Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(mirror.PLACE, "/checkpoints")
    with pytest.raises(UsageError, match="s3://bucket/key"):
        mirror.fetch(checkpoint(tmp_path / "first"))
    monkeypatch.setenv(mirror.PLACE, "s3://no-such-bucket/checkpoints")
    with pytest.raises(UsageError, match="no such bucket"):
        mirror.fetch(checkpoint(tmp_path / "second"))


def test_without_a_place_nothing_is_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    here = checkpoint(tmp_path / "here")
    mirror.fetch(here)
    mirror.keep(here)
    assert caplog.text == ""
