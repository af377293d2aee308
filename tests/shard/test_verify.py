"""`mura shards verify` and `mura shards show`, through the door."""

import json
import random
import shutil
import struct
from pathlib import Path

import cv2
import google_crc32c
import numpy as np
import pandas as pd
import pytest
from fuzz_outcome import memory_below
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components.artifacts.manifest import Manifest, ValidManifest
from components.artifacts.shards import RECORDS, Shards
from components.base.errors import DataRefused, UsageError
from components.cli import main
from components.shard import tfrecord
from components.shard.show import BELOW, CAPTION, GAP


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards in a directory with the manifest they were packed from."""
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        place = tmp_path_factory.mktemp("packed")
        path = write_zip(place / "a.zip", archive(images(train=20, valid=6)))
        valid = prove(manifest(path, place / "manifest"), place / "valid")
        pack(path, valid, place / "shards", images_per_shard=8)
        shutil.rmtree(place / "shards" / "checkpoint")
    return place


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    """A copy to be harmed."""
    shutil.copytree(packed / "shards", tmp_path / "shards")
    return tmp_path / "shards"


def verify(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, list[str]]:
    """Exit code, and what was told."""
    code = main.run(["shards", "verify", *map(str, words)])
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return code, told.out.splitlines()


def flip(path: Path, place: int, bit: int = 0) -> None:
    whole = bytearray(path.read_bytes())
    whole[place] ^= 1 << bit
    path.write_bytes(whole)


def reseal(shards: Path) -> None:
    """As if somebody had made the card anew: only what is inside can tell."""
    Shards.seal(shards, Shards.peek(shards).facts)


def test_whole_shards_are_as_they_were_left(packed: Path, shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(capsys, shards, "--manifest", packed / "valid") == (
        0,
        [f"{shards}: every file and every record is as `mura shard` left it."],
    )


def test_every_flipped_bit_is_found_and_its_file_named(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One in each of so many places of files, table and index, as training and as `verify` find it."""
    draw = random.Random(1)
    for file in sorted(shards.iterdir()) * 2:
        place, bit = draw.randrange(file.stat().st_size), draw.randrange(8)
        flip(file, place, bit)
        with pytest.raises((DataRefused, UsageError), match=file.name if file.name != "index.json" else "."):
            Shards.read(shards)
        code, told = verify(capsys, shards)
        if file.name == "index.json":
            assert code in (2, 3)  # its kind may have become another
        else:
            assert (code, any(f"{file}: " in line for line in told)) == (3, True)
        flip(file, place, bit)
    assert Shards.read(shards).digest


