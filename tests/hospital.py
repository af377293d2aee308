"""A hospital's files that the tests draw, with canaries for all that identifies, and a search for canaries."""

import gzip
import hashlib
import io
import re
import sqlite3
import zipfile
import zlib
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from miniature import picture
from radiographs import radiograph, written

CANARY = "Zqxcan"
"""In every name, number and path."""
ROOT_UID = "1.2.826.0.1.424242"
"""Of every UID."""
BORN, EXAMINED = "19530417", "20191123"
KEY = "5a" * 32
"""Decides the splits: with this one both labels are in each."""


def identity(patient: int, view: int = 0) -> dict[str, Any]:
    """Elements that identify a patient or a file."""
    return {
        "PatientName": f"{CANARY}Surname{patient}^Given",
        "PatientID": f"{CANARY}Pid{patient:04}",
        "OtherPatientIDs": f"{CANARY}Other{patient}",
        "PatientAddress": f"{CANARY} Street {patient}",
        "PatientBirthDate": BORN,
        "StudyDate": EXAMINED,
        "AcquisitionDate": EXAMINED,
        "AccessionNumber": f"{CANARY}A{patient:04}",
        "StudyID": f"{CANARY}S{patient}",
        "StudyDescription": f"{CANARY} description",
        "ReferringPhysicianName": f"{CANARY}Doctor^Who",
        "InstitutionName": f"{CANARY} hospital",
        "StudyInstanceUID": f"{ROOT_UID}.{patient}",
        "SeriesInstanceUID": f"{ROOT_UID}.{patient}.1",
        "SOPInstanceUID": f"{ROOT_UID}.{patient}.1.{view}",
    }


def file(patient: int, view: int = 0, **elements: Any) -> bytes:
    """A radiograph of a patient: a hand or a knee, 12 bits, 96 x 80 pixels."""
    pixels = picture(100 * patient + view, 80, 96).astype(np.uint16) * 16
    said = {
        "BodyPartExamined": ("HAND", "KNEE")[patient % 2],
        "ViewPosition": ("AP", "LATERAL")[view % 2],
        "Manufacturer": "Acme, Inc." if patient else f"{CANARY} works",
        "PatientSex": "FM"[patient % 2],
        "WindowCenter": 2048,
        "WindowWidth": 4096,
    }
    dataset = radiograph(pixels, 12, **{**identity(patient, view), **said, **elements})
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or "1.2.3"
    return written(dataset)


def name(patient: int, view: int = 0) -> str:
    """The path of a patient's file."""
    return f"{CANARY}{patient // 10}/{CANARY}Surname{patient}-{view}.dcm"


def label(patient: int) -> int:
    """1 abnormal, 0 normal."""
    return patient // 2 % 2


def draw(folder: Path, patients: Iterable[int] = range(48), **elements: Any) -> Path:
    """The files of patients, every other one with two views, in a directory."""
    for patient in patients:
        for view in range(1 + patient % 3 % 2):
            path = folder / name(patient, view)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file(patient, view, **elements))
    return folder


def rows(patients: Iterable[int] = range(48)) -> str:
    """The CSV of labels: studies by their UID, or by their accession number."""
    named = [(f"{ROOT_UID}.{n}" if n % 2 else f"{CANARY}A{n:04}", label(n), f"{CANARY}Surname{n}") for n in patients]
    return "study,label,name\n" + "".join(f"{study},{label},{name}\n" for study, label, name in named)


def key_file(path: Path) -> Path:
    """A key that is there already."""
    path.write_text(f"{KEY}\n")
    path.chmod(0o600)
    return path


def written_at(place: Path) -> dict[Path, int]:
    """When each file below a directory was written."""
    return {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file() and not path.is_symlink()}


