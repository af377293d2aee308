import hashlib
from pathlib import Path

import google_crc32c
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.shard import tfrecord

VALUES = st.one_of(st.binary(max_size=300), st.integers(-(2**63), 2**63 - 1))
FEATURES = st.dictionaries(st.text(max_size=20), VALUES, min_size=1, max_size=8)


def tensorflows(features: dict[str, bytes | int]) -> bytes:
    """The same features, as TensorFlow's own classes write them."""
    made = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        for name, value in features.items()
    }
    whole = tf.train.Example(features=tf.train.Features(feature=made))
    serialised: bytes = whole.SerializeToString(deterministic=True)
    return serialised


@settings(deadline=None)
@given(features=FEATURES)
@example(features={"pixels": bytes(range(256)) * 400, "image": "übersicht.png".encode(), "abnormal": 1})
@example(features={"": b"", "zero": 0, "least": -(2**63), "most": 2**63 - 1})
def test_an_example_is_byte_for_byte_tensorflows(features: dict[str, bytes | int]) -> None:
    assert tfrecord.example(features) == tensorflows(features)


@settings(deadline=None)
@given(features=FEATURES)
def test_the_order_of_the_features_does_not_show(features: dict[str, bytes | int]) -> None:
    assert tfrecord.example(dict(reversed(features.items()))) == tfrecord.example(features)


@settings(max_examples=40, deadline=None)
@given(records=st.lists(st.binary(max_size=2000), max_size=5))
@example(records=[b"", b"x" * 100_000])
def test_a_file_is_byte_for_byte_tensorflows(tmp_path_factory: pytest.TempPathFactory, records: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("records", numbered=True)
    tfrecord.write(folder / "ours.tfrecord", records)
    with tf.io.TFRecordWriter(str(folder / "theirs.tfrecord")) as writer:
        for record in records:
            writer.write(record)
    assert (folder / "ours.tfrecord").read_bytes() == (folder / "theirs.tfrecord").read_bytes()


def test_tensorflow_reads_what_was_written(tmp_path: Path) -> None:
    tfrecord.write(tmp_path / "a.tfrecord", (tfrecord.example({"pixels": bytes([n] * 9), "n": n}) for n in range(5)))
    features = {"pixels": tf.io.FixedLenFeature((), tf.string), "n": tf.io.FixedLenFeature((), tf.int64)}
    records = tf.data.TFRecordDataset(str(tmp_path / "a.tfrecord"))
    read = [tf.io.parse_single_example(record, features) for record in records]
    assert [(int(each["n"]), each["pixels"].numpy()) for each in read] == [(n, bytes([n] * 9)) for n in range(5)]


@settings(max_examples=40, deadline=None)
@given(records=st.lists(st.binary(max_size=2000), max_size=5))
def test_what_is_written_is_read_where_it_was_put(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("records", numbered=True) / "a.tfrecord"
    written = tfrecord.write(path, records)
    assert list(tfrecord.read(path)) == list(zip(written.starts, records, strict=True))
    assert (written.bytes, written.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


@settings(deadline=None)
@given(features=FEATURES)
@example(features={"": b"x", "pixels": bytes(200_000), "z": 1})
def test_features_are_read_and_found_where_they_lie(features: dict[str, bytes | int]) -> None:
    record = tfrecord.example(features)
    assert tfrecord.features(record) == features
    for name, value in features.items():
        if isinstance(value, bytes):
            start = tfrecord.place(record, name)
            assert record[start : start + len(value)] == value


@pytest.mark.parametrize("place", [0, 9, 40, -40, -1], ids=["length", "its checksum", "record", "end", "checksum"])
def test_a_flipped_bit_is_damage(tmp_path: Path, place: int) -> None:
    path = tmp_path / "a.tfrecord"
    tfrecord.write(path, [bytes(100)] * 3)
    whole = bytearray(path.read_bytes())
    whole[place] ^= 1
    path.write_bytes(whole)
    with pytest.raises(tfrecord.Damaged, match="at byte"):
        list(tfrecord.read(path))


@pytest.mark.parametrize("cut", [1, 4, 50, 110])
def test_a_file_that_ends_within_a_record_is_damaged(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.tfrecord"
    tfrecord.write(path, [bytes(100)] * 3)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(tfrecord.Damaged, match="at byte"):
        list(tfrecord.read(path))


@pytest.mark.parametrize("record", [b"\xff", b"\x0a\x05\x0a\x03\x0a\x01a"], ids=["no message", "no value"])
def test_what_is_no_example_is_damaged(record: bytes) -> None:
    with pytest.raises(tfrecord.Damaged, match="not an example"):
        tfrecord.features(record)


def test_a_number_that_is_no_int64_is_refused() -> None:
    with pytest.raises(ValueError, match="range"):
        tfrecord.example({"abnormal": 2**63})


def test_the_checksum_is_computed_by_the_compiled_library() -> None:
    """The library falls back to Python without a word, and is a thousand times slower then."""
    assert google_crc32c.implementation == "c"
