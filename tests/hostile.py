"""Archives and images made to do harm: every kind by name, and what must be said of it.

`drive` runs them through the public door, `mura ingest` and `mura validate`, in one process without workers, so that
time and memory are those of the work. As a script it does so and prints what came, as JSON:

    python tests/hostile.py FOLDER
"""

import contextlib
import io
import json
import os
import re
import socket
import stat
import struct
import sys
import time
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from miniature import ROOT, archive, images, lists, picture, png, write_directory, write_zip
from PIL import Image
from png_suite import assemble, chunks, header, made, with_chunk

from components.xray.png import MAX_CHUNKS, SIGNATURE

GREY = picture(1)
COLOUR = np.dstack([picture(seed) for seed in (2, 3, 4)])


def as_png(mode: str, **options: object) -> bytes:
    """The grey or the coloured picture, stored in one of Pillow's modes."""
    if mode == "I;16":
        return png(GREY.astype(np.uint16) * 256 + 7)
    source = COLOUR if mode.startswith(("RGB", "P")) else GREY
    file = io.BytesIO()
    Image.fromarray(source).convert(mode).save(file, "PNG", **options)
    return file.getvalue()


def _flipped(file: bytes, place: int) -> bytes:
    return file[:place] + bytes([file[place] ^ 4]) + file[place + 1 :]


def _first_bytes(name: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, name)
    return file.getvalue()


