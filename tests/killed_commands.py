"""Runs commands in forks of one process that has imported everything, and kills some of them at a request.

    python -m tests.killed_commands    from JSON lines on stdin to JSON lines on stdout

A line is a list of commands, which run at once: {"words": [...], "kill": N}. The answer is a list of what became of
them: {"code": exit code, or minus the signal; "out": what was printed, "err": what was complained}. `kill` counts the
requests that write, each before it is sent and after its answer: 1 is before the first, 2 after it. 0 kills nothing.

`words` are those of `mura`, or ["register", MODEL, EVALUATION, RUN, URI], which makes a version without the step.
"""

import itertools
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base import surroundings
from components.cli import main
from components.promote import champion, taking_back
from components.tracking import model_registry

# Imported before the forks, so that they need not import it.
IMPORTED = (champion, taking_back)


def answer(commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run commands at once, each in a process of its own."""
    started = []
    for each in commands:
        place = Path(tempfile.mkdtemp(prefix="command-"))
        if not (pid := os.fork()):
            _run(each["words"], each.get("kill", 0), place)
        started.append((pid, place))
    found = []
    for pid, place in started:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found.append({"code": code, **{name: (place / name).read_text() for name in ("out", "err")}})
    return found


def _run(words: list[str], kill: int, place: Path) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT), number)
    code = 1
    try:
        if kill:
            _kill_at(kill)
        code = _register(words) if words[0] == "register" else main.run(words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _register(words: list[str]) -> int:
    model, evaluation = TrainedModel.read(Path(words[1])), Evaluation.read(Path(words[2]))
    model_registry.ensure_version("mura", model, evaluation, TrackedRun(run_id=words[3], model_uri=words[4]))
    return 0


def _kill_at(number: int) -> None:
    """End this process as `kill -9` does, at a moment between two requests."""
    send: Callable[..., requests.Response] = requests.Session.send
    moments = itertools.count(1)

    def counted(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        writes = request.method != "GET" and "/search" not in str(request.url)
        if writes and next(moments) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = send(session, request, **options)
        if writes and next(moments) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    requests.Session.send = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    surroundings.settle()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()
