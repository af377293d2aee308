import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from radiographs import SYNTAXES, bare, compressed, in_syntax, radiograph, written

from components.xray.dicom import decode, is_dicom
from components.xray.png import MAX_PIXELS, BadImage

RAMP8 = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
RAMP12 = (np.add.outer(np.arange(48), np.arange(64)) * 30).astype(np.uint16)
FULL8 = {"WindowCenter": 128, "WindowWidth": 256}
FULL12 = {"WindowCenter": 2048, "WindowWidth": 4096}


def grey(file: bytes, **flags: Any) -> np.ndarray:
    return decode(file, **flags).decoded.grey


def lut(first: int, bits: int, table: list[int]) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(table), first, bits])
    item.add_new("LUTData", "US", table)
    return item


EXACT = {
    "explicit little endian": lambda drawn: written(drawn),
    "implicit little endian": lambda drawn: in_syntax(drawn, uid.ImplicitVRLittleEndian),
    "big endian": lambda drawn: in_syntax(drawn, uid.ExplicitVRBigEndian),
    "deflated": lambda drawn: in_syntax(drawn, uid.DeflatedExplicitVRLittleEndian),
    "without file meta": bare,
}
LOSSLESS = ("JPEG lossless", "JPEG lossless, first order", "JPEG-LS", "JPEG 2000 lossless", "RLE")


