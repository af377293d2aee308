"""A check of an installation and its result."""

from typing import NamedTuple

from components.base.errors import MuraError


class Check(NamedTuple):
    """A check and its result."""

    subject: str
    found: str
    problem: MuraError | None = None
    """The error that says what to do; None if all is well."""
