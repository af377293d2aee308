"""A picture file of any kind that is read: PNG, JPEG or DICOM. The first bytes tell which, not the name."""

from typing import NamedTuple

from components.xray import dicom, jpeg, png
from components.xray.dicom import is_dicom
from components.xray.png import BadImage, Grey

__all__ = ["BadImage", "Picture", "is_dicom", "read"]

# Channels of a grey picture that was stored as JPEG differ by some levels, those of a photograph by far more.
MAX_CHANNEL_DIFFERENCE = 32


class Picture(NamedTuple):
    """A picture, and what its file says of it."""

    grey: Grey
    """uint8 [height, width]"""
    kind: str
    """PNG, JPEG or DICOM."""
    notes: tuple[str, ...] = ()
    """What whoever looks at the result should know."""
    study_uid: str = ""
    """DICOM's StudyInstanceUID. It identifies: group files by it, and write it nowhere."""
    body_part: str = ""
    """DICOM's BodyPartExamined."""


def read(file: bytes, force: bool = False) -> Picture:
    """Decode a file.

    Args:
        file: the whole of it.
        force: also take single frames of fluoroscopy and angiography.

    Raises:
        BadImage: it is no such picture, is damaged or too large, is in colour, or is no radiograph for presentation.
    """
    if file.startswith(jpeg.SIGNATURE):
        return _plain(jpeg.decode(file), "JPEG")
    if is_dicom(file):
        found = dicom.decode(file, force)
        notes = [f"grey levels by {found.rule}"]
        if found.burned_in:
            notes.append("the picture itself may show the patient's name: its file says so")
        return Picture(found.decoded.grey, "DICOM", tuple(notes), found.study_uid, found.body_part)
    if not file.startswith(png.SIGNATURE):
        raise BadImage("no PNG, JPEG or DICOM file" if file else "an empty file")
    return _plain(png.decode(file), "PNG")


def _plain(decoded: png.Decoded, kind: str) -> Picture:
    if decoded.channel_difference > MAX_CHANNEL_DIFFERENCE:
        raise BadImage(f"a {kind} in colour, not a radiograph")
    return Picture(decoded.grey, kind)
