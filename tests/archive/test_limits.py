"""Every reader has a limit that is known before it takes memory, and names it."""

import difflib
import os
import struct
import zipfile
from pathlib import Path

import pytest
from fuzz_outcome import memory_below, mura
from miniature import ROOT, archive, images, lists, prove, use_cores, write_zip

from components.archive import csv_rows
from components.archive.archive import Archive
from components.archive.csv_rows import NAMED_ROWS
from components.archive.overlay import Overlay
from components.artifacts.manifest import Manifest
from components.base.errors import DataRefused
from components.cli import steps

HEADER = b"study,old,new,source,reason\n"
END, END64, LOCATOR64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
SIZES = '{"image_size": 32, "images_per_shard": 5}'
# Bytes that a refusal may take.
LITTLE = 60_000_000


def sparse(path: Path, size: int, end: bytes) -> Path:
    """A file of that size that ends so, and takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(0, os.SEEK_END)
        file.write(end)
    return path


def large_table(path: Path, size: int, zip64: str) -> Path:
    if not zip64:
        return sparse(path, size, END.pack(b"PK\5\6", 0, 0, 1, 1, size, 0, 0))
    end = END64.pack(b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, 0)
    end += LOCATOR64.pack(b"PK\6\7", 0, size if zip64 == "zip64" else 0, 1)
    end += END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return sparse(path, size, end)


# `zipfile` takes the record before the locator, whatever the locator says.
@pytest.mark.parametrize(
    ("size", "zip64"),
    [(4_000_000_000, ""), (51_000_000, ""), (20_000_000_000, "zip64"), (20_000_000_000, "zip64, located elsewhere")],
)
def test_a_large_table_of_contents_is_refused_before_it_is_read(tmp_path: Path, size: int, zip64: str) -> None:
    path = large_table(tmp_path / "a.zip", size, zip64)
    told = rf"table of contents has {size:,} bytes, more than 200 for each of 250,000 files\. ingest\.max_members"
    with memory_below(LITTLE), pytest.raises(DataRefused, match=told):
        Archive.read(path)


def table(count: int, before: int = 0) -> bytes:
    """A table of contents of so many empty members."""
    entry = struct.Struct("<4s6H3L5H2L7s")
    return b"".join(
        entry.pack(b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, before, f"{number:07d}".encode())
        for number in range(count)
    )


@pytest.mark.parametrize("told", [1, 0xFFFF])
def test_an_end_record_whose_offset_looks_like_an_end_record_hides_nothing(tmp_path: Path, told: int) -> None:
    offset = int.from_bytes(b"PK\5\6", "little")
    path = sparse(tmp_path / "a.zip", offset, members := table(600_000))
    with path.open("ab") as file:
        file.write(END.pack(b"PK\5\6", 0, 0, told, told, len(members), offset, 0))
    with memory_below(LITTLE), pytest.raises(DataRefused, match=r"more than 250,000 files.* ingest\.max_members"):
        Archive.read(path)


def test_names_of_many_directories_are_checked_in_time(tmp_path: Path) -> None:
    """Each is 490 directories deep, and they share no directory: quadratic work took 15 s."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as made:
        for number in range(2_000):
            made.writestr(f"{number:04d}/" + "a/" * 489 + "b", b"")
    with memory_below(LITTLE), Archive.read(path) as opened:
        assert len(list(opened.members())) == 2_000


LISTED = f"{ROOT}/train_image_paths.csv"
ROWS = {
    "a row of commas": b"," * 30_000_000,
    "a row of lines within quotes": b'"\n",' * 8_000_000,
    "a line without end": b"x" * 30_000_000,
    "a quote without end": b'"' + b"x" * 30_000_000,
}


