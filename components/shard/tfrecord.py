"""TFRecord files of `tf.train.Example`, written without TensorFlow.

Importing TensorFlow costs every worker ten seconds and 600 MB to write what is a length, a checksum and a
small protocol buffer. The bytes are those of `tf.io.TFRecordWriter` and `tf.train.Example`, and it is
TensorFlow that reads them; a test compares.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

# tensorflow/core/lib/hash/crc32c.h: a checksum that is stored beside what it covers is rotated and offset.
_MASK_DELTA = 0xA282EAD8

# A record's length and that length's checksum come before it, its own checksum after it.
_HEAD, _TAIL = 12, 4
# The only field of Example and of Features, a map's key and value, a Feature's list and the list's first value are all
# fields 1 or 2 and length-delimited: `number << 3 | 2` in the wire format of protocol buffers.
_FIRST, _SECOND = 0x0A, 0x12

Value = bytes | int


class Damaged(ValueError):
    """A file is no longer the TFRecord file, or a record no longer the example, that was written."""


class Written(NamedTuple):
    """A file as it was written."""

    bytes: int
    sha256: str
    starts: tuple[int, ...]
    """Where in the file each record begins."""


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


def features(record: bytes) -> dict[str, Value]:
    """What a serialised `tf.train.Example` holds; the first value of each feature.

    Raises:
        Damaged: it is not an example, or holds something else than bytes and integers.
    """
    try:
        message = _example_class().FromString(record)
        found = message.features.feature
        return {
            name: (found[name].bytes_list if found[name].HasField("bytes_list") else found[name].int64_list).value[0]
            for name in found
        }
    except (DecodeError, IndexError) as error:
        raise Damaged(f"not an example of bytes and integers ({error})") from error


def place(record: bytes, name: str) -> int:
    """Where in a serialised example the bytes of a feature begin, so that they can be read without the rest.

    Raises:
        KeyError: it has no such feature of bytes.
    """
    key = name.encode()
    at, _ = _field(record, 0, _FIRST)
    while at < len(record):
        entry, size = _field(record, at, _FIRST)
        at, length = _field(record, entry, _FIRST)
        if record[at : at + length] == key:
            at += length
            for tag in (_SECOND, _FIRST, _FIRST):
                at, _ = _field(record, at, tag)
            return at
        at = entry + size
    raise KeyError(name)


def write(path: Path, records: Iterable[bytes]) -> Written:
    """Write a TFRecord file: per record its length, the length's checksum, the record, its checksum."""
    digest, starts, size = hashlib.sha256(), [], 0
    with path.open("wb") as file:
        for record in records:
            length = struct.pack("<Q", len(record))
            starts.append(size + _HEAD)
            for piece in (length + _checksum(length), record, _checksum(record)):
                file.write(piece)
                digest.update(piece)
            size += _HEAD + len(record) + _TAIL
    return Written(size, digest.hexdigest(), tuple(starts))


def read(path: Path) -> Iterator[tuple[int, bytes]]:
    """The records of a file and where each begins; both checksums of each are compared.

    Raises:
        Damaged: a checksum differs, or the file ends within a record.
    """
    with path.open("rb") as file:
        start = _HEAD
        while head := file.read(_HEAD):
            if len(head) < _HEAD or _checksum(head[:8]) != head[8:]:
                raise Damaged(f"the length of the record at byte {start - _HEAD:,} is damaged")
            (length,) = struct.unpack("<Q", head[:8])
            record, tail = file.read(length), file.read(_TAIL)
            if _checksum(record) != tail:
                raise Damaged(f"the record at byte {start:,} is damaged")
            yield start, record
            start += length + _TAIL + _HEAD


def _field(message: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where a length-delimited field's content begins, and its length."""
    if message[at] != tag:
        raise KeyError(f"tag {message[at]}")
    length = shift = 0
    while True:
        at += 1
        length |= (message[at] & 0x7F) << shift
        shift += 7
        if not message[at] & 0x80:
            return at + 1, length


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
