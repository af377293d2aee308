"""The result of one check."""

from typing import NamedTuple


class CheckResult(NamedTuple):
    """One line of `mura pipeline doctor`."""

    subject: str
    found: str
    """What was found and, where something is missing, what to do."""
    mark: str = "ok"
    """`ok`; `no`: a run would fail; `--`: not checked, or a run can do without it."""

    def __str__(self) -> str:
        return f"{self.mark}  {self.subject:16}  {self.found}"


def missing(subject: str, found: str) -> CheckResult:
    """A run would fail without this."""
    return CheckResult(subject, found, "no")


def unknown(subject: str, found: str) -> CheckResult:
    """This could not be checked, or a run can do without it."""
    return CheckResult(subject, found, "--")
