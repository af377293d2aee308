import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pandas as pd
import pytest
import sklearn.linear_model as oracle
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components.artifacts.shards import RECORDS, PartFacts, Shards, ShardsFacts, SplitFacts, split_digest
from components.base.errors import DataRefused
from components.network import batches, memory
from components.network import pixels as stores
from components.network.batches import Split
from components.scores import offsets
from components.shard import tfrecord
from components.xray import png
from components.xray.square import fit

SIZE = 8
# Training images by body part, abnormal and normal, and the weights their authors give them (arXiv:1712.06957).
PAPER = {
    "elbow": (2006, 2925, 0.5932, 0.4068),
    "finger": (1968, 3138, 0.6146, 0.3854),
    "forearm": (661, 1164, 0.6378, 0.3622),
    "hand": (1484, 4059, 0.7323, 0.2677),
    "humerus": (599, 673, 0.5291, 0.4709),
    "shoulder": (4168, 4211, 0.5026, 0.4974),
    "wrist": (3987, 5765, 0.5912, 0.4088),
}
PARTS = {part: PartFacts(abnormal=abnormal, normal=normal) for part, (abnormal, normal, _, _) in PAPER.items()}


def record(number: int, **changes: Any) -> dict[str, Any]:
    """An image whose every pixel says its number."""
    return {
        "pixels": bytes([number] * SIZE * SIZE),
        "image": f"übersicht/image{number}.png",
        "study": f"study{number // 2}",
        "patient": f"patient{number // 4:05d}",
        "body_part": list(PAPER)[number % len(PAPER)],
        "abnormal": number % 2,
    } | changes


@pytest.fixture
def sealed(tmp_path: Path) -> Callable[..., Shards]:
    """Shards of one split, whose files hold these records."""

    def seal(*files: list[dict[str, Any]], change: Callable[[pd.DataFrame], pd.DataFrame] | None = None) -> Shards:
        folder = tmp_path / "shards"
        folder.mkdir()
        names = tuple(f"train-{number:05d}-of-{len(files):05d}.tfrecord" for number in range(len(files)))
        rows = [
            row
            for name, records in zip(names, files, strict=True)
            for row in rows_of(records, tfrecord.write(folder / name, map(serialised, records)).starts, name)
        ]
        columns = ["split", "file", "offset", "crc32c", "image", "sha256", "study", "patient", "body_part", "abnormal"]
        table = pd.DataFrame(rows, columns=columns)
        facts = SplitFacts(
            images=len(rows),
            studies=1,
            patients=1,
            abnormal=1,
            abnormal_studies=1,
            body_parts={},
            files=names,
            records=tuple(map(len, files)),
            digest=split_digest(table),
        )
        (change(table) if change else table).to_parquet(folder / RECORDS, index=False)
        return Shards.seal(
            folder, ShardsFacts(image_size=SIZE, data_digest="", splits={"train": facts}, train_images=PARTS)
        )

    return seal


def serialised(record: dict[str, Any]) -> bytes:
    return tfrecord.example(
        {name: value.encode() if isinstance(value, str) else value for name, value in record.items()}
    )


def rows_of(records: list[dict[str, Any]], starts: tuple[int, ...], name: str) -> list[dict[str, Any]]:
    return [
        {
            "split": "train",
            "file": name,
            "offset": start + tfrecord.place(serialised(record), "pixels"),
            "crc32c": google_crc32c.value(record["pixels"]),
            "sha256": f"{record['image']:0>64}",
            **record,
        }
        for record, start in zip(records, starts, strict=True)
    ]


def split_of(count: int) -> Split:
    """A split in which pixels, label and weight all follow from the image's number."""
    numbers = np.arange(count)
    pixels = np.broadcast_to(numbers[:, None, None, None].astype(np.uint8), (count, SIZE, SIZE, 1)).copy()
    names = np.array([f"image{number}" for number in numbers], np.str_)
    return Split(pixels, numbers % 2, names, names, names, names)


def epoch_of(
    split: Split, batch_size: int = 5, seed: int = 1, epoch: int = 0, weights: Any = None
) -> list[tuple[Any, Any, Any]]:
    weights = np.arange(len(split), dtype=np.float32) if weights is None else weights
    return list(batches.training_batches(split, weights, batch_size, seed, epoch).as_numpy_iterator())


def order_of(epoch: list[tuple[Any, Any, Any]]) -> list[int]:
    return [int(weight) for _, _, weights in epoch for weight in weights]


