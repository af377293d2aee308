"""The paths of MURA's images: what they say, and what is wrong with one that says it otherwise."""

import re
from typing import NamedTuple

LAYOUT = "{train,valid}/XR_<PART>/patient<ID>/study<N>_{positive,negative}/image<N>.png"

# [0-9], because \d matches digits of every script; at most 18 digits, to fit into 64 bits.
_PARTS = (
    ("train or valid", r"(?:train|valid)"),
    ("XR_<PART>, in capitals", r"XR_[A-Z](?:_?[A-Z0-9])*"),
    ("patient<ID>", r"patient[0-9]+"),
    ("study<N>_positive or study<N>_negative", r"study[0-9]+_(?:positive|negative)"),
    ("image<N>.png", r"image[0-9]{1,18}\.png"),
)
PATH = rf"^(?:.*/)?{'/'.join(pattern for _, pattern in _PARTS)}\Z"
"""A path of MURA, as a regular expression."""

# More than PATH: what is misnamed still says where it belongs.
_READ = re.compile(
    r"(?P<split>[^/]+)/XR_(?P<part>[^/]+)/(?P<patient>patient[0-9]+)"
    r"/study[0-9]+_(?P<label>[a-z]+)/image(?P<view>[0-9]{1,18})\.png\Z",
    re.IGNORECASE | re.ASCII,
)
_BODY_PART = re.compile(r"(?:^|/)XR_([^/]+)/", re.IGNORECASE | re.ASCII)
_LABELS = {"positive": 1, "negative": 0}


class Said(NamedTuple):
    """What a path says."""

    source_split: str
    body_part: str
    patient: str
    view: int
    directory_label: int | None
    """1 positive, 0 negative, None for anything else."""


def read(member: str) -> Said | None:
    """What the path of an image says, in whatever case. None if it has not MURA's layout."""
    match = _READ.search(member)
    if match is None:
        return None
    split, part, patient, label = (match[name].lower() for name in ("split", "part", "patient", "label"))
    return Said(split, part, patient, int(match["view"]), _LABELS.get(label))


def body_part(member: str) -> str | None:
    """The body part of the directory that an image or study lies in, lower case; None if there is none."""
    match = _BODY_PART.search(f"{member}/")
    return match[1].lower() if match else None


def fault(member: str) -> str | None:
    """What to do about a path that is not MURA's. None for one that is."""
    if re.search(PATH, member):
        return None
    found = member.split("/")[-len(_PARTS) :]
    if len(found) < len(_PARTS):
        return f"expected {LAYOUT}"
    right = [found[0].lower(), found[1].upper(), *(each.lower() for each in found[2:])]
    if re.search(PATH, "/".join(right)):
        wrong = [f"{one} to {other}" for one, other in zip(found, right, strict=True) if one != other]
        return f"rename {' and '.join(wrong)}, in the archive and in its lists"
    for (expected, pattern), name in zip(_PARTS, found, strict=True):
        if not re.fullmatch(pattern, name):
            return f"expected {expected}, found {name}"
    return f"expected {LAYOUT}"
