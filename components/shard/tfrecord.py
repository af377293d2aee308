"""TFRecord files of `tf.train.Example`, written without TensorFlow.

TensorFlow would cost every worker ten seconds and 600 MB, only to write a length, a checksum and a small protocol
buffer. The bytes are those of `tf.io.TFRecordWriter` and `tf.train.Example`; a test compares them.
"""

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

# tensorflow/core/lib/hash/crc32c.h: a stored checksum is rotated, then this is added.
_MASK_DELTA = 0xA282EAD8

# Bytes before a record (its length, and the checksum of the length) and after it (its checksum).
_HEAD, _TAIL = 12, 4
# Tags of fields 1 and 2, length-delimited: `number << 3 | 2` in the wire format of protocol buffers. The fields of
# Example and Features, keys and values of a map, the list of a Feature and its values all have one of these tags.
_FIRST, _SECOND = 0x0A, 0x12

Value = bytes | int


class Damaged(ValueError):
    """A TFRecord file or an example is damaged."""


class Written(NamedTuple):
    """A file as it was written."""

    bytes: int
    sha256: str
    starts: tuple[int, ...]
    """Position of each record in the file."""


def example(features: Mapping[str, Value]) -> bytes:
    """Serialise a `tf.train.Example`. The same features give the same bytes.

    Args:
        features: bytes become a BytesList with one value, integers an Int64List with one value.
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
    """The first value of each feature of a serialised `tf.train.Example`.

    Raises:
        Damaged: not an example, or a feature with other values than bytes and integers.
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
    """Position of a feature's bytes in a serialised example. With it they can be read without the rest.

    Raises:
        KeyError: no such feature, or its value is not bytes.
        Damaged: not an example.
    """
    try:
        return _place(record, name)
    except IndexError as error:
        raise Damaged("not an example: it ends too early") from error


def _place(record: bytes, name: str) -> int:
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
    """The records of a file, each with its position. Checksums are compared.

    Raises:
        Damaged: a checksum differs, or the file ends in the middle of a record.
    """
    with path.open("rb") as file:
        start, size = _HEAD, os.fstat(file.fileno()).st_size
        while head := file.read(_HEAD):
            if len(head) < _HEAD or _checksum(head[:8]) != head[8:]:
                raise Damaged(f"the length of the record at byte {start - _HEAD:,} is damaged")
            (length,) = struct.unpack("<Q", head[:8])
            if length > size - start - _TAIL:
                raise Damaged(f"the record at byte {start:,} has {length:,} bytes, and the file ends before")
            record, tail = file.read(length), file.read(_TAIL)
            if _checksum(record) != tail:
                raise Damaged(f"the record at byte {start:,} is damaged")
            yield start, record
            start += length + _TAIL + _HEAD


def _field(message: bytes, at: int, tag: int) -> tuple[int, int]:
    """Position and length of the content of a length-delimited field."""
    if message[at] != tag:
        raise KeyError(f"tag {message[at]}")
    length = shift = 0
    while True:
        at += 1
        if shift > 63:
            raise Damaged("not an example: a length of more than 64 bits")
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
