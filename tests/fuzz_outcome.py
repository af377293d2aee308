"""Fuzzers: seeded draws until a budget is spent, and the short list of what may come of each.

FUZZ_SECONDS is the budget of each fuzzer: 2 in `make test`, minutes in `make fuzz`. A failure names its draw;
FUZZ_FROM=<draw> begins with that one.
"""

import contextlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import NamedTuple

from components.base.errors import ExitCode

SECONDS = float(os.environ.get("FUZZ_SECONDS", "2"))
FIRST = int(os.environ.get("FUZZ_FROM", "0"))
# Draws that are made whatever the budget is: a machine may be busy.
LEAST = 10
# Bytes by which one draw may make this process grow.
GROWTH = 300_000_000
REFUSED = (ExitCode.USAGE, ExitCode.DATA, ExitCode.OUTSIDE)


class Came(NamedTuple):
    """What came of a command."""

    code: int
    told: str
    """All that it printed."""


def fuzz(once: Callable[[Random], object], watched: Path, output: Path | None = None, growth: int = GROWTH) -> None:
    """Make draws until the budget is spent. None may raise, take much memory, or write outside of its output.

    Args:
        once: does the work with random numbers that are the same for the same draw. It asserts that the result is
            right, or that the refusal is `one_line`.
        watched: a directory that is compared before and after each draw.
        output: the directory below it that may change.
        growth: bytes of memory that one draw may take.
    """
    began, before = time.monotonic(), _files(watched, output)
    for draw in count(FIRST):
        if draw >= FIRST + LEAST and time.monotonic() - began > SECONDS:
            return
        try:
            with memory_below(growth):
                once(Random(draw))
            assert _files(watched, output) == before, "it changed a file outside of its output"
        except BaseException as error:
            error.add_note(f"FUZZ_FROM={draw} begins with this draw")
            raise


@contextlib.contextmanager
def memory_below(growth: int) -> Iterator[None]:
    """The block may make this process grow by so many bytes."""
    # The peak of this process is measured anew from here on.
    Path("/proc/self/clear_refs").write_text("5")
    at_first = _bytes("VmRSS")
    yield
    taken = _bytes("VmHWM") - at_first
    assert taken < growth, f"it took {taken:,} bytes of memory"


def mura(*words: object) -> Came:
    """Run a command in this process."""
    from components.cli import main

    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        code = main.run(["--quiet", *map(str, words)])
    return Came(code, told.getvalue())


def assert_short_list(came: Came) -> None:
    """A command did its work, or refused it in one line with 2, 3 or 5."""
    if came.code != ExitCode.DONE:
        assert came.code in REFUSED, came
        assert_one_line(came.told.strip().removeprefix("error: "))


def assert_one_line(text: str) -> None:
    """A refusal is one line that moves no cursor."""
    assert text, "a refusal that says nothing"
    assert text.isprintable(), text


def flipped(content: bytes, draw: Random, most: int = 3) -> bytes:
    """The same bytes with one to `most` bits flipped."""
    harmed = bytearray(content)
    for _ in range(draw.randint(1, most)):
        harmed[draw.randrange(len(harmed))] ^= 1 << draw.randrange(8)
    return bytes(harmed)


def mutated(content: bytes, draw: Random) -> bytes:
    """The same bytes with something flipped, lost, doubled, moved, overwritten or put in between."""
    start = draw.randrange(len(content) + 1)
    stop = min(len(content), start + draw.choice((1, 1, 2, 4, 8, 100, 1000)))
    piece = content[start:stop]
    put = draw.choice(
        (
            b"",
            piece * 2,
            draw.randbytes(len(piece)),
            bytes(len(piece)),
            b"\xff" * len(piece),
            piece[::-1],
            draw.randbytes(draw.choice((1, 8))) + piece,
        )
    )
    return content[:start] + put + content[stop:]


def _files(folder: Path, without: Path | None) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file below a directory, but not of those below another."""
    return {
        str(path): (status.st_size, status.st_mtime_ns)
        for path in folder.rglob("*")
        if path != without and (without is None or without not in path.parents)
        if (status := path.lstat())
        if not path.is_dir()
    }


def _bytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024
