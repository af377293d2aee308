"""TFRecord files of `tf.train.Example`, written without TensorFlow.

Importing TensorFlow costs every worker ten seconds and 600 MB to write what is a length, a checksum and a
small protocol buffer. The bytes are those of `tf.io.TFRecordWriter` and `tf.train.Example`, and it is
TensorFlow that reads them; a test compares.
"""

import struct
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# tensorflow/core/lib/hash/crc32c.h: a checksum that is stored beside what it covers is rotated and offset.
_MASK_DELTA = 0xA282EAD8

Value = bytes | int


def example(features: Mapping[str, Value]) -> bytes:
    """A serialised `tf.train.Example`, the same bytes for the same features.

    Args:
        features: bytes become a BytesList of one, integers an Int64List of one.
    """
    message = _example_class()()
    for name, value in features.items():
        feature = message.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.int64_list.value.append(value)
    serialised: bytes = message.SerializeToString(deterministic=True)
    return serialised


def write(path: Path, records: Iterable[bytes]) -> None:
    """Write a TFRecord file: per record its length, the length's checksum, the record, its checksum."""
    with path.open("wb") as file:
        for record in records:
            length = struct.pack("<Q", len(record))
            file.write(length + _checksum(length) + record + _checksum(record))


def _checksum(payload: bytes) -> bytes:
    crc = google_crc32c.value(payload)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF)


@cache
def _example_class() -> Any:
    """`tensorflow.Example` after tensorflow/core/example/{example,feature}.proto."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="mura/example.proto", package="mura", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, int, str | None]) -> Any:
        made = file.message_type.add(name=name)
        for field_name, number, label, kind, type_name in fields:
            made.field.add(name=field_name, number=number, label=label, type=kind, type_name=type_name)
        return made

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message("BytesList", ("value", 1, many, field.TYPE_BYTES, None))
    message("Int64List", ("value", 1, many, field.TYPE_INT64, None))
    feature = message(
        "Feature",
        ("bytes_list", 1, one, field.TYPE_MESSAGE, ".mura.BytesList"),
        ("int64_list", 3, one, field.TYPE_MESSAGE, ".mura.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for member in feature.field:
        member.oneof_index = 0
    features = message("Features", ("feature", 1, many, field.TYPE_MESSAGE, ".mura.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=one, type=field.TYPE_MESSAGE, type_name=".mura.Feature")
    message("Example", ("features", 1, one, field.TYPE_MESSAGE, ".mura.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("mura.Example"))