def test_a_split_is_read_in_the_order_of_its_records(sealed: Callable[..., Shards]) -> None:
    split = batches.read_split(sealed([record(n) for n in (3, 1, 2)], [record(n) for n in (7, 0)]), "train")
    assert len(split) == 5
    assert (split.pixels.shape, split.pixels.dtype) == ((5, SIZE, SIZE, 1), np.uint8)
    assert [set(np.unique(square)) for square in split.pixels] == [{3}, {1}, {2}, {7}, {0}]
    assert (split.abnormal.tolist(), split.abnormal.dtype) == ([1, 1, 0, 1, 0], np.int64)
    assert split.image.tolist() == [f"übersicht/image{n}.png" for n in (3, 1, 2, 7, 0)]
    assert split.study.tolist() == ["study1", "study0", "study1", "study3", "study0"]
    assert split.patient.tolist() == ["patient00000"] * 3 + ["patient00001", "patient00000"]
    assert split.body_part.tolist() == ["hand", "finger", "forearm", "elbow", "elbow"]


def test_pixels_lie_row_by_row(sealed: Callable[..., Shards]) -> None:
    square = np.arange(SIZE * SIZE, dtype=np.uint8)
    split = batches.read_split(sealed([record(0, pixels=square.tobytes())]), "train")
    assert (split.pixels[0, :, :, 0] == square.reshape(SIZE, SIZE)).all()


def test_an_empty_split_is_read(sealed: Callable[..., Shards]) -> None:
    split = batches.read_split(sealed(), "train")
    assert len(split) == 0
    assert (split.abnormal.dtype.kind, split.study.dtype.kind) == ("i", "U")


def test_what_is_packed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cores(1, monkeypatch)
    files = archive(images(train=30, valid=10))
    path = write_zip(tmp_path / "a.zip", files)
    valid = prove(manifest(path, tmp_path / "manifest"), tmp_path / "valid")
    shards = pack(path, valid, tmp_path / "shards")
    table = valid.table.set_index("image")
    for name in ("train", "tuning", "test"):
        split = batches.read_split(shards, name)
        rows = table.loc[split.image]
        assert set(rows.index) == set(table.index[table["split"] == name])
        for image, square in zip(split.image, split.pixels[..., 0], strict=True):
            assert (square == fit(png.decode(files[image]).grey, 32)).all()
        assert split.abnormal.tolist() == rows["abnormal"].tolist()
        assert split.body_part.tolist() == rows["body_part"].tolist()
        assert split.study.tolist() == rows["study"].tolist()
        assert split.patient.tolist() == rows["patient"].tolist()
        if name == "train":
            neighbours = (split.study[1:] == split.study[:-1]).sum()
            assert neighbours < (np.sort(split.study)[1:] == np.sort(split.study)[:-1]).sum() / 3
        else:
            assert split.image.tolist() == sorted(split.image)


