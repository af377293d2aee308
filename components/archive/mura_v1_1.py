"""MURA v1.1 as published: its size and its counts.

All numbers are counted from its CSVs. arXiv:1712.06957, table 1, has the studies.
"""

from collections.abc import Mapping
from typing import NamedTuple

NAME = "MURA v1.1"
# MURA-v1.1.zip as Stanford ships it.
ARCHIVE_BYTES = 3_380_245_855
# The longer side of every image, pixels.
LONGEST_SIDE = 512


class Size(NamedTuple):
    """Counts of one split, body part and label."""

    studies: int
    images: int


# By published split, then by body part and whether abnormal, in the order of MURA's CSVs.
CELLS: Mapping[str, Mapping[tuple[str, bool], Size]] = {
    "train": {
        ("shoulder", False): Size(1_364, 4_211),
        ("shoulder", True): Size(1_457, 4_168),
        ("humerus", False): Size(321, 673),
        ("humerus", True): Size(271, 599),
        ("finger", False): Size(1_280, 3_138),
        ("finger", True): Size(655, 1_968),
        ("elbow", False): Size(1_094, 2_925),
        ("elbow", True): Size(660, 2_006),
        ("wrist", False): Size(2_134, 5_765),
        ("wrist", True): Size(1_326, 3_987),
        ("forearm", False): Size(590, 1_164),
        ("forearm", True): Size(287, 661),
        ("hand", False): Size(1_497, 4_059),
        ("hand", True): Size(521, 1_484),
    },
    "valid": {
        ("shoulder", False): Size(99, 285),
        ("shoulder", True): Size(95, 278),
        ("humerus", False): Size(68, 148),
        ("humerus", True): Size(67, 140),
        ("finger", False): Size(92, 214),
        ("finger", True): Size(83, 247),
        ("elbow", False): Size(92, 235),
        ("elbow", True): Size(66, 230),
        ("wrist", False): Size(140, 364),
        ("wrist", True): Size(97, 295),
        ("forearm", False): Size(69, 150),
        ("forearm", True): Size(64, 151),
        ("hand", False): Size(101, 271),
        ("hand", True): Size(66, 189),
    },
}
# Number of views -> studies with so many views.
VIEWS = {
    "train": {1: 1131, 2: 3733, 3: 6466, 4: 1887, 5: 197, 6: 27, 7: 13, 8: 2, 11: 1},
    "valid": {1: 101, 2: 412, 3: 517, 4: 135, 5: 30, 6: 1, 7: 1, 8: 1, 10: 1},
}
# Number of studies -> patients with so many studies. 15.6 % and 34.2 % have more than one.
STUDIES_PER_PATIENT = {
    "train": {1: 9437, 2: 1383, 3: 259, 4: 70, 5: 19, 6: 12, 7: 3, 9: 1},
    "valid": {1: 515, 2: 171, 3: 68, 4: 16, 5: 7, 6: 4, 7: 1, 8: 1},
}
PATIENTS = {split: sum(patients.values()) for split, patients in STUDIES_PER_PATIENT.items()}
STUDIES = sum(size.studies for cells in CELLS.values() for size in cells.values())
IMAGES = sum(size.images for cells in CELLS.values() for size in cells.values())
