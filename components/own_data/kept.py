"""What is kept of a patient and an examination because it identifies nobody, in common words.

A file may hold anything in these elements, and a rare value may identify. So a value that fewer than FEWEST patients
have is written as `other`, whatever it is.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import date

from components.artifacts.manifest import KEPT

# Patients who share a value. Five is the usual least size of a cell in published tables of health data.
FEWEST = 5
OTHER = "other"
_SEXES = {"F": "female", "FEMALE": "female", "W": "female", "M": "male", "MALE": "male", "O": OTHER, "OTHER": OTHER}
# Ages above 89 are one group: 45 CFR 164.514(b)(2)(i)(C).
_OLDEST = 90
_OLDER = "90 or more"
_YEARS_IN_UNIT = {"Y": 1.0, "": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def sex(said: str) -> str:
    """`female`, `male` or `other`; empty for anything else.

    Args:
        said: DICOM's letter, or the word.
    """
    return _SEXES.get(said.strip().upper(), "")


def age(said: str) -> str:
    """The decade of an age: `40-49`, `90 or more`; empty for what is no age.

    Args:
        said: years, or DICOM's age string, such as 045Y or 018M.
    """
    found = re.fullmatch(r"(\d{1,3})([DWMY]?)", said.strip().upper(), re.ASCII)
    return _decade(int(int(found[1]) * _YEARS_IN_UNIT[found[2]])) if found else ""


def age_between(birth: str, study: str) -> str:
    """The decade of the age at an examination; empty where a date is none.

    Args:
        birth: the date of birth, YYYYMMDD.
        study: the date of the examination, YYYYMMDD.
    """
    try:
        born, made = (date(int(each[:4]), int(each[4:6]), int(each[6:8])) for each in (birth, study))
    except ValueError:
        return ""
    years = made.year - born.year - ((made.month, made.day) < (born.month, born.day))
    return _decade(years) if years >= 0 else ""


def _decade(years: int) -> str:
    if years >= _OLDEST:
        return _OLDER if years < 150 else ""
    return f"{years // 10 * 10}-{years // 10 * 10 + 9}"


def words(said: str) -> str:
    """Words in capital letters, 40 characters at most: makers write their names in many ways."""
    return re.sub(r"[^A-Z0-9]+", " ", said.upper()).strip()[:40].strip()


CLEAN: Mapping[str, Callable[[str], str]] = dict(
    zip(KEPT, (lambda said: words(said)[:16].strip(), words, sex, age), strict=True)
)
"""By column: the value to keep of what a file or a CSV says."""


def common(values: Iterable[tuple[str, str]]) -> set[str]:
    """The values that enough patients have.

    Args:
        values: pairs of a patient and a value.
    """
    patients: dict[str, set[str]] = defaultdict(set)
    for patient, value in values:
        if len(patients[value]) < FEWEST:
            patients[value].add(patient)
    return {value for value, having in patients.items() if len(having) >= FEWEST}
