"""TensorFlow as we want it: quiet, frugal, the same numbers every time."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.base.errors import UsageError

REQUIRE_GPU = "MURA_REQUIRE_GPU"
"""Set where a GPU was promised, as to a pod that waited for one: without it days would pass on the CPU, unnoticed."""


def prepare() -> None:
    """Import TensorFlow and settle how it runs; before Keras is imported, and once in a process.

    Raises:
        UsageError: a GPU was promised, and TensorFlow sees none.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with _no_chatter():
        import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if os.environ.get(REQUIRE_GPU) and not gpus:
        raise UsageError(
            f"{REQUIRE_GPU} is set, and TensorFlow sees no GPU. Is this the CUDA build, is the driver new enough for "
            "it, and was the device passed to the container?"
        )
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    # Same seed, same weights; on a CPU it costs nothing that could be measured.
    tf.config.experimental.enable_op_determinism()


def device() -> str:
    """The GPU's name, or CPU."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else "CPU"


def precision(wanted: str) -> str:
    """A Keras dtype policy; for `auto` bfloat16 where the hardware multiplies it, else float32."""
    import tensorflow as tf

    if wanted != "auto":
        return wanted
    if gpus := tf.config.list_physical_devices("GPU"):
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= (8, 0) else "float32"
    # benchmarks/precision.py shows what it gains; without these instructions bfloat16 is emulated, and slower.
    cpu = Path("/proc/cpuinfo")
    words = set(cpu.read_text().split()) if cpu.is_file() else set()
    return "mixed_bfloat16" if words & {"amx_bf16", "avx512_bf16"} else "float32"


@contextmanager
def _no_chatter() -> Iterator[None]:
    """TensorFlow writes how it was compiled to the error stream before it reads how loud it may be."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
