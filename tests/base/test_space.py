"""A full disk: refused before a long write, and named when it runs out in the midst."""

import errno
import os
import resource
from pathlib import Path

import pytest

from components.base import space
from components.base.errors import OutsideFailed


def test_what_cannot_fit_is_refused_with_place_need_and_what_is_free(tmp_path: Path) -> None:
    space.require(tmp_path / "not/there/yet", 1, "a byte")
    with pytest.raises(
        OutsideFailed, match=rf"{tmp_path}/out: 20 shards will take 1000000000.0 GB, and .* are free. Free"
    ):
        space.require(tmp_path / "out", 10**18, "20 shards")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("kind", [OSError, RuntimeError])
def test_a_disk_that_is_full_is_named(number: int, kind: type[Exception], tmp_path: Path) -> None:
    text = f"Can't write data (errno = {number}, error message = '{os.strerror(number)}')"
    error = OSError(number, os.strerror(number)) if kind is OSError else kind(text)
    with (
        pytest.raises(OutsideFailed, match=rf"^{tmp_path}: .* are free on its disk. Free some space"),
        space.named(tmp_path),
    ):
        raise error


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), space.named(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", "x")


def test_a_file_that_may_not_grow_is_named(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OutsideFailed, match="may not be larger"), space.named(tmp_path):
            (tmp_path / "file").write_bytes(bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_may_not_be_so_large_is_refused_before_it_is_written(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        space.require(tmp_path, 2000, "two files", largest=1000)
        with pytest.raises(OutsideFailed, match=r"take a file of 2 kB, .* not be larger than 1 kB\. Raise the limit"):
            space.require(tmp_path, 2000, "a file", largest=2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_place_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OutsideFailed, match=rf"^{tmp_path}/model: an epoch will take"):
        space.require(tmp_path / ".model.partial" / "checkpoint", 10**18, "an epoch")
