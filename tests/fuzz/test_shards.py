"""Shards: TFRecords and the table of records. A damaged file is named. One changed under a card of its own is refused,
or gives the pixels that were packed."""

import contextlib
import shutil
import struct
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from fuzz_outcome import Came, assert_one_line, assert_short_list, fuzz, mura, mutated
from miniature import archive, manifest, pack, prove, use_cores, write_zip

from components.artifacts.shards import RECORDS, Shards
from components.base.errors import DataRefused, ExitCode, MuraError, printable
from components.network.pixels import OnDisk
from components.shard import tfrecord

STRANGE = (-1, 0, 1, 2**31, 2**62, -(2**63), "", "\x1b[2J", "../../x", None, float("nan"), b"\0", "a" * 10_000)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards that nobody harms."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        path = write_zip(folder / "MURA-v1.1.zip", archive())
        pack(path, prove(manifest(path, folder / "manifest"), folder / "valid"), folder / "shards")
    return folder / "shards"


@pytest.fixture
def shards(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them, in the directory in which one stands. The commands have read it once."""
    shutil.copytree(whole, tmp_path / "shards")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    for words in (VERIFY, SHOW):
        assert mura(*words).code == ExitCode.DONE
    return tmp_path / "shards"


VERIFY = ("shards", "verify", "shards")
SHOW = ("shards", "show", "shards", "--sheet", "out/sheet.png")


def test_a_damaged_file_of_shards_is_named(shards: Path, whole: Path) -> None:
    names = sorted(path.name for path in shards.glob("*.*"))

    def once(draw: Random) -> None:
        file = shards / draw.choice(names)
        original = file.read_bytes()
        harmed = mutated(original, draw)
        file.write_bytes(harmed)
        came = mura(*VERIFY)
        assert_short_list_of_lines(came)
        if harmed == original:
            assert came.code == ExitCode.DONE
        else:
            assert came.code in (ExitCode.USAGE, ExitCode.DATA)
            assert file.name in came.told or "shards: expected" in came.told
            with pytest.raises(MuraError, match=f"{file.name}|shards: expected"):
                Shards.read(shards)
        file.write_bytes(original)

    fuzz(once, shards.parent, shards)


@pytest.mark.long
def test_changed_shards_with_a_card_of_their_own_are_refused_or_give_what_was_packed(shards: Path, whole: Path) -> None:
    facts = Shards.read(whole).facts
    expected = read(whole)

    def once(draw: Random) -> None:
        if draw.random() < 0.5:
            change_records(draw.choice(sorted(shards.glob("*.tfrecord"))), draw)
        else:
            change_table(shards / RECORDS, draw)
        (shards / Shards.CARD).unlink()
        try:
            with contextlib.suppress(DataRefused):  # what is no table gets no card
                Shards.seal(shards, facts)
            verified = mura(*VERIFY)
            for came in (verified, mura(*SHOW)):
                assert_short_list_of_lines(came)
            try:
                found = read(shards)
            except MuraError as error:
                assert_one_line(printable(str(error)))
                assert verified.code != ExitCode.DONE
            else:
                if verified.code == ExitCode.DONE:
                    np.testing.assert_array_equal(found, expected)
        finally:
            for path in whole.glob("*.*"):
                shutil.copy2(path, shards / path.name)

    fuzz(once, shards.parent, shards.parent / "out")


def read(path: Path) -> np.ndarray:
    """All pixels, as a training reads them."""
    found = Shards.read(path)
    table = found.records()
    return OnDisk.of(found, table)[np.arange(len(table))]


def change_records(file: Path, draw: Random) -> None:
    """Change a TFRecord file. Its checksums may be true all the same."""
    kind = draw.choice(("bytes", "content", "content", "length", "order", "again"))
    records = [record for _, record in tfrecord.read(file)]
    if kind == "bytes":
        file.write_bytes(mutated(file.read_bytes(), draw))
        return
    at = draw.randrange(len(records))
    if kind == "content":
        records[at] = mutated(records[at], draw)
    elif kind == "order":
        draw.shuffle(records)
    elif kind == "again":
        records.insert(at, records[at])
    tfrecord.write(file, records)
    if kind == "length":
        # The checksum of the length is true, too.
        head = struct.pack("<Q", draw.choice((0, 2**20, 2**31, 2**62, 2**64 - 1)))
        tfrecord.write(Path("out/length"), [head])
        masked = Path("out/length").read_bytes()[-4:]
        with file.open("r+b") as harmed:
            harmed.write(head + masked)


def change_table(file: Path, draw: Random) -> None:
    """Change the table of records, or its bytes."""
    kind = draw.choice(("bytes", "cell", "cell", "cell", "column", "rows", "order", "types"))
    table = pd.read_parquet(file)
    column, row = draw.choice(list(table.columns)), draw.randrange(len(table))
    if kind == "bytes":
        file.write_bytes(mutated(file.read_bytes(), draw))
        return
    if kind == "cell":
        strange, other = draw.choice(STRANGE), table[column].iloc[draw.randrange(len(table))]
        values = table[column].astype(object)
        values.iloc[row] = draw.choice((strange, other))
        table[column] = values
    elif kind == "column":
        table = table.drop(columns=column) if draw.random() < 0.5 else table.rename(columns={column: "x"})
    elif kind == "rows":
        table = pd.concat([table, table.iloc[row : row + 1]]) if draw.random() < 0.5 else table.drop(table.index[row])
    elif kind == "order":
        table = table.sample(frac=1, random_state=draw.randrange(1000))
    else:
        table[column] = table[column].astype(str)
    # pyarrow does not write a column of several types.
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        table.to_parquet(file, index=False)


def assert_short_list_of_lines(came: Came) -> None:
    """As `assert_short_list` for a command that prints faults before its error."""
    *before, last = came.told.strip().splitlines() or [""]
    for line in before if came.code else []:
        assert_one_line(line)
    assert_short_list(came._replace(told=last))
