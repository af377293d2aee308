"""A disk that fails now and then: the errors of the system that a read can give."""

import io
import os
from typing import Any

import pytest


class FailingDisk:
    """Lets reads of files fail, one after another, as soon as there are errors in `coming`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.coming: list[int] = []
        """Numbers of errors; 0 for a read that succeeds."""
        self.sizes: set[int] = set()
        """Only reads of so many bytes count; all if empty."""
        monkeypatch.setattr(os, "fdopen", self._open)

    def _open(self, descriptor: int, mode: str = "r", *more: Any, **others: Any) -> Any:
        if mode != "rb":
            return open(descriptor, mode, *more, **others)
        disk = self

        class Reader(io.BufferedReader):
            def read(self, size: int | None = -1, /) -> bytes:
                counts = not disk.sizes or size in disk.sizes
                if counts and disk.coming and (number := disk.coming.pop(0)):
                    raise OSError(number, os.strerror(number))
                return super().read(size)

        return Reader(io.FileIO(descriptor))


@pytest.fixture
def failing_disk(monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    return FailingDisk(monkeypatch)
