"""What paths give: each view, and for what cannot be read the reason, without the loss of the others."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from miniature import picture, png, write_directory, write_zip
from unprivileged import permissions_hold

from components.base.errors import DataRefused, UsageError
from components.predict import views

GOOD = png(picture(1))


def looked_at(*paths: str, meanwhile: Callable[[], object] = lambda: None) -> dict[str, str]:
    """Paths of views, and why each is refused; empty for those that are not."""
    places = views.find(paths)
    meanwhile()
    found = list(views.read(places, force=False))
    assert sum(place.files for place in places) == len(found)
    assert all((view.picture is None) == bool(view.refused) for view in found)
    return {view.path: view.refused for view in found}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which one stands, with a study."""
    monkeypatch.chdir(tmp_path)
    write_directory(tmp_path / "study", {"1.png": GOOD, "2.png": GOOD})
    return tmp_path


def test_a_path_that_cannot_be_read_says_nothing_of_the_others(here: Path) -> None:
    (here / "broken.zip").write_bytes(b"PK\3\4 and no more")
    (here / "empty").mkdir()
    os.mkfifo(here / "pipe")
    paths = ("study/1.png", "broken.zip", "missing.png", "empty", "pipe", "x" * 300, "study/2.png")
    found = looked_at(*paths)
    assert list(found) == list(paths)
    assert found.pop("study/1.png") == found.pop("study/2.png") == ""
    assert found.pop("broken.zip").startswith("not a readable zip (")
    assert found == {
        "missing.png": "no such file or directory",
        "empty": "no picture in it. Pictures are PNG, JPEG or DICOM",
        "pipe": "Not a directory",
        "x" * 300: "File name too long",
    }


def test_where_no_path_can_be_read_nothing_is_asked(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match=r"^one\.png: no such file or directory\.$"):
        views.find(["one.png", "two.png"])
    assert caplog.messages == ["predict: two.png: no such file or directory."]


def test_a_file_that_vanishes_is_named(here: Path) -> None:
    def vanish() -> None:
        (here / "study/1.png").unlink()
        (here / "alone.png").unlink()

    (here / "alone.png").write_bytes(GOOD)
    found = looked_at("study", "alone.png", meanwhile=vanish)
    gone = "removed while it was read"
    assert found == {"study/1.png": gone, "study/2.png": "", "alone.png": gone}


def test_a_file_that_is_written_to_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As whoever writes: the file is longer after each look at it.
    fstat = os.fstat

    def growing(handle: int) -> os.stat_result:
        found = fstat(handle)
        if os.path.realpath(f"/proc/self/fd/{handle}").endswith("1.png"):
            with (here / "study/1.png").open("ab") as file:
                file.write(b"more")
        return found

    monkeypatch.setattr(os, "fstat", growing)
    assert looked_at("study")["study/2.png"] == ""
    assert looked_at("study")["study/1.png"].startswith("changed while it was read")
    assert looked_at("study/1.png", "study/2.png")["study/1.png"].startswith("changed while it was read")


def test_names_that_another_system_refuses_are_read(here: Path) -> None:
    files = {"IM:1": GOOD, "aux": GOOD, "a\\b": GOOD, "A.png": GOOD, "a.png": GOOD}
    write_directory(here / "odd", files)
    assert looked_at("odd") == {f"odd/{name}": "" for name in files}


def test_what_is_no_file_in_a_directory_is_named(here: Path) -> None:
    (here / "study/broken").symlink_to("nothing")
    (here / "study/outside").symlink_to("/etc/passwd")
    (here / "study/circle").symlink_to(".")
    os.mkfifo(here / "study/pipe")
    (here / "study/two\nlines.png").write_bytes(GOOD)
    (here / "study/notes.txt").symlink_to("nothing")
    found = looked_at("study")
    assert found.pop("study/1.png") == found.pop("study/2.png") == ""
    assert {name: why.partition(",")[0].partition(".")[0] for name, why in found.items()} == {
        "study/broken": "a broken link",
        "study/outside": "a link to /etc/passwd",
        "study/circle": "a link to a directory that contains it",
        "study/pipe": "neither a file nor a directory",
        "study/two\\nlines.png": "the name has unprintable characters",
    }


def test_what_may_not_be_read_is_named(here: Path) -> None:
    write_directory(here / "study", {"listed/3.png": GOOD, "closed/4.png": GOOD})
    modes = {"1.png": 0, "listed": 0o444, "closed": 0}
    for name, mode in modes.items():
        (here / "study" / name).chmod(mode)
    try:
        with permissions_hold():
            found = looked_at("study", "study/closed/4.png", "study/1.png")
    finally:
        for name in modes:
            (here / "study" / name).chmod(0o755)
    assert found.pop("study/2.png") == ""
    assert set(found) == {"study/1.png", "study/listed/3.png", "study/closed/", "study/closed/4.png"}
    assert all("Permission denied" in why for why in found.values()), found


def test_a_zip_that_is_replaced_is_named_once(here: Path) -> None:
    files = {"a/1.png": GOOD, "b/1.png": GOOD}
    path = write_zip(here / "a.zip", files)
    places = views.find(["a.zip", "study/1.png"])
    write_zip(here / "other.zip", files).replace(path)
    found = {view.path: view.refused for view in views.read(places, force=False)}
    assert found["study/1.png"] == ""
    assert found["a.zip"].startswith("replaced while it was read")
    assert len(found) == 2


def test_a_picture_on_s3_is_a_study(bucket: Path) -> None:
    write_directory(bucket / "below/XR_WRIST", {"film.png": GOOD, "other.png": GOOD})
    (bucket / "top.png").write_bytes(GOOD)
    (bucket / "empty.dcm").write_bytes(b"")
    write_zip(bucket / "no suffix", {"in/1.png": GOOD})
    paths = ("s3://bucket/below/XR_WRIST/film.png", "s3://bucket/top.png", "s3://bucket/empty.dcm")
    found = list(views.read(views.find([*paths, "s3://bucket/no suffix"]), force=False))
    assert [(view.path, view.folder, view.refused) for view in found] == [
        *((path, path, "") for path in paths[:2]),
        (paths[2], paths[2], "an empty file"),
        ("s3://bucket/no suffix/in/1.png", "s3://bucket/no suffix/in", ""),
    ]
    assert found[0].body_part == "wrist"
    with pytest.raises(UsageError, match="no such archive"):
        views.find(["s3://bucket/nothing.dcm"])


def test_an_object_that_vanishes_is_named(bucket: Path) -> None:
    files = {f"{number}.png": GOOD for number in range(3)} | {"IM:1": GOOD}
    write_directory(bucket / "study", files)
    found = looked_at("s3://bucket/study/", meanwhile=(bucket / "study/1.png").unlink)
    gone = found.pop("s3://bucket/study/1.png")
    assert gone == "removed while it was read"
    assert found == {f"s3://bucket/study/{name}": "" for name in files if name != "1.png"}


def test_too_many_files_are_refused_as_a_whole(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_MEMBERS", 3)
    for number in range(4):
        (here / f"study/broken{number}").symlink_to("nothing")
    with pytest.raises(DataRefused, match="study: more than 3 files"):
        views.find(["study"])
