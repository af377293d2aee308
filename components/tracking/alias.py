"""Which version an alias names, asked again and again."""

import re
from typing import NamedTuple

from components import tracking
from components.base import patience
from components.base.errors import ServiceUnreachable, UsageError
from components.tracking import address, failures, server

_URI = re.compile(r"models:/([^/@]+)@([^/@]+)")


class Held(NamedTuple):
    """A version that an alias names."""

    version: int
    made: int
    """When it was made, milliseconds since 1970."""


class Alias:
    """An alias of a registered model."""

    def __init__(self, uri: str) -> None:
        """Connect, and wait for MLflow as every command does.

        Args:
            uri: `models:/NAME@ALIAS`.

        Raises:
            UsageError: it names no alias; and as `server.connect`.
            ServiceUnreachable: as `server.connect`.
        """
        match = _URI.fullmatch(uri)
        if match is None:
            raise UsageError(f"{uri}: only an alias moves, models:/NAME@ALIAS. Leave --follow out.")
        self.name, self.alias = match.groups()
        self._client = tracking.connect()

    def look(self) -> Held | None:
        """The version that it names now; None if there is no such alias or version. Nothing is waited for.

        Raises:
            ServiceUnreachable: MLflow does not answer, or denies it.
            UsageError: MLflow refuses the question.
        """
        with patience.none(), failures.refusals(f"looking for the {self.alias} of {self.name}"):
            if reason := server.silence():
                raise ServiceUnreachable(f"MLflow at {address.shown()} does not answer ({reason}).")
            try:
                # For a missing alias, get_model_version_by_alias reports a wrong request, not a missing thing.
                number = self._client.get_registered_model(self.name).aliases.get(self.alias)
                found = None if number is None else self._client.get_model_version(self.name, str(number))
            except failures.SERVICE_ERRORS as error:
                if failures.is_missing(error):
                    return None
                raise
        return None if found is None else Held(int(found.version), int(found.creation_timestamp or 0))
