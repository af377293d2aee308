"""What is compared: the candidates with the first of them, and with the versions that hold an alias.

Every difference is that of a row minus its reference, on the same studies of the same patients. Nothing is read here.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from components.artifacts.evaluation import EvaluationFacts, SplitScores
from components.artifacts.manifest import TEST, TUNING
from components.artifacts.registration import Comparison, Difference, RegisteredModel
from components.artifacts.trained_model import TrainedModel
from components.base.words import in_words
from components.params.train import title
from components.scores.both_splits import BothSplits
from components.scores.studies import Studies
from components.tracking import stored_studies
from components.tracking.model_registry import Holder
from components.tracking.version_comparison import SPLITS, difference, missing, studies_of


class Entry(NamedTuple):
    """A candidate, how it was trained, and what was measured of it."""

    version: RegisteredModel
    model: TrainedModel
    evaluation: EvaluationFacts
    found: BothSplits

    @property
    def label(self) -> str:
        """A short name."""
        return f"{title(self.version.candidate, self.version.architecture)} v{self.version.version}"

    @property
    def threshold(self) -> float:
        """Of the operating point that decides."""
        return self.version.scores.threshold

    def studies(self, split: str) -> Studies:
        """Those of a split, calibrated."""
        return {TUNING: self.found.calibrated.tuning, TEST: self.found.calibrated.test}[split]


class Row(NamedTuple):
    """A version minus the reference."""

    label: str
    tuning: Difference | None
    """None where the two were not measured on the same studies."""
    test: Difference | None

    def of(self, split: str) -> Difference | None:
        """That of one split."""
        return {TUNING: self.tuning, TEST: self.test}[split]


class Contrast(NamedTuple):
    """Versions minus a reference."""

    reference: str
    """A short name."""
    version: int
    aliases: tuple[str, ...]
    """Of the reference."""
    rows: list[Row]
    missing: tuple[str, ...] = ()
    """Why differences are missing, in sentences."""


def with_first(entries: Sequence[Entry]) -> Contrast | None:
    """The other candidates minus the first; None if there are no others.

    Args:
        entries: best first.
    """
    first, *others = entries
    if not others:
        return None
    rows = [Row(each.label, *(_difference(each, first, split) for split in SPLITS)) for each in others]
    return Contrast(first.label, first.version.version, (), rows)


def with_holder(entries: Sequence[Entry], holder: Holder) -> Contrast:
    """The candidates minus a version that holds an alias and is no candidate.

    Args:
        entries: best first.
        holder: the version.
    """
    facts, table = holder.facts, holder.studies.table
    if facts is None:
        who = f"{holder.name} v{holder.version}"
    else:
        who = f"{title(facts.candidate, facts.architecture)} v{facts.version}"
    tables = [stored_studies.nameless(entry.found.table) for entry in entries]
    now, scores = entries[0].version.scores, facts.scores if facts else None
    why = {split: missing(now, studies_of(tables[0], split), holder, scores, split) for split in SPLITS}
    rows = []
    for entry, mine in zip(entries, tables, strict=True):
        found = {
            split: None
            if why[split] or facts is None or table is None
            else difference(
                studies_of(mine, split), studies_of(table, split), (entry.threshold, facts.scores.threshold)
            )
            for split in SPLITS
        }
        rows.append(Row(entry.label, found[TUNING], found[TEST]))
    whose = f"{who}, which holds {_named(holder.aliases)}"
    told = dict.fromkeys(f"{whose}: {each}." for each in why.values() if each)
    return Contrast(who, holder.version, holder.aliases, rows, tuple(told))


def of_first(
    entries: Sequence[Entry], contrasts: Sequence[Contrast], aliases: Mapping[int, tuple[str, ...]]
) -> tuple[Comparison, ...]:
    """The first candidate minus each other version that holds an alias, by number.

    Args:
        entries: best first.
        contrasts: with the versions that are no candidates.
        aliases: by version.
    """
    first, *others = entries
    number = first.version.version
    found = [
        Comparison(
            version=number,
            other=other.version.version,
            aliases=aliases[other.version.version],
            tuning=_difference(first, other, TUNING),
            test=_difference(first, other, TEST),
        )
        for other in others
        if other.version.version in aliases
    ]
    found += [
        Comparison(
            version=number,
            other=contrast.version,
            aliases=contrast.aliases,
            tuning=contrast.rows[0].tuning,
            test=contrast.rows[0].test,
            missing=contrast.missing,
        )
        for contrast in contrasts
    ]
    return tuple(sorted(found, key=lambda each: each.other))


def by_part(entries: Sequence[Entry], split: str) -> dict[str, list[SplitScores]]:
    """The scores of each candidate by body part, in the order of reports.

    There are none where all studies are of one part, or the protocol has no such slice.

    Args:
        entries: at least one.
        split: `tuning` or `test`.
    """
    measured = [entry.evaluation.slices.of(split).get("body_part", {}) for entry in entries]
    if len(measured[0]) < 2:
        return {}
    return {part: [groups[part] for groups in measured] for part in measured[0]}


def _difference(one: Entry, other: Entry, split: str) -> Difference:
    return difference(one.studies(split), other.studies(split), (one.threshold, other.threshold))


def _named(aliases: Sequence[str]) -> str:
    return f"the alias{'es' if len(aliases) > 1 else ''} {in_words(aliases)}"
