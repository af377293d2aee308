"""A contact sheet of an archive, to see with one's own eyes what the networks will see."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from components.base.files import write_bytes
from components.phantom.plan import PARTS, ROOT, SPLITS

_CELL = 192  # pixels of a picture's square, captions apart
_GAP = 4
_LEFT, _TOP = 120, 34
_PAPER, _INK = 28, 230

Grey = npt.NDArray[np.uint8]  # [H, W]


def contact_sheet(archive: Path, out: Path, *, split: str = "valid", per_label: int = 5, view: int = 1) -> Path:
    """Draw one row per body part, normal studies on the left and abnormal ones on the right.

    Args:
        archive: a zip of MURA's layout.
        out: the picture to write, a PNG.
        split: `train` or `valid`.
        per_label: studies of each label and part, the first ones of the list.
        view: which view of a study; its last where it has fewer.

    Raises:
        ValueError: no such split, or nothing to show.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    if per_label < 1 or view < 1:
        raise ValueError(f"per_label and view: expected at least 1, got {per_label} and {view}")
    with zipfile.ZipFile(archive) as members:
        chosen = _choose(members.read(f"{ROOT}/{split}_image_paths.csv").decode().split(), per_label, view)
        half = per_label * (_CELL + _GAP)
        sheet = np.full((_TOP + len(PARTS) * (_CELL + _GAP), _LEFT + 2 * half + _GAP * 3), _PAPER, np.uint8)
        for label, left in (("normal", _LEFT), ("abnormal", _LEFT + half + 3 * _GAP)):
            _write(sheet, label, (left + 4, 23))
            for row, part in enumerate(sorted(PARTS)):
                top = _TOP + row * (_CELL + _GAP)
                _write(sheet, part.lower(), (8, top + _CELL // 2))
                for column, member in enumerate(chosen.get((part, label), ())):
                    x = left + column * (_CELL + _GAP)
                    sheet[top : top + _CELL, x : x + _CELL] = _picture(members.read(member))
    done, encoded = cv2.imencode(".png", sheet)
    assert done, "OpenCV encodes every uint8 image"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, encoded.tobytes())
    return out


def _choose(members: list[str], per_label: int, view: int) -> dict[tuple[str, str], list[str]]:
    """For each part and label, one view of each of the first studies."""
    studies: dict[str, list[str]] = {}
    for member in members:
        studies.setdefault(member.rpartition("/")[0], []).append(member)
    chosen: dict[tuple[str, str], list[str]] = {}
    for study, views in studies.items():
        _, _, folder, _, name = study.split("/")
        label = "abnormal" if name.endswith("_positive") else "normal"
        of_kind = chosen.setdefault((folder.removeprefix("XR_"), label), [])
        if len(of_kind) < per_label:
            of_kind.append(views[min(view, len(views)) - 1])
    if not chosen:
        raise ValueError("the archive lists no images in this split")
    return chosen


def _picture(content: bytes) -> Grey:
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    if decoded is None:
        raise ValueError("expected a PNG file in the archive, found something else")
    height, width = decoded.shape
    scale = _CELL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(decoded, size, interpolation=cv2.INTER_AREA)
    cell = np.full((_CELL, _CELL), _PAPER, np.uint8)
    x, y = (_CELL - size[0]) // 2, (_CELL - size[1]) // 2
    cell[y : y + size[1], x : x + size[0]] = small
    return cell


def _write(sheet: Grey, text: str, at: tuple[int, int]) -> None:
    cv2.putText(sheet, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, _INK, 1, cv2.LINE_AA)
