"""The log of a step without the lines of Kubeflow's launcher and of Argo around it, and how the step ended."""

import re
from typing import NamedTuple

from components.base.errors import ExitCode

# Kubeflow's launcher logs in the form of Go's glog: level, date, time, process, file.go:line.
_LAUNCHER = re.compile(r"[IWEF]\d{4} \d{2}:\d{2}:\d{2}\.\d+ +\d+ [\w./-]+\.go:\d+\] ?(?P<said>.*)")
# It prints what a step reported as JSON over many lines.
_OPENS, _CLOSES = re.compile(r"[{\[]$"), re.compile(r"[}\]],?$")
_STACK = re.compile(r"goroutine \d+ \[.*\]:$|created by \S+\.\S+|\t?/\S+\.go:\d+")
_ARGO = re.compile(
    r'time="?\d{4}-\d{2}-\d{2}T\S+ +level=\w+ |\{.*"argo": ?true.*\}$|Error: (exit status \d+|signal: \w+)$'
)
_STATUS = re.compile(r"exit status (\d+)")
_KILLED = re.compile(r"signal: killed|exit status 137")


class StepLog(NamedTuple):
    """What a step said, and how it ended."""

    lines: tuple[str, ...]
    """Those of the step itself."""
    code: ExitCode | None = None
    """Its exit code, if it is one of ours."""
    killed: bool = False
    """The kernel killed it. Its memory was too small, as a rule."""
    launcher: str = ""
    """Why Kubeflow's launcher failed, if the step itself did not."""


def read(text: str) -> StepLog:
    """Read the log of a pod's container `main`."""
    ours: list[str] = []
    theirs: list[str] = []
    inside = False
    for whole in text.split("\n"):
        # A progress bar redraws its line: the last state of it is enough.
        line = whole.rstrip().rpartition("\r")[2]
        # What the launcher prints is indented, and closed by a bracket at the beginning of a line.
        if inside and (line.startswith(" ") or _CLOSES.match(line)):
            inside = line.startswith(" ")
            continue
        inside = False
        if found := _LAUNCHER.match(line):
            theirs.append(line)
            inside = bool(_OPENS.search(found["said"]))
        elif _ARGO.match(line):
            theirs.append(line)
        elif not (theirs and _STACK.match(line)):
            ours.append(line)
    while ours and not ours[-1]:
        ours.pop()
    return StepLog(tuple(ours), *_end(theirs))


def _end(theirs: list[str]) -> tuple[ExitCode | None, bool, str]:
    """The step's exit code, whether it was killed, and why the launcher failed."""
    fatal = next(
        (found["said"] for line in reversed(theirs) if line[0] == "F" and (found := _LAUNCHER.match(line))), ""
    )
    if _KILLED.search(fatal) or (not fatal and any(_KILLED.search(line) for line in theirs)):
        return None, True, ""
    if status := _STATUS.search(fatal):
        number = int(status[1])
        return (ExitCode(number) if number in set(ExitCode) else None), False, ""
    return None, False, fatal.removeprefix("failed to execute component: ")
