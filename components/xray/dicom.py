"""Untrusted DICOM files: radiographs for presentation, decoded to one channel as a viewer first shows them.

References are to the DICOM standard: PS3.3 (objects and their attributes), PS3.5 (encoding), PS3.10 (files).

A file may name its patient in any element. Only the elements in READ are parsed, and no message repeats a value;
dicom_header.py reads others, for who imports data of their own.
"""

import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple
from warnings import catch_warnings, simplefilter

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import pixel_array

from components.base.errors import out_of_memory
from components.xray.png import MAX_PIXELS, BadImage, Decoded, Grey

# Bytes of a data set that is compressed as a whole (PS3.5, A.5). The largest picture has 50 MB.
MAX_INFLATED = 128_000_000
# What is not a radiograph of bones, as people call it (PS3.3, C.7.3.1.1.1).
OTHERS = {
    "BMD": "a bone densitometry", "CT": "a CT slice", "DOC": "a document", "ECG": "an ECG", "ES": "an endoscopy",
    "IO": "a dental radiograph", "KO": "a selection of objects", "MG": "a mammogram", "MR": "an MR slice",
    "NM": "a nuclear medicine image", "OP": "a photograph of an eye", "PR": "a presentation state",
    "PT": "a PET slice", "PX": "a dental panorama", "REG": "a registration", "RTDOSE": "a dose of radiotherapy",
    "RTIMAGE": "an image of radiotherapy", "RTPLAN": "a plan of radiotherapy", "RTSTRUCT": "contours of radiotherapy",
    "SEG": "a segmentation", "SM": "a microscopy", "SR": "a report", "US": "an ultrasound image", "XC": "a photograph",
}  # fmt: skip
RADIOGRAPHS = ("CR", "DX", "RG")
FLUOROSCOPY = {"RF": "a fluoroscopy", "XA": "an angiography"}
# Without LUT or window, this share of the pixels is black and as many are white.
TAILS = 0.001
# The window functions of PS3.3, C.11.2.1.2 and C.11.2.1.3.
LINEAR, LINEAR_EXACT, SIGMOID = "LINEAR", "LINEAR_EXACT", "SIGMOID"
READ = (
    "Modality", "SOPClassUID", "PresentationIntentType", "StudyInstanceUID", "BodyPartExamined",
    "BurnedInAnnotation", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration", "PixelPaddingValue",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "PixelData", "FloatPixelData", "DoubleFloatPixelData",
)  # fmt: skip

_PREAMBLE = 128
_MAGIC = b"DICM"
# The first element of a file without preamble: one of group 8 below (0008,0020), or the first of the file meta.
_BARE = (*(b"\x08\0" + bytes([element, 0]) for element in range(0x20)), b"\x02\0\0\0UL")
# The length of the file meta (PS3.10, 7.1), which comes first.
_META_LENGTH = b"\2\0\0\0UL\4\0"

Levels = NDArray[np.float64]


class Radiograph(NamedTuple):
    """A picture, and what its file says of it."""

    decoded: Decoded
    rule: str
    """How grey levels became 8 bits, in words."""
    study_uid: str
    """StudyInstanceUID, empty where there is none. It identifies: group files by it, and write it nowhere."""
    body_part: str
    """BodyPartExamined, such as HAND; empty where there is none."""
    burned_in: bool | None
    """Whether the picture itself may show the patient's name; None if the file does not say."""


def is_dicom(file: bytes) -> bool:
    """Whether bytes begin like a DICOM file, with preamble or without."""
    return file[_PREAMBLE : _PREAMBLE + 4] == _MAGIC or file.startswith(_BARE)


