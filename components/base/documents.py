"""JSON and YAML that others wrote. Reading them takes no more memory than a limit, and ends with an error of theirs."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import yaml

MOST = 32 << 20
"""Largest file, bytes: several times the largest of 5,000,000 images. Lists of JSON take 20 times as much memory."""

DEEPEST = 200
"""Lists and mappings that may lie within each other; a compiled pipeline has some 20."""


class TooLarge(ValueError):
    """A file is larger than what it should hold can be."""


def content(path: Path, most: int = MOST) -> bytes:
    """The bytes of a file that should be small.

    Args:
        path: a regular file. Nothing is waited for.
        most: bytes that it may have.

    Raises:
        TooLarge: it has more, or is no regular file.
        OSError: it cannot be read.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 - a handle
        found = file.read(most + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    if found is None or len(found) > most:
        raise TooLarge(f"expected a file of at most {most >> 20} MiB")
    return found


def json_of(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is not JSON, or nested more deeply than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        # With its traceback of a thousand frames nobody is served.
        raise ValueError("nested too deeply") from None


def yaml_of(text: str) -> Any:
    """What a YAML text says.

    Raises:
        yaml.YAMLError: it is not YAML, or nested more deeply than Python can follow.
    """
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None


def yaml_all(text: str | bytes) -> list[Any]:
    """The documents of a YAML text, read by LibYAML where it is there: in a tenth of the time.

    Raises:
        yaml.YAMLError: it is not YAML, or nested more deeply than a person writes.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    # Its events first, which come one after the other: the loader follows them in C until its stack ends.
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise yaml.YAMLError("nested too deeply")
    return list(yaml.load_all(text, Loader=loader))
