"""An error of the operating system says nothing about a picture, so it never gets into a manifest."""

import errno
import zlib
from pathlib import Path

import cv2
import pytest
from failing_disk import FailingDisk, failing_disk
from fuzz_outcome import Came, mura
from miniature import archive, images, use_cores, write_directory, write_zip

from components.artifacts.manifest import TABLE

__all__ = ["failing_disk"]

FILES = archive(images(train=7, valid=2))
PICTURES = {len(content) for name, content in FILES.items() if name.endswith(".png")}


@pytest.fixture(params=["zip", "directory"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive, read by this process alone."""
    use_cores(1, monkeypatch)
    monkeypatch.chdir(tmp_path)
    if request.param == "zip":
        return write_zip(tmp_path / "a.zip", FILES)
    return write_directory(tmp_path / "a", FILES)


def ingest(place: Path) -> Came:
    return mura("ingest", "--archive", place, "--params", '{"tuning_fraction": 0.2}', "--seed", 1,
                "--out", "made")  # fmt: skip


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM, errno.EAGAIN])
def test_a_read_that_fails_twice_ends_the_step_and_names_the_member(
    place: Path, failing_disk: FailingDisk, number: int
) -> None:
    failing_disk.sizes, failing_disk.coming = PICTURES, [0, 0, number, number]
    came = ingest(place)
    assert (came.code, came.told.count("\n")) == (5, 1), came
    assert "image2.png: cannot be read, tried twice" in came.told
    assert not Path("made").exists()


def test_a_read_that_fails_once_leaves_no_trace(place: Path, failing_disk: FailingDisk) -> None:
    assert ingest(place).code == 0
    sound = Path("made", TABLE).read_bytes()
    failing_disk.sizes, failing_disk.coming = PICTURES, [0, errno.EIO, 0, 0, errno.ESTALE]
    assert ingest(place) == Came(0, "")
    assert not failing_disk.coming
    assert Path("made", TABLE).read_bytes() == sound


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_a_zip_whose_end_cannot_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_disk: FailingDisk, number: int
) -> None:
    monkeypatch.chdir(tmp_path)
    for before in range(3):
        failing_disk.coming = [*[0] * before, *[number] * 20]
        came = ingest(write_zip(tmp_path / "a.zip", FILES))
        assert (came.code, came.told.count("\n")) == (5, 1), came
        assert "a.zip: cannot be read, tried twice" in came.told


def test_a_file_that_may_not_be_read_is_for_the_caller(place: Path, failing_disk: FailingDisk) -> None:
    failing_disk.sizes, failing_disk.coming = PICTURES, [errno.EACCES] * 2
    came = ingest(place)
    assert (came.code, "image1.png: cannot be read (Permission denied)" in came.told) == (2, True)


@pytest.mark.parametrize("kind", ["MemoryError", "zlib", "OpenCV"])
def test_too_little_memory_for_a_picture_is_no_property_of_the_picture(
    place: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    errors = {
        "MemoryError": MemoryError(),
        "zlib": zlib.error("Error -4 while decompressing data"),
        "OpenCV": cv2.error("OpenCV(5): Insufficient memory in function 'OutOfMemoryError'"),
    }

    def fail(*_: object) -> None:
        raise errors[kind]

    if kind == "OpenCV":
        monkeypatch.setattr(cv2, "dct", fail)
    else:
        monkeypatch.setattr(zlib, "decompressobj", fail)
    came = ingest(place)
    assert (came.code, came.told.count("\n")) == (5, 1), came
    assert "image1.png: cannot be read, tried twice (the memory is too small)" in came.told
