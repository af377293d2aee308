"""An archive of somebody's own files: read headers and labels, bring them together, write the pictures anew."""

import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from components.archive import dvc, importing
from components.archive.archive import Archive
from components.base import space, workers
from components.base.errors import DataRefused, UsageError
from components.base.files import alone, file_sha256, settle, write_text
from components.base.progress import track
from components.base.words import count
from components.own_data import label_rows, own_archive, source_files
from components.own_data.arrangement import Arrangement, LeftOut, Study, arrange
from components.own_data.own_archive import Written
from components.own_data.part_names import PartNames
from components.own_data.pseudonyms import Key, number
from components.own_data.source_files import Reading
from components.params.document import Params, read_params
from components.params.ingest import ALL

logger = logging.getLogger(__name__)

NAME = "own.zip"
# Files that a worker gets at once: headers are read in a millisecond, pictures in fifty.
HEADERS, PICTURES = 64, 8
# What a picture of 512 pixels takes at least.
_PICTURE_BYTES = 50_000

R = TypeVar("R")


class Chosen(NamedTuple):
    """What was asked for."""

    folder: Path
    pictures: bool
    """PNG and JPEG instead of DICOM."""
    labels: Path
    key: Path
    parts: Path | None
    keep: tuple[str, ...]
    """In the order of KEPT."""
    longest_side: int | None
    test_share: float
    without_burned_in: bool
    force: bool

    @property
    def flag(self) -> str:
        """The directory, as messages call it: its path may identify."""
        return "--pictures" if self.pictures else "--dicom"


class Own(NamedTuple):
    """What was made."""

    imported: importing.Imported
    table: Path
    """What was left out."""
    told: tuple[str, ...]
    """What it has and what was left out, in lines."""
    to_do: tuple[str, ...]
    """What params.yaml should say otherwise."""


def import_own(chosen: Chosen, out: Path | None, params: Path) -> Own:
    """Make an archive of MURA's layout of somebody's own files, track it with DVC, and name it in params.yaml.

    Args:
        chosen: what is read, and how.
        out: the zip; data/own.zip of the repository if None. The file there is complete or absent.
        params: the params.yaml to change.

    Raises:
        UsageError: a path or a flag is wrong, or another archive is at the destination.
        DataRefused: the labels are wrong or contradict each other, or no picture could be taken.
        OutsideFailed: the disk or the memory is too small.
    """
    root = dvc.root(params.parent)
    known = read_params(params)
    path = importing.inside_of(root, out or root / "data" / NAME)
    if path.suffix != ".zip":
        raise UsageError("--out: expected a name that ends with .zip.")
    for flag, place in ((chosen.flag, chosen.folder), (label_rows.PLACE, chosen.labels)):
        # Not `resolve`: it tells a circle of links with their names.
        if Path(os.path.realpath(place)).is_relative_to(root):
            logger.warning("import: %s lies inside of this repository: see that nobody commits it", flag)
    key = Key.of_file(chosen.key, root)
    with alone(path), space.named(path):
        table = path.with_suffix(".left_out.csv")
        arrangement, written = _make(chosen, key, path, table, known.ingest.max_members)
    imported = importing.import_archive(str(path), None, params)
    told = (*_told(written.studies), *_left_out(arrangement), *_burned_in(written, chosen))
    return Own(imported, table, told, tuple(_to_do(known, chosen)))


def _make(chosen: Chosen, key: Key, path: Path, table: Path, most: int) -> tuple[Arrangement, Written]:
    """Write the zip, and the table of what was left out."""
    names = PartNames.read(chosen.parts) if chosen.parts else PartNames()
    labels = label_rows.read(chosen.labels, key, chosen.pictures, most)
    if labels.not_read:
        logger.info("import: %s of the labels not read", count(labels.not_read, "other column"))
    files = source_files.find(chosen.folder, most, chosen.flag)
    reading = Reading(str(chosen.folder), chosen.pictures, key, chosen.keep, chosen.longest_side, chosen.force)
    with _in_chunks(partial(source_files.look, reading), files, HEADERS, "import: headers") as seen:
        arrangement = arrange(labels, list(seen), names, key, chosen.keep, chosen.test_share)
    left_out = arrangement.left_out
    if path.exists():
        _check_standing(path, arrangement.studies, files, reading, chosen.without_burned_in, most)
    wanted = [files[view.place] for _, view in own_archive.views(arrangement.studies)]
    space.require(path.parent, len(wanted) * _PICTURE_BYTES, f"an archive of {count(len(wanted), 'picture')}")
    begun = path.with_name(f".{path.name}.partial")
    try:
        with _in_chunks(partial(source_files.draw, reading), wanted, PICTURES, "import: pictures") as drawn:
            written = own_archive.write(
                begun, arrangement.studies, drawn, chosen.keep, chosen.without_burned_in, left_out
            )
        if not written.studies:
            write_text(table, _table(left_out))
            raise DataRefused(
                f"{chosen.flag}: no study of {count(len(labels.rows), 'row')} and {count(len(files), 'file')} could be "
                f"taken: {_reasons(left_out)}. {table} has all of them."
            )
        _put(begun, path)
        # With the zip that it is about, and never beside another one.
        write_text(table, _table(left_out))
    finally:
        begun.unlink(missing_ok=True)
    return arrangement, written


