"""`mura import`: check an archive, track it with DVC as one file, and name it in params.yaml."""

import hashlib
import logging
import math
import re
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from components.archive import dvc, known_md5, mura_v1_1, zip_entry
from components.archive.archive import Archive, is_remote
from components.archive.mura_csv import folder_of, is_sidecar, read_listing
from components.base import documents, space
from components.base.errors import DataChanged, DataRefused, MuraError, UsageError
from components.base.files import alone, write_text
from components.base.progress import Bar
from components.params.document import read_params

logger = logging.getLogger(__name__)

# `archive: value  # comment`, the value plain or in quotes.
_ARCHIVE_LINE = re.compile(
    r"^(archive:[ \t]*)(?:\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\n]|'')*'|[^\s#'\"][^\n]*?)([ \t]+#[^\n]*)?([ \t]*\r?)$",
    re.MULTILINE,
)


class Census(NamedTuple):
    """Counts of an archive by published split: train and valid."""

    images: Mapping[str, int]
    studies: Mapping[str, int]
    patients: Mapping[str, int]

    def __str__(self) -> str:
        counts = ((self.images, "images"), (self.studies, "studies"), (self.patients, "patients"))
        return ", ".join(f"{each['train']:,} + {each['valid']:,} {name}" for each, name in counts)


PUBLISHED = Census(
    {split: sum(size.images for size in cells.values()) for split, cells in mura_v1_1.CELLS.items()},
    {split: sum(size.studies for size in cells.values()) for split, cells in mura_v1_1.CELLS.items()},
    mura_v1_1.PATIENTS,
)


class Imported(NamedTuple):
    """An archive that DVC tracks."""

    path: Path
    bytes: int
    md5: str
    census: Census
    what: str
    """Whether it is MURA v1.1, in a sentence."""


def import_archive(place: str, out: Path | None, params: Path) -> Imported:
    """Check an archive, track it with DVC as one file, and name it in params.yaml.

    A zip inside the repository stays in its place. Another zip is copied or downloaded; a directory is packed into a
    zip. The file at the destination is complete or absent. `dvc import-url` is not used: it writes the bucket into a
    file that git tracks, and does not repeat a request whose answer was cut.

    Args:
        place: a zip or a directory, on disk or on S3.
        out: the destination; below `data/` of the repository if None.
        params: the params.yaml to change.

    Raises:
        UsageError: there is no such archive, the destination is another file or is written by another process, or DVC
            refuses it.
        OutsideFailed: the disk is too small.
        DataRefused: the archive does not have MURA's layout, or listed images are missing.
        DataChanged: the archive was replaced meanwhile.
        ServiceUnreachable: S3 does not answer.
    """
    root = dvc.root(params.parent)
    found = Archive.read(place, read_params(params).ingest.max_members)
    census = take_census(found)
    path = _destination(found, out, root)
    with alone(path):
        size, md5 = _track(found, path)
        inside = path.relative_to(root).as_posix()
        switch(params, f"./{inside}" if inside.startswith("~") else inside)
    return Imported(path, size, md5, census, identify(census, size if found.version is not None else None))


def _track(archive: Archive, path: Path) -> tuple[int, str]:
    """Make the archive one file at `path` that DVC tracks. Return its size and md5."""
    was_there = path.exists()
    size, md5 = _bring(archive, path)
    logger.info("import: %s bytes at %s; adding them to DVC's cache", f"{size:,}", path)
    try:
        taken = dvc.add(path)
    except MuraError:
        if not was_there:
            path.unlink()
        raise
    if taken != md5:
        raise DataChanged(
            f"{path}: DVC found md5 {taken}, expected {md5}. The file changed meanwhile. Import it again."
        )
    return size, md5


def take_census(archive: Archive) -> Census:
    """Count the listed images, studies and patients, and check that all images are there.

    Raises:
        DataRefused: the archive does not have MURA's layout, or images are missing.
    """
    with archive:
        members = set(archive.members())
        listing = read_listing(archive, sorted(members))
    if not listing.images:
        raise DataRefused(f"{archive.place}: its CSVs list no image.")
    if missing := sorted(set(listing.images) - members):
        raise DataRefused(
            f"{archive.place}: incomplete: {len(missing):,} of {len(listing.images):,} listed images are missing, such "
            f"as {missing[0]}. Download or copy it again."
        )
    if unlisted := sum(name.lower().endswith(".png") and not is_sidecar(name) for name in members) - len(
        listing.images
    ):
        logger.warning("import: %s images are in no CSV; `mura validate` names them", f"{unlisted:,}")
    images: dict[str, int] = defaultdict(int)
    studies: dict[str, set[str]] = {"train": set(), "valid": set()}
    patients: dict[str, set[str]] = {"train": set(), "valid": set()}
    for image, split in listing.images.items():
        images[split] += 1
        studies[split].add(folder_of(image))
        patients[split].add(folder_of(folder_of(image)).rpartition("/")[2])
    return Census(
        {split: images[split] for split in studies},
        {split: len(each) for split, each in studies.items()},
        {split: len(each) for split, each in patients.items()},
    )


