"""One member of a zip, as both of its headers describe it.

`zipfile` believes the table of contents: it compares the name of the second header, which stands before the content,
and nothing else of it. It unpacks up to a gigabyte at once, and ignores what lies between two members. Another program
that reads the same zip from its start would see other members than we do.
"""

import struct
import zipfile
import zlib
from itertools import product

from components.archive.zip_safety import Readable
from components.base.errors import DataRefused, out_of_memory

# Signature, version, flags, method, time, date, CRC-32, packed size, size, length of name and of extra fields.
_HEADER = struct.Struct("<4s5H3L2H")
_ENCRYPTED, _STREAMED = 1, 8
# The size is in an extra field.
_IN_EXTRA = 0xFFFFFFFF
# Packed bytes for one byte, and for any number. Writers that flush often need more than deflate's least.
_PACKED, _LEAST_PACKED = 2, 0x10000


class Wrong(ValueError):
    """A member cannot be read."""


def check_entry(entry: zipfile.ZipInfo) -> None:
    """Check that a member can be read in bounded memory.

    Raises:
        DataRefused: it is encrypted, its compression method is not a common one, or it is packed to far more bytes.
    """
    if entry.flag_bits & _ENCRYPTED:
        raise DataRefused(f"{entry.filename}: encrypted.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataRefused(f"{entry.filename}: compression method {entry.compress_type}, expected stored or deflated.")
    if entry.compress_size > _PACKED * entry.file_size + _LEAST_PACKED:
        raise DataRefused(
            f"{entry.filename}: {entry.compress_size:,} packed bytes cannot be the {entry.file_size:,} that the table "
            "of contents declares."
        )


def read(file: Readable, entry: zipfile.ZipInfo, end: int) -> bytes:
    """The content of a member.

    Args:
        file: the zip.
        entry: as the table of contents has it; passed by `check_entry`.
        end: where the next member begins, or the table of contents.

    Raises:
        Wrong: it is damaged, or the header before it says something else.
    """
    name = entry.orig_filename.encode()
    file.seek(entry.header_offset)
    head = file.read(_HEADER.size + len(name))
    if len(head) < _HEADER.size + len(name) or not head.startswith(b"PK\3\4"):
        raise Wrong("there is no header where the table of contents says")
    _, _, flags, method, _, _, crc, packed_size, size, name_bytes, extra_bytes = _HEADER.unpack_from(head)
    if name_bytes != len(name) or head[_HEADER.size :] != name:
        raise Wrong("the header before it has another name than the table of contents")
    if method != entry.compress_type or (flags ^ entry.flag_bits) & _ENCRYPTED:
        raise Wrong(f"the header before it says method {method}, the table of contents {entry.compress_type}")
    rest = file.read(extra_bytes + entry.compress_size)
    content = _unpacked(rest[extra_bytes:], entry)
    said = ((crc, entry.CRC), (packed_size, entry.compress_size), (size, entry.file_size))
    streamed = flags & _STREAMED
    for before, in_table in said:
        # Who streams knows CRC and sizes only afterwards, and writes zeros first.
        if before != in_table and not (streamed and before == 0) and before != _IN_EXTRA:
            raise Wrong("the header before it has another CRC or size than the table of contents")
    _check_gap(file, entry, end - entry.header_offset - len(head) - len(rest), bool(streamed))
    return content


def _unpacked(packed: bytes, entry: zipfile.ZipInfo) -> bytes:
    """The content. The CRC-32 is compared."""
    if entry.compress_type == zipfile.ZIP_STORED:
        content, ends = packed, True
    else:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = stream.decompress(packed, entry.file_size + 1)
        except zlib.error as error:
            if out_of_memory(error):
                raise MemoryError from error
            raise Wrong(str(error)) from error
        ends = stream.eof and not stream.unused_data
    if len(content) < entry.file_size:
        raise Wrong(f"{len(content):,} bytes, but the table of contents declares {entry.file_size:,}")
    if len(content) > entry.file_size or not ends:
        raise Wrong(f"more than the {entry.file_size:,} bytes of the table of contents, so the CRC is of a part")
    if zlib.crc32(content) != entry.CRC:
        raise Wrong("wrong CRC-32")
    return content


def _check_gap(file: Readable, entry: zipfile.ZipInfo, gap: int, streamed: bool) -> None:
    """Check what lies behind a member: nothing, zeros for alignment, or the descriptor of one that was streamed."""
    if gap < 0:
        raise Wrong("it shares its bytes with the next member")
    between = file.read(min(gap, 0x20000))
    if streamed:
        sizes = entry.CRC, entry.compress_size, entry.file_size
        for signature, form in product((b"PK\7\x08", b""), ("<L2Q", "<3L")):
            if form == "<3L" and max(sizes) > _IN_EXTRA:
                continue
            if between.startswith(descriptor := signature + struct.pack(form, *sizes)):
                between = between[len(descriptor) :]
                break
    if gap > 0x20000 or between.strip(b"\0"):
        raise Wrong(f"{gap:,} bytes are hidden behind it")