@pytest.mark.parametrize("residence", ["memory", "disk"])
def test_a_split_is_the_same_wherever_its_pixels_are(sealed: Callable[..., Shards], residence: Any) -> None:
    shards = sealed(*([record(n) for n in range(first, first + 9)] for first in (0, 9, 18)))
    split, held = batches.read_split(shards, "train", residence), batches.read_split(shards, "train", "memory")
    some = np.random.default_rng(0).integers(0, 27, 50)
    assert split.pixels.shape == held.pixels.shape
    assert (split.pixels[some] == held.pixels[some]).all()
    assert split.image.tolist() == held.image.tolist()


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 2**32), epoch=st.integers(0, 999), batch_size=st.integers(3, 40))
def test_batches_are_the_same_byte_for_byte_in_memory_and_on_disk(
    both: dict[str, Split], seed: int, epoch: int, batch_size: int
) -> None:
    weights = np.arange(len(both["disk"]), dtype=np.float32)
    drawn = {name: epoch_of(split, batch_size, seed, epoch, weights) for name, split in both.items()}
    raw = {name: [[array.tobytes() for array in batch] for batch in epoch] for name, epoch in drawn.items()}
    assert raw["memory"] == raw["disk"]
    assert sorted(weight for _, _, drawn_weights in drawn["disk"] for weight in drawn_weights) == list(
        range(len(weights))
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    """The same split, in memory and on disk."""
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        folder = tmp_path_factory.mktemp("both")
        path = write_zip(folder / "a.zip", archive(images(train=30, valid=4)))
        valid = prove(manifest(path, folder / "manifest"), folder / "valid")
        shards = pack(path, valid, folder / "shards", images_per_shard=4)
    return {name: batches.read_split(shards, "train", name) for name in ("memory", "disk")}


def test_an_epoch_can_be_gone_on_with_at_any_step() -> None:
    split, weights = split_of(23), np.arange(23, dtype=np.float32)
    whole = order_of(epoch_of(split))
    for step in range(5):
        rest = batches.training_batches(split, weights, 5, 1, 0).skip(step).as_numpy_iterator()
        assert order_of(list(rest)) == whole[5 * step :]


def test_pixels_in_order_are_those_of_the_split() -> None:
    split = split_of(23)
    drawn = list(batches.in_order(split, 5).as_numpy_iterator())
    assert [len(batch) for batch in drawn] == [5, 5, 5, 5, 3]
    assert (np.concatenate(drawn) == split.pixels).all()


def test_more_files_than_may_be_open_are_read(sealed: Callable[..., Shards], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "HANDLES", 2)
    split = batches.read_split(sealed(*([record(n)] for n in range(5))), "train", "disk")
    assert split.pixels[np.array([4, 0, 2, 4])][:, 0, 0, 0].tolist() == [4, 0, 2, 4]


@pytest.mark.parametrize(("left", "where"), [(64 * 6, "in memory"), (64 * 6 - 1, "on disk")])
def test_a_split_is_held_in_memory_if_half_of_what_is_free_suffices(
    sealed: Callable[..., Shards], monkeypatch: pytest.MonkeyPatch, left: int, where: str
) -> None:
    monkeypatch.setattr(memory, "available", lambda: left)
    assert batches.read_split(sealed([record(n) for n in range(3)]), "train").residence == where


@pytest.mark.parametrize("residence", ["memory", "disk"])
def test_a_pixel_that_changed_is_refused_with_its_file_and_image(sealed: Callable[..., Shards], residence: Any) -> None:
    shards = sealed([record(n) for n in range(3)], [record(n) for n in range(3, 6)])
    file = shards.files("train")[1]
    whole = bytearray(file.read_bytes())
    whole[int(shards.records()["offset"][4]) + 20] ^= 1
    file.write_bytes(whole)
    with pytest.raises(DataRefused, match=rf"{file.name}: übersicht/image4.png: its pixels changed") as refusal:
        batches.read_split(shards, "train", residence).pixels[np.arange(6)]
    assert "\n" not in str(refusal.value)


def test_a_pixel_that_changes_while_batches_are_drawn_is_refused_in_our_words(sealed: Callable[..., Shards]) -> None:
    shards = sealed([record(n) for n in range(8)])
    split = batches.read_split(shards, "train", "disk")
    file = shards.files("train")[0]
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataRefused, match=r"übersicht/image7\.png: its pixels changed"), batches.reading(split):
        epoch_of(split, weights=np.ones(8, np.float32))


def test_a_file_that_is_gone_is_refused(sealed: Callable[..., Shards]) -> None:
    shards = sealed([record(n) for n in range(3)])
    shards.files("train")[0].unlink()
    with pytest.raises(DataRefused, match=r"train-00000-of-00001\.tfrecord: No such file"):
        batches.read_split(shards, "train")


FOREIGN: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "a record more": lambda table: pd.concat([table, table.tail(1)]),
    "a record less": lambda table: table.head(2),
    "another label": lambda table: table.assign(abnormal=1 - table["abnormal"]),
    "another image": lambda table: table.assign(sha256=table["sha256"].str.replace("0", "1")),
    "another split": lambda table: table.assign(split="test"),
    "another file": lambda table: table.assign(file="train-00001-of-00002.tfrecord"),
    "a column less": lambda table: table.drop(columns="sha256"),
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_a_table_of_other_records_is_refused(
    sealed: Callable[..., Shards], change: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    shards = sealed([record(n) for n in range(3)], change=change)
    with pytest.raises(DataRefused, match=r"records\.parquet: ") as refusal:
        batches.read_split(shards, "train")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("part", PAPER)
def test_images_are_weighted_as_in_the_paper(part: str) -> None:
    _, _, of_abnormal, of_normal = PAPER[part]
    weights = batches.loss_weights(np.array([1, 0, 1]), np.array([part] * 3), PARTS)
    assert weights.dtype == np.float32
    assert weights == pytest.approx([of_abnormal, of_normal, of_abnormal], abs=5e-5)


def test_each_image_has_the_weight_of_its_own_body_part() -> None:
    weights = batches.loss_weights(np.array([1, 1, 0]), np.array(["hand", "wrist", "hand"]), PARTS)
    assert weights == pytest.approx([0.7323, 0.5912, 0.2677], abs=5e-5)


@pytest.mark.parametrize("part", PAPER)
def test_both_labels_of_a_body_part_count_alike(part: str) -> None:
    abnormal = np.repeat([1, 0], PAPER[part][:2])
    weights = batches.loss_weights(abnormal, np.full(len(abnormal), part), PARTS)
    assert weights[abnormal == 1].sum() == pytest.approx(weights[abnormal == 0].sum(), rel=1e-3)


def test_weights_that_let_no_image_count_are_refused() -> None:
    parts = {"hand": PartFacts(normal=3, abnormal=0), "wrist": PartFacts(normal=0, abnormal=2)}
    with pytest.raises(DataRefused, match="Set class_weighting of the candidates to none"):
        batches.loss_weights(np.array([0, 1]), np.array(["hand", "wrist"]), parts)


@pytest.mark.parametrize("part", PARTS)
def test_an_offset_is_the_log_of_the_ratio_of_the_weights(part: str) -> None:
    normal, abnormal = batches.loss_weights(np.array([0, 1]), np.array([part] * 2), PARTS).tolist()
    found = offsets.of_training(PARTS, "body_part").body_part[part]
    assert found == pytest.approx(math.log(abnormal / normal), abs=1e-6)


def test_a_weighted_loss_shifts_the_logits_that_it_learns_by_the_offsets() -> None:
    random = np.random.default_rng(3)
    part = np.repeat(["hand", "wrist"], 20_000)
    shift = np.where(part == "hand", -1.5, 0.5)
    evidence = random.normal(size=len(part))
    abnormal = (random.random(len(part)) < 1 / (1 + np.exp(-(shift + 2 * evidence)))).astype(np.int64)
    counts = {
        name: PartFacts(normal=int(np.sum(abnormal[part == name] == 0)), abnormal=int(np.sum(abnormal[part == name])))
        for name in ("hand", "wrist")
    }
    design = np.stack([part == "hand", part == "wrist", evidence], axis=1).astype(float)
    network = oracle.LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8)
    network.fit(design, abnormal, sample_weight=batches.loss_weights(abnormal, part, counts))
    learned = dict(zip(("hand", "wrist"), network.coef_[0], strict=False))
    found = offsets.of_training(counts, "body_part").body_part
    assert {name: learned[name] - found[name] for name in found} == pytest.approx({"hand": -1.5, "wrist": 0.5}, abs=0.1)


