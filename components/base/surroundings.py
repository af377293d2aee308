"""Settings from outside that would change a result, and what is used instead.

Choices live in params.yaml. Libraries also read the environment and files in the user's home, and some of these change
numbers: the layout of a network, the precision of a product, the number of steps. They are overruled in this process.
What says where and how many (directories, devices, threads, limits of memory, messages) is honoured.
"""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.base import documents
from components.base.errors import UsageError

# Variables with these names are removed, unless HONOURED has them: what a library adds next year is covered too.
OVERRULED = re.compile(
    r"(TF|TFXLA|XLA|KERAS|AUTOGRAPH|ONEDNN|DNNL|CUDNN|CUBLAS|NPY|OPENCV|PANDAS)_[A-Z0-9_]+"
    r"|NVIDIA_TF32_OVERRIDE|OPENBLAS_CORETYPE|MPLBACKEND|MATPLOTLIBRC|PYTHONWARNINGS"
)
HONOURED = re.compile(
    r"TF_CONFIG|KERAS_HOME"  # where
    r"|TF_NUM_(INTRA|INTER)OP_THREADS|TF_GPU_THREAD_\w+|OPENCV_FOR_THREADS_NUM|TF_GRPC_\w+"  # how many
    r"|TF_FORCE_(GPU_ALLOW_GROWTH|UNIFIED_MEMORY)|TF_GPU_ALLOCATOR|TF_CPU_ALLOCATOR_USE_BFC"  # how much
    r"|TF_\w+_MEM(ORY)?_LIMIT(_IN)?_MB"
    r"|TF_CPP_\w+|TF_DUMP_\w+|(ONEDNN|DNNL)_VERBOSE\w*|(CUDNN|CUBLAS|OPENCV)_LOG\w*"  # messages
    r"|TF_(VAR|TOKEN|CLI|LOG)_\w+|TF_(LOG|WORKSPACE|INPUT|IN_AUTOMATION|DATA_DIR)"  # Terraform's, some of them secret
)
# What is set rather than removed. By itself TensorFlow uses oneDNN only on CPUs with AVX-512 VNNI, AVX-VNNI or AMX.
# On one with AVX2, a step of VGG-16 took more than twice as long without it.
FIXED = {"KERAS_BACKEND": "tensorflow", "KERAS_NNX_ENABLED": "false", "TF_ENABLE_ONEDNN_OPTS": "1"}

KERAS_SETTINGS: dict[str, Any] = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}
"""Keras' own defaults, which networks are built with, whatever keras.json says."""

_removed: dict[str, str] = {}


def settle() -> None:
    """Overrule the variables of the environment, in this process and those that it starts.

    Call it before TensorFlow, Keras, numpy and OpenCV are imported: they read their variables then.
    """
    for name, value in list(os.environ.items()):
        if _is_overruled(name) and value != FIXED.get(name):
            del os.environ[name]
            if value:
                _removed[name] = value
    os.environ.update(FIXED)
    if sys.warnoptions:
        # With `error` a warning of a library, about its own future, would end a step.
        sys.warnoptions.clear()
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)


def overruled() -> Iterator[str]:
    """Describe each setting that was found and is not used: a line each."""
    for name, value in sorted(_removed.items()):
        instead = FIXED.get(name, "the library's default")
        yield f"{name}={value} of the environment is not used; {instead} is"
    file = keras_file()
    for name, value in (_read(file) if file.is_file() else {}).items():
        default = {**KERAS_SETTINGS, "backend": "tensorflow", "nnx_enabled": False}.get(name, value)
        if value != default:
            yield f"{name}: {value} of {file} is not used; {default} is"
    for file in _matplotlib_files():
        if file.is_file():
            yield f"{file} is not used for charts; Matplotlib's defaults are"


def keras_file() -> Path:
    """The file of settings that Keras reads while it is imported."""
    if home := os.environ.get("KERAS_HOME"):
        return _in_home(f"{home}/keras.json")
    user = _in_home("~")
    return (user if os.access(user, os.W_OK) else Path("/tmp")) / ".keras/keras.json"  # noqa: S108 - Keras' own choice


def matplotlib_folder() -> Path:
    """Where Matplotlib keeps its settings and its list of fonts."""
    settings = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return _in_home(os.environ.get("MPLCONFIGDIR") or f"{settings}/matplotlib")


def _in_home(path: str) -> Path:
    """The path with the user's home for `~`, which stays where there is none: a user id without a name or HOME."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises an error then


def check_keras_file() -> None:
    """Refuse a keras.json that ends the import of Keras. What else it says is overruled.

    Raises:
        UsageError: a setting has a value that Keras does not know, or the file cannot be read.
    """
    file = keras_file()
    if not file.exists():
        return
    known = {"floatx": ("float16", "float32", "float64"), "image_data_format": ("channels_last", "channels_first")}
    said = _read(file)
    wrong = {name: said[name] for name, values in known.items() if name in said and said[name] not in values}
    if not isinstance(said.get("epsilon", 1e-7), float):
        wrong["epsilon"] = said["epsilon"]
    if wrong:
        told = ", ".join(f"{name}: {value}" for name, value in wrong.items())
        raise UsageError(f"{file}: Keras cannot be imported with {told}. Delete the file; nothing in it is used.")


def _read(file: Path) -> dict[str, Any]:
    """What a keras.json says. Keras itself takes a file that is not JSON for an empty one."""
    try:
        said = documents.json_of(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    except OSError as error:
        raise UsageError(
            f"{file}: {error.strerror}, and Keras reads it. Delete the file, or make it readable."
        ) from error
    if not isinstance(said, dict):
        raise UsageError(f"{file}: Keras cannot be imported with a list or a number there. Delete the file.")
    return said


def _is_overruled(name: str) -> bool:
    return bool(OVERRULED.fullmatch(name)) and not HONOURED.fullmatch(name)


def _matplotlib_files() -> Iterator[Path]:
    """Where Matplotlib looks for settings."""
    yield Path("matplotlibrc")
    yield matplotlib_folder() / "matplotlibrc"
