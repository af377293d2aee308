"""A process that has imported libraries and forks for each run of `mura`: a run then takes what its step takes."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.system_calls import supervised
from components.cli.main import QUIET


class Running:
    """A run of `mura`, with a process group of its own."""

    def __init__(self, warm: "subprocess.Popen[str]", pid: int) -> None:
        self.pid = pid
        self._warm = warm

    def wait(self) -> int:
        """Its exit code; -9 if it was killed."""
        return int(_line(self._warm))


class Warm:
    """Starts `mura`, one run at a time. Use it as a context."""

    def __init__(
        self, modules: Sequence[str], folder: Path, environment: Mapping[str, str], cores: int | None = None
    ) -> None:
        """Import.

        Args:
            modules: are imported once.
            folder: where the runs begin.
            environment: of all runs.
            cores: that all runs use; the machine's by default.
        """
        words = [sys.executable, "-m", "benchmarks.warm", *modules]
        home = Path(__file__).parents[1]
        path = os.pathsep.join(filter(None, (str(home), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            words,
            cwd=folder,
            env={**environment, **QUIET, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        _line(self._process)
        there = sorted(os.sched_getaffinity(0))
        if cores is not None and cores < len(there):
            # Not the same ones for each: others measure at the same time.
            first = self._process.pid % (len(there) - cores + 1)
            os.sched_setaffinity(self._process.pid, there[first : first + cores])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None, "it was asked for"
            stream.close()
        self._process.wait()

    def start(self, words: Sequence[str], log: Path, address: Path | None = None) -> Running:
        """Start `mura`.

        Args:
            words: its arguments.
            log: where both of its streams go.
            address: of its supervisor, if it is to have one.
        """
        assert self._process.stdin is not None, "it was asked for"
        job = {"words": list(words), "log": str(log), "address": str(address or "")}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Running(self._process, int(_line(self._process)))


def main() -> None:
    """Import, then run what comes line by line."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(**json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(words: list[str], log: str, address: str) -> None:
    """Be `mura`."""
    from components.cli.main import main as mura

    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    if address:
        supervised(address)
    sys.argv = ["mura", *words]
    mura()


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None, "it was asked for"
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the warm process ended with {process.wait()}")
    return line


if __name__ == "__main__":
    main()
