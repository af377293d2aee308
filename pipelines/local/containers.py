"""Run containers on this machine, one after the other, and report how each ended."""

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kfp.local import docker_task_handler

from components.base.errors import DataRefused, ExitCode, GateRefused, RunFailed, UsageError
from components.base.terminal import tell
from components.cli.steps import EXECUTOR_INPUT

LAST_LINES = 20
_PAUSE = 0.3  # seconds between two looks at a container
# Usage, data, gate: another attempt would end in the same way.
_FINAL = (UsageError.exit_code, DataRefused.exit_code, GateRefused.exit_code)
_SIGNALS = {137: ", killed (out of memory?)", 143: ", terminated"}


class Attempt(NamedTuple):
    """A container that has ended."""

    task: str
    """Its name in the graph, `train-vgg16`."""
    code: int
    last_lines: tuple[str, ...]


class StepFailed(RunFailed):
    """A step failed. Its exit code is ours, so that a script can tell refused data from a lost service."""

    def __init__(self, attempt: Attempt) -> None:
        """Describe the failed attempt."""
        how = f"exit code {attempt.code}{_SIGNALS.get(attempt.code, '')}"
        said = f": {attempt.last_lines[-1]}" if attempt.last_lines else " and said nothing."
        super().__init__(f"{attempt.task} ended with {how}{said}")
        self.attempt = attempt
        if ExitCode.USAGE <= attempt.code <= ExitCode.OUTSIDE:
            self.exit_code = ExitCode(attempt.code)


class Containers:
    """Runs the containers that kfp.local asks for.

    kfp 2.17 lets the engine remove a container at its end, and asks for the exit code afterwards. With Podman the
    container is always gone by then, and kfp takes a failure for success (kubeflow/pipelines#13332). Here a container
    is removed after its logs and its exit code were read.
    """

    def __init__(self, mounts: Mapping[Path, str]) -> None:
        """Name the paths that the steps need besides their artifacts.

        Args:
            mounts: `ro` or `rw` by path. The path in a container is the same.
        """
        self.attempts: list[Attempt] = []
        self._mounts = {str(path): {"bind": str(path), "mode": mode} for path, mode in mounts.items()}

    @contextmanager
    def in_place_of_kfps(self) -> Iterator[None]:
        """Let kfp.local run its containers with this class."""
        kfps = docker_task_handler.run_docker_container
        docker_task_handler.run_docker_container = self._run
        try:
            yield
        finally:
            docker_task_handler.run_docker_container = kfps

    def failure(self) -> Attempt | None:
        """The first step whose last attempt failed. The notification is not a step."""
        last = {attempt.task: attempt for attempt in self.attempts if attempt.task != "notify"}
        return next((attempt for attempt in last.values() if attempt.code), None)

    def _run(self, client: Any, image: str, command: list[str], volumes: dict[str, Any], **options: Any) -> int:
        """Run a container to its end.

        Args:
            client: docker's.
            image: its reference.
            command: all words. As on Kubernetes, the image's entry point is not used.
            volumes: kfp's mounts.
            options: of docker's `containers.create`.

        Returns:
            Its exit code.
        """
        task = _task(command)
        before = [attempt for attempt in self.attempts if attempt.task == task]
        if before and before[-1].code in _FINAL:
            return before[-1].code
        again = f", attempt {len(before) + 1}" if before else ""
        tell(f"run-local: {task}{again}", err=True, bold=True)
        started, lines = time.monotonic(), _Lines()
        container = client.containers.create(
            image, command[1:], entrypoint=command[:1], volumes=volumes | self._mounts, **options
        )
        try:
            container.start()
            # Poll the log, do not follow it: Podman sometimes never ends a log, and docker's client takes a training
            # that is silent for a minute for a broken connection.
            while container.status not in ("exited", "dead", "stopped"):
                time.sleep(_PAUSE)
                lines.tell(container.logs())
                container.reload()
            lines.tell(container.logs(), end=True)
            code = int(container.attrs["State"]["ExitCode"])
        finally:
            # Also after an interrupt: no container keeps running.
            container.remove(force=True)
        self.attempts.append(Attempt(task, code, tuple(lines.last)))
        end = "done" if code == 0 else f"failed, exit code {code}{_SIGNALS.get(code, '')}"
        tell(f"run-local: {task} {end}, {time.monotonic() - started:.0f} s", err=True, bold=True)
        return code


def _task(command: list[str]) -> str:
    """The task of a command. What it tells Kubeflow goes to <root>/<run>/<task>/."""
    if EXECUTOR_INPUT in command[:-1]:
        told = json.loads(command[command.index(EXECUTOR_INPUT) + 1])
        return Path(told["outputs"]["outputFile"]).parent.name
    return command[1]


class _Lines:
    """The lines of a log that grows."""

    def __init__(self) -> None:
        self.last = deque[str](maxlen=LAST_LINES)
        self._told = 0

    def tell(self, log: bytes, end: bool = False) -> None:
        """Print the new lines. The last one may be incomplete: it waits until the end."""
        new = log[self._told :] if end else log[self._told : log.rfind(b"\n") + 1]
        self._told += len(new)
        for line in new.decode(errors="replace").splitlines():
            tell(f"    {line}", err=True)
            self.last.append(line)