@pytest.mark.parametrize("write", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("bits", [8, 12])
def test_pixels_are_those_that_were_drawn(write: Any, bits: int) -> None:
    ramp, window = (RAMP8, FULL8) if bits == 8 else (RAMP12, FULL12)
    found = decode(write(radiograph(ramp, bits, **window)))
    assert (found.decoded.grey == np.rint(ramp / ((1 << bits) - 1) * 255)).all()
    assert found.decoded.mode == f"DICOM;{bits}"


@pytest.mark.parametrize("name", SYNTAXES)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_compressed_pixels_are_those_that_were_drawn(name: str, bits: int) -> None:
    if bits > 8 and name in ("JPEG baseline", "JPEG extended"):
        return
    ramp = {8: RAMP8, 12: RAMP12, 16: RAMP12 * np.uint16(16)}[bits]
    window = {"WindowCenter": 1 << (bits - 1), "WindowWidth": 1 << bits}
    found = grey(compressed(radiograph(ramp, bits, **window), name)).astype(int)
    expected = np.rint(ramp / ((1 << bits) - 1) * 255)
    assert np.abs(found - expected).max() <= (0 if name in LOSSLESS else 4)


def test_values_pass_the_window_as_the_standard_says() -> None:
    # PS3.3, C.11.2.1.2.1: of the window 100/51, 74.5 and below is black, 125.5 - 1 and above is white.
    values = np.array([[0, 74, 75, 100, 124, 125, 255]], np.uint8)
    expected = [0, 0, 255 * (0.5 + (75 - 99.5) / 50), 255 * (0.5 + 0.5 / 50), 255 * (0.5 + 24.5 / 50), 255, 255]
    assert grey(written(radiograph(values, WindowCenter=100, WindowWidth=51))).tolist() == [np.rint(expected).tolist()]


@pytest.mark.parametrize(
    ("function", "share"), [("LINEAR_EXACT", [0.25, 0.5, 0.75]), ("SIGMOID", [1 / (1 + np.e), 0.5, 1 / (1 + 1 / np.e)])]
)
def test_other_window_functions(function: str, share: list[float]) -> None:
    values = np.array([[75, 100, 125]], np.uint8)
    drawn = radiograph(values, WindowCenter=100, WindowWidth=100, VOILUTFunction=function)
    assert grey(written(drawn)).tolist() == [np.rint(np.multiply(share, 255)).tolist()]


def test_the_first_window_counts_and_is_said() -> None:
    found = decode(written(radiograph(RAMP8, WindowCenter=[128, 60], WindowWidth=[256, 10])))
    assert (found.decoded.grey == RAMP8).all()
    assert found.rule == "window 128/256"


def test_the_lut_counts_more_than_a_window() -> None:
    drawn = radiograph(RAMP8, **FULL8, VOILUTSequence=[lut(10, 10, [0, 1023, 511])])
    found = decode(written(drawn))
    values = {value: set(found.decoded.grey[value == RAMP8].tolist()) for value in (0, 10, 11, 12, 99)}
    assert values == {0: {0}, 10: {0}, 11: {255}, 12: {127}, 99: {127}}
    assert found.rule == "VOI LUT"


@pytest.mark.parametrize("encoding", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_the_modality_lut_comes_before_the_window(encoding: uid.UID) -> None:
    # Of 12 bits, which pydicom's own function does not take.
    drawn = radiograph(RAMP8, ModalityLUTSequence=[lut(0, 12, [4095 - 16 * level for level in range(256)])], **FULL12)
    found = grey(in_syntax(drawn, encoding)).astype(int)
    assert np.abs(found - (255 - RAMP8)).max() <= 1


def test_rescale_and_signed_values() -> None:
    stored = (RAMP12.astype(np.int16) - 2048).astype(np.int16)
    drawn = radiograph(stored, 12, RescaleSlope=2, RescaleIntercept=100, WindowCenter=100, WindowWidth=8192)
    assert np.abs(grey(written(drawn)).astype(int) - RAMP12 / 4095 * 255).max() <= 1


def test_unused_bits_do_not_count() -> None:
    high = (RAMP12 << 4) | np.uint16(9)
    drawn = radiograph(high, 12, HighBit=15, **FULL12)
    assert (grey(written(drawn)) == np.rint(RAMP12 / 4095 * 255)).all()
    overlaid = RAMP12 | np.uint16(0x8000)
    assert (grey(written(radiograph(overlaid, 12, **FULL12))) == np.rint(RAMP12 / 4095 * 255)).all()


def test_bones_are_white_in_both_photometric_interpretations() -> None:
    inverted = radiograph(255 - RAMP8, PhotometricInterpretation="MONOCHROME1", **FULL8)
    found = decode(written(inverted))
    assert np.abs(found.decoded.grey.astype(int) - RAMP8).max() <= 1
    assert found.rule == "window 128/256, inverted (MONOCHROME1)"


def test_without_a_window_the_middle_of_the_pixels_counts() -> None:
    values = np.full((100, 100), 500, np.uint16)
    values[:50] = 700
    values[0, :5], values[-1, :5] = 4095, 0
    found = decode(written(radiograph(values, 12)))
    assert (found.decoded.grey[1, 0], found.decoded.grey[60, 0]) == (255, 0)
    assert found.rule == "no window, so the middle 99.8 % of the pixels"


def test_a_blank_picture_stays_blank() -> None:
    assert len(np.unique(grey(written(radiograph(np.full((8, 8), 7, np.uint8)))))) == 1


def test_padding_is_black_and_does_not_count() -> None:
    padded = RAMP8.copy()
    padded[:, :32] = 255
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        drawn = radiograph(padded, PixelPaddingValue=255, PhotometricInterpretation=photometric)
        found = grey(written(drawn))
        assert (found[:, :32] == 0).all()
        assert found[:, 32:].max() >= 250
        assert found[:, 32:].min() <= 5


def test_what_the_file_says_is_kept() -> None:
    found = decode(written(radiograph(RAMP8, BodyPartExamined="WRIST ", BurnedInAnnotation="YES")))
    assert (found.study_uid, found.body_part, found.burned_in) == ("1.2.3", "WRIST", True)
    found = decode(written(radiograph(RAMP8, StudyInstanceUID=None, BodyPartExamined=None, BurnedInAnnotation=None)))
    assert (found.study_uid, found.body_part, found.burned_in) == ("", "", None)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "CT": ({"Modality": "CT"}, "DICOM of a CT slice, not a radiograph"),
    "MR": ({"Modality": "MR"}, "DICOM of an MR slice, not a radiograph"),
    "US": ({"Modality": "US"}, "DICOM of an ultrasound image, not a radiograph"),
    "SEG": ({"Modality": "SEG"}, "DICOM of a segmentation, not a radiograph"),
    "SR": ({"Modality": "SR"}, "DICOM of a report, not a radiograph"),
    "MG": ({"Modality": "MG"}, "DICOM of a mammogram, not a radiograph"),
    "unknown": ({"Modality": "XYZ"}, "DICOM of an image of another kind, not a radiograph"),
    "no modality": ({"Modality": None}, "DICOM of an image of another kind, not a radiograph"),
    "fluoroscopy": ({"Modality": "RF"}, "DICOM of a fluoroscopy, not a plain radiograph: give --force if it is one"),
    "raw": (
        {"PresentationIntentType": "FOR PROCESSING"},
        "DICOM for processing: the detector's raw picture. Take the one for presentation",
    ),
    "raw by class": (
        {"SOPClassUID": uid.DigitalXRayImageStorageForProcessing},
        "DICOM for processing: the detector's raw picture. Take the one for presentation",
    ),
    "frames": ({"NumberOfFrames": 3}, "DICOM of several frames, not a radiograph"),
    "two numbers of frames": ({"NumberOfFrames": [1, 2]}, "DICOM with a damaged number of frames (TypeError)"),
    "colour": ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "DICOM in colour, not a radiograph"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "DICOM in colour, not a radiograph"),
    "no photometric interpretation": ({"PhotometricInterpretation": None}, "DICOM in colour, not a radiograph"),
    "no size": ({"Rows": None}, "DICOM with a damaged description of its pixels (KeyError)"),
    "a bomb": (
        {"Rows": 65535, "Columns": 65535},
        f"DICOM of 65535 x 65535 pixels, more than the limit of {MAX_PIXELS:,}, or none",
    ),
    "no pixels": ({"Rows": 0}, f"DICOM of 64 x 0 pixels, more than the limit of {MAX_PIXELS:,}, or none"),
    "one bit": (
        {"BitsAllocated": 1, "BitsStored": 1},
        "DICOM of 1 bits in 1, the highest 7: this form of pixels is not read",
    ),
    "too short": ({"Rows": 4800}, "DICOM whose pixels cannot be decoded (ValueError)"),
    "a window without width": (
        {"WindowCenter": 1, "WindowWidth": 0},
        "DICOM whose grey levels cannot be shown (ValueError)",
    ),
    "a short LUT": ({"VOILUTSequence": [lut(0, 4, [1, 2])]}, "DICOM whose grey levels cannot be shown (ValueError)"),
}


