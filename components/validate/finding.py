"""What came of one expectation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.base.errors import printable


@dataclass(frozen=True)
class Offender:
    """What is not as expected, and how."""

    name: str
    """The image, study or patient, or split and body part."""
    shows: Mapping[str, Any]
    """What offends, by column."""
    unit: str | None
    """image, study or patient, if it is one: the column of the manifest in which `key` stands."""
    key: str | None

    def __str__(self) -> str:
        """`patient00012 (splits of the patient: test and train)`."""
        values = [f"{column}: {'missing' if value is None else value}" for column, value in self.shows.items()]
        return printable(f"{self.name} ({', '.join(values)})" if values else self.name)


@dataclass(frozen=True)
class Finding:
    """What came of one expectation."""

    name: str
    says: str
    """The expectation in one sentence."""
    why: str
    """What would go wrong without it."""
    gate: bool
    """Whether it refuses the data, or only warns."""
    tolerance: float
    """Offenders that are tolerated: below 1 a share of those tested, from 1 on a number."""
    success: bool
    """Whether it holds, within the tolerance."""
    tested: int | None
    """How many values it looked at: images, studies, patients; None if it looks at the table as a whole."""
    unexpected: int | None
    """How many of them are not as expected."""
    observed: Any
    """What the table as a whole shows; None if values are looked at one by one."""
    offenders: tuple[Offender, ...]
    """All of them."""
    error: str | None
    """Why it could not be evaluated; then it does not hold."""

    @property
    def tolerated(self) -> bool:
        """Whether it holds although some offend."""
        return self.success and bool(self.unexpected)

    @property
    def severity(self) -> str:
        """`gate` or `warn`."""
        return "gate" if self.gate else "warn"

    def line(self, most: int) -> str:
        """The failure in a few words, with at most so many offenders."""
        if self.error is not None:
            return f"{self.name} could not be evaluated ({printable(self.error)})"
        if not self.offenders:
            return f"{self.name}: {self.says[0].lower()}{self.says[1:]}, found {self.observed}"
        more = max(self.unexpected or 0, len(self.offenders)) - most
        named = ", ".join(str(offender) for offender in self.offenders[:most])
        return f"{self.name}: {named}{f' and {more:,} more' if more > 0 else ''}"
