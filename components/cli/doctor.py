"""Whether this installation can do the work: versions, TensorFlow, GPU, room to write, MLflow."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from components import tracking
from components.base import provenance, workers
from components.base.errors import MuraError, UsageError

# The kernel's driver shows itself here, in a container too; its tools may be absent.
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


class Finding(NamedTuple):
    """What one check found."""

    subject: str
    found: str
    problem: MuraError | None = None
    """What is to be done, and whose turn it is; None if all is well."""


def examine(require_gpu: bool = False) -> Iterator[Finding]:
    """Check one thing after the other, the quick ones first.

    Args:
        require_gpu: whether it is a problem that TensorFlow sees no GPU.
    """
    yield Finding("code", provenance.code_revision())
    yield Finding("versions", ", ".join(f"{name} {version}" for name, version in provenance.environment().items()))
    yield Finding("machine", _machine())
    for what, folder in _places().items():
        yield _place(what, folder)
    yield _mlflow()
    yield from _tensorflow(require_gpu)


def verdict(findings: Sequence[Finding]) -> MuraError | None:
    """The error to end with: what is wrong here comes before a service that does not answer; None if all is well."""
    problems = [finding.problem for finding in findings if finding.problem]
    if not problems:
        return None
    kind = type(min(problems, key=lambda problem: problem.exit_code))
    return kind(f"doctor: {len(problems)} of {len(findings)} checks failed; the lines with `no` say what to do.")


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = workers.cores()
    return f"{cores} core{'s' if cores > 1 else ''}, {memory:.0f} GB of memory, user {os.getuid()}"


def _places() -> dict[str, Path]:
    """Where steps write besides `--out`."""
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError:  # nothing can be written anywhere
        temporary = os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - only looked at
    return {
        "temporary files": Path(temporary),
        "Keras' weights": Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")),
        "Matplotlib's cache": Path(os.environ.get("MPLCONFIGDIR", Path.home() / ".config/matplotlib")),
    }


def _place(what: str, folder: Path) -> Finding:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        problem = UsageError(f"{folder}: {error.strerror} at {there}. Mount a directory there, or name another.")
        return Finding(what, str(problem), problem)
    return Finding(what, f"{folder}, {shutil.disk_usage(there).free / 1e9:.1f} GB free")


def _mlflow() -> Finding:
    if not os.environ.get(tracking.URI):
        return Finding("MLflow", f"{tracking.URI} is not set: mlflow.db in the working directory")
    try:
        tracking.connect()
    except MuraError as problem:
        return Finding("MLflow", str(problem), problem)
    return Finding("MLflow", f"{tracking.shown_uri()} answers")


def _tensorflow(require_gpu: bool) -> Iterator[Finding]:
    started = time.monotonic()
    try:
        # Imported here, so that an import that fails is a finding.
        from components.network import backend

        backend.prepare()
        import keras
        import numpy as np

        loss = keras.layers.Dense(1)(np.ones((2, 3), np.float32))  # [2, 1]
        assert loss.shape == (2, 1)
    except MuraError as promised:
        yield Finding("TensorFlow", str(promised), promised)
        return
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        problem = UsageError(f"does not work ({reason}). Install the project anew, or use its image.")
        yield Finding("TensorFlow", str(problem), problem)
        return
    yield Finding("TensorFlow", f"computes on {backend.device()}, ready after {time.monotonic() - started:.1f} s")
    yield _gpu(require_gpu, backend.device(), backend.precision("auto"))


def _gpu(required: bool, device: str, precision: str) -> Finding:
    if device != "CPU":
        return Finding("GPU", f"{device}, precision auto means {precision}")
    if NVIDIA_DRIVER.exists():
        problem = UsageError(
            "an NVIDIA driver, and no device for TensorFlow. Is this the CUDA build (make setup HARDWARE=gpu, or the "
            "gpu image), and was the device passed to the container?"
        )
        return Finding("GPU", str(problem), problem)
    if required:
        problem = UsageError("none, and --require-gpu was given.")
        return Finding("GPU", str(problem), problem)
    return Finding("GPU", f"none: trainings run on the CPU, precision auto means {precision}")
