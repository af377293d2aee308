"""Whether MLflow has all that a training needs at its end. Asked at its beginning, which may be a night earlier."""

import errno
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from components.base.errors import ServiceRefused, ServiceUnreachable, classified, first_line
from components.tracking import address, failures, server

_SECONDS = 20.0  # at most, for a small file
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check(client: MlflowClient, experiment: str) -> None:
    """Ask for logged models, for permission to write, and store and fetch a small file.

    `server.connect` asked for the rest.

    Args:
        client: client of the server, from `server.connect`.
        experiment: id of the experiment that takes the run.

    Raises:
        ServiceUnreachable: the server lacks something, or refuses it.
        UsageError: a setting here is wrong.
    """
    with failures.refusals("asking for logged models"):
        client.search_logged_models([experiment], max_results=1)
    with failures.refusals("looking for the place of the files"):
        found = client.get_experiment(experiment)
    with failures.refusals("writing to the experiment"):
        for name, value in server.TRAINING_KIND.items():
            # An experiment of somebody else's keeps its own.
            client.set_experiment_tag(experiment, name, found.tags.get(name, value))
    _store_something(found.artifact_location)


def _store_something(place: str) -> None:
    """Store a file where the runs and models of an experiment go, read it, and delete it."""
    local = Path(unquote(urlsplit(place).path)) if urlsplit(place).scheme in ("", "file") else None
    with _storage_faults(place, local), tempfile.TemporaryDirectory() as folder:
        if local is not None:
            if address.is_web() and _elsewhere(local):
                raise FileNotFoundError(errno.ENOENT, "there is no such directory", str(local.parent))
            there = next(parent for parent in (local, *local.parents) if parent.exists())
            tempfile.TemporaryFile(dir=there).close()
            return
        # Two trainings that begin together do not delete each other's file.
        file = Path(folder, f"write-test-{uuid.uuid4().hex[:8]}")
        file.write_text("`mura` checks that files can be stored here.\n")
        repository = get_artifact_repository(place, tracking_uri=address.current())
        limit = min(_SECONDS, failures.file_seconds())
        failures.transfer("storing a small file", lambda: repository.log_artifact(str(file)), limit)
        file.unlink()
        fetch = partial(repository.download_artifacts, file.name, folder)
        failures.transfer("fetching a small file", fetch, limit)
        try:
            failures.transfer("deleting a small file", lambda: repository.delete_artifacts(file.name), limit)
        except (*failures.SERVICE_ERRORS, ServiceUnreachable, NotImplementedError):
            # Some stores keep everything.
            return


def _elsewhere(local: Path) -> bool:
    """Whether a server's directory is on another machine: what is written here would not reach it."""
    return urlsplit(address.current()).hostname not in _LOOPBACK and not local.parent.exists()


@contextmanager
def _storage_faults(place: str, local: Path | None) -> Iterator[None]:
    try:
        yield
    except failures.SERVICE_ERRORS as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else failures.one_line(error)
        if local is not None and address.is_web():
            raise ServiceRefused(
                f"MLflow at {address.shown()} leaves files to its clients, at {place}, where this machine cannot write "
                f"({reason}). Start the server with --artifacts-destination in place of --no-serve-artifacts, or mount "
                "that directory here."
            ) from error
        if local is not None and (known := classified(error)):
            raise type(known)(
                f"MLflow's files go to {local}, and storing one failed: {first_line(known)}. Change the permissions, "
                f"or set {address.URI} to another place."
            ) from error
        with failures.refusals(f"storing a file in {place}"):
            raise
