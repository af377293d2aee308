"""The outcome of an expectation, and of a whole validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from components.artifacts.manifest import Manifest
from components.base.errors import printable
from components.params.validate import ValidateParams
from components.validate.faults import FAULTS


@dataclass(frozen=True)
class Offender:
    """A value that is not as expected."""

    name: str
    """The image, study or patient, or split and body part."""
    shows: Mapping[str, Any]
    """The offending values by column."""
    unit: str | None
    """image, study or patient: the manifest's column that contains `key`. None for anything else."""
    key: str | None

    def __str__(self) -> str:
        """`patient00012 (splits of the patient: test and train)`."""
        values = ", ".join(f"{column}: {'missing' if value is None else value}" for column, value in self.shows.items())
        if not values:
            return printable(self.name)
        # No brackets within brackets.
        return printable(f"{self.name}: {values}" if "(" in values else f"{self.name} ({values})")


@dataclass(frozen=True)
class Outcome:
    """The outcome of one expectation."""

    name: str
    says: str
    """The expectation in one sentence."""
    why: str
    """The reason for it."""
    gate: bool
    """Whether it refuses the data. Otherwise it warns."""
    tolerance: float
    """Tolerated offenders: below 1 a share of the tested values, from 1 on a number."""
    success: bool
    """Whether it holds within the tolerance."""
    tested: int | None
    """Number of tested images, studies or patients; None for an expectation about the whole table."""
    unexpected: int | None
    """Number of them that are not as expected."""
    observed: Any
    """The observed value of the whole table; None if values are tested one by one."""
    offenders: tuple[Offender, ...]
    error: str | None
    """Why it could not be evaluated. Then it does not hold."""

    @property
    def tolerated(self) -> bool:
        """Whether it holds despite some offenders."""
        return self.success and bool(self.unexpected)

    @property
    def severity(self) -> str:
        """`gate` or `warn`."""
        return "gate" if self.gate else "warn"

    def line(self, most: int) -> str:
        """The fault in one line, with at most so many offenders, and what to do."""
        if self.error is not None:
            return f"{self.name} could not be evaluated: {printable(self.error)}"
        return f"{self.name} is broken: {self._fault(most)}"

    def _fault(self, most: int) -> str:
        if not self.offenders:
            found = "" if self.observed is None else f" (found {self.observed})"
            return FAULTS[self.name].format(self.says[0].lower() + self.says[1:]) + found
        number = max(self.unexpected or 0, len(self.offenders))
        if len(set(map(_advice, self.offenders))) == 1 and (advice := _advice(self.offenders[0])) and number > 1:
            return FAULTS[self.name].format(f"{number:,} images, such as {self.offenders[0].name}: {advice}")
        named = ", ".join(str(offender) for offender in self.offenders[:most])
        return FAULTS[self.name].format(f"{named}{f' and {number - most:,} more' if number > most else ''}")


def _advice(offender: Offender) -> str | None:
    """What to do about this path; often the same for many."""
    advice = offender.shows.get("fault of the path")
    return None if advice is None else printable(str(advice))


class Validation(NamedTuple):
    """Everything that the reports tell."""

    manifest: Manifest
    reference: Manifest | None
    """The manifest that the data were compared with."""
    params: ValidateParams
    tables: Mapping[str, pd.DataFrame]
    """As `tables.arranged` gives them."""
    outcomes: Sequence[Outcome]
    skipped: Mapping[str, str]
    """Expectations that were not evaluated, and why."""