def traces(files: Iterable[Path], texts: Iterable[str] = (), patients: Iterable[int] = range(0, 48, 9)) -> list[str]:
    """Where canaries are, or digests of them: in files, however they are packed, in their paths, and in texts."""
    digests = _digests(patients)
    found = [f"text {number}: {what}" for number, text in enumerate(texts) for what in _in(text.encode(), digests)]
    for path in sorted(files):
        found += [f"name of {path}"] if CANARY.lower() in str(path).lower() else []
        found += [f"{path}: {what}" for part in _unpacked(path.read_bytes()) for what in _in(part, digests)]
    return found


def _digests(patients: Iterable[int]) -> tuple[set[str], list[bytes]]:
    """Digests without a key of what identifies, as hexadecimal digits and as bytes."""
    values: set[str] = {BORN, EXAMINED}
    for patient in patients:
        told = {str(value) for key, value in identity(patient).items() if "Description" not in key}
        values |= told | {name(patient), name(patient).rpartition("/")[2]}
    found = [
        hashlib.new(kind, form.encode()).digest()
        for value in values
        for form in {value, value.upper(), value.lower()}
        for kind in ("md5", "sha1", "sha256", "sha512", "blake2b")
    ]
    return {each.hex() for each in found}, [each[:16] for each in found]


_WORDS = re.compile(
    rf"{CANARY}|{re.escape(ROOT_UID)}|(?<!\d)({BORN}|{EXAMINED})(?!\d)|1953-04-17|2019-11-23", re.IGNORECASE
)


def _in(content: bytes, digests: tuple[set[str], list[bytes]]) -> set[str]:
    """What of identity is in bytes."""
    texts = [content.decode("latin-1"), *(content[start:].decode("utf-16-le", "replace") for start in (0, 1))]
    found = {match[0] for text in texts for match in _WORDS.finditer(text)}
    for run in re.findall(r"[0-9a-f]{32,}", texts[0], re.IGNORECASE):
        windows = {run[at : at + size] for size in (32, 40, 64, 128) for at in range(max(0, len(run) - size + 1))}
        found |= {f"a digest, {each[:8]}" for each in windows & digests[0]}
    return found | {"a digest in bytes" for each in digests[1] if each in content}


def _unpacked(content: bytes, depth: int = 0) -> Iterator[bytes]:
    """Bytes, and all that is packed in them: zip, gzip, zlib, Parquet, SQLite, texts of PNGs, pictures in pages."""
    yield content
    if depth > 5:
        return
    for inner in _inside(content):
        yield from _unpacked(inner, depth + 1)


def _inside(content: bytes) -> Iterator[bytes]:
    if content.startswith(b"PK\3\4"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield "\n".join(archive.namelist()).encode()
            yield from map(archive.read, archive.namelist())
    elif content.startswith(b"\x1f\x8b"):
        yield gzip.decompress(content)
    elif content.startswith(b"PAR1"):
        table = pq.read_table(pa.BufferReader(content))
        yield repr(table.schema.metadata).encode()
        for column in table.columns:
            for value in column.unique().to_pylist():
                yield value if isinstance(value, bytes) else str(value).encode()
    elif content.startswith(b"SQLite format 3\0"):
        yield from _stored(content)
    elif content.startswith(b"\x89PNG"):
        yield from _texts(content)
    elif content[:1] == b"\x78":
        with suppress(zlib.error):
            yield zlib.decompress(content)
    for found in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content):
        with suppress(ValueError):
            yield b64decode(found)


def _stored(content: bytes) -> Iterator[bytes]:
    with closing(sqlite3.connect(":memory:")) as database:
        # As it is without a write-ahead log, which is a file of its own.
        database.deserialize(content[:18] + b"\1\1" + content[20:])
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    yield value if isinstance(value, bytes) else str(value).encode()


def _texts(content: bytes) -> Iterator[bytes]:
    place = 8
    while place < len(content):
        length, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            text = content[place + 8 : place + 8 + length]
            yield text
            for at in (at for at in range(len(text)) if text[at : at + 1] == b"\x78"):
                with suppress(zlib.error):
                    yield zlib.decompress(text[at:])
        place += length + 12
