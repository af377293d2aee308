"""What came of one expectation."""

from dataclasses import dataclass
from typing import Any

from components.errors import printable


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
    success: bool
    tested: int | None
    """How many values it looked at: images, studies, patients; None if it looks at the table as a whole."""
    unexpected: int | None
    """How many of them are not as expected."""
    observed: Any
    """What the table as a whole shows; None if values are looked at one by one."""
    members: tuple[dict[str, Any], ...]
    """The first offenders: `member`, then by column the values that offend."""
    error: str | None
    """Why it could not be evaluated; then it does not hold."""

    def line(self, most: int) -> str:
        """The failure in a few words, with at most so many members."""
        if self.error is not None:
            return f"{self.name} could not be evaluated ({printable(self.error)})"
        if not self.members:
            return f"{self.name}: {self.says[0].lower()}{self.says[1:]}, found {self.observed}"
        more = max(self.unexpected or 0, len(self.members)) - most
        named = ", ".join(member_text(member) for member in self.members[:most])
        return f"{self.name}: {named}{f' and {more:,} more' if more > 0 else ''}"


def member_text(member: dict[str, Any]) -> str:
    """An offender and its values: `patient00012 (splits of the patient: test and train)`."""
    values = [f"{column}: {'missing' if value is None else value}" for column, value in member.items()][1:]
    return printable(f"{member['member']} ({', '.join(values)})" if values else str(member["member"]))
