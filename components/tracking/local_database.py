"""An MLflow database that is a file: whether it is one, who may make it, and where its models' files lie."""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from components.base.errors import UsageError
from components.tracking.address import SQLITE

logger = logging.getLogger(__name__)

DEFAULT = "mlflow.db"
ARTIFACTS = "mlruns"
LOCK_SECONDS = 60
"""How long to wait for a process that writes."""
_COPIES = (".dvc", "tmp", "exps")
# Where MLflow's tables name places of files.
_PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def path_of(uri: str) -> Path | None:
    """The file of an SQLite address; None for another kind of address."""
    name = uri.removeprefix(SQLITE).partition("?")[0]
    return None if not uri.startswith(SQLITE) or name.startswith("file:") else Path(name).absolute()


def with_whole_path(uri: str) -> str:
    """The address with the whole path of the database. Another kind of address stays as it is.

    DVC runs an experiment in a copy of the project, and deletes it with all it holds when the experiment ends. There,
    the database is the one of the project.
    """
    database = path_of(uri)
    if database is None or Path(uri.removeprefix(SQLITE).partition("?")[0]).is_absolute():
        return uri
    return f"{SQLITE}{_outside_of_copies(database.parent) / uri.removeprefix(SQLITE).rpartition('/')[2]}"


def _outside_of_copies(directory: Path) -> Path:
    """The directory of the project for one in a copy of it below .dvc/tmp/exps; else the same."""
    for copy in (directory, *directory.parents):
        if (copy / ".dvc").is_dir():
            around = [above.parents[2] for above in copy.parents if above.parts[-3:] == _COPIES]
            return around[-1] / directory.relative_to(copy) if around else directory
    return directory


def folder(database: Path, experiment: str) -> str:
    """Where files of an experiment go, a URI. MLflow alone would use the directory of each process."""
    return (database.parent / ARTIFACTS / quote(experiment, safe="")).as_uri()


@contextmanager
def alone_at(database: Path | None) -> Iterator[None]:
    """Let one process at a time create the database: two at the same time would damage each other's tables."""
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(database.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def prepare(database: Path) -> None:
    """Check that a file is MLflow's database, and find its files if the project has been moved or copied.

    MLflow keeps absolute paths. Files that lie beside the database are still found there afterwards.

    Raises:
        UsageError: it is the database of another program.
        sqlite3.Error: it is no database, or cannot be opened.
    """
    # MLflow tries for minutes to open what cannot be opened.
    with closing(sqlite3.connect(database, timeout=LOCK_SECONDS)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and not {"alembic_version", "experiments"} <= tables:
            raise UsageError(
                f"{database} is a database of another program: it has the table {min(tables)} and none of MLflow's "
                "experiments. Name another file."
            )
        if not _PLACES.keys() <= tables:
            return  # made by an older MLflow, which brings it up to date
        for name, location in connection.execute("SELECT name, artifact_location FROM experiments").fetchall():
            here = folder(database, name)
            if location and _was_moved(location, here):
                logger.info("MLflow's files of %s were at %s and are now looked for at %s", name, location, here)
                with connection:
                    _rewrite(connection, location, here)


def _was_moved(location: str, here: str) -> bool:
    old, new = (Path(unquote(urlsplit(uri).path)) for uri in (location, here))
    if urlsplit(location).scheme not in ("", "file") or old == new or old.parts[-2:] != new.parts[-2:]:
        return False
    return not (old.exists() and (not new.exists() or old.samefile(new)))


def _rewrite(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _PLACES.items():
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 - names of our own
            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
        )
