"""Effects on MLflow. Each is found again before it is repeated: an answer may get lost after the server has acted."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import DatasetInput
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException

from components.tracking import failures

T = TypeVar("T")

_PAUSE = 0.5  # seconds before the second attempt; doubled each time
_LOCK = threading.Lock()
_inside = 0
_before: str | None = None


def ensure(find: Callable[[], T | None], make: Callable[[], T]) -> T:
    """The thing that is there already, or a new one.

    MLflow's client sends every request again whose answer it has not got, as often as its settings say. For one that
    makes something, that would make two. Here it is sent again as often, but only after a look.

    Args:
        find: looks for the thing; None if it is not there.
        make: makes it. Each call sends its requests once.

    Raises:
        MlflowException and others of `failures.SERVICE_ERRORS`: MLflow refuses it, or does not answer.
    """
    left = MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
    pause = _PAUSE
    while (found := find()) is None:
        try:
            with _sent_once():
                return make()
        except failures.SERVICE_ERRORS as error:
            if not left or not failures.may_pass(error):
                # Perhaps it is refused because it is there: the answer of an earlier attempt got lost.
                if (found := find()) is None:
                    raise
                break
        left -= 1
        time.sleep(pause)
        pause *= 2
    return found


def ensure_inputs(client: MlflowClient, run_id: str, inputs: list[DatasetInput]) -> None:
    """Log datasets as inputs of a run. Those that it has already are not logged again.

    Where two runs log a new dataset at the same time, the server's database takes one and fails the other. The second
    attempt finds the dataset.

    Raises:
        MlflowException and others of `failures.SERVICE_ERRORS`: MLflow refuses it, or does not answer.
    """

    def find() -> bool | None:
        has = client.get_run(run_id).inputs
        logged = {(each.dataset.name, each.dataset.digest) for each in has.dataset_inputs} if has else set()
        return {(each.dataset.name, each.dataset.digest) for each in inputs} <= logged or None

    def make() -> bool:
        try:
            client.log_inputs(run_id, inputs)
        except MlflowException as error:
            if not failures.is_of_its_database(error):
                raise
            client.log_inputs(run_id, inputs)
        return True

    ensure(find, make)


@contextmanager
def _sent_once() -> Iterator[None]:
    """Let MLflow's client send nothing twice. It reads this from the environment, which all threads share."""
    global _inside, _before
    name = MLFLOW_HTTP_REQUEST_MAX_RETRIES.name
    with _LOCK:
        if not _inside:
            _before = os.environ.get(name)
        _inside += 1
        os.environ[name] = "0"
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                os.environ.pop(name)
                os.environ.update({} if _before is None else {name: _before})
