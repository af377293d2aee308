"""Checks of this installation: versions, TensorFlow, GPU, directories that steps write to, keys, MLflow."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.base import provenance, surroundings, workers
from components.base.errors import MuraError, UsageError
from components.base.variables import MEETING_SECONDS
from components.cli import doctor_mlflow
from components.cli.check import Check
from components.kubeflow import notify
from components.signing import keys
from components.train import meeting, mirror

# The kernel's driver is visible here, also in a container without its tools.
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def examine(require_gpu: bool = False) -> Iterator[Check]:
    """Check one thing after the other, quick ones first.

    Args:
        require_gpu: whether a missing GPU is a problem.
    """
    yield Check("code", provenance.code_revision())
    yield Check("versions", ", ".join(f"{name} {version}" for name, version in provenance.environment().items()))
    yield Check("machine", _machine())
    yield from _overruled()
    yield from _variables()
    for what, folder in _places().items():
        yield _place(what, folder)
    yield _keys()
    yield from doctor_mlflow.examine()
    yield from _tensorflow(require_gpu)


def verdict(checks: Sequence[Check]) -> MuraError | None:
    """The error to end with, or None. A fault of this machine comes before a service that does not answer."""
    problems = [check.problem for check in checks if check.problem]
    if not problems:
        return None
    kind = type(min(problems, key=lambda problem: problem.exit_code))
    return kind(f"doctor: {len(problems)} of {len(checks)} checks failed; the lines with `no` say what to do.")


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = workers.cores()
    return f"{cores} core{'s' if cores > 1 else ''}, {memory:.0f} GB of memory, user {os.getuid()}"


def _overruled() -> Iterator[Check]:
    """Settings from outside that are not used, one each. What else is overruled has its lines here too."""
    surroundings.settle()
    try:
        surroundings.check_keras_file()
        for line in surroundings.overruled():
            yield Check("overruled", line)
    except UsageError as problem:
        yield Check("overruled", str(problem), problem)


def _variables() -> Iterator[Check]:
    """This project's variables with a value that a step would refuse, one each. MURA_PATIENCE is MLflow's."""
    checks = {MEETING_SECONDS: meeting.seconds, mirror.PLACE: mirror.check_place, notify.WEBHOOK: notify.check_webhook}
    for name, check in checks.items():
        try:
            check()
        except UsageError as problem:
            yield Check(name, str(problem), problem)


def _places() -> dict[str, Path]:
    """Where steps write besides `--out`."""
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError:  # nothing can be written anywhere
        temporary = os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - only looked at
    return {
        "temporary files": Path(temporary),
        "Keras' weights": surroundings.keras_file().parent,
        "Matplotlib's cache": surroundings.matplotlib_folder(),
    }


def _place(what: str, folder: Path) -> Check:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        problem = UsageError(f"{folder}: {error.strerror} at {there}. Mount a directory there, or name another.")
        return Check(what, str(problem), problem)
    return Check(what, f"{folder}, {shutil.disk_usage(there).free / 1e9:.1f} GB free")


def _keys() -> Check:
    """Who signs here, and whose signatures are believed. No key is made."""
    try:
        own = keys.own()
        known = keys.trusted() if keys.is_said() else ()
    except UsageError as problem:
        return Check("keys", str(problem), problem)
    names = {key.fingerprint: key.name for key in known}
    trusted = f"trusted: {', '.join(names.values())}" if names else "nobody is trusted yet"
    if own is not None:
        return Check("keys", f"signs as {names.get(own.fingerprint, own.name)}; {trusted}")
    if names:
        return Check("keys", f"none that signs: versions can be verified here, not registered; {trusted}")
    return Check("keys", "none yet: the first `mura register` in a checkout makes a pair")


def _tensorflow(require_gpu: bool) -> Iterator[Check]:
    started = time.monotonic()
    try:
        # Imported here, so that an import that fails is a check.
        from components.network import backend

        backend.prepare()
        import keras
        import numpy as np

        loss = keras.layers.Dense(1)(np.ones((2, 3), np.float32))  # [2, 1]
        assert loss.shape == (2, 1)
    except MuraError as promised:
        yield Check("TensorFlow", str(promised), promised)
        return
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        problem = UsageError(f"does not work ({reason}). Install the project anew, or use its image.")
        yield Check("TensorFlow", str(problem), problem)
        return
    yield Check("TensorFlow", f"computes on {backend.device()}, ready after {time.monotonic() - started:.1f} s")
    yield _gpu(require_gpu, backend.device(), backend.precision("auto"))


def _gpu(required: bool, device: str, precision: str) -> Check:
    if device != "CPU":
        return Check("GPU", f"{device}, precision auto means {precision}")
    if NVIDIA_DRIVER.exists():
        problem = UsageError(
            "an NVIDIA driver, and no device for TensorFlow. Is this the CUDA build (make setup HARDWARE=gpu, or the "
            "gpu image), and was the device passed to the container?"
        )
        return Check("GPU", str(problem), problem)
    if required:
        problem = UsageError("none, and --require-gpu was given.")
        return Check("GPU", str(problem), problem)
    return Check("GPU", f"none: trainings run on the CPU, precision auto means {precision}")
