import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import pandas as pd
import pytest
from miniature import archive, images, manifest, pack, picture, png, prove, use_cores, write_zip

from components.archive.archive import Archive
from components.artifacts.manifest import SPLITS, ValidManifest
from components.artifacts.shards import Shards
from components.base.errors import DataRefused
from components.params.shard import ShardParams
from components.shard import shard
from components.xray.png import decode
from components.xray.square import fit

Files = dict[str, bytes]
Change = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    use_cores(1, monkeypatch)


@pytest.fixture(scope="module")
def files() -> Files:
    return archive(images(train=30, valid=10))


@pytest.fixture
def packed(tmp_path: Path) -> Callable[..., Shards]:
    """Shards of these files; the table may be changed before, and the archive behind the table's back."""
    places = (tmp_path / str(number) for number in range(9))

    def packed(files: Files, change: Change | None = None, then: Files | None = None, **params: int) -> Shards:
        place = next(places)
        place.mkdir()
        path = write_zip(place / "a.zip", files)
        valid = prove(manifest(path, place / "manifest"), place / "valid", change)
        write_zip(path, files if then is None else then)
        return pack(path, valid, place / "shards", **params)

    return packed


def records(shards: Shards) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in shards.path.glob("*.tfrecord")}


def digests(shards: Shards) -> dict[str, str]:
    return {split: facts.digest for split, facts in shards.facts.splits.items()}


def changed(before: Shards, after: Shards) -> set[str]:
    return {split for split in SPLITS if digests(before)[split] != digests(after)[split]}


