"""Zips, their CSVs and overlays, mutated: the right manifest, or one line with 2, 3 or 5."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from fuzz_outcome import assert_one_line, assert_short_list, flipped, fuzz, mura, mutated
from miniature import archive, images, use_cores

from components.archive.archive import Archive
from components.archive.overlay import Overlay
from components.artifacts.manifest import Manifest
from components.base.errors import DataRefused

FILES = archive(images(train=7, valid=3))
LISTS = [name for name in FILES if name.endswith(".csv")]
DIGESTS = {hashlib.sha256(content).hexdigest() for content in FILES.values()}
STUDY = next(name for name in FILES if "negative" in name).rpartition("/")[0]
OVERLAY = f"""study,old,new,source,reason
{STUDY},0,1,me,why
{STUDY[:-1]}x,normal,abnormal,"a,b","two
lines"
""".encode()
PARAMS = '{"tuning_fraction": 0.2, "max_members": 500}'


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in files.items():
            made.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def near_a_header(whole: bytes, draw: Random) -> bytes:
    """Bytes changed in one of the headers: of a member, of the table, of the end."""
    places = [at for mark in (b"PK\3\4", b"PK\1\2", b"PK\5\6") for at in found(whole, mark)]
    at = draw.choice(places)
    return whole[:at] + draw.choice((flipped, mutated))(whole[at : at + 120], draw) + whole[at + 120 :]


def found(whole: bytes, mark: bytes) -> list[int]:
    places, at = [], whole.find(mark)
    while at >= 0:
        places.append(at)
        at = whole.find(mark, at + 1)
    return places


CHANGES: tuple[Callable[[bytes, Random], bytes], ...] = (flipped, mutated, near_a_header, near_a_header)


def test_zips_give_what_was_in_them_or_a_refusal(tmp_path: Path) -> None:
    """The reader by itself: many draws a second."""
    whole = {method: zipped(FILES, method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)}
    path = tmp_path / "out" / "a.zip"
    path.parent.mkdir()

    def once(draw: Random) -> None:
        path.write_bytes(draw.choice(CHANGES)(whole[draw.choice(list(whole))], draw))
        try:
            with Archive.read(path, max_members=500) as opened:
                for name in opened.members():
                    content = opened.bytes_of(name)
                    # Names are not under a checksum, contents are: what is read is one of those.
                    assert content in FILES.values(), name
        except DataRefused as refusal:
            assert_one_line(str(refusal))

    fuzz(once, tmp_path, path.parent)


def test_ingest_of_mutated_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole step, by its command: bytes of the zip, or rows of a list in a sound zip."""
    use_cores(1, monkeypatch)
    folder = tmp_path / "out"
    folder.mkdir()

    def once(draw: Random) -> None:
        if draw.random() < 0.5:
            name = draw.choice(LISTS)
            content = zipped(FILES | {name: draw.choice((flipped, mutated, rows_mutated))(FILES[name], draw)})
        else:
            content = draw.choice(CHANGES)(zipped(FILES), draw)
        (folder / "a.zip").write_bytes(content)
        came = mura("ingest", "--archive", folder / "a.zip", "--params", PARAMS, "--seed", 1, "--out", folder / "made")
        assert_short_list(came)
        if came.code == 0:
            table = Manifest.read(folder / "made").table
            assert table["image"].is_unique
            sound = table[table["found"] & table["problem"].isna()]
            assert set(sound["sha256"]) <= DIGESTS

    fuzz(once, tmp_path, folder)


def rows_mutated(content: bytes, draw: Random) -> bytes:
    """Rows of a CSV lost, doubled, swapped or joined."""
    rows = content.split(b"\n")
    at = draw.randrange(len(rows))
    put = draw.choice(([], [rows[at]] * 2, [rows[at] + b"," + rows[at - 1]], [b'"' + rows[at]], [rows[at].upper()]))
    return draw.choice((b"\n", b"\r\n", b"\r")).join([*rows[:at], *put, *rows[at + 1 :]])


def test_overlays(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()

    def once(draw: Random) -> None:
        (folder / "overlay.csv").write_bytes(draw.choice((flipped, mutated, rows_mutated))(OVERLAY, draw))
        try:
            overlay = Overlay.read(folder / "overlay.csv", 500)
            overlay.by_study({STUDY: 0})
        except DataRefused as refusal:
            assert_one_line(str(refusal))
            return
        assert all(opinion.old != opinion.new for opinion in overlay.opinions)

    fuzz(once, tmp_path, folder)
