"""Facts of one image: file, pixels, hash. Workers import this module only, so it must not need pandas."""

import hashlib
from functools import partial
from typing import Any

from components.archive.archive import Archive
from components.base.errors import DataChanged, DataRefused, again
from components.xray import png
from components.xray.grey_levels import GreyLevels, grey_levels, pixels_sha256
from components.xray.signature import Signature, signature

FACTS = (
    *("problem", "bytes", "sha256", "width", "height", "mode", "channel_difference", "pixels_sha256"),
    *GreyLevels._fields,
    *Signature._fields,
)
"""Columns of the manifest that are known only when the image has been read."""


def missing() -> dict[str, Any]:
    """The facts of an image that is not in the archive."""
    return dict.fromkeys(FACTS) | {"problem": "missing from the archive"}


def read_images(archive: Archive, members: list[str]) -> list[dict[str, Any]]:
    """Read images in a worker process.

    Args:
        archive: reopened by this process.
        members: names of the images.

    Returns:
        FACTS of each image.

    Raises:
        DataChanged: an image was removed since the archive was listed.
        OutsideFailed: the disk, the memory or S3 failed.
    """
    mine = archive.reopen()
    mine.expect(members)
    return [dict.fromkeys(FACTS) | again(member, partial(_read_image, mine, member)) for member in members]


def _read_image(archive: Archive, member: str) -> dict[str, Any]:
    """What is to be known of an image. Only what its bytes are makes it a problem: errors of the system are raised."""
    try:
        content = archive.bytes_of(member)
    except KeyError:
        raise DataChanged(f"{member}: removed from {archive.name} while it was read. Run the step again.") from None
    except DataRefused as error:
        return {"problem": str(error)}
    file = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    try:
        grey, mode, channel_difference = png.decode(content)
    except png.BadImage as error:
        return file | {"problem": str(error)}
    pixels = {
        "width": grey.shape[1],
        "height": grey.shape[0],
        "mode": mode,
        "channel_difference": channel_difference,
        "pixels_sha256": pixels_sha256(grey),
    }
    return file | pixels | signature(grey)._asdict() | grey_levels(grey)._asdict()