@pytest.mark.parametrize(("count", "batch_size"), [(23, 5), (20, 5), (3, 8), (1, 1)])
def test_an_epoch_holds_every_image_once(count: int, batch_size: int) -> None:
    epoch = epoch_of(split_of(count), batch_size)
    assert sorted(order_of(epoch)) == list(range(count))
    assert [len(pixels) for pixels, _, _ in epoch[:-1]] == [batch_size] * (len(epoch) - 1)


def test_a_batch_has_the_types_and_shapes_that_a_network_takes() -> None:
    pixels, labels, weights = epoch_of(split_of(23))[0]
    assert (pixels.shape, pixels.dtype) == ((5, SIZE, SIZE, 1), np.uint8)
    assert (labels.shape, labels.dtype) == ((5, 1), np.float32)
    assert (weights.shape, weights.dtype) == ((5,), np.float32)


def test_the_shapes_are_known_before_a_batch_is_drawn() -> None:
    dataset = batches.training_batches(split_of(7), np.ones(7, np.float32), 2, 1, 0)
    assert [spec.shape.as_list() for spec in dataset.element_spec] == [[None, SIZE, SIZE, 1], [None, 1], [None]]
    assert int(dataset.cardinality()) == 4


def test_pixels_label_and_weight_stay_together() -> None:
    for pixels, labels, weights in epoch_of(split_of(50)):
        assert (pixels == weights[:, None, None, None]).all()
        assert (labels[:, 0] == weights % 2).all()


def test_seed_and_epoch_alone_decide_the_order() -> None:
    orders = {key: order_of(epoch_of(split_of(60), 7, *key)) for key in ((1, 0), (1, 1), (2, 0), (2, 1))}
    assert len({tuple(order) for order in orders.values()}) == 4
    assert order_of(epoch_of(split_of(60), 13, seed=1, epoch=1)) == orders[1, 1]
    assert orders[1, 0] != sorted(orders[1, 0])


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_the_shares_of_a_batch_weigh_what_the_batch_weighs(sealed: Callable[..., Shards], workers: int) -> None:
    split = batches.read_split(sealed([record(n) for n in range(11)]), "train")
    weights = np.linspace(0.1, 0.9, len(split), dtype=np.float32)
    whole = [batch[-1].mean() for batch in batches.training_batches(split, weights, 4, 1, 1).as_numpy_iterator()]
    shares = [
        [batch[-1].mean() for batch in batches.training_batches(split, weights, 4, 1, 1, share).as_numpy_iterator()]
        for share in ((rank, workers) for rank in range(workers))
    ]
    # Of batches of 4, 4 and 3 images: the mean of the workers' means is what their gradients are of.
    assert np.mean(shares, axis=0) == pytest.approx(whole, rel=1e-6)
