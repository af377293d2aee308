"""Places and keys that a pod finds in files, read into the environment.

In a pod, config maps and secrets are directories, a file for each key, below `ROOT`. As variables of the pod they could
stand in the way of others: Kubeflow's MLflow integration gives steps variables of the same names, and a pod in which
one name has a value and a reference is refused.

    /etc/mura/<name of the config map or secret>/<KEY>    the value
"""

import os
import re
from pathlib import Path

from components.base.errors import UsageError

ROOT = "/etc/mura"
"""Where the pipeline mounts them."""
OTHER_ROOT = "MURA_PLACES"
"""Names another directory."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""A name of a variable. Other files are not read, such as Kubernetes' own `..data`."""


def settle() -> None:
    """Set the variables that are not set. Call it before a library that reads them is imported.

    A variable that is set wins, also an empty one. An empty file sets nothing. The end of the last line is not part of
    a value. Nothing is logged: values are secrets.

    Raises:
        UsageError: a file cannot be read, or a variable cannot have its content.
    """
    root = Path(os.environ.get(OTHER_ROOT) or ROOT)
    try:
        files = sorted(file for file in root.glob("*/*") if _is_key(file))
    except OSError as error:
        raise UsageError(f"{root}: places and keys cannot be read ({error.strerror}).") from error
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UsageError(
                f"{file}: cannot be read ({error.strerror}). May the user of the steps, `kubeflow.user`, read it?"
            ) from error
        value = content.removesuffix(b"\n").removesuffix(b"\r")
        if b"\0" in value:
            raise UsageError(f"{file}: a variable cannot have a zero byte. Write the value as text.")
        if value:
            os.environ.setdefault(file.name, os.fsdecode(value))


def _is_key(file: Path) -> bool:
    return bool(NAME.fullmatch(file.name)) and not file.parent.name.startswith(".") and file.is_file()
