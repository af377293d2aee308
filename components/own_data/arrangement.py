"""Which file is which view of which study: rows and files brought together by keyed hashes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from components.archive.csv_rows import Problems
from components.own_data.kept import common
from components.own_data.label_rows import PLACE, Labels, Row
from components.own_data.part_names import PartNames
from components.own_data.pseudonyms import Key, number
from components.own_data.source_files import Seen

ROOT = "own"
"""The directory of the archive."""
LABELS = ("negative", "positive")


class View(NamedTuple):
    """A file, as a picture of a study."""

    place: int
    """Among the files."""
    file: str
    """Keyed hash."""
    member: str
    """In the archive."""
    kept: tuple[str, ...]


class Study(NamedTuple):
    """One study: what goes into the archive of it."""

    split: str
    """train or valid, as MURA's directories are called."""
    part: str
    patient: str
    """Keyed hash."""
    hashed: str
    """Keyed hash of the study."""
    label: int
    views: tuple[View, ...]

    @property
    def folder(self) -> str:
        """Its directory in the archive."""
        return folder(self.split, self.part, self.patient, self.hashed, self.label)


class LeftOut(NamedTuple):
    """A row or a file that is not in the archive."""

    row: int | None
    file: str
    """Keyed hash; empty for a row."""
    study: str
    """Keyed hash; empty where it is not known."""
    why: str


class Arrangement(NamedTuple):
    """What the archive will have."""

    studies: Sequence[Study]
    left_out: list[LeftOut]
    unknown_parts: Mapping[str, int]
    """Words for body parts that have no name here, and of how many patients. Rare ones, which may identify, are under
    an empty word."""


class _Told(NamedTuple):
    """A file and its row."""

    place: int
    seen: Seen
    row: Row
    study: str
    patient: str
    part: str
    """As it is written; empty where nothing says it."""

    def left_out(self, why: str) -> LeftOut:
        return LeftOut(self.row.number, self.seen.file, self.study, why)


def arrange(
    labels: Labels, seen: Sequence[Seen], names: PartNames, key: Key, kept: Sequence[str], test_share: float
) -> Arrangement:
    """Bring rows and files together.

    Args:
        labels: the rows.
        seen: the files.
        names: of body parts.
        key: decides which patients are in the test split, where the rows do not say it: each by a keyed hash, so that a
            patient stays in a split when more data are imported.
        kept: columns of KEPT that are kept.
        test_share: share of the patients in the test split.

    Raises:
        DataRefused: rows contradict each other about a study or a patient. They are named by number.
    """
    problems = Problems(PLACE)
    left_out: list[LeftOut] = []
    studies: dict[str, list[_Told]] = defaultdict(list)
    for told in _matched(labels.rows, seen, problems, left_out):
        studies[told.study].append(told)
    unknown: set[tuple[str, str]] = set()
    found = []
    for hashed, views in sorted(studies.items()):
        _check_rows(views, problems)
        part, why = _part(views, names)
        if why == _UNKNOWN:
            unknown |= {(each.patient, each.part) for each in views if not _name(each, names)}
        if len({each.patient for each in views}) > 1:
            why = "its study has files of several patients"
        if why:
            left_out += [each.left_out(why) for each in views]
        else:
            found.append(_study(hashed, part, _once(views, key, left_out), kept))
    splits = _splits(found, studies, labels.has_split, key, test_share, problems)
    problems.refuse()
    # The number of a view follows from its file, so that names do not depend on the order of names.
    placed = [_placed(study._replace(split=splits[study.patient])) for study in found]
    return Arrangement(sorted(placed, key=lambda study: study.folder), left_out, _shown(unknown))


def folder(split: str, part: str, patient: str, study: str, label: int) -> str:
    """The directory of a study in the archive."""
    return f"{ROOT}/{split}/XR_{part.upper()}/patient{number(patient)}/study{number(study)}_{LABELS[label]}"


