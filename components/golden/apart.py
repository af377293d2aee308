"""Answer a golden set again in a fresh process: nothing that this one loaded or set counts.

ONNX Runtime is not imported here: its threads do not survive a fork, and a fork of a process that has them aborts.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from components.base.errors import DataRefused, OutsideFailed

SECONDS = 600
"""Longest that a replay may take: six pictures need some seconds."""


class Replay(NamedTuple):
    """What came of answering again."""

    pictures: int
    difference: str | None
    """In words; None if all answers are the same within the tolerance of `replaying`."""


def replay_apart(folder: Path) -> Replay:
    """Answer the golden set of a version again, and compare. Verify the directory before.

    Raises:
        DataRefused: there is no set, or it cannot be read or answered.
        OutsideFailed: the process fails or does not end.
    """
    command = [sys.executable, "-X", "utf8", "-m", "components.golden.replaying", str(folder.resolve())]
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OutsideFailed(f"The golden set was not answered within {SECONDS} s.") from error
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode not in (0, DataRefused.exit_code) or not lines:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no word"])[-1]
        raise OutsideFailed(f"The golden set was not answered: the process ended with {done.returncode} ({last:.200}).")
    said = json.loads(lines[-1])
    if "refused" in said:
        raise DataRefused(said["refused"])
    return Replay(**said)
