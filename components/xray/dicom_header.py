"""What a DICOM file says of itself beside its picture: whose it is, of what study, and how it was taken.

Names of patients are not parsed. What identifies is here only to be hashed with a key at once.
"""

from io import BytesIO
from typing import BinaryIO, NamedTuple

import pydicom
from pydicom.dataset import Dataset

from components.xray.dicom import check_kind, inflated, is_dicom, text, told
from components.xray.png import BadImage

IDENTIFYING = ("PatientID", "StudyInstanceUID", "AccessionNumber", "SOPInstanceUID", "PatientBirthDate", "StudyDate")
OTHERS = (
    *("BodyPartExamined", "ViewPosition", "Manufacturer", "PatientSex", "PatientAge"),
    # For `check_kind`.
    *("Modality", "SOPClassUID", "PresentationIntentType", "NumberOfFrames", "SamplesPerPixel"),
    "PhotometricInterpretation",
)
_START = 256


class Header(NamedTuple):
    """Elements of a file as they are written in it, without spaces around; empty where there is none."""

    patient_id: str
    study_uid: str
    accession: str
    """AccessionNumber: what a hospital calls the study."""
    instance_uid: str
    """SOPInstanceUID: the same for all copies of a file."""
    body_part: str
    view_position: str
    manufacturer: str
    sex: str
    """M, F or O."""
    age: str
    """PatientAge, such as 045Y."""
    birth_date: str
    """YYYYMMDD"""
    study_date: str
    """YYYYMMDD"""


def read(file: BinaryIO, force: bool = False) -> Header:
    """Read the header of a radiograph. Its pixels are not read, except where the whole file is deflated.

    Args:
        file: at its beginning, and seekable.
        force: also take single frames of fluoroscopy and angiography.

    Raises:
        BadImage: not DICOM, damaged, or not a radiograph for presentation. The message repeats no value.
    """
    start = file.read(_START)
    if not is_dicom(start):
        raise BadImage("no DICOM file" if start else "an empty file")
    file.seek(0)
    with told("DICOM that cannot be read"):
        try:
            dataset = _parsed(_Guarded(file))
        except _Deflated:
            file.seek(0)
            dataset = _parsed(BytesIO(inflated(file.read()) or b""))
        check_kind(dataset, force)
        return Header(
            patient_id=_value(dataset, "PatientID"),
            study_uid=_value(dataset, "StudyInstanceUID"),
            accession=_value(dataset, "AccessionNumber"),
            instance_uid=_value(dataset, "SOPInstanceUID"),
            body_part=text(dataset, "BodyPartExamined"),
            view_position=text(dataset, "ViewPosition"),
            manufacturer=_value(dataset, "Manufacturer"),
            sex=text(dataset, "PatientSex"),
            age=text(dataset, "PatientAge"),
            birth_date=_value(dataset, "PatientBirthDate"),
            study_date=_value(dataset, "StudyDate"),
        )


class _Deflated(Exception):
    """The whole file is compressed."""


class _Guarded:
    """A file as pydicom may read it: not to its end at once, which it does to inflate it without a limit."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes.

        Raises:
            _Deflated: all of them are wanted.
        """
        if size < 0:
            raise _Deflated
        return self._file.read(size)


def _parsed(file: "_Guarded | BytesIO") -> Dataset:
    dataset = pydicom.dcmread(
        file,
        force=True,
        stop_before_pixels=True,
        specific_tags=[*IDENTIFYING, *OTHERS],
    )
    # An element is converted when it is first read. A damaged one is found now.
    for _ in dataset:
        pass
    return dataset


def _value(dataset: Dataset, name: str) -> str:
    return str(dataset.get(name) or "").strip("\0 ")
