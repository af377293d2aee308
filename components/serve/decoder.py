"""A process that decodes pictures: `python -m components.serve.decoder`, started by the server.

Pictures of strangers meet native decoders here. The process has a limit of memory, and no output but its pipe: what
libraries print may repeat an element of a DICOM file.
"""

import os
import resource
import sys
from typing import Any

import cv2

from components.base.errors import classified
from components.serve import frames
from components.xray import body_parts, picture, square
from components.xray.grey_levels import grey_levels
from components.xray.picture import Picture
from components.xray.png import BadImage, Grey

MEMORY = 4_000_000_000
"""Bytes of addresses. The largest picture takes a quarter."""
STATISTICS = ("mean", "std", "low", "median", "high")
"""Of the grey levels of a view, as manifests have them."""


def main() -> None:
    """Decode what comes on stdin until it ends. Answers go to what was stdout."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    # A core would hold the picture.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers.write(frames.message({"ready": True}))
    answers.flush()
    while True:
        try:
            asked, (content,) = frames.read(sys.stdin.buffer)
        except EOFError:
            return
        answers.write(_answer(content, asked))
        answers.flush()


def _answer(content: bytes, asked: dict[str, Any]) -> bytes:
    try:
        return _decoded(picture.read(content), asked["size"], asked["picture"])
    except BadImage as error:
        # What a command line can be told is no help here.
        return frames.message({"refused": str(error).partition(": give --")[0]})
    except Exception as error:
        if classified(error) is None:
            # A bug in a decoder. Its message may repeat a value of the file.
            return frames.message({"refused": f"a picture that cannot be decoded ({type(error).__name__})"})
        return frames.message({"failed": "the memory is too small for a picture"})


def _decoded(found: Picture, size: int, side: int) -> bytes:
    """What the server needs of a picture.

    Args:
        found: it.
        size: side of the square that the network sees, pixels.
        side: side of the square for people, pixels; 0 for none.
    """
    height, width = found.grey.shape
    levels = grey_levels(found.grey)
    said = {
        "kind": found.kind,
        "width": width,
        "height": height,
        "grey": {name: getattr(levels, name) for name in STATISTICS},
        "notes": list(found.notes),
        "study": found.study_uid,
        # The element may hold a name. Terms of the standard are none.
        "body_part": body_parts.of_dicom(found.body_part),
    }
    return frames.message(said, square.fit(found.grey, size).tobytes(), _png(found.grey, side) if side else b"")


def _png(grey: Grey, side: int) -> bytes:
    done, encoded = cv2.imencode(".png", square.fit(grey, side))
    assert done, "OpenCV encodes every uint8 image"
    return encoded.tobytes()


if __name__ == "__main__":
    main()