def identify(census: Census, size: int | None) -> str:
    """Say whether an archive is the published one.

    Args:
        census: its counts.
        size: bytes of the zip; None if it was packed just now.
    """
    name, full = mura_v1_1.NAME, f"{mura_v1_1.ARCHIVE_BYTES:,} bytes"
    if census == PUBLISHED and size == mura_v1_1.ARCHIVE_BYTES:
        return f"{name} as published: {full}, {census}"
    if census == PUBLISHED:
        packed = "packed again" if size is None else f"{size:,} bytes instead of {full}: packed again, or a phantom"
        return f"the counts of {name}, {packed}: {census}"
    if size == mura_v1_1.ARCHIVE_BYTES:
        return f"NOT {name}, but of the same size: {census}; {name} has {PUBLISHED}"
    return f"an archive of MURA's layout, not {name}: {census}; {name} has {PUBLISHED}"


def switch(params: Path, archive: str) -> None:
    """Name another archive in a params.yaml. Everything else in the file, also comments, stays as it is.

    Raises:
        UsageError: the file has no single line `archive: ...`.
    """
    with params.open(encoding="utf-8", newline="") as file:
        text = file.read()
    value = _yaml(archive)
    changed, count = _ARCHIVE_LINE.subn(lambda found: f"{found[1]}{value}{found[2] or ''}{found[3]}", text)
    if count != 1 or not _names(changed, archive):
        lines = "one of several lines" if count == 1 else count
        raise UsageError(f"{params}: expected one line `archive: ...`, found {lines}. Set it to {value} by hand.")
    write_text(params, changed)


def _names(text: str, archive: str) -> bool:
    try:
        document = documents.yaml_of(text)
    except yaml.YAMLError:
        return False
    return isinstance(document, dict) and document.get("archive") == archive


def _yaml(text: str) -> str:
    """A text as a value in one line of YAML, without quotes where it needs none: `dvc exp run -S` removes them."""
    style = None if text.isprintable() else '"'
    found: str = yaml.safe_dump(text, default_style=style, allow_unicode=True, width=math.inf)
    return found.removesuffix("...\n").rstrip("\n")


def _destination(archive: Archive, out: Path | None, root: Path) -> Path:
    here = Path(archive.place).resolve()
    is_file_here = not is_remote(archive.place) and archive.version is not None
    inside = out is None and is_file_here and here.is_relative_to(root)
    path = here if inside else (out or root / "data" / f"{archive.name.removesuffix('.zip')}.zip")
    return inside_of(root, path)


def inside_of(root: Path, path: Path) -> Path:
    """A path of the repository, without links.

    Raises:
        UsageError: it leads elsewhere, or no text can name it.
    """
    real = path.resolve()
    if any("\ud800" <= character <= "\udfff" for character in real.name):
        raise UsageError(f"{real}: its name is not UTF-8, so no text can name it. Choose another with --out.")
    if not real.is_relative_to(root):
        where = str(path) if real == path.absolute() else f"{path} leads to {real}"
        raise UsageError(
            f"{where}: that is not in {root}, and DVC tracks only files inside its repository. Name a path in there "
            "with --out; the archive is copied to it."
        )
    return real


def _bring(archive: Archive, path: Path) -> tuple[int, str]:
    """Make the archive one file at `path`. Return its size and md5."""
    if not is_remote(archive.place) and path == Path(archive.place).resolve():
        return path.stat().st_size, str(archive.md5())
    with space.named(path):
        return _bring_to(archive, path)


def _bring_to(archive: Archive, path: Path) -> tuple[int, str]:
    partial = path.with_name(f".{path.name}.partial")
    try:
        _check_space(archive, path.parent)
        digest = _pack(archive, partial) if archive.version is None else _copy(archive, partial)
        known_md5.compare(archive.place, archive.expected_md5, digest)
        size = partial.stat().st_size
        if path.exists():
            if path.stat().st_size != size or _md5(path) != digest:
                raise UsageError(f"{path}: another file is there. Move it away, or choose another path with --out.")
        else:
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return size, digest


def _check_space(archive: Archive, folder: Path) -> None:
    if archive.version:
        # DVC's cache gets a copy of it where the file system cannot share the blocks of two files.
        space.require(folder, archive.version[1], f"a copy of {archive.place}")


def _copy(archive: Archive, path: Path) -> str:
    """Copy a zip. Return its md5."""
    digest = hashlib.md5(usedforsecurity=False)
    assert archive.version is not None
    with Bar(archive.version[1] // 1_000_000, "import: MB") as bar, path.open("wb") as file:
        done = 0
        for piece in archive.pieces():
            digest.update(piece)
            file.write(piece)
            done += len(piece)
            bar.advance_to(done // 1_000_000)
    return digest.hexdigest()


def _pack(archive: Archive, path: Path) -> str:
    """Pack a directory into a zip; the same files give the same bytes. Return its md5."""
    with archive, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made:
        names = list(archive.members())
        archive.expect(names)
        with Bar(len(names), "import: files") as bar:
            for name in names:
                zip_entry.add(made, name, archive.bytes_of(name))
                bar.advance()
    return _md5(path)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
