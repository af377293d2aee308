"""A server that follows an alias: another version is loaded beside the one that answers, and takes its place."""

import asyncio
import logging
import math
import time
from pathlib import Path
from typing import Any

from components.artifacts.followed import Followed
from components.base.errors import ExitCode, classified
from components.predict.predictor import Predictor
from components.serve.desk import Desk
from components.serve.source import Source
from components.serve.verifier import Verification

LOOK = 0.25
"""Between two looks at the directory, seconds."""
AGAIN = 30.0
"""Until what failed outside is tried again, seconds."""

logger = logging.getLogger(__name__)


class Succession:
    """Which version answers at a desk, as long as an alias is followed."""

    def __init__(self, source: Source, folder: Path) -> None:
        """Take where versions come from.

        Args:
            source: the directory that is watched.
            folder: that of the version that answers now.
        """
        self._source = source
        self._done = self._seen = folder.name
        self._refused, self._next = "", math.inf

    async def watch(self, desk: Desk) -> None:
        """Let every version that comes answer, until this is cancelled. What cannot answer changes nothing."""
        while True:
            try:
                found = self._source.present()
                if found is not None and (found.directory != self._seen or time.monotonic() >= self._next):
                    self._seen, self._next = found.directory, math.inf
                    await self._take(desk, found)
                desk.follows = self._sign(found)
            except Exception as error:
                told = classified(error)
                if told is None:
                    logger.error("serve: a bug, %s, while a version was loaded", type(error).__name__)
                    logger.debug("", exc_info=error)
                elif str(told) != self._refused:
                    logger.warning("serve: %s Version %s stays.", told, desk.present.version)
                    self._refused = str(told)
                # The keys that are trusted may be put in their place, and the memory may be large enough.
                if told is not None and told.exit_code in (ExitCode.OUTSIDE, ExitCode.USAGE):
                    self._next = time.monotonic() + AGAIN
            await asyncio.sleep(LOOK)

    async def _take(self, desk: Desk, found: Followed) -> None:
        began, before = time.monotonic(), desk.present.version
        await desk.alone()
        predictor = await asyncio.to_thread(_verified, self._source.place(found))
        await desk.replace(predictor)
        self._done, self._refused = found.directory, ""
        seconds = time.monotonic() - began
        logger.info("serve: version %s answers in the place of %s, %.1f s", desk.present.version, before, seconds)
        await desk.alone()

    def _sign(self, found: Followed | None) -> dict[str, Any] | None:
        """What is said of it to whoever asks. Reasons are in the log: they may name places."""
        if found is None:
            return None
        behind = found.behind.version if found.behind else found.version if found.directory != self._done else None
        return {"uri": found.uri, "not_taken": behind, "answered": not found.away, "silent": self._source.silent()}


def _verified(folder: Path) -> Predictor:
    Verification(folder).check()
    return Predictor.opened(folder)