@pytest.mark.long
def test_the_number_of_workers_does_not_show(
    packed: Callable[..., Shards], files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = packed(files)
    use_cores(2, monkeypatch)
    two = packed(files)
    assert records(one) == records(two)
    assert one.digest == two.digest


def test_the_index_counts_who_is_in_each_split_and_body_part(packed: Callable[..., Shards], files: Files) -> None:
    made = packed(files)
    table = made.records()
    for name, facts in made.facts.splits.items():
        rows = table[table["split"] == name]
        assert set(facts.body_parts) == set(rows["body_part"])
        for found, some in ((facts, rows), *((facts.body_parts[part], of) for part, of in rows.groupby("body_part"))):
            studies = some.drop_duplicates("study")
            assert (found.images, found.studies, found.patients, found.abnormal_studies) == (
                len(some), len(studies), some["patient"].nunique(), studies["abnormal"].sum(),
            )  # fmt: skip


def test_the_order_of_the_rows_does_not_show(packed: Callable[..., Shards], files: Files) -> None:
    whole, shuffled = packed(files), packed(files, lambda table: table.sample(frac=1, random_state=1))
    assert records(whole) == records(shuffled)
    assert whole.facts == shuffled.facts


def test_the_index_counts_what_the_manifest_holds(packed: Callable[..., Shards], files: Files) -> None:
    tables: list[pd.DataFrame] = []

    def look(table: pd.DataFrame) -> pd.DataFrame:
        tables.append(table)
        return table

    facts = packed(files, look).facts
    for split in SPLITS:
        rows = tables[0][tables[0]["split"] == split]
        assert facts.splits[split].images == len(rows) > 0
        assert facts.splits[split].studies == rows["study"].nunique()
        assert facts.splits[split].patients == rows["patient"].nunique()
        assert facts.splits[split].abnormal == rows["abnormal"].sum()
    train = tables[0][tables[0]["split"] == "train"]
    assert set(facts.train_images) == set(train["body_part"])
    for part, count in facts.train_images.items():
        labels = train[train["body_part"] == part]["abnormal"]
        assert (count.normal, count.abnormal) == ((labels == 0).sum(), (labels == 1).sum())
    assert facts.image_size == 32


@pytest.mark.parametrize("images_per_shard", [1, 7, 1000])
def test_the_index_lists_exactly_the_files_and_their_records(
    packed: Callable[..., Shards], files: Files, images_per_shard: int
) -> None:
    shards = packed(files, images_per_shard=images_per_shard)
    listed = [name for facts in shards.facts.splits.values() for name in facts.files]
    assert sorted(listed) == sorted(records(shards))
    for split, facts in shards.facts.splits.items():
        assert all(re.fullmatch(rf"{split}-\d{{5}}-of-{len(facts.files):05d}\.tfrecord", name) for name in facts.files)
        assert facts.files == tuple(sorted(facts.files))
        assert sum(facts.records) == facts.images
        assert set(facts.records[:-1]) <= {images_per_shard}
        assert [path.name for path in shards.files(split)] == list(facts.files)


def test_the_table_tells_where_the_pixels_of_every_record_are(packed: Callable[..., Shards], files: Files) -> None:
    shards = packed(files)
    table = shards.records()
    assert list(dict.fromkeys(table["file"])) == [path.name for split in SPLITS for path in shards.files(split)]
    for row in table.itertuples():
        pixels = (shards.path / row.file).read_bytes()[row.offset : row.offset + 32 * 32]
        assert pixels == fit(decode(files[row.image]).grey, 32).tobytes()
        assert google_crc32c.value(pixels) == row.crc32c
        assert row.sha256 == hashlib.sha256(files[row.image]).hexdigest()
    assert shards.digest == Shards.seal(shards.path, shards.facts).digest


def test_what_is_complete_is_not_written_again(tmp_path: Path, packed: Callable[..., Shards], files: Files) -> None:
    """What an attempt that was killed leaves in its checkpoint: two files and a half, one of them harmed."""
    whole = packed(files)
    checkpoint = whole.path / "checkpoint"
    names = list(whole.facts.splits["train"].files)
    kept, harmed, half = names[:3]
    for name in (kept, harmed):
        (checkpoint / name).write_bytes((whole.path / name).read_bytes())
    before = (checkpoint / kept).stat().st_ino
    whole_bytes = bytearray((checkpoint / harmed).read_bytes())
    whole_bytes[99] ^= 1
    (checkpoint / harmed).write_bytes(whole_bytes)
    (checkpoint / Path(half).with_suffix(".partial")).write_bytes(b"half")
    path = whole.path.parent / "a.zip"
    out = tmp_path / "again"
    checkpoint.rename(tmp_path / "checkpoint")
    out.mkdir()
    (tmp_path / "checkpoint").rename(out / "checkpoint")
    params = ShardParams(image_size=32, images_per_shard=10)
    again = shard(Archive.read(path), ValidManifest.read(whole.path.parent / "valid"), params, out)
    assert records(again) == records(whole)
    assert again.facts == whole.facts
    assert (out / kept).stat().st_ino == before
    assert Shards.read(out).records().equals(whole.records())


def flipped(receipt: Path) -> None:
    said = json.loads(receipt.read_text())
    said["offsets"][0] ^= 4
    receipt.write_text(json.dumps(said))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.long
@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".json", flipped),
        (".json", lambda path: path.write_text("")),
        (".json", a_folder),
        (".tfrecord", a_folder),
        (".tfrecord", a_link),
    ],
    ids=["flipped offset", "empty receipt", "receipt is a folder", "file is a folder", "file is a link"],
)
def test_what_is_damaged_in_the_checkpoint_is_written_again(
    tmp_path: Path, packed: Callable[..., Shards], files: Files, suffix: str, damage: Callable[[Path], object]
) -> None:
    whole = packed(files)
    out, name = tmp_path / "again", whole.facts.splits["train"].files[0]
    out.mkdir()
    (whole.path / "checkpoint").rename(out / "checkpoint")
    (out / "checkpoint" / name).write_bytes((whole.path / name).read_bytes())
    damage((out / "checkpoint" / name).with_suffix(suffix))
    params = ShardParams(image_size=32, images_per_shard=10)
    valid = ValidManifest.read(whole.path.parent / "valid")
    again = shard(Archive.read(whole.path.parent / "a.zip"), valid, params, out)
    assert records(again) == records(whole)
    assert again.records().equals(whole.records())
    assert not (out / name).is_symlink()


