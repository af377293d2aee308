"""What a check of the way to the cluster found."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One line: a mark, what was looked at, what was found and what to do."""

    subject: str
    found: str
    mark: str = "ok"
    """ok; no, a run would fail; --, it could not be looked at from here, or need not be."""

    def __str__(self) -> str:
        return f"{self.mark}  {self.subject:16}  {self.found}"


def missing(subject: str, found: str) -> Finding:
    """Without this a run would fail."""
    return Finding(subject, found, "no")


def unknown(subject: str, found: str) -> Finding:
    """This could not be looked at, or a run may do without."""
    return Finding(subject, found, "--")
