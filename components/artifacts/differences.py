"""In what two sets of facts differ, by name."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from components.artifacts.artifact import Facts


def differences(one: Any, other: Any, rounding: float = 0.0, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """What differs between facts, or JSON of them. Provenance is not compared.

    Args:
        one: facts, or values of them.
        other: of the same kind.
        rounding: numbers that are not farther apart are equal.
        name: of what is compared.

    Yields:
        Name, such as `scores.test.auroc.value`, and the two values.
    """
    one, other = (each.deciding() if isinstance(each, Facts) else each for each in (one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            yield from differences(one.get(key), other.get(key), rounding, f"{name}.{key}".removeprefix("."))
    elif not _equal(one, other, rounding):
        yield name, one, other


def _equal(one: Any, other: Any, rounding: float) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=0, abs_tol=rounding)
    return bool(one == other)