_ROWS = b"".join(b"\0" + row.tobytes() for row in GREY)
_HEADER, _PIXELS, _END = chunks(as_png("L"))
_PALETTED = list(chunks(as_png("P")))
_HALVES = [(b"IDAT", _PIXELS[1][:900]), (b"IDAT", _PIXELS[1][900:])]
_TEXT = (b"tEXt", b"Comment\0wrist")
# What a file called image1.png may be instead of one, and what is said of it.
BAD_PNGS: dict[str, tuple[str, bytes]] = {
    "nothing": ("not a PNG, but empty", b""),
    "a JPEG": ("not a PNG, but a JPEG", _first_bytes("JPEG")),
    "a GIF": ("not a PNG, but a GIF", _first_bytes("GIF")),
    "a TIFF": ("not a PNG, but a TIFF", _first_bytes("TIFF")),
    "a BMP": ("not a PNG, but a BMP", _first_bytes("BMP")),
    "DICOM": ("not a PNG, but DICOM", bytes(128) + b"DICM\2\0\0\0"),
    "a web page": ("not a PNG, but a web page", b"<html>404</html>"),
    "a text": ("not a PNG", b"image1.png"),
    "only the signature": ("not a PNG", SIGNATURE),
    "half a header": ("truncated", as_png("L")[:25]),
    "a header of another length": ("not a PNG", assemble((b"IHDR", _HEADER[1] + b"\0"), _PIXELS, _END)),
    "no header": ("not a PNG", assemble(_PIXELS, _END)),
    "two headers": ("more than one", assemble(_HEADER, _HEADER, _PIXELS, _END)),
    "no end": ("truncated", assemble(_HEADER, _PIXELS)),
    "no pixels": ("no pixels", assemble(_HEADER, _END)),
    "no compressed bytes": ("cannot be decoded", assemble(_HEADER, (b"IDAT", b""), _END)),
    "too few compressed bytes": ("cannot be 5000 x 5000", assemble(header(5000, 5000), _PIXELS, _END)),
    "too many compressed bytes": ("cannot be 64 x 48", made(64, 48, bytes(20_000_000))),
    "pixels that end too early": ("cannot be decoded", made(64, 48, _ROWS[:-1])),
    "pixels cut with right checksums": ("cannot be decoded", assemble(_HEADER, (b"IDAT", _PIXELS[1][:-900]), _END)),
    "pixels that are no zlib": ("cannot be decoded", assemble(_HEADER, (b"IDAT", b"pixels" * 99), _END)),
    "a filter there is not": ("cannot be decoded", made(64, 48, b"\7" + _ROWS[1:])),
    "no width": ("an invalid header: 0 x 48", made(0, 48, _ROWS)),
    "a width beyond 31 bits": (r"4294967295 x 48 pixels, more", made(0xFFFFFFFF, 48, _ROWS)),
    "wider than a decoder counts": ("40000 x 1 pixels, more", made(40_000, 1, bytes(40_001))),
    "a depth there is not": ("an invalid header", made(64, 48, _ROWS, depth=7)),
    "a colour type there is not": ("an invalid header", made(64, 48, _ROWS, colour=5)),
    "4 bits of colour": ("an invalid header", made(64, 48, _ROWS, depth=4, colour=2)),
    "a compression there is not": ("compression 1", assemble(header(64, 48, 8, 0, 1), _PIXELS, _END)),
    "filters there are not": ("filters 1", assemble(header(64, 48, 8, 0, 0, 1), _PIXELS, _END)),
    "an interlacing there is not": ("interlacing 2", assemble(header(64, 48, 8, 0, 0, 0, 2), _PIXELS, _END)),
    "an animation": ("more than one", with_chunk(as_png("L"), (b"acTL", struct.pack(">II", 2, 0)))),
    "no palette": ("no palette", assemble(*(part for part in _PALETTED if part[0] != b"PLTE"))),
    "two palettes": ("a damaged palette", with_chunk(as_png("P"), (b"PLTE", b"rgb"))),
    "half a colour": ("a damaged palette", assemble(_PALETTED[0], (b"PLTE", b"rg"), *_PALETTED[2:])),
    "the palette behind the pixels": (
        "the palette after",
        assemble(_PALETTED[0], *_PALETTED[2:-1], _PALETTED[1], _PALETTED[-1]),
    ),
    "a text between the pixels": (
        "between those of the pixels",
        assemble(_HEADER, _HALVES[0], _TEXT, _HALVES[1], _END),
    ),
    "an unknown chunk that must be known": ("unknown chunk b'BONE'", with_chunk(as_png("L"), (b"BONE", b""))),
    "a chunk without a name": ("unknown chunk", with_chunk(as_png("L"), (b"\0\n\x1b[", b""))),
    "a long text": (
        "1,500,008 bytes that are no pixels",
        with_chunk(as_png("L"), (b"tEXt", b"Comment\0" + bytes(1_500_000))),
    ),
    "a bomb": ("65000 x 65000 pixels, more", made(65_000, 65_000, bytes(1000))),
    "cut in the middle": ("truncated", as_png("L")[: len(as_png("L")) // 2]),
    "cut at the end": ("truncated", as_png("L")[:-1]),
    "a flipped bit in the pixels": ("wrong checksum", _flipped(as_png("L"), 500)),
    "a flipped bit in the header": ("wrong checksum", _flipped(as_png("L"), 19)),
    "another file behind its end": ("1,500,000 bytes that are no pixels", as_png("L") + bytes(1_500_000)),
    "many chunks": ("more than 50,000 chunks", with_chunk(as_png("L"), *[(b"tIME", b"")] * MAX_CHUNKS)),
}


Files = dict[str, bytes]
# An archive as it should be, to which one thing is done.
SOUND = archive()
IMAGE, OTHER = images()[0], images()[1]
TRAIN_IMAGES, TRAIN_STUDIES = f"{ROOT}/train_image_paths.csv", f"{ROOT}/train_labeled_studies.csv"
ESCAPE = "hostile-escape.png"


class Kind(NamedTuple):
    """A hostile archive."""

    make: Callable[[Path], Path]
    """Makes it in a directory of its own and says where it is."""
    told: str
    """Pattern of the one line with which it is refused, exit code 3."""


def _zip(change: Callable[[zipfile.ZipFile], object], files: Files = SOUND) -> Callable[[Path], Path]:
    """A zip that is changed before its table of contents is written."""

    def make(folder: Path) -> Path:
        path = folder / "MURA-v1.1.zip"
        with (
            warnings.catch_warnings(action="ignore"),
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
        ):
            for name, content in files.items():
                made.writestr(name, content)
            change(made)
        return path

    return make


def _entry(**changes: object) -> Callable[[zipfile.ZipFile], object]:
    """Changes of what the table of contents says of one image."""
    return lambda made: [setattr(made.getinfo(IMAGE), name, value) for name, value in changes.items()]


def _more(name: str, content: bytes = b"x", mode: int = 0) -> Callable[[zipfile.ZipFile], object]:
    """One member more, under that very name."""

    def change(made: zipfile.ZipFile) -> None:
        entry = zipfile.ZipInfo("x" * len(name.encode()))
        entry.external_attr = mode << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        made.writestr(entry, content)
        entry.filename = entry.orig_filename = name

    return change


def _bytes(change: Callable[[bytes], bytes], files: Files = SOUND) -> Callable[[Path], Path]:
    """A zip whose bytes are changed."""

    def make(folder: Path) -> Path:
        path = write_zip(folder / "MURA-v1.1.zip", files)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def _tree(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    """A directory to which something is done."""

    def make(folder: Path) -> Path:
        path = write_directory(folder / "archive", SOUND)
        change(path)
        return path

    return make


def _csv(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    """A zip one of whose CSVs is changed."""
    return lambda folder: write_zip(folder / "MURA-v1.1.zip", SOUND | {name: change(SOUND[name])})


def _many(folder: Path) -> Path:
    """A zip whose table of contents names 600,000 members, in 32 MB."""
    path = folder / "MURA-v1.1.zip"
    name = struct.Struct("<4s6H3L5H2L7s")
    table = b"".join(
        name.pack(b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, f"{number:07d}".encode())
        for number in range(600_000)
    )
    path.write_bytes(table + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(table), 0, 0))
    return path


def _declared_table(folder: Path) -> Path:
    """A zip that says that its table of contents has 4 GB, in the middle of a sparse file of that size."""
    path = folder / "MURA-v1.1.zip"
    with path.open("wb") as file:
        file.truncate(4_000_000_000)
        file.seek(0, os.SEEK_END)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 4_000_000_000, 0, 0))
    return path


def _total_bomb(made: zipfile.ZipFile) -> None:
    """No member is suspicious by itself."""
    for number in range(200):
        _more(f"{ROOT}/{number}.txt", bytes(1000))(made)
        made.infolist()[-1].file_size = 9_900_000


def _pipe(path: Path) -> None:
    os.mkfifo(path / "image2.png")


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path)  # the path of a socket may have 107 characters
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("image2.png")
    finally:
        os.chdir(here)


