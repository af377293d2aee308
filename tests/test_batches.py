from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components import batches, tfrecord
from components import images as pictures
from components.artifacts.shards import PartFacts, Shards, ShardsFacts, SplitFacts
from components.batches import Split
from components.errors import DataRefused

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


def record(number: int, **changes: Any) -> bytes:
    """An image whose every pixel says its number."""
    features = {
        "pixels": bytes([number] * SIZE * SIZE),
        "image": f"übersicht/image{number}.png".encode(),
        "study": f"study{number // 2}".encode(),
        "patient": f"patient{number // 4:05d}".encode(),
        "body_part": list(PAPER)[number % len(PAPER)].encode(),
        "abnormal": number % 2,
    }
    return tfrecord.example({name: value for name, value in (features | changes).items() if value is not None})


@pytest.fixture
def sealed(tmp_path: Path) -> Callable[..., Shards]:
    """Shards of one split, whose files hold these records."""

    def seal(*files: list[bytes], images: int | None = None) -> Shards:
        tmp_path.joinpath("shards").mkdir()
        names = tuple(f"train-{number:05d}-of-{len(files):05d}.tfrecord" for number in range(len(files)))
        for name, records in zip(names, files, strict=True):
            tfrecord.write(tmp_path / "shards" / name, records)
        counts = tuple(map(len, files))
        split = SplitFacts(
            images=sum(counts) if images is None else images,
            studies=1,
            patients=1,
            abnormal=1,
            files=names,
            records=counts,
            digest="",
        )
        facts = ShardsFacts(image_size=SIZE, data_digest="", splits={"train": split}, train_images=PARTS)
        return Shards.seal(tmp_path / "shards", facts)

    return seal


def split_of(count: int) -> Split:
    """A split in which pixels, label and weight all follow from the image's number."""
    numbers = np.arange(count)
    pixels = np.broadcast_to(numbers[:, None, None, None].astype(np.uint8), (count, SIZE, SIZE, 1)).copy()
    names = np.array([f"image{number}" for number in numbers], np.str_)
    return Split(pixels, numbers % 2, names, names, names, names)


def epoch_of(split: Split, batch_size: int = 5, seed: int = 1, epoch: int = 0) -> list[tuple[Any, Any, Any]]:
    weights = np.arange(len(split), dtype=np.float32)
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
    pixels = np.arange(SIZE * SIZE, dtype=np.uint8)
    split = batches.read_split(sealed([record(0, pixels=pixels.tobytes())]), "train")
    assert (split.pixels[0, :, :, 0] == pixels.reshape(SIZE, SIZE)).all()


def test_more_records_than_are_read_at_once_are_read(sealed: Callable[..., Shards]) -> None:
    split = batches.read_split(sealed([record(n % 256) for n in range(600)]), "train")
    assert (split.pixels[:, 0, 0, 0] == np.arange(600) % 256).all()


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
            assert (square == pictures.fit(pictures.decode(files[image]).grey, 32)).all()
        assert split.abnormal.tolist() == rows["abnormal"].tolist()
        assert split.body_part.tolist() == rows["body_part"].tolist()
        assert split.study.tolist() == rows["study"].tolist()
        assert split.patient.tolist() == rows["patient"].tolist()
        if name == "train":
            neighbours = (split.study[1:] == split.study[:-1]).sum()
            assert neighbours < (np.sort(split.study)[1:] == np.sort(split.study)[:-1]).sum() / 3
        else:
            assert split.image.tolist() == sorted(split.image)


def harm(path: Path, place: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[place] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize("place", [0, 9, 40, -40, -1], ids=["length", "its checksum", "record", "end", "checksum"])
def test_a_flipped_bit_is_refused_by_split(sealed: Callable[..., Shards], place: int) -> None:
    shards = sealed([record(n) for n in range(3)])
    harm(shards.files("train")[0], place)
    with pytest.raises(
        DataRefused, match=r"shards: train cannot be read to its end .*Run `mura shard` again"
    ) as refusal:
        batches.read_split(shards, "train")
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_cut_short_or_gone_is_refused(sealed: Callable[..., Shards]) -> None:
    shards = sealed([record(n) for n in range(3)])
    file = shards.files("train")[0]
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataRefused, match="train cannot be read to its end"):
        batches.read_split(shards, "train")
    file.unlink()
    with pytest.raises(DataRefused, match="train cannot be read to its end"):
        batches.read_split(shards, "train")


@pytest.mark.parametrize("said", [0, 2, 4, 300])
def test_more_or_fewer_records_than_the_index_says_are_refused(sealed: Callable[..., Shards], said: int) -> None:
    shards = sealed([record(n) for n in range(3)], images=said)
    with pytest.raises(DataRefused, match=f"train holds 3 records, its index says {said}"):
        batches.read_split(shards, "train")


WRONG: dict[str, dict[str, Any]] = {
    "too few pixels": {"pixels": bytes(SIZE)},
    "pixels of two": {"pixels": bytes(2 * SIZE * SIZE)},
    "no label": {"abnormal": None},
    "a label that is a word": {"abnormal": b"1"},
    "a name that is not UTF-8": {"study": b"\xff"},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_record_of_another_kind_is_refused(sealed: Callable[..., Shards], change: dict[str, Any]) -> None:
    shards = sealed([record(0), record(1, **change)])
    with pytest.raises(DataRefused, match="train cannot be read to its end") as refusal:
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
