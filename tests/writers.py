"""Two processes that write one artifact at once, at every moment of the first: what comes of it, as JSON.

    python tests/writers.py SCENARIO FOLDER

Each writer is forked (hence a program of its own, without threads) and stops before a chosen change of the file system
until it is told to go on.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.base.errors import MuraError
from components.base.files import CHECKPOINT, writing

CARD = "card.json"
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
"""As Python's audit events call them; each is raised before the change."""
DONE = "done"


class Writer:
    """A process that writes its own name as an artifact."""

    def __init__(self, out: Path, name: str, stop: int = 0, after: bool = False) -> None:
        """Start it, to stop before its `stop`-th change of the file system; with 0 it does not stop.

        With `after`, the changes after the block are counted.
        """
        self._words, said = os.pipe()
        told, self._go = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._words)
            os.close(self._go)
            os.write(said, _write(out, name, (stop, after), said, told).encode())
            os._exit(0)
        os.close(said)
        os.close(told)
        self._first = os.read(self._words, 1000).decode() if stop else ""
        self.stopped = self._first == "stopped"

    def end(self) -> str:
        """Let it go on to its end. `done`, or the words with which it was refused or failed."""
        if self.stopped:
            os.write(self._go, b"x")
        if self.stopped or not self._first:
            self._first = os.read(self._words, 1000).decode()
        self._close()
        return self._first

    def kill(self) -> None:
        """End it with SIGKILL."""
        os.kill(self._pid, signal.SIGKILL)
        self._close()

    def _close(self) -> None:
        os.close(self._words)
        os.close(self._go)
        os.waitpid(self._pid, 0)


def _write(out: Path, name: str, stop: tuple[int, bool], said: int, told: int) -> str:
    changes, ready = 0, False

    def hook(event: str, _: tuple[Any, ...]) -> None:
        nonlocal changes
        if event in CHANGES and ready >= stop[1]:
            changes += 1
            if changes == stop[0]:
                os.write(said, b"stopped")
                os.read(told, 1)

    sys.addaudithook(hook)
    try:
        with writing(out, {"name": name}, CARD) as work:
            (work / CARD).write_text(name)
            ready = True
    except MuraError as error:
        return str(error)
    except OSError as error:
        return f"{type(error).__name__}: {error.strerror}"
    return DONE


def lay(jar: Path, older: bool) -> Path:
    """An artifact that was there before, and what a step leaves that was killed."""
    if older:
        jar.mkdir(parents=True)
        (jar / CARD).write_text("old")
    work = jar.with_name(f".{jar.name}.partial")
    (work / CHECKPOINT).mkdir(parents=True)
    (work / "half.bin").write_bytes(b"h")
    return jar


def moments(folder: Path, older: bool, after: bool = False) -> Iterator[tuple[Path, Writer]]:
    """A writer that is stopped before its first change of the file system, before its second, and so on."""
    for moment in range(1, 100):
        jar = lay(folder / str(moment) / "jar", older)
        first = Writer(jar, "A", moment, after)
        if not first.stopped:
            first.end()
            return
        yield jar, first


def found(jar: Path) -> dict[str, Any]:
    """What a reader finds, and what else lies there."""
    card = (jar / CARD).read_text() if (jar / CARD).exists() else None
    return {"card": card, "left": sorted(path.name for path in jar.parent.iterdir() if path != jar)}


def meet(folder: Path, older: bool) -> Iterator[dict[str, Any]]:
    """The second comes while the first is stopped, which then goes on."""
    for jar, first in moments(folder, older):
        second = Writer(jar, "B").end()
        yield {"second": second, "first": first.end(), **found(jar)}


def killed(folder: Path, older: bool) -> Iterator[dict[str, Any]]:
    """The first is killed, and two others come at the same time."""
    for jar, first in moments(folder, older):
        first.kill()
        both = [Writer(jar, name) for name in "BC"]
        yield {"told": [each.end() for each in both], **found(jar)}


def outlive(folder: Path, older: bool) -> Iterator[dict[str, Any]]:
    """The second begins while the first puts its artifact into place, and is killed when the first has ended.

    Then a third one begins, which repairs what it finds, and fails.
    """
    number, began = 0, True
    while began:
        number, began = number + 1, False
        for jar, first in moments(folder / str(number), older, after=True):
            second = Writer(jar, "B", number)
            began |= second.stopped
            told = first.end()
            second.kill() if second.stopped else second.end()
            with suppress(InterruptedError), writing(jar, {}, CARD):
                raise InterruptedError
            yield {"first": told, **found(jar)}


if __name__ == "__main__":
    scenario = {"meet": meet, "killed": killed, "outlive": outlive}[sys.argv[1]]
    results = {older: list(scenario(Path(sys.argv[2]) / str(older), older)) for older in (True, False)}
    print(json.dumps([{"older": older, **each} for older, of in results.items() for each in of]))
