"""One of N equal shares of a step's work, for more than one machine."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from components.base.errors import UsageError

AUTO = "auto"
# Who says which task of an array this process is, and the number of the array's first task. Slurm's array has the
# numbers that the user gave it, so the first must be 1; Kubernetes always counts from 0.
COUNTED_FROM: Mapping[str, int] = {"SLURM_ARRAY_TASK_ID": 1, "JOB_COMPLETION_INDEX": 0}


@dataclass(frozen=True)
class Part:
    """One of N shares of the work: 3/8 is the third of eight; auto/8 asks the Slurm array or the indexed Job."""

    number: int
    """From 1."""
    of: int

    METAVAR: ClassVar[str] = "I/N"
    BY_VALUE: ClassVar[bool] = True
    WITH_DIGEST: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse `3/8`, or `auto/8`.

        Raises:
            UsageError: no such part, or nothing says which one this is.
        """
        found = re.fullmatch(rf"({AUTO}|[0-9]{{1,9}})/([0-9]{{1,9}})", text.strip(), re.ASCII)
        if found is None:
            raise UsageError(f"--part {text}: expected I/N, such as 3/8 for the third of eight parts, or {AUTO}/8.")
        of = int(found[2])
        number, told = _own_number() if found[1] == AUTO else (int(found[1]), "")
        if not 1 <= number <= of:
            raise UsageError(f"--part {text}: no part {number} of {of}{told}. Parts are counted from 1 to N.")
        return cls(number, of)

    @property
    def location(self) -> str:
        """`3/8`."""
        return str(self)

    @property
    def identity(self) -> str:
        """`3/8`."""
        return str(self)

    def share(self, count: int) -> slice:
        """The things of this part, of so many. Shares differ by one at most; together they are all, in order."""
        return slice(count * (self.number - 1) // self.of, count * self.number // self.of)


def _own_number() -> tuple[int, str]:
    """The number of this task, counted from 1, and who says so."""
    told = {name: os.environ[name] for name in COUNTED_FROM if os.environ.get(name)}
    if len(told) != 1:
        found = "both are set" if told else "neither is set"
        raise UsageError(
            f"--part {AUTO}: expected {' or '.join(COUNTED_FROM)}, which a Slurm array and an indexed Job set; "
            f"{found}. Write --part I/N."
        )
    ((name, value),) = told.items()
    if not re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
        raise UsageError(f"--part {AUTO}: {name} is {value!r:.40}, expected a number. Write --part I/N.")
    hint = ", for `sbatch --array=1-N`" if COUNTED_FROM[name] else ""
    return int(value) + 1 - COUNTED_FROM[name], f" ({name} is {value}{hint})"
