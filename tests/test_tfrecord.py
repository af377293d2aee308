from pathlib import Path

import google_crc32c
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components import tfrecord

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


def test_a_number_that_is_no_int64_is_refused() -> None:
    with pytest.raises(ValueError, match="range"):
        tfrecord.example({"abnormal": 2**63})


def test_the_checksum_is_computed_by_the_compiled_library() -> None:
    """The library falls back to Python without a word, and is a thousand times slower then."""
    assert google_crc32c.implementation == "c"