def test_a_receipt_of_an_earlier_attempt_that_rotted_is_not_believed(
    tmp_path: Path, packed: Callable[..., Shards], files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    whole = packed(files)
    name = whole.facts.splits["train"].files[0]
    out = tmp_path / "again"
    (out / "checkpoint").mkdir(parents=True)
    shutil.copy(whole.path / name, out / "checkpoint" / name)
    receipt = json.loads((whole.path / "checkpoint" / name).with_suffix(".json").read_text())
    receipt["offsets"][0] ^= 1
    (out / "checkpoint" / name).with_suffix(".json").write_text(json.dumps(receipt))
    params = ShardParams(image_size=32, images_per_shard=10)
    again = shard(
        Archive.read(whole.path.parent / "a.zip"), ValidManifest.read(whole.path.parent / "valid"), params, out
    )
    assert f"{name} of an earlier attempt" in caplog.text
    assert again.records().equals(whole.records())


def test_sealed_shards_are_read_again(packed: Callable[..., Shards], files: Files) -> None:
    shards = packed(files)
    assert Shards.read(shards.path).facts == shards.facts


def test_a_split_without_images_has_no_files(packed: Callable[..., Shards]) -> None:
    facts = packed(archive(images(train=10, valid=0))).facts
    assert (facts.splits["test"].images, facts.splits["test"].files) == (0, ())


def test_an_image_that_changed_after_validation_is_refused_by_name(packed: Callable[..., Shards], files: Files) -> None:
    name = images(train=30, valid=10)[7]
    with pytest.raises(DataRefused, match=f"{name}: not the file that was validated"):
        packed(files, then=files | {name: png(picture(99))})


def test_an_image_that_vanished_after_validation_is_refused_by_name(
    packed: Callable[..., Shards], files: Files
) -> None:
    name = images(train=30, valid=10)[7]
    with pytest.raises(DataRefused, match=f"not the archive that the manifest describes: it lacks {name}"):
        packed(files, then={member: content for member, content in files.items() if member != name})


@pytest.mark.long
def test_a_refusal_in_a_worker_process_is_the_same(
    packed: Callable[..., Shards], files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cores(2, monkeypatch)
    name = images(train=30, valid=10)[7]
    with pytest.raises(DataRefused, match=f"{name}: not the file that was validated"):
        packed(files, then=files | {name: png(picture(99))})


def labelled(split: str) -> Change:
    """The first image of a split gets the other label."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        place = table.index[table["split"] == split][0]
        table.loc[place, "abnormal"] = 1 - table.loc[place, "abnormal"]
        return table

    return change


@pytest.mark.long
@pytest.mark.parametrize("split", SPLITS)
def test_another_label_changes_the_digest_of_its_split_alone(
    packed: Callable[..., Shards], files: Files, split: str
) -> None:
    assert changed(packed(files), packed(files, labelled(split))) == {split}


def test_another_pixel_changes_the_digest_of_its_split_alone(packed: Callable[..., Shards], files: Files) -> None:
    name = next(name for name in files if "/valid/" in name)
    pixels = picture(3)
    one = packed(files | {name: png(pixels)})
    pixels[0, 0] ^= 1
    assert changed(one, packed(files | {name: png(pixels)})) == {"test"}


def test_digests_of_the_splits_do_not_depend_on_how_they_are_packed(
    packed: Callable[..., Shards], files: Files
) -> None:
    assert digests(packed(files)) == digests(packed(files, image_size=64, images_per_shard=3))


def test_another_size_gives_another_artifact(packed: Callable[..., Shards], files: Files) -> None:
    made: list[Any] = [packed(files, image_size=size) for size in (32, 33)]
    assert made[0].digest != made[1].digest
