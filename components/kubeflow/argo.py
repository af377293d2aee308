"""Argo's names of a run's nodes, such as `mura-zjd7p(0).root(0).exit-handler-1(0).ingest(0).executor(1)`."""

import re

EXECUTOR = "executor"
"""The node that runs a step's container. Each step has one."""
DRIVER = "-driver"
"""The end of the name of a node that prepares a step."""
NODE = "workflows.argoproj.io/node-name"
"""The annotation of a pod with the whole name of its node."""
RUN = "pipeline/runid"
"""The label of pods and workflows with the id of their run."""
# Nodes that are no steps: groups of steps, and attempts.
_NO_STEP = re.compile(
    rf"root|{EXECUTOR}|(exit-handler|condition|condition-branches|for-loop)-\d+|.*\.onExit|.*\(\d+\)|.*{DRIVER}"
)


def split(label: str) -> tuple[str, int]:
    """A label without the number of the attempt, and that number: `ingest(1)` is `ingest`, 1."""
    name, bracket, rest = label.rpartition("(")
    return (name, int(rest[:-1])) if bracket and rest[-1:] == ")" and rest[:-1].isdecimal() else (label, 0)


def step_of(name: str) -> tuple[str, int]:
    """The step that a node works for, from its whole name, and the number of the attempt.

    A driver works for the step that it prepares. Groups of steps have drivers too: `root`.
    """
    *above, last = name.split(".")
    label, attempt = split(last)
    if label == EXECUTOR and above:
        return split(above[-1])[0], attempt
    return label.removesuffix(DRIVER), attempt


def is_driver(name: str) -> bool:
    """Whether a node, by its whole name, only prepares a step."""
    return split(name.rpartition(".")[2])[0].endswith(DRIVER)


def is_step(label: str) -> bool:
    """Whether a label may be that of a step."""
    return not _NO_STEP.fullmatch(label)