def _sparse(path: Path, name: str, size: int = 65_000_000) -> None:
    with (path / name).open("r+b") as file:
        file.truncate(size)


def _row(text: bytes) -> Callable[[bytes], bytes]:
    """One more row of a CSV, the first."""
    return lambda content: text + b"\n" + content


FIRST_STUDY = SOUND[TRAIN_STUDIES].split(b"\n")[0]
ARCHIVES: dict[str, Kind] = {
    "a way up": Kind(_zip(_more(f"../../{ESCAPE}")), "an unsafe name"),
    "a way up from within": Kind(_zip(_more(f"{ROOT}/../../{ESCAPE}")), "an unsafe name"),
    "an absolute name": Kind(_zip(_more(f"/tmp/{ESCAPE}")), "an unsafe name"),
    "a drive": Kind(_zip(_more(f"C:/{ESCAPE}")), "an unsafe name"),
    "backslashes": Kind(_zip(_more(f"..\\..\\{ESCAPE}")), "an unsafe name"),
    "two slashes": Kind(_zip(_more(f"{ROOT}//{ESCAPE}")), "an unsafe name"),
    "a dot": Kind(_zip(_more(f"{ROOT}/./{ESCAPE}")), "an unsafe name"),
    "a directory above": Kind(_zip(_more("../")), "an unsafe name"),
    "a link": Kind(_zip(_more(f"{ROOT}/link.png", b"/etc/passwd", stat.S_IFLNK | 0o777)), r"link\.png: a link"),
    "a device": Kind(_zip(_more(f"{ROOT}/zero.png", b"", stat.S_IFCHR | 0o666)), r"zero\.png: a link or a device"),
    "a name twice": Kind(_zip(_more(IMAGE, png(picture(99)))), "image1.png: is there twice"),
    "names that differ by case": Kind(_zip(_more(IMAGE.replace("image1", "IMAGE1"))), "differs from .* by case"),
    "names that differ by composition": Kind(
        lambda folder: write_zip(
            folder / "a.zip",
            SOUND | {unicodedata.normalize(form, f"{ROOT}/\u00e9.png"): b"" for form in ("NFC", "NFD")},
        ),
        "by case or accents",
    ),
    "a file below a file": Kind(_zip(_more(f"{IMAGE}/image1.png")), "lies below .*image1.png, which is a file"),
    "a NUL in a name": Kind(_zip(_more(f"{ROOT}/a.png\0.exe")), r"a\.png\\x00.*unprintable"),
    "a new line in a name": Kind(_zip(_more(f"{ROOT}/a\nerror: b.png")), r"a\\nerror.*unprintable"),
    "a colour of the terminal in a name": Kind(_zip(_more(f"{ROOT}/\x1b[2Ja.png")), r"\\x1b\[2J.*unprintable"),
    "a name that is read backwards": Kind(_zip(_more(f"{ROOT}/\u202egnp.png")), "unprintable"),
    "a name in another encoding": Kind(
        _bytes(lambda whole: whole.replace(IMAGE.encode(), IMAGE.encode()[:-5] + b"\xe9.png")), "not marked as UTF-8"
    ),
    "a name that is wrongly encoded": Kind(
        _bytes(lambda whole: whole.replace("\u00e9".encode(), b"\xe9\xe9"), SOUND | {"\u00e9.png": b""}),
        "not a readable zip",
    ),
    "a long name": Kind(_zip(_more("a" * 2000)), "the name has 2,000 characters"),
    "a bomb": Kind(_zip(_more(f"{ROOT}/bomb.png", bytes(20_000_000))), r"bomb\.png: a zip bomb: .* to 20,000,000"),
    "a bomb of many members": Kind(_zip(_total_bomb), "a zip bomb: .* expand to 1,9"),
    "members that overlap": Kind(
        _zip(lambda made: setattr(made.getinfo(OTHER), "header_offset", made.getinfo(IMAGE).header_offset + 40)),
        "shares its bytes",
    ),
    "members of the same bytes": Kind(
        _zip(lambda made: setattr(made.getinfo(OTHER), "header_offset", made.getinfo(IMAGE).header_offset)),
        "shares its bytes",
    ),
    "a member longer than the file": Kind(
        _zip(lambda made: setattr(made.infolist()[-1], "compress_size", 1_000_000_000)), "is longer than the file"
    ),
    "a table of contents of 4 GB": Kind(_declared_table, "table of contents has 4,000,000,000 bytes"),
    "600,000 members": Kind(_many, "more than 250,000 files"),
    "bytes behind the end": Kind(_bytes(lambda whole: whole + b"<html>"), "6 bytes follow the end"),
    "much behind the end": Kind(_bytes(lambda whole: whole + bytes(100_000)), "not a readable zip"),
    "bytes before the start": Kind(_bytes(lambda whole: b"#!/bin/sh\n" + whole), "10 bytes before the first member"),
    "cut in half": Kind(_bytes(lambda whole: whole[: len(whole) // 2]), "not a readable zip"),
    "the end is missing": Kind(_bytes(lambda whole: whole[:-5]), "not a readable zip|missing"),
    "the middle is missing": Kind(_bytes(lambda whole: whole[:1000] + whole[-9000:]), "zip"),
    "an empty file": Kind(_bytes(lambda whole: b""), "not a readable zip"),
    "a web page": Kind(_bytes(lambda whole: b"<html>404</html>"), "not a readable zip"),
    "a link out of the directory": Kind(
        _tree(lambda path: (path / "image.png").symlink_to("/etc/passwd")),
        r"image\.png: a link to /etc/passwd, outside",
    ),
    "a directory that is a link out": Kind(
        _tree(lambda path: (path / "train").symlink_to("/etc")), "train: a link to /etc"
    ),
    "a link to itself": Kind(_tree(lambda path: (path / "a.png").symlink_to("a.png")), r"a\.png: a broken link"),
    "a broken link": Kind(_tree(lambda path: (path / "a.png").symlink_to(IMAGE[:-1])), r"a\.png: a broken link"),
    "a link round in a circle": Kind(
        _tree(lambda path: (path / ROOT / "round").symlink_to(path)), "round: a link to a directory that contains it"
    ),
    "a pipe": Kind(_tree(_pipe), r"image2\.png: neither a file nor a directory"),
    "a socket": Kind(_tree(_socket), r"image2\.png: neither a file nor a directory"),
    "a file name that is not UTF-8": Kind(
        _tree(lambda path: Path(os.fsdecode(os.fsencode(path) + b"/\xff.png")).write_bytes(b"")), "not UTF-8"
    ),
    "a new line in a file name": Kind(_tree(lambda path: (path / "a\nb.png").write_bytes(b"")), r"a\\nb\.png"),
    "file names that differ by case": Kind(
        _tree(lambda path: (path / IMAGE.replace("image1", "Image1")).write_bytes(b"")), "by case"
    ),
    "a CSV of 65 MB": Kind(_tree(lambda path: _sparse(path, TRAIN_IMAGES)), r"train_image_paths\.csv: more than 64"),
    "a CSV in UTF-16": Kind(
        _csv(TRAIN_IMAGES, lambda content: content.decode().encode("utf-16")),
        r"train_image_paths\.csv, row 1: not UTF-8",
    ),
    "a CSV in Latin-1": Kind(_csv(TRAIN_IMAGES, lambda content: content + b"\xe9"), r"paths\.csv, row \d\d: not UTF-8"),
    "a CSV with an open quote": Kind(
        _csv(TRAIN_IMAGES, lambda content: content + b'"' + b"x" * 200_000), r"row \d+: not a CSV"
    ),
    "a CSV with a field of 100,000 characters": Kind(
        _csv(TRAIN_IMAGES, _row(f"{ROOT}/train/{'a' * 100_000}.png".encode())),
        r"row 1: expected a path, found 100,\d+ char",
    ),
    "a CSV with a NUL": Kind(
        _csv(TRAIN_IMAGES, lambda content: content.replace(b"image", b"im\0ge", 1)), "row 1: unprintable"
    ),
    "a CSV of NULs": Kind(_csv(TRAIN_IMAGES, lambda content: bytes(len(content))), "row 1: expected a path below"),
    "a CSV with one more column": Kind(
        _csv(TRAIN_STUDIES, lambda content: content.replace(b",0\n", b",0,0\n", 1)), r"row \d+: expected a study's path"
    ),
    "a CSV with one column less": Kind(
        _csv(TRAIN_STUDIES, lambda content: content.replace(b",0\n", b"\n", 1)), r"row \d+: expected a study's path"
    ),
    "a row twice": Kind(_csv(TRAIN_IMAGES, _row(SOUND[TRAIN_IMAGES].split(b"\n")[0])), "row 2: .* is listed twice"),
    "a study with both labels": Kind(
        _csv(TRAIN_STUDIES, _row(FIRST_STUDY.replace(b",0", b",1"))), "row 2: .* is labelled twice, 1 and 0"
    ),
    "a label that is a word": Kind(
        _csv(TRAIN_STUDIES, lambda content: content.replace(b",0\n", b",negative\n", 1)), r"row \d+: .*a label 0 or 1"
    ),
    "a path with backslashes": Kind(
        _csv(TRAIN_IMAGES, lambda content: content.replace(b"/image", b"\\image", 1)),
        "row 1: expected a path with single /",
    ),
    "a path that leads up": Kind(
        _csv(TRAIN_IMAGES, _row(f"{ROOT}/train/../../../{ESCAPE}".encode())), "row 1: expected a path with single /"
    ),
    "an absolute path": Kind(_csv(TRAIN_IMAGES, _row(f"/etc/{ESCAPE}".encode())), "row 1: expected a path"),
    "a CSV that is missing": Kind(
        lambda folder: write_zip(folder / "a.zip", {n: c for n, c in SOUND.items() if n != TRAIN_IMAGES}),
        r"expected one train_image_paths\.csv, found 0",
    ),
    "a CSV that is there twice": Kind(
        lambda folder: write_zip(folder / "a.zip", SOUND | {f"copy/{TRAIN_IMAGES}": b""}),
        r"expected one train_image_paths\.csv, found 2",
    ),
    "a CSV that is encrypted": Kind(
        _zip(lambda made: setattr(made.getinfo(TRAIN_IMAGES), "flag_bits", 1)), r"train_image_paths\.csv: encrypted"
    ),
    "a CSV with a wrong checksum": Kind(
        _zip(lambda made: setattr(made.getinfo(TRAIN_IMAGES), "CRC", 1)),
        r"train_image_paths\.csv: cannot be read .*CRC",
    ),
}

# What the table of contents may say of an image that is as it should be, and what is said of the image.
BAD_ENTRIES: dict[str, tuple[str, dict[str, object]]] = {
    "a wrong checksum": ("CRC", {"CRC": 1}),
    "encrypted": ("encrypted", {"flag_bits": 1}),
    "a method there is not": ("method 99", {"compress_type": 99}),
    "packed by LZMA": ("method 14", {"compress_type": zipfile.ZIP_LZMA}),
    "packed by bzip2": ("method 12", {"compress_type": zipfile.ZIP_BZIP2}),
    "a size that is too large": ("declares 9,000,000", {"file_size": 9_000_000}),
    "a size that is too small": ("CRC", {"file_size": 100}),
    "a packed size that is too small": ("cannot be read|declares", {"compress_size": 100}),
}
# Where an image may lie that is as it should be, and the expectations that do not hold then.
BAD_PLACES = {
    "an unknown body part": ("body_part", f"{ROOT}/train/XR_SKULL/patient90000/study1_positive/image1.png"),
    "a view of 30 digits": ("path", f"{ROOT}/train/XR_WRIST/patient90001/study1_positive/image{'9' * 30}.png"),
    "digits of another script": (
        "recorded|path",
        f"{ROOT}/train/XR_WRIST/patient\u0661\u0662/study1_positive/image1.png",
    ),
    "a name in capitals": ("path", f"{ROOT}/train/XR_WRIST/patient90002/study1_positive/IMAGE1.PNG"),
    "a directory more": ("path", f"{ROOT}/train/XR_WRIST/patient90003/study1_positive/more/image1.png"),
    "a label there is not": ("path|recorded", f"{ROOT}/train/XR_WRIST/patient90004/study1_perhaps/image1.png"),
}
MISSING = f"{ROOT}/train/XR_WRIST/patient90005/study1_positive/image1.png"
UNLISTED = f"{ROOT}/train/XR_WRIST/patient90006/study1_positive/image1.png"
BAD_PLACES |= {"listed and not there": ("found", MISSING), "there and not listed": ("listed", UNLISTED)}
# The one that is accepted.
SOUND_KIND = "sound"
LARGE, LARGE_SAID = "a file of 65 MB", ("more than 64,000,000 bytes", as_png("L"))
# What is said of an image, its bytes, and what the table of contents says of it.
Member = tuple[str, bytes, dict[str, object]]
# Problems of so many images are named by one report.
NAMED = 19


class Came(NamedTuple):
    """What came of a kind."""

    kind: str
    code: int
    told: str
    """The error stream, or the report's words about the member."""
    seconds: float
    """Of the processor: what waits for ever runs into the timeout of the test."""
    peak: int
    """Most memory of the process until then, bytes."""


def peak_bytes() -> int:
    """Most memory of this process. Not `ru_maxrss`: that begins with what the parent had when it started us."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def drive(folder: Path) -> Iterator[Came]:
    """Run every kind through the door.

    Args:
        folder: with params.yaml; everything is made below it.
    """
    (folder / "made").mkdir()
    (folder / "out").mkdir()
    sound, manifest = write_zip(folder / "made" / "sound.zip", SOUND), folder / "out" / "sound"
    yield _run(SOUND_KIND, "ingest", "--archive", sound, "--seed", "1", "--out", manifest)
    for number, (name, kind) in enumerate(ARCHIVES.items()):
        place = folder / "made" / str(number)
        place.mkdir()
        yield _run(name, "ingest", "--archive", kind.make(place), "--seed", "1", "--out", folder / "out" / str(number))
    members = {f"image: {name}": (said, content, {}) for name, (said, content) in BAD_PNGS.items()}
    members |= {f"entry: {name}": (said, as_png("L"), changes) for name, (said, changes) in BAD_ENTRIES.items()}
    names = list(members)
    for start in range(0, len(names), NAMED):
        some = {name: members[name] for name in names[start : start + NAMED]}
        yield from _together(folder, some, f"members{start}")
    yield from _together(folder, {LARGE: (*LARGE_SAID, {})}, "large", 65_000_000)
    yield from _misplaced(folder)


def _together(folder: Path, members: dict[str, Member], name: str, size: int = 0) -> Iterator[Came]:
    """Ingest and validate an archive with these images in it, and find each of them in the report.

    Args:
        folder: where all is made.
        members: by kind.
        name: what to call the archive.
        size: bytes to which the images are filled up with nothing; not at all if 0.
    """
    places = {
        f"{ROOT}/train/XR_WRIST/patient{90_000 + number}/study1_positive/image1.png": member
        for number, member in enumerate(members.values())
    }
    files = SOUND | {place: content for place, (_, content, _) in places.items()} | lists([*images(), *places])
    here = folder / "made" / name
    here.mkdir()
    if size:
        path = write_directory(here / "archive", files)
        for place in places:
            _sparse(path, place, size)
    else:
        changed = [(place, *item) for place, (_, _, changes) in places.items() for item in changes.items()]
        path = _zip(lambda made: [setattr(made.getinfo(at), key, value) for at, key, value in changed], files)(here)
    came, expectations = _validated(folder, name, path)
    offenders = [offender for expectation in expectations for offender in expectation["members"]]
    problems = {offender["member"]: offender["problem"] for offender in offenders if offender.get("problem")}
    for place, kind in zip(places, members, strict=True):
        yield came._replace(kind=kind, told=problems.get(place, f"not named: {came.told}"))


def _misplaced(folder: Path) -> Iterator[Came]:
    """Ingest and validate an archive with an image at every bad place, and find it among the offenders."""
    here = folder / "made" / "places"
    here.mkdir()
    places = [place for _, place in BAD_PLACES.values()]
    files = SOUND | {place: png(picture(1000 + number)) for number, place in enumerate(places) if place != MISSING}
    path = write_zip(here / "a.zip", files | lists([*images(), *(place for place in places if place != UNLISTED)]))
    came, expectations = _validated(folder, "places", path)
    for kind, (_, place) in BAD_PLACES.items():
        failed = [
            each["name"]
            for each in expectations
            if not each["success"] and place in json.dumps(each["members"], ensure_ascii=False)
        ]
        yield came._replace(kind=f"place: {kind}", told=" ".join(failed) or f"not named: {came.told}")


def _validated(folder: Path, name: str, path: Path) -> tuple[Came, list[dict[str, Any]]]:
    """What came of an archive, and the expectations of the report of its refusal."""
    manifest, valid = folder / "out" / name, folder / "out" / f"{name}.valid"
    read = _run(name, "ingest", "--archive", path, "--seed", "1", "--out", manifest)
    judged = _run(name, "validate", "--archive", path, "--manifest", manifest, "--out", valid)
    report = folder / "out" / f"{name}.valid.refused" / "validation.json"
    expectations = json.loads(report.read_text())["expectations"] if report.is_file() else []
    seconds = max(read.seconds, judged.seconds)
    return judged._replace(told=f"{read.told} {judged.told}", seconds=seconds), expectations


def _run(kind: str, *words: object) -> Came:
    from components.cli import main

    told, started = io.StringIO(), time.process_time()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        code = main.run(["--quiet", *map(str, words)])
    peak = peak_bytes()
    return Came(kind, code, told.getvalue(), time.process_time() - started, peak)


if __name__ == "__main__":
    # One core: everything happens in this process.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.chdir(sys.argv[1])
    for came in drive(Path(sys.argv[1])):
        print(json.dumps(came._asdict()), flush=True)
