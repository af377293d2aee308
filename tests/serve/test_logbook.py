"""The log of predictions: who can read what from it, and what happens when it cannot be written."""

import json
import logging
from pathlib import Path

import pytest

from components.base.errors import UsageError
from components.serve.logbook import Entry, Logbook, Looked, now


def entry(**fields: object) -> Entry:
    view = Looked(kind="PNG", width=64, height=48, mean=90.5, std=20.0, low=3, median=80, high=250)
    known = {
        "time": now(), "input": "ab" * 32, "model": "mura", "version": "3", "model_digest": "cd" * 32,
        "body_part": "wrist", "views": (view,), "distance": None, "probability": 0.25, "verdict": "normal",
        "seconds": 0.01,
    }  # fmt: skip
    return Entry.model_validate(known | fields)


def test_lines_are_appended(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    Logbook(file).write(entry(probability=0.25))
    Logbook(file).write(entry(probability=None, body_part=None))
    first, second = map(json.loads, file.read_text().splitlines())
    assert Entry.model_validate(first).probability == 0.25
    assert (second["probability"], second["body_part"]) == (None, None)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    key = tmp_path / "key"
    first, second = Logbook(key=key), Logbook(key=key)
    assert key.stat().st_mode & 0o777 == 0o600
    assert first.hash([b"one", b"two"]) == second.hash([b"one", b"two"])


def test_hashes_tell_views_apart_and_need_the_key() -> None:
    one, other = Logbook(), Logbook()
    assert len({one.hash(files) for files in ([b"one"], [b"one", b"two"], [b"two", b"one"], [b"onetwo"], [])}) == 5
    assert one.hash([b"one"]) != other.hash([b"one"])


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    with pytest.raises(UsageError, match="6 bytes, expected 32"):
        Logbook(key=tmp_path / "key")


def test_a_link_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Logbook(tmp_path / "link")


def test_a_full_disk_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    logbook = Logbook(Path("/dev/full"))
    with caplog.at_level(logging.WARNING):
        logbook.write(entry())
        logbook.write(entry())
    (told,) = caplog.messages
    assert "No space left" in told
