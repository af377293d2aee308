"""TF_CONFIG: the addresses of all workers of a training, and which of them this process is."""

import os
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from components.base.errors import UsageError

TF_CONFIG = "TF_CONFIG"


class Place(NamedTuple):
    """Which worker this process is."""

    rank: int
    """0 is the chief."""
    size: int
    """Number of workers."""


class _Cluster(BaseModel, extra="forbid"):
    worker: list[Annotated[str, Field(pattern=r":[0-9]+$")]] = Field(min_length=1)


class _Task(BaseModel):
    type: Literal["worker"]
    index: int = Field(ge=0)


class _Config(BaseModel):
    cluster: _Cluster
    task: _Task


def place() -> Place:
    """Read TF_CONFIG. Without it, this process is the only worker.

    Raises:
        UsageError: TF_CONFIG names something else than workers, or does not name this process.
    """
    config = _read()
    if config is None:
        return Place(0, 1)
    size = len(config.cluster.worker)
    if config.task.index >= size:
        raise UsageError(f"{TF_CONFIG}: this is worker {config.task.index}, and the last of {size} is {size - 1}.")
    return Place(config.task.index, size)


def addresses() -> list[str]:
    """host:port of each worker, in the order of their ranks."""
    config = _read()
    return config.cluster.worker if config else []


def _read() -> _Config | None:
    text = os.environ.get(TF_CONFIG)
    if not text:
        return None
    try:
        return _Config.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f'{TF_CONFIG}: expected {{"cluster": {{"worker": ["host:port", ...]}}, "task": {{"type": "worker", '
            f'"index": 0}}}}, found something else ({where}: {first["msg"]}). Unset it to train in one process.'
        ) from error