def test_a_damaged_record_is_told_with_its_image(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = Shards.read(shards).records().iloc[3]
    flip(shards / row["file"], row["offset"] + 7)
    code, told = verify(capsys, shards)
    assert code == 3
    assert f"{shards / row['file']}: changed since its step wrote it (sha256 differs)." in told
    assert any(f"{shards / row['file']}: {row['image']}: the record at byte" in line for line in told)


def test_a_missing_and_an_extra_file_are_told_together(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = next(shards.glob("test-*"))
    gone.rename(shards / "extra.tfrecord")
    code, told = verify(capsys, shards)
    assert code == 3
    assert any(line.startswith(f"{gone}: is missing") for line in told)
    assert any(line.startswith(f"{shards}/extra.tfrecord: is not on the card") for line in told)


def test_an_index_of_another_data_set_is_refused(
    packed: Path, shards: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cores(1, monkeypatch)
    valid = prove(
        Manifest.read(packed / "manifest"),
        shards.parent / "valid",
        lambda table: table.assign(abnormal=1 - table["abnormal"]),
    )
    other = pack(packed / "a.zip", valid, shards.parent / "other", images_per_shard=8)
    for name in ("index.json", RECORDS):
        shutil.copy(other.path / name, shards.parent / name)
        (shards / name).replace(shards.parent / "kept")
        shutil.copy(shards.parent / name, shards / name)
        with pytest.raises(DataRefused):
            Shards.read(shards)
        assert verify(capsys, shards)[0] == 3
        (shards.parent / "kept").replace(shards / name)
    shutil.copy(other.path / RECORDS, shards / RECORDS)
    reseal(shards)
    with pytest.raises(DataRefused, match="Is it of another data set"):
        Shards.read(shards).records()
    code, told = verify(capsys, packed / "shards", "--manifest", valid.path)
    assert code == 3
    assert "packed from data set" in told[0]


HARM = {
    "another label": {"abnormal": 7},
    "another patient": {"patient": b"patient99999"},
    "another image": {"image": b"elsewhere.png"},
    "other pixels": {"pixels": bytes(32 * 32)},
    "too few pixels": {"pixels": bytes(32)},
    "a label that is a word": {"abnormal": b"1"},
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_a_record_that_is_not_what_the_table_says_is_named(
    shards: Path, capsys: pytest.CaptureFixture[str], harm: dict[str, bytes | int]
) -> None:
    file = next(shards.glob("train-00001*"))
    records = [record for _, record in tfrecord.read(file)]
    records[2] = tfrecord.example(tfrecord.features(records[2]) | harm)
    tfrecord.write(file, records)
    reseal(shards)
    image = Shards.read(shards).records().query("file == @file.name").iloc[2]["image"]
    code, told = verify(capsys, shards)
    assert code == 3
    assert any(line.startswith(f"{file}: {image}: its record differs from the table in") for line in told)


# A whole map entry of "pixels" whose value is cut, one whose length has no end, and one without pixels.
NO_EXAMPLES = {
    "nothing": b"",
    "no protocol buffer": b"\xff" * 40,
    "another field": b"\x12\x00",
    "a length without end": b"\x0a" + b"\xff" * 40,
    "cut in an entry": b"\x0a\x0c\x0a\x0a\x0a\x06pixels\x12\x00",
    "other features": tfrecord.example({"more": 1}),
    "pixels that are a number": tfrecord.example({"pixels": 1}),
}


@pytest.mark.parametrize("record", NO_EXAMPLES.values(), ids=NO_EXAMPLES)
def test_a_record_that_is_no_example_is_named(shards: Path, capsys: pytest.CaptureFixture[str], record: bytes) -> None:
    file = next(shards.glob("train-00001*"))
    records = [each for _, each in tfrecord.read(file)]
    tfrecord.write(file, [records[0], record, *records[2:]])
    reseal(shards)
    image = Shards.read(shards).records().query("file == @file.name").iloc[1]["image"]
    code, told = verify(capsys, shards)
    assert code == 3
    assert any(line.startswith(f"{file}: {image}: ") for line in told)


@pytest.mark.parametrize("length", [2**62, 2**63, 2**64 - 1, 10_000_000_000, 1_000_000])
def test_a_record_that_claims_to_be_longer_than_its_file_is_named(
    shards: Path, capsys: pytest.CaptureFixture[str], length: int
) -> None:
    file = next(shards.glob("train-00001*"))
    records = [each for _, each in tfrecord.read(file)]
    tfrecord.write(file, records[:1])
    head = struct.pack("<Q", length)
    crc = google_crc32c.value(head)
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    with file.open("ab") as end:
        end.write(head + struct.pack("<I", masked) + records[1])
    reseal(shards)
    with memory_below(50_000_000):
        code, told = verify(capsys, shards)
    assert code == 3
    assert any(f"has {length:,} bytes, and the file ends before" in line for line in told)


@pytest.mark.parametrize(("keep", "words"), [(7, "ends before"), (9, "has more records than the 8")])
def test_more_or_fewer_records_than_the_table_has_are_told(
    shards: Path, capsys: pytest.CaptureFixture[str], keep: int, words: str
) -> None:
    file = next(shards.glob("train-00001*"))
    records = [record for _, record in tfrecord.read(file)]
    tfrecord.write(file, [*records, records[0]][:keep])
    reseal(shards)
    code, told = verify(capsys, shards)
    assert code == 3
    assert any(f"{file}: {words}" in line for line in told)


def test_where_no_shards_are_it_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["shards", "verify", str(tmp_path / "none")]) == 2
    assert "expected a Shards" in capsys.readouterr().err


def test_show_counts_every_split_body_part_and_label(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["shards", "show", str(packed / "shards"), "--sheet", str(tmp_path / "deep" / "sheet.png")]) == 0
    told = capsys.readouterr().out
    table = ValidManifest.read(packed / "valid").table
    for part, rows in table.groupby("body_part"):
        line = next(line for line in told.splitlines() if str(part) in line)
        for split in ("train", "tuning", "test"):
            abnormal: pd.Series = rows.loc[rows["split"] == split, "abnormal"]
            assert f"{len(abnormal)}, {abnormal.sum()}" in line
    assert json.loads((packed / "shards" / "index.json").read_text())["digest"] in told
    sheet = cv2.imread(str(tmp_path / "deep" / "sheet.png"), cv2.IMREAD_GRAYSCALE)
    assert sheet is not None
    assert sheet.std() > 10
    # What stands under a row of squares lies nearer to them than to the next row.
    side = json.loads((packed / "shards" / "index.json").read_text())["facts"]["image_size"]
    (inked,) = np.nonzero((sheet[GAP + side : GAP + side + CAPTION + BELOW] > 100).any(axis=1))
    assert inked.min() < CAPTION + BELOW - 1 - inked.max()