def _matched(rows: Sequence[Row], seen: Sequence[Seen], problems: Problems, left_out: list[LeftOut]) -> Iterable[_Told]:
    """The files that have a row and are radiographs. All others, and rows without a file, are left out."""
    by_file = {row.file: row for row in rows if row.file}
    by_study = {row.study: row for row in rows if not row.file}
    used: set[int] = set()
    for place, each in enumerate(seen):
        found = {
            row.number: row
            for row in (by_file.get(each.file), by_study.get(each.study), by_study.get(each.accession))
            if row is not None
        }
        if len(found) > 1:
            first, other = sorted(found)[:2]
            problems.add("rows {} and {} are about one study".format, first, other)
        row = next(iter(found.values()), None)
        used |= set(found)
        study = (row.study if row and row.file else "") or each.study or each.accession or (row.study if row else "")
        patient = (row.patient if row else "") or each.patient
        if each.why or row is None or not study or not patient:
            why = each.why or ("no row of the labels is about it" if row is None else "it names no patient or no study")
            left_out.append(LeftOut(row and row.number, each.file, study, why))
        else:
            yield _Told(place, each, row, study, patient, row.part or each.part)
    idle = (row for row in rows if row.number not in used)
    left_out.extend(LeftOut(row.number, row.file, row.study, "no file is there for it") for row in idle)


_UNKNOWN = "its body part is not known"


def _part(views: Sequence[_Told], names: PartNames) -> tuple[str, str]:
    """The body part of a study, or why it has none."""
    found = {_name(each, names) for each in views if each.part}
    if not found or "" in found:
        return "", _UNKNOWN
    if len(found) > 1:
        return "", "its study has pictures of several body parts: give `part` in the labels"
    return found.pop(), ""


def _name(told: _Told, names: PartNames) -> str:
    return names.of_row(told.part) if told.row.part else names.of_file(told.part)


def _check_rows(views: Sequence[_Told], problems: Problems) -> None:
    """Rows about files of one study must agree."""
    first = min(views, key=lambda each: each.row.number).row
    for row in {each.row.number: each.row for each in views}.values():
        for what in ("label", "part", "split"):
            if getattr(row, what) != getattr(first, what):
                problems.add("rows {} and {} give one study another {}".format, first.number, row.number, what)


def _once(views: Sequence[_Told], key: Key, left_out: list[LeftOut]) -> list[_Told]:
    """The files of a study in the order of their keyed hashes, each SOPInstanceUID once."""
    kept, instances = [], set()
    for each in sorted(views, key=lambda each: key.hash("order", each.seen.instance or each.seen.file)):
        if each.seen.instance and each.seen.instance in instances:
            left_out.append(each.left_out("a copy: another file has its SOPInstanceUID"))
        else:
            instances.add(each.seen.instance)
            kept.append(each)
    return kept


def _study(hashed: str, part: str, views: Sequence[_Told], kept: Sequence[str]) -> Study:
    """A study whose split is not known yet."""
    row, patient = views[0].row, views[0].patient
    found = []
    for each in views:
        # The CSV's word counts before the file's.
        known = dict(zip(kept, each.seen.kept, strict=False)) | {name: value for name, value in each.row.kept if value}
        found.append(View(each.place, each.seen.file, "", tuple(known.get(name, "") for name in kept)))
    return Study(row.split, part, patient, hashed, row.label, tuple(found))


def _placed(study: Study) -> Study:
    views = [view._replace(member=f"{study.folder}/image{n}.png") for n, view in enumerate(study.views, 1)]
    return study._replace(views=tuple(views))


def _splits(
    found: Sequence[Study],
    studies: Mapping[str, Sequence[_Told]],
    has_split: bool,
    key: Key,
    test_share: float,
    problems: Problems,
) -> dict[str, str]:
    """The split of each patient."""
    if not has_split:
        limit = int(test_share * 2**64)
        return {
            study.patient: "valid" if int(key.hash("split", study.patient)[:16], 16) < limit else "train"
            for study in found
        }
    splits: dict[str, tuple[str, int]] = {}
    for patient, row in dict.fromkeys((each.patient, each.row) for views in studies.values() for each in views):
        split, first = splits.setdefault(patient, (row.split, row.number))
        if split != row.split:
            problems.add("rows {} and {} put one patient into two splits".format, *sorted((first, row.number)))
    return {patient: split for patient, (split, _) in splits.items()}


def _shown(unknown: set[tuple[str, str]]) -> dict[str, int]:
    """The words of pairs of a patient and a word, with the number of patients."""
    words = common(unknown)
    counts = Counter(word if word in words else "" for _, word in unknown)
    return dict(sorted(counts.items(), key=lambda item: (not item[0], -item[1], item[0])))
