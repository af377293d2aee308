"""Messages between the server and its decoders: a JSON object, and bytes behind it.

No pickle: a decoder that a damaged picture has taken over could send one.
"""

import json
import struct
from typing import IO, Any

HEAD = struct.Struct(">I")
"""Bytes of the JSON object, which comes next. Its `sizes` says how many bytes each of what follows has."""


def message(said: dict[str, Any], *parts: bytes) -> bytes:
    """A message.

    Args:
        said: JSON-serialisable, without `sizes`.
        parts: what follows.
    """
    text = json.dumps(said | {"sizes": [len(part) for part in parts]}).encode()
    return b"".join([HEAD.pack(len(text)), text, *parts])


def read(file: IO[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """The next message.

    Args:
        file: a pipe.

    Raises:
        EOFError: the other side has ended.
    """
    said = json.loads(_exactly(file, HEAD.unpack(_exactly(file, HEAD.size))[0]))
    return said, [_exactly(file, size) for size in said["sizes"]]


def _exactly(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError
    return content