def _check_standing(
    path: Path, studies: Sequence[Study], files: Sequence[str], reading: Reading, without_burned_in: bool, most: int
) -> None:
    """Check that the archive at the destination may be the one that is to be made, before all pictures are read.

    Only pictures that it has not are read, up to the first that could be taken, and one that it has.

    Raises:
        UsageError: it is another one.
    """
    wanted = {view.member: files[view.place] for _, view in own_archive.views(studies)}
    try:
        with Archive.read(path, most) as standing:
            there = {name for name in standing.members() if name.endswith(".png")}
            same = bool(there) and there <= wanted.keys()
            if same:
                kept = [
                    study._replace(views=tuple(view for view in study.views if view.member in there))
                    for study in studies
                ]
                lists = own_archive.texts([study for study in kept if study.views], reading.kept)
                same = all(standing.list_of(name) == content for name, content in lists)
            first = standing.bytes_of(min(there)) if same else b""
    except (DataRefused, KeyError):
        same = False
    if not same:
        raise _another(path)
    names = [*sorted(wanted.keys() - there), min(there)]
    look_at = [wanted[name] for name in names]
    with _in_chunks(partial(source_files.draw, reading), look_at, PICTURES, "import: pictures to compare") as drawn:
        for name, picture in zip(names, drawn, strict=True):
            taken = b"" if own_archive.why_not(picture, without_burned_in) else picture.png
            if taken != (first if name in there else b""):
                raise _another(path)


@contextmanager
def _in_chunks(
    work: Callable[[Sequence[str]], list[R]], names: Sequence[str], size: int, what: str
) -> Iterator[Iterator[R]]:
    """Results for files, in order, by worker processes that get some at a time."""
    chunks = (names[start : start + size] for start in range(0, len(names), size))
    with workers.in_order(work, chunks) as results:
        yield track((each for some in results for each in some), len(names), what)


def _put(begun: Path, path: Path) -> None:
    """Put the finished zip into its place.

    Raises:
        UsageError: another one is there.
    """
    if path.exists() and file_sha256(path) != file_sha256(begun):
        raise _another(path)
    settle(begun)
    begun.replace(path)


def _another(path: Path) -> UsageError:
    return UsageError(f"{path}: another file is there. Move it away, or choose another path with --out.")


def _table(left_out: Sequence[LeftOut]) -> str:
    """What was left out, as a CSV: no names, but numbers of rows and keyed hashes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "file", "study", "why"])
    for each in sorted(left_out, key=lambda each: (each.row or 0, each.file)):
        writer.writerow([each.row or "", each.file, number(each.study) if each.study else "", each.why])
    return text.getvalue()


def _reasons(left_out: Sequence[LeftOut]) -> str:
    """The reasons, the most frequent first."""
    reasons = Counter(each.why for each in left_out)
    return "; ".join(f"{count} x {why}" for why, count in reasons.most_common()) or "there is none"


def _told(studies: Sequence[Study]) -> Iterator[str]:
    """What the archive has."""
    for title, split in (("train", "train"), ("test", "valid")):
        own = [study for study in studies if study.split == split]
        patients = len({study.patient for study in own})
        abnormal = sum(study.label for study in own)
        images = sum(len(study.views) for study in own)
        yield (
            f"{title}: {count(images, 'image')} of {count(len(own), 'study')} of {count(patients, 'patient')}, "
            f"{abnormal:,} abnormal"
        )
    parts = Counter(study.part for study in studies)
    yield "body parts: " + ", ".join(f"{part} {found:,}" for part, found in sorted(parts.items()))


def _left_out(arrangement: Arrangement) -> Iterator[str]:
    """What it has not, by reason."""
    # A row and its file may both be named.
    for why, found in Counter(each.why for each in arrangement.left_out).most_common():
        yield f"left out: {found:,} x {why}"
    if unknown := arrangement.unknown_parts:
        words = [f"{word!r} of {count(found, 'patient')}" for word, found in unknown.items() if word]
        if rest := unknown.get(""):
            words.append(f"rare words or none of {count(rest, 'patient')}")
        yield f"body parts without a name: {', '.join(words)}. A map names them: --parts"


def _burned_in(written: Written, chosen: Chosen) -> Iterator[str]:
    if written.burned_in:
        yield (
            f"WARNING: {count(written.burned_in, 'picture')} may show the patient's name: their files say so. "
            "--without-burned-in leaves them out"
        )
    if written.not_said and not chosen.pictures:
        yield f"no word on whether it shows a name: {count(written.not_said, 'picture')}. Look at the pictures"
    if chosen.pictures:
        yield "PNG and JPEG files do not say whether a picture shows a name: look at the pictures"


def _to_do(known: Params, chosen: Chosen) -> Iterator[str]:
    """What params.yaml should say for this archive, and does not."""
    if known.validate_.published == "mura-v1.1":
        yield "validate.published: auto    (it is not MURA)"
    if known.ingest.body_parts != ALL:
        yield "ingest.body_parts: all    (or names of the body parts above)"
    if lacking := [name for name in chosen.keep if name not in known.protocol.slices]:
        yield f"protocol.slices: add {', '.join(lacking)}    (the report then measures by them)"
    if (chosen.longest_side or 0) > known.validate_.max_side:
        yield f"validate.max_side: {chosen.longest_side}"
