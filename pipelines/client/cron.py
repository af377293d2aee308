"""When a schedule starts its runs: cron with six fields, as Kubeflow's controller reads it.

The controller misreads the five fields of crontab: it takes the first for seconds. `0 3 * * 1` would start at second 0
of minute 3 of every hour in January, not on Mondays at three.
"""

import re
from typing import NamedTuple

from components.base.errors import UsageError

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
# Minimum, maximum, and the words for the values (github.com/robfig/cron v1).
_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("second", 0, 59, []),
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of the month", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)


class Cron(NamedTuple):
    """A schedule."""

    expression: str
    """Six fields."""
    note: str
    """How it was read, if a field was added."""


def read(text: str) -> Cron:
    """Read a schedule of six fields, or crontab's five, which start at second 0.

    Raises:
        UsageError: the number of fields is another, or a field is out of bounds.
    """
    fields = text.split()
    note = ""
    if len(fields) == 5:
        fields = ["0", *fields]
        note = f"five fields are read as those of crontab, at second 0: {' '.join(fields)}"
    if len(fields) != len(_FIELDS):
        raise UsageError(
            f"--cron {text!r}: expected six fields (second minute hour day month weekday), such as '0 0 3 * * 1-5', or "
            f"the five of crontab; found {len(text.split())}."
        )
    for field, (name, least, most, words) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if not _fits(part, least, most, words, question=name.startswith("day")):
                raise UsageError(
                    f"--cron {text!r}: {name} {part!r} is not one of {least} to {most}"
                    f"{f' or {words[0]} to {words[-1]}' if words else ''}, *, a-b, or any of them with /step."
                )
    return Cron(" ".join(fields), note)


def _fits(part: str, least: int, most: int, words: list[str], question: bool) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (step.isdecimal() and int(step) > 0):
        return False
    if span == "*" or (span == "?" and question):
        return True
    numbers = [_number(each, words, least) for each in span.split("-")]
    found = [number for number in numbers if number is not None]
    within = all(least <= number <= most for number in found)
    return len(found) == len(numbers) <= 2 and within and found == sorted(found)


def _number(text: str, words: list[str], least: int) -> int | None:
    if text.upper() in words:
        return words.index(text.upper()) + least
    return int(text) if re.fullmatch(r"[0-9]{1,2}", text) else None
