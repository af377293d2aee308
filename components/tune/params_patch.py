"""Values of a candidate, written into the text of params.yaml. Everything else in it, also comments, stays as it is."""

import difflib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from components.base import documents
from components.base.errors import UsageError


def patched(text: str, candidate: str, values: Mapping[str, Any], place: str) -> str:
    """The text with these values in the candidate's entry.

    Args:
        text: params.yaml.
        candidate: the key below `train.candidates`.
        values: by choice.
        place: name of the file, for errors.

    Raises:
        UsageError: the entry is written in a way that cannot be changed safely.
    """
    made = text
    for name, value in values.items():
        made = _with(made, candidate, name, _written(value), place)
    expected = documents.yaml_of(text)
    candidates = expected["train"]["candidates"]
    candidates[candidate] = candidates[candidate] | dict(values)
    if documents.yaml_of(made) != expected:
        raise UsageError(f"{place}: train.candidates.{candidate} cannot be changed safely; {_by_hand(values)}.")
    return made


def patch(before: str, after: str, path: Path) -> str:
    """The difference as `git apply` takes it in the root of the repository, or in the file's directory without one."""
    root = next((folder for folder in path.absolute().parents if (folder / ".git").exists()), path.absolute().parent)
    name = Path(os.path.relpath(path.absolute(), root)).as_posix()
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _with(text: str, candidate: str, name: str, value: str, place: str) -> str:
    """The text with one value changed or added."""
    entry = _entry(text, candidate)
    if not isinstance(entry, yaml.MappingNode) or not entry.value:
        raise UsageError(f"{place}: train.candidates.{candidate} is no mapping of its own; {_by_hand({name: value})}.")
    for key, found in entry.value:
        if key.value == name:
            return text[: found.start_mark.index] + value + text[found.end_mark.index :]
    last = entry.value[-1][1].end_mark.index
    if entry.flow_style:
        return f"{text[:last]}, {name}: {value}{text[last:]}"
    # A line of its own before the first key, because what ends the last value may be a comment.
    first = entry.value[0][0].start_mark
    return f"{text[: first.index]}{name}: {value}\n{' ' * first.column}{text[first.index :]}"


def _entry(text: str, candidate: str) -> yaml.Node | None:
    node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
    for name in ("train", "candidates", candidate):
        node = next((value for key, value in _pairs(node) if key.value == name), None)
    return node


def _pairs(node: yaml.Node | None) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from node.value


def _written(value: Any) -> str:
    """A value in one line of YAML."""
    found: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
    return found.removesuffix("...\n").rstrip("\n")


def _by_hand(values: Mapping[str, Any]) -> str:
    return "set by hand " + ", ".join(f"{name}: {value}" for name, value in values.items())