@pytest.mark.long
@pytest.mark.parametrize("content", ROWS.values(), ids=ROWS)
def test_a_row_without_end_is_refused_in_little_memory(tmp_path: Path, content: bytes) -> None:
    files = archive(images(7, 2)) | {LISTED: b"path\n" + content}
    path = write_zip(tmp_path / "a.zip", files)
    # The list itself is read at once, and checked to be UTF-8.
    with memory_below(3 * len(content) + LITTLE):
        came = mura("ingest", "--archive", path, "--seed", 1, "--params", '{"tuning_fraction": 0.2}', "--out",
                    tmp_path / "out")  # fmt: skip
    assert (came.code, came.told.count("\n")) == (3, 1), came.told[:500]
    assert "row 2: not a CSV" in came.told
    (tmp_path / "overlay.csv").write_bytes(HEADER + content)
    with memory_below(2 * len(content) + LITTLE), pytest.raises(DataRefused, match=r"overlay\.csv: not a CSV"):
        Overlay.read(tmp_path / "overlay.csv")


def test_the_limit_of_a_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "overlay.csv").write_bytes(HEADER + b"," * (csv_rows.MAX_ROW + 1))
    with pytest.raises(DataRefused, match="a row of more than 200,000 characters"):
        Overlay.read(tmp_path / "overlay.csv")


def test_a_list_of_more_rows_than_the_archive_may_have_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cores(1, monkeypatch)
    names = images(7, 2)
    more = [f"{ROOT}/train/XR_WRIST/patient{number:05d}/study1_positive/image1.png" for number in range(50, 150)]
    path = write_zip(tmp_path / "a.zip", archive(names) | lists([*names, *more]))

    def ingest(most: int) -> tuple[int, str]:
        params = f'{{"tuning_fraction": 0.2, "max_members": {most}}}'
        return mura("ingest", "--archive", path, "--seed", 1, "--params", params, "--out", tmp_path / "out")

    code, told = ingest(99)
    assert (code, told.count("\n")) == (3, 1)
    assert "train_image_paths.csv: more than 99 rows. ingest.max_members of params.yaml allows more." in told
    assert ingest(1_000)[0] == 0


@pytest.mark.long
def test_what_ingest_reads_is_read_by_the_steps_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody counts directories, which have entries in a zip."""
    use_cores(1, monkeypatch)
    # Instead of an archive of so many files.
    monkeypatch.setattr(steps, "MAX_MEMBERS", 3)
    path = write_zip(tmp_path / "a.zip", archive() | {f"empty/{number}/": b"" for number in range(500)})
    params = '{"tuning_fraction": 0.25, "max_members": %d}'
    words = ("ingest", "--archive", path, "--seed", 1, "--out", tmp_path / "manifest", "--params")
    assert mura(*words, params % 500)[0] == 3
    assert mura(*words, params % 600) == (0, "")
    words = ("validate", "--archive", path, "--manifest", tmp_path / "manifest", "--out", tmp_path / "valid")
    # It is read, and judged: it is no archive that one would train with.
    assert "gates do not hold" in mura(*words)[1]
    valid = prove(Manifest.read(tmp_path / "manifest"), tmp_path / "proven").path
    words = ("shard", "--archive", path, "--manifest", valid, "--out", tmp_path / "shards", "--params", SIZES)
    assert mura(*words) == (0, "")


def test_an_overlay_of_more_rows_than_the_archive_may_have_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "overlay.csv"
    rows = [b"train/XR_WRIST/patient%d/study1_negative,0,1,me,why\n" % number for number in range(100)]
    path.write_bytes(HEADER + b"".join(rows))
    assert len(Overlay.read(path, 101).opinions) == 100
    with pytest.raises(DataRefused, match=r"more than 100 rows\. ingest\.max_members of params\.yaml allows more"):
        Overlay.read(path, 100)


def test_wrong_rows_of_an_overlay_cost_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All studies are searched for a near one for the rows that are named, not for each: that took 1.5 ms a row."""
    searched = []
    near = difflib.get_close_matches
    monkeypatch.setattr(difflib, "get_close_matches", lambda *words: searched.append(words) or near(*words))
    path = tmp_path / "overlay.csv"
    official = {f"{ROOT}/train/XR_WRIST/patient{number}/study1_negative": 0 for number in range(100)}
    path.write_bytes(HEADER + b"".join(b"train/XR_X/patient%d/study1_negative,0,1,me,why\n" % n for n in range(1_000)))
    with pytest.raises(DataRefused, match=rf"1,000 rows are refused: .*; and {1_000 - NAMED_ROWS} more"):
        Overlay.read(path).by_study(official)
    assert len(searched) == NAMED_ROWS
