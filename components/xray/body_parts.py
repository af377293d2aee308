"""DICOM's words for body parts (PS3.16, annex L), and what they are called here."""

import re

from components.base.names import LONGEST

# Other words for one of MURA's seven.
SYNONYMS = {
    "UPPERARM": "humerus", "UPPER ARM": "humerus", "ARM": "humerus", "RADIUS": "forearm", "ULNA": "forearm",
    "RADIUSULNA": "forearm", "LOWERARM": "forearm", "THUMB": "finger", "FINGERS": "finger", "SCAPHOID": "wrist",
}  # fmt: skip
# Terms that radiographs of bones have. Any other value of BodyPartExamined may be anything, also a name.
DEFINED = {
    *SYNONYMS,
    *("ANKLE", "CALCANEUS", "CHEST", "CLAVICLE", "COCCYX", "CSPINE", "ELBOW", "FEMUR", "FINGER", "FOOT", "FOREARM"),
    *("FOREFOOT", "HAND", "HEEL", "HIP", "HUMERUS", "JAW", "KNEE", "LEG", "LOWERLEG", "LSPINE", "MANDIBLE", "MAXILLA"),
    *("PATELLA", "PELVIS", "RIB", "RIBS", "SACRUM", "SCAPULA", "SHOULDER", "SKULL", "SPINE", "SSPINE", "STERNUM"),
    *("THIGH", "THUMB", "TIBIA", "TIBIAFIBULA", "TOE", "TOES", "TSPINE", "WRIST", "ZYGOMA"),
}


def named(said: str) -> str:
    """What a word for a body part is called here: `UPPERARM` is `humerus`, `KNEE` is `knee`.

    Args:
        said: as a file says it, in capital letters.

    Returns:
        A name; empty for what cannot be one.
    """
    if said in SYNONYMS:
        return SYNONYMS[said]
    name = re.sub(r"[ _]+", "_", said.strip()).lower()
    return name if re.fullmatch(r"[a-z](_?[a-z0-9])*", name) and len(name) <= LONGEST else ""


def of_dicom(said: str) -> str:
    """What BodyPartExamined names; empty for what is no defined term: the element may hold anything, also a name."""
    return named(said) if said in DEFINED else ""
