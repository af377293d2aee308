"""DICOM files that the tests draw."""

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gdcm
import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

SYNTAXES = {
    "JPEG baseline": gdcm.TransferSyntax.JPEGBaselineProcess1,
    "JPEG extended": gdcm.TransferSyntax.JPEGExtendedProcess2_4,
    "JPEG lossless": gdcm.TransferSyntax.JPEGLosslessProcess14,
    "JPEG lossless, first order": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG-LS, near lossless": gdcm.TransferSyntax.JPEGLSNearLossless,
    "JPEG 2000": gdcm.TransferSyntax.JPEG2000,
    "JPEG 2000 lossless": gdcm.TransferSyntax.JPEG2000Lossless,
    "RLE": gdcm.TransferSyntax.RLELossless,
}
"""How pixels can be compressed, by name: GDCM's names."""


def radiograph(pixels: np.ndarray, bits: int | None = None, **elements: Any) -> FileDataset:
    """A data set that shows pixels: a digital radiograph of a hand for presentation, explicit little endian.

    Args:
        pixels: uint8, uint16 or int16 [height, width], as they are stored.
        bits: those that are stored; all of them by default.
        elements: others, or other values. None leaves an element out.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    stored = bits or 8 * pixels.itemsize
    said = {
        "SOPClassUID": uid.DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": "1.2.3.4.5",
        "StudyInstanceUID": "1.2.3",
        "Modality": "DX",
        "PresentationIntentType": "FOR PRESENTATION",
        "BodyPartExamined": "HAND",
        "BurnedInAnnotation": "NO",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": stored,
        "HighBit": stored - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    for name, value in (said | elements).items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    return dataset


def written(dataset: FileDataset, **how: Any) -> bytes:
    """The file of a data set."""
    file = BytesIO()
    pydicom.dcmwrite(file, dataset, **({"enforce_file_format": True} | how))
    return file.getvalue()


def in_syntax(dataset: FileDataset, syntax: uid.UID) -> bytes:
    """The file in another encoding without compression of pixels: implicit, deflated or big endian."""
    dataset.file_meta.TransferSyntaxUID = syntax
    if not syntax.is_little_endian and dataset.BitsAllocated == 16:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    return written(dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)


def bare(dataset: FileDataset) -> bytes:
    """The file as old programs write it: implicit little endian, without preamble and file meta."""
    file = BytesIO()
    only = Dataset()
    only.update({element.tag: element for element in dataset})
    pydicom.dcmwrite(file, only, implicit_vr=True, little_endian=True)
    return file.getvalue()


def compressed(dataset: FileDataset, name: str) -> bytes:
    """The file with its pixels compressed in one of SYNTAXES."""
    with TemporaryDirectory() as folder:
        plain, packed = Path(folder) / "plain.dcm", Path(folder) / "packed.dcm"
        plain.write_bytes(written(dataset))
        reader = gdcm.ImageReader()
        reader.SetFileName(str(plain))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(SYNTAXES[name]))
        change.SetInput(reader.GetImage())
        assert change.Change(), f"GDCM does not write {name}"
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(packed))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return packed.read_bytes()