@pytest.mark.parametrize(("elements", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_radiograph_is_refused_in_one_line(elements: dict[str, Any], says: str) -> None:
    with pytest.raises(BadImage) as refused:
        decode(written(radiograph(RAMP8, **elements)))
    assert str(refused.value) == says


def test_a_single_frame_of_a_fluoroscopy_is_taken_if_asked() -> None:
    assert (grey(written(radiograph(RAMP8, Modality="RF", NumberOfFrames=1, **FULL8)), force=True) == RAMP8).all()


def test_jpeg_of_12_bits_is_refused_by_name() -> None:
    drawn = radiograph(RAMP12, 12)
    drawn.file_meta.TransferSyntaxUID = uid.JPEGExtended12Bit
    drawn.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    with pytest.raises(BadImage, match=r"^DICOM in JPEG of 12 bits, for which there is no decoder here\."):
        decode(written(drawn))


def test_a_deflated_bomb_is_not_inflated() -> None:
    file = in_syntax(radiograph(RAMP8), uid.DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(file[140:144], "little")
    packer = zlib.compressobj(wbits=-15)
    bomb = b"".join([file[:start], *(packer.compress(bytes(1_000_000)) for _ in range(140)), packer.flush()])
    with pytest.raises(BadImage, match="more than 128,000,000 bytes when inflated"):
        decode(bomb)
    # The length of the file meta is made to end before the element that says how the rest is packed.
    hidden = bomb[:140] + (20).to_bytes(4, "little") + bomb[144:]
    with pytest.raises(BadImage, match="may be deflated"):
        decode(hidden)
    with pytest.raises(BadImage, match="truncated"):
        decode(file[:-20])


def test_no_message_repeats_what_names_a_patient() -> None:
    drawn = radiograph(RAMP8, PatientName="CANARY^ANNA", PatientID="CANARY-1", StudyDate="20200101")
    file, said = written(drawn), ""
    for at in range(132, len(file) - RAMP8.size, 3):
        damaged = file[:at] + b"\xff" + file[at + 1 :]
        said += told(damaged)
    assert "CANARY" not in said
    assert said.count("DICOM") > 10


def told(file: bytes) -> str:
    """Why a file is refused, with the errors behind it; nothing if it is shown."""
    try:
        assert grey(file).dtype == np.uint8
    except BadImage as refused:
        return f"{refused}{refused.__cause__ or ''}"
    return ""


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [write(radiograph(ramp, 8 * ramp.itemsize)) for write in EXACT.values() for ramp in (RAMP8, RAMP12)] + [
        compressed(radiograph(ramp, 8 * ramp.itemsize), name) for name in LOSSLESS for ramp in (RAMP8, RAMP12)
    ]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_shown(files: list[bytes], data: st.DataObject) -> None:
    file = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(132, len(file) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(file)))
    assert "\n" not in told(bytes(file[: cut or None]))


def test_dicom_is_known_by_its_first_bytes() -> None:
    drawn = radiograph(RAMP8)
    assert is_dicom(written(drawn))
    assert is_dicom(bare(drawn))
    for other in (
        b"",
        b"\x89PNG\r\n\x1a\n" + bytes(200),
        b"\xff\xd8\xff\xe0" + bytes(200),
        bytes(300),
        b"PK\3\4" + bytes(200),
    ):
        assert not is_dicom(other)
