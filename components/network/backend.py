"""TensorFlow with our settings: quiet, frugal with memory, the same numbers every time."""

import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
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
    # float32 is float32. TensorFloat-32 would cut its products to 10 bits on newer GPUs, and predictions would differ
    # between machines. What trains fast there trains in bfloat16.
    tf.config.experimental.enable_tensor_float_32_execution(False)


def device() -> str:
    """The GPU's name, or CPU."""
    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else "CPU"


def precision(wanted: str) -> str:
    """A Keras dtype policy. `auto` is the fastest of the hardware that is not slower than float32: see `fastest`."""
    if wanted != "auto":
        return wanted
    if gpus := tf.config.list_physical_devices("GPU"):
        found = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return fastest(capability=found)
    cpu = Path("/proc/cpuinfo")
    return fastest(instructions=cpu.read_text(encoding="utf-8").split() if cpu.is_file() else ())


def fastest(*, capability: tuple[int, int] | None = None, instructions: Iterable[str] = ()) -> str:
    """The Keras dtype policy in which a device trains fastest.

    GPUs multiply bfloat16 from compute capability 8.0 on, and float16 from 7.0 on (tensor cores of V100 and T4). In
    float16 Keras scales the loss, because small gradients would be 0. CPUs multiply tiles of bfloat16 with AMX.
    With AVX-512 BF16 alone, converting costs more than the products save: VGG-16 trained at 0.52 to 0.87 of its speed
    in float32, Inception V3 at 0.78 and the custom CNN at 1.0 (benchmarks/precision.py).

    Args:
        capability: compute capability of a GPU; None for a CPU.
        instructions: flags of a CPU, as /proc/cpuinfo names them.
    """
    if capability is None:
        return "mixed_bfloat16" if "amx_bf16" in set(instructions) else "float32"
    if tuple(capability) >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if tuple(capability) >= (7, 0) else "float32"


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors as a graph, like the step of Keras' `fit`."""
    return tf.function(function, autograph=False, reduce_retracing=True)  # type: ignore[no-any-return]


def peak_memory() -> int:
    """Most bytes that TensorFlow held on the first GPU since this was last asked."""
    peak: int = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    tf.config.experimental.reset_memory_stats("GPU:0")
    return peak


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
