"""TensorFlow with our settings: quiet, frugal with memory, the same numbers every time."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.base import surroundings
from components.base.errors import OutsideFailed, UsageError
from components.base.variables import REQUIRE_GPU


@contextmanager
def _no_messages() -> Iterator[None]:
    """Discard what is written to the error stream. TensorFlow describes its build before it reads its log level."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


# Bytes of addresses that TensorFlow and a small training reserve; with 4 GB a training ends in a signal, or hangs.
ADDRESSES = 5_000_000_000


def _check_addresses() -> None:
    """Refuse a limit (`ulimit -v`) under which TensorFlow would abort.

    Raises:
        OutsideFailed: it is too low.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < ADDRESSES:
        raise OutsideFailed(
            f"This process may use {limit / 1e9:.1f} GB of memory (ulimit -v), and TensorFlow reserves "
            f"{ADDRESSES / 1e9:.0f} GB or more. Raise the limit: ulimit -v unlimited. A limit of the container bounds "
            "what is really used."
        )


# TensorFlow and Keras read these once, while they are imported.
_check_addresses()
surroundings.settle()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
surroundings.check_keras_file()
with _no_messages():
    import tensorflow as tf
import keras  # noqa: E402 - after TensorFlow, whose messages are turned off

for _name, _value in surroundings.KERAS_SETTINGS.items():
    getattr(keras.config, f"set_{_name}")(_value)


def prepare() -> None:
    """Set how TensorFlow runs; before it computes anything.

    Raises:
        UsageError: MURA_REQUIRE_GPU is set, and TensorFlow sees no GPU.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if os.environ.get(REQUIRE_GPU) and not gpus:
        raise UsageError(
            f"{REQUIRE_GPU} is set, and TensorFlow sees no GPU. Is this the CUDA build, is the driver new enough for "
            "it, and was the device passed to the container?"
        )
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    # Same seed, same weights. On a CPU the cost is too small to measure.
    tf.config.experimental.enable_op_determinism()


def device() -> str:
    """The GPU's name, or CPU."""
    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else "CPU"


def precision(wanted: str) -> str:
    """A Keras dtype policy. `auto` is bfloat16 where the hardware multiplies it, else float32."""
    if wanted != "auto":
        return wanted
    if gpus := tf.config.list_physical_devices("GPU"):
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= (8, 0) else "float32"
    # benchmarks/precision.py measures the gain. Without these instructions bfloat16 is emulated, and slower.
    cpu = Path("/proc/cpuinfo")
    words = set(cpu.read_text(encoding="utf-8").split()) if cpu.is_file() else set()
    return "mixed_bfloat16" if words & {"amx_bf16", "avx512_bf16"} else "float32"


def copies_on_gpu(pixels: Any) -> Iterator[tuple[Any]]:
    """Copy a tensor to the GPU again and again, to measure how fast that is."""
    with tf.device("CPU:0"):
        source = tf.identity(pixels)
    with tf.device("GPU:0"):
        while True:
            yield (tf.identity(source),)


@contextmanager
def memory_errors(remedy: str) -> Iterator[None]:
    """Turn TensorFlow's error for too little memory into one line.

    Args:
        remedy: what to do, a sentence.

    Raises:
        OutsideFailed: the device has too little memory.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise OutsideFailed(f"The memory of the device ({device()}) is too small. {remedy}") from error
