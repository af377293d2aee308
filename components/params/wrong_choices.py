"""What pydantic finds wrong, told in one line: unknown names first, then wrong values, then missing ones."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_ORDER = {"extra_forbidden": 0, "missing": 2}
_WRONG = 1
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_MOVED = {
    (
        "train",
        "weight_decay",
    ): "is shrinkage now, the share of itself that a weight loses over the whole training (0.1)",
    ("evaluate", "operating_point"): "moved to the section protocol; kappa, sensitivity and half are left",
    ("evaluate", "target"): "moved to the section protocol",
    ("evaluate", "bootstrap_draws"): "is gone: intervals need no draws; remove it",
    ("promote", "metric"): "moved to the section protocol, as primary_metric",
    **{("promote", name): "moved to the section protocol" for name in ("min_gain", "min_auroc", "max_loss")},
}
"""Choices of earlier versions, by section and name, and where they are."""
_INHERITED = re.compile(r"train\.candidates\.([^.]+)\.([^.]+)")


def told(kind: type[BaseModel], document: Any, error: ValidationError) -> str:
    """The first fault, with its place, and the number of the others.

    Args:
        kind: what the document should be.
        document: what was validated.
        error: what came of it.
    """
    first, *others = sorted(_distinct(error, document), key=lambda each: _ORDER.get(each["type"], _WRONG))
    more = f" (and {len(others)} more)" if others else ""
    place, says = _place(first), _says(kind, first)
    if not place and first["type"] == "value_error":
        # It is about several sections, and names them.
        return f"{says}{more}"
    return f"{place or 'the document'}: {says}{more}"


def _distinct(error: ValidationError, document: Any) -> Iterator[ErrorDetails]:
    """Each fault once: a candidate inherits the faults of the default, and an alternative of a type is one fault."""
    found = error.errors()
    of_default = {_place(each).removeprefix("train.default.") for each in found if _place(each).startswith("train.def")}
    seen: set[tuple[str, str]] = set()
    for each in found:
        inherited = _INHERITED.fullmatch(_place(each))
        if inherited and inherited[2] in of_default and not _has(document, *each["loc"]):
            continue
        if (key := (_place(each), each["type"])) not in seen:
            seen.add(key)
            yield each


def _has(document: Any, *keys: int | str) -> bool:
    for key in keys:
        if not isinstance(document, Mapping) or key not in document:
            return False
        document = document[key]
    return True


def _place(fault: ErrorDetails) -> str:
    return ".".join(str(part) for part in fault["loc"])


def _says(kind: type[BaseModel], fault: ErrorDetails) -> str:
    came = fault["input"]
    says = fault["msg"].removeprefix("Value error, ").removeprefix("Input ").partition(", unable to parse")[0]
    if fault["type"] == "extra_forbidden":
        if moved := _MOVED.get((str(fault["loc"][0]), str(fault["loc"][-1]))):
            return moved
        near = difflib.get_close_matches(str(fault["loc"][-1]), _names(kind, fault["loc"][:-1]), n=1)
        return f"no such choice{f'; did you mean {near[0]}?' if near else '; remove it'}"
    if fault["type"] == "missing":
        return "is missing; add it"
    if isinstance(came, str) and _DECIMAL_COMMA.fullmatch(came) and "number" in says:
        return f"{says}, found {came!r}: write {came.replace(',', '.')}"
    # Our own sentences name what was found.
    return says if fault["type"] == "value_error" else f"{says}, found {came!r:.60}"


def _names(kind: Any, place: tuple[int | str, ...]) -> list[str]:
    """The choices that there are at a place of the document."""
    for key in place:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = next((f.annotation for n, f in kind.model_fields.items() if key in (n, f.alias)), None)
        # A list or mapping of sections, or a section that may be left out.
        elif inner := [each for each in get_args(kind) if _is_section(each)]:
            kind = inner[0]
    kind = next((each for each in get_args(kind) if _is_section(each)), kind)
    return [f.alias or n for n, f in kind.model_fields.items()] if _is_section(kind) else []


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
