"""`mura fetch --follow`: a directory with the version that an alias names. Importing this imports MLflow.

MLflow tells nobody that an alias moved: it is asked every few seconds. A version that cannot be fetched, or is not what
was registered, changes nothing: the one before stays, and `followed.json` says which version was not taken.
"""

import logging
import re
import shutil
import time
from pathlib import Path
from typing import NoReturn

from components.artifacts.followed import FOLLOWED, Behind, Followed
from components.base import patience
from components.base.errors import UsageError, classified
from components.predict import fetching
from components.tracking.alias import Alias, Held

LONGEST_PAUSE = 300.0
"""Between two attempts to fetch a version that was not taken, seconds; the first comes at the next look."""
KEPT = 2
"""Directories of versions: that of the present one, and the one before, which somebody may still read."""

# Of this directory; the last ones are of a process that was killed.
_OURS = re.compile(rf"{FOLLOWED}|\d{{6}}|\..*\.partial")

logger = logging.getLogger(__name__)


def follow(uri: str, folder: Path, seconds: float) -> NoReturn:
    """Fetch the version that an alias names, and every version that it names later. Only a signal ends it.

    Args:
        uri: `models:/NAME@ALIAS`.
        folder: as `Followed`. One that was followed before goes on with its version.
        seconds: between two looks.

    Raises:
        UsageError: the URI names no alias, or the first version cannot be fetched: as `fetching.fetch`.
        DataRefused, OutsideFailed, ServiceUnreachable: the first version cannot be fetched: the same.
    """
    made = Follower(uri, folder, seconds)
    while True:
        time.sleep(seconds)
        made.look()


class Follower:
    """Keeps a directory with the version that an alias names."""

    def __init__(self, uri: str, folder: Path, seconds: float) -> None:
        """Fetch the first version, unless the directory has one. See `follow`."""
        folder.mkdir(parents=True, exist_ok=True)
        found = Followed.read(folder)
        foreign = [path for path in folder.iterdir() if not _OURS.fullmatch(path.name)]
        if foreign or (found is not None and found.uri != uri):
            raise UsageError(f"{folder}: not a directory where {uri} was followed. Name another one.")
        self._folder, self._uri, self._alias, self._shortest = folder, uri, Alias(uri), seconds
        self._failures, self._next = 0, 0.0
        self.followed = found or self._taken(self._first(), 1)

    def look(self) -> None:
        """Look once, and fetch what the alias names now. Whatever fails changes nothing."""
        try:
            named = self._alias.look()
        except Exception as error:
            self._tell(self.followed.model_copy(update={"away": _words(error)}))
            return
        present = self.followed
        if named is None:
            self._tell(present.model_copy(update={"away": f"{self._uri} names no version"}))
        elif named == (present.version, present.made):
            self._failures = 0
            self._tell(present.model_copy(update={"away": "", "behind": None}))
        elif present.behind is None or present.behind.version != named.version or time.monotonic() >= self._next:
            self._tell(self._tried(named))
        else:
            self._tell(present.model_copy(update={"away": ""}))
        (self._folder / FOLLOWED).touch()

    def _first(self) -> Held:
        named = self._alias.look()
        if named is None:
            raise UsageError(f"{self._uri} names no version. Promote one: mura promote")
        return named

    def _tried(self, named: Held) -> Followed:
        """What is so after an attempt to fetch a version."""
        if self.followed.behind is None or self.followed.behind.version != named.version:
            self._failures = 0
        try:
            with patience.none():
                return self._taken(named, int(self.followed.directory) + 1)
        except Exception as error:
            behind = Behind(version=named.version, why=_words(error))
            self._failures += 1
            pause = min(self._shortest * 2 ** min(self._failures, 16), LONGEST_PAUSE)
            self._next = time.monotonic() + pause
            return self.followed.model_copy(update={"away": "", "behind": behind})

    def _taken(self, named: Held, number: int) -> Followed:
        """Fetch a version, and say that it is the present one.

        Raises:
            UsageError, DataRefused, OutsideFailed, ServiceUnreachable: as `fetching.fetch`.
        """
        directory = f"{number:06d}"
        # What a killed process left.
        shutil.rmtree(self._folder / directory, ignore_errors=True)
        fetched = fetching.fetch(f"models:/{self._alias.name}/{named.version}", self._folder / directory)
        found = Followed(
            uri=self._uri, model=fetched.model, version=named.version, made=named.made, directory=directory
        )
        found.write(self._folder)
        self._sweep(number)
        logger.info("follow: %s is version %d", self._uri, named.version)
        self._failures, self.followed = 0, found
        return found

    def _sweep(self, present: int) -> None:
        for path in self._folder.iterdir():
            if path.is_dir() and not (path.name.isdecimal() and present - KEPT < int(path.name) <= present):
                shutil.rmtree(path, ignore_errors=True)

    def _tell(self, found: Followed) -> None:
        """Write down what is so, and log what has changed."""
        before, self.followed = self.followed, found
        if found == before:
            return
        found.write(self._folder)
        stays = f"version {found.version} stays"
        # The words of a second attempt may differ by the name of a temporary directory.
        if found.behind and (before.behind is None or before.behind.version != found.behind.version):
            why = f"version {found.behind.version} is not taken: {found.behind.why}"
            logger.warning("follow: %s: %s (%s)", self._uri, why, stays)
        if found.away and not before.away:
            logger.warning("follow: %s: %s (%s)", self._uri, found.away, stays)
        if before.away and not found.away:
            logger.info("follow: MLflow answers again")


def _words(error: Exception) -> str:
    """What to say of a failure. A bug is raised again."""
    told = classified(error)
    if told is None:
        raise error
    return str(told)