def decode(file: bytes, force: bool = False) -> Radiograph:
    """Decode a radiograph to the grey levels that a viewer shows first.

    Stored values pass the modality LUT or the rescale (PS3.3, C.11.1), then the first VOI LUT or the first window
    (C.11.2). They are inverted for MONOCHROME1 (C.7.6.3.1.2). Without LUT and window, the 0.1 % darkest pixels are
    black, the 0.1 % brightest are white, and levels between them are linear. Padding (C.7.5.1.1.2) is black.

    Args:
        file: the whole file.
        force: also take single frames of fluoroscopy and angiography.

    Raises:
        BadImage: not DICOM, damaged, too large, or not a radiograph for presentation. The message says what it is.
    """
    dataset = _parsed(file)
    # Every element may have another type than its name promises, and a value of a sequence is parsed when it is used.
    with told("DICOM with damaged elements"):
        check_kind(dataset, force)
        _check_pixels(dataset)
        study_uid, body_part = text(dataset, "StudyInstanceUID"), text(dataset, "BodyPartExamined")
        burned_in = {"YES": True, "NO": False}.get(text(dataset, "BurnedInAnnotation"))
        mode = f"DICOM;{dataset.BitsStored}"
    with told("DICOM whose pixels cannot be decoded"):
        stored = _stored(dataset)
    with told("DICOM whose grey levels cannot be shown"):
        grey, rule = _shown(dataset, stored)
    return Radiograph(Decoded(grey, mode, 0), rule, study_uid, body_part, burned_in)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Tell what a parser raises, without its message: that may repeat a value of the file.

    Raises:
        BadImage: instead of a parser's error.
        MemoryError: the memory was too small. That says nothing about the file.
    """
    # What pydicom logs and warns of may repeat a value of the file, too.
    logging.getLogger("pydicom").disabled = True
    try:
        with catch_warnings(), disable_value_validation():
            simplefilter("ignore")
            yield
    except BadImage:
        raise
    # A parser of damaged bytes raises what its innermost call raises; pydicom has classes of its own, too.
    except Exception as error:
        if out_of_memory(error):
            raise MemoryError from None
        raise BadImage(f"{what} ({type(error).__name__})") from None


def _parsed(file: bytes) -> Dataset:
    """The elements of READ, and the transfer syntax."""
    with told("DICOM that cannot be read"):
        dataset = pydicom.dcmread(BytesIO(inflated(file) or file), force=True, specific_tags=list(READ))
        meta = getattr(dataset, "file_meta", None) or FileMetaDataset()
        if "TransferSyntaxUID" not in meta:
            # A file without file meta: as it was parsed.
            implicit, little = dataset.original_encoding
            native = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
            meta.TransferSyntaxUID = native if little else uid.ExplicitVRBigEndian
            dataset.file_meta = meta
        # An element is converted when it is first read. A damaged one is found now.
        for _ in dataset:
            pass
    if "Modality" not in dataset and "SOPClassUID" not in dataset and "Rows" not in dataset:
        raise BadImage("not DICOM, though it begins like it")
    return dataset


def inflated(file: bytes) -> bytes | None:
    """The data set of a deflated file; None if it is not deflated.

    pydicom would inflate it without a limit. It reads the file meta up to its last element, whatever length is given.

    Raises:
        BadImage: the data set is too large, or where it begins is not certain.
    """
    name = uid.DeflatedExplicitVRLittleEndian.encode()
    if (found := file.find(name)) < 0:
        return None
    meta = file.find(_META_LENGTH, 0, _PREAMBLE + 16)
    start = meta + 12 + int.from_bytes(file[meta + 8 : meta + 12], "little")
    if meta < 0 or not meta < found < start or file[start : start + 2] == b"\2\0":
        raise BadImage("DICOM that may be deflated, with a damaged file meta")
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = stream.decompress(file[start:], MAX_INFLATED + 1)
    except zlib.error:
        raise BadImage("DICOM that cannot be inflated") from None
    if len(data) > MAX_INFLATED:
        raise BadImage(f"DICOM of more than {MAX_INFLATED:,} bytes when inflated")
    if not stream.eof:
        raise BadImage("DICOM that is truncated")
    return data


def check_kind(dataset: Dataset, force: bool) -> None:
    """Check that this is one radiograph, for people to look at.

    Raises:
        BadImage: it is not. The message says what it is.
    """
    modality = text(dataset, "Modality")
    kind = str(dataset.get("SOPClassUID", ""))
    if modality in FLUOROSCOPY and not force:
        raise BadImage(f"DICOM of {FLUOROSCOPY[modality]}, not a plain radiograph: give --force if it is one")
    if modality not in (*RADIOGRAPHS, *FLUOROSCOPY):
        known = OTHERS.get(modality, "an image of another kind")
        raise BadImage(f"DICOM of {known}, not a radiograph")
    processing = uid.DigitalXRayImageStorageForProcessing
    if text(dataset, "PresentationIntentType") == "FOR PROCESSING" or kind == processing:
        raise BadImage("DICOM for processing: the detector's raw picture. Take the one for presentation")
    with told("DICOM with a damaged number of frames"):
        frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise BadImage("DICOM of several frames, not a radiograph")
    photometric = text(dataset, "PhotometricInterpretation")
    if dataset.get("SamplesPerPixel", 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise BadImage("DICOM in colour, not a radiograph")


def _check_pixels(dataset: Dataset) -> None:
    """Check the form of the pixels before any is decoded.

    Raises:
        BadImage: there are none, too many, or of another form.
    """
    if "PixelData" not in dataset:
        raise BadImage("DICOM without pixels")
    with told("DICOM with a damaged description of its pixels"):
        height, width, allocated, stored, high = (
            int(dataset[name].value) for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit")
        )
        signed = int(dataset["PixelRepresentation"].value)
    if not 0 < height * width <= MAX_PIXELS:
        raise BadImage(f"DICOM of {width} x {height} pixels, more than the limit of {MAX_PIXELS:,}, or none")
    if allocated not in (8, 16) or not 1 < stored <= allocated or not stored - 1 <= high < allocated or signed > 1:
        raise BadImage(f"DICOM of {stored} bits in {allocated}, the highest {high}: this form of pixels is not read")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == uid.JPEGExtended12Bit and stored > 8:
        raise BadImage("DICOM in JPEG of 12 bits, for which there is no decoder here. Convert it to lossless JPEG")


def _stored(dataset: Dataset) -> NDArray[np.int32]:
    """The stored values, int32 [height, width]."""
    bits, high = int(dataset.BitsStored), int(dataset.HighBit)
    pixels = pixel_array(dataset, index=0, raw=True, correct_unused_bits=False)
    if pixels.shape != (dataset.Rows, dataset.Columns):
        raise ValueError("another shape")
    values = pixels.astype(np.int32)
    # Bits above and below the stored ones may hold an overlay (PS3.5, 8.1.1). Compressed pixels are at the bottom.
    if not dataset.file_meta.TransferSyntaxUID.is_compressed:
        values >>= high + 1 - bits
    values &= (1 << bits) - 1
    if dataset.PixelRepresentation:
        values -= (values >> (bits - 1)) << bits
    return values


def _shown(dataset: Dataset, stored: NDArray[np.int32]) -> tuple[Grey, str]:
    """The grey levels on screen, uint8 [height, width], and by which rule.

    Everything is computed once for each value that the bits can have, not for each pixel.
    """
    bits = int(dataset.BitsStored)
    low = -(1 << (bits - 1)) if dataset.PixelRepresentation else 0
    values = np.arange(low, low + (1 << bits))
    padding = dataset.get("PixelPaddingValue")
    counts = np.bincount((stored - low).ravel(), minlength=len(values))
    if padding is not None and low <= int(padding) < low + len(values):
        counts[int(padding) - low] = 0
    levels = _modality(dataset, values)
    shares, rule = _of_interest(dataset, levels, counts)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shares, rule = 1 - shares, f"{rule}, inverted (MONOCHROME1)"
    table = np.rint(shares * 255).astype(np.uint8)
    if padding is not None and low <= int(padding) < low + len(values):
        table[int(padding) - low] = 0
    return table[stored - low], rule


def _modality(dataset: Dataset, values: NDArray[np.int64]) -> Levels:
    """Stored values in the units of the modality (PS3.3, C.11.1)."""
    if sequence := dataset.get("ModalityLUTSequence"):
        return _looked_up(dataset, sequence[0], values.astype(np.float64))[0]
    slope, intercept = (
        float(dataset.get(name, default)) for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    levels = np.asarray(values * slope + intercept, np.float64)
    if not np.isfinite(levels).all():
        raise ValueError("levels that are not finite")
    return levels


def _of_interest(dataset: Dataset, levels: Levels, counts: NDArray[np.int64]) -> tuple[Levels, str]:
    """Levels from 0, black, to 1, white, and by which rule (PS3.3, C.11.2).

    Args:
        dataset: with a LUT, windows or nothing.
        levels: of each value, in the units of the modality.
        counts: of pixels of each value, without padding.
    """
    if sequence := dataset.get("VOILUTSequence"):
        found, bits = _looked_up(dataset, sequence[0], levels)
        return np.clip(found / ((1 << bits) - 1), 0, 1), "VOI LUT"
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        centre, width = _first(dataset["WindowCenter"].value), _first(dataset["WindowWidth"].value)
        function = text(dataset, "VOILUTFunction") or LINEAR
        return _windowed(levels, centre, width, function), f"window {centre:g}/{width:g}"
    order = np.argsort(levels, kind="stable")
    running = np.cumsum(counts[order])
    dark, bright = levels[order][np.searchsorted(running, running[-1] * np.array([TAILS, 1 - TAILS]))]
    spread = max(bright - dark, np.finfo(np.float64).tiny)
    return np.clip((levels - dark) / spread, 0, 1), "no window, so the middle 99.8 % of the pixels"


def _windowed(levels: Levels, centre: float, width: float, function: str) -> Levels:
    """Shares of white. The formulas are those of PS3.3, C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2."""
    if not (
        np.isfinite(centre) and np.isfinite(width) and width >= (1 if function == LINEAR else np.finfo(float).tiny)
    ):
        raise ValueError("a window without width")
    if function == SIGMOID:
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (levels - centre) / width, -700, 700))), np.float64)
    if function == LINEAR_EXACT:
        return np.clip((levels - centre) / width + 0.5, 0, 1)
    if function != LINEAR:
        raise ValueError("an unknown function")
    if width == 1:
        return np.where(levels <= centre - 0.5, 0.0, 1.0)
    return np.clip((levels - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _looked_up(dataset: Dataset, item: Dataset, levels: Levels) -> tuple[Levels, int]:
    """What a LUT gives for levels, and its number of bits (PS3.3, C.11.1.1.1 and C.11.2.1.1).

    pydicom's own functions take modality LUTs of 8 and 16 bits only.
    """
    entries, first, bits = (int(each) for each in item["LUTDescriptor"].value)
    data = item["LUTData"].value
    if isinstance(data, bytes):
        little = dataset.file_meta.TransferSyntaxUID.is_little_endian
        data = np.frombuffer(data, "<u2" if little else ">u2")
    table = np.asarray(data, np.int64) & 0xFFFF
    entries = entries or 1 << 16
    if not 8 <= bits <= 16 or len(table) < entries:
        raise ValueError("a LUT that is too short")
    if first >= 1 << 15 and (dataset.PixelRepresentation or levels.min() < 0):
        first -= 1 << 16
    index = np.clip(np.rint(levels) - first, 0, entries - 1).astype(np.int64)
    return table[index].astype(np.float64), bits


def _first(value: object) -> float:
    """The first of one or several numbers."""
    return float(value[0] if isinstance(value, list | tuple | pydicom.multival.MultiValue) else value)  # type: ignore[arg-type]


def text(dataset: Dataset, name: str) -> str:
    """A word of the file in capital letters; empty where there is none."""
    return str(dataset.get(name) or "").strip("\0 ").upper()
