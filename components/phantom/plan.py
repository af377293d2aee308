"""Which studies a phantom archive holds: patients, body parts, labels and views, before anything is drawn.

Proportions are those of MURA v1.1. An archive of 14,656 studies repeats its counts exactly.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from components.archive import mura_v1_1
from components.archive.mura_v1_1 import Size

ROOT = "MURA-v1.1"
SPLITS = tuple(mura_v1_1.CELLS)
# The order in which MURA's own lists name the parts.
PARTS = ("SHOULDER", "HUMERUS", "FINGER", "ELBOW", "WRIST", "FOREARM", "HAND")
MURA_STUDIES = mura_v1_1.STUDIES
SMALLEST = 2 * len(PARTS)
# Below this a faithful valid share (8 %) would leave some body parts with a handful of test studies.
SMALL = 2_000
SMALL_VALID_SHARE = 0.22
# Studies of a small archive have fewer views, so that its images are spent on more studies.
SMALL_VIEWS = {1: 34, 2: 42, 3: 18, 4: 5, 5: 1}
# Share of abnormal studies that metal makes abnormal; less than half, or a look for bright pixels would do.
METAL_SHARE = 0.27
# How hard an archive may be to read, see `pathology`.
DIFFICULTIES = (-0.5, 1.0)
# The archive of the demonstration, and of whoever asks for no other: how many studies, and how hard to read.
STUDIES = 800
DIFFICULTY = DIFFICULTIES[0]
APPLE_DOUBLES = 4
APPLE_DOUBLES_IN_WRIST = 3


class Cell(NamedTuple):
    """The studies of one split that share body part and label."""

    part: str
    abnormal: bool


_CELLS: Mapping[str, Mapping[Cell, Size]] = {
    split: {Cell(part.upper(), abnormal): size for (part, abnormal), size in cells.items()}
    for split, cells in mura_v1_1.CELLS.items()
}

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Study:
    """One study: the views of one body part of one patient at one visit, with one label."""

    split: str
    part: str
    patient: int
    number: int
    abnormal: bool
    views: int
    metal: bool = False  # whether hardware is among the findings of an abnormal study

    @property
    def path(self) -> str:
        """The study's folder in the archive, with the closing slash that MURA's lists have."""
        label = "positive" if self.abnormal else "negative"
        return f"{ROOT}/{self.split}/XR_{self.part}/patient{self.patient:05d}/study{self.number}_{label}/"

    @property
    def images(self) -> tuple[str, ...]:
        """The members that hold its views."""
        return tuple(f"{self.path}image{view}.png" for view in range(1, self.views + 1))


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything an archive holds, in the order in which it is written."""

    studies: tuple[Study, ...]
    apple_doubles: frozenset[str]  # images that have a `._` companion, as macOS leaves them in a zip

    @property
    def images(self) -> int:
        """Number of images listed; the AppleDouble files are not among them."""
        return sum(study.views for study in self.studies)

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len({study.patient for study in self.studies})


def plan(studies: int, seed: int) -> Plan:
    """Deal the studies of an archive.

    Args:
        studies: how many, at least 14. From 28 on, both labels of every part are in both splits.
        seed: another seed gives another archive of the same proportions.

    Raises:
        ValueError: fewer than 14 studies.
    """
    if studies < SMALLEST:
        raise ValueError(f"studies: expected at least {SMALLEST} (each body part in train and in valid), got {studies}")
    rng = random.Random(f"phantom plan {seed}")
    dealt: list[Study] = []
    first = 1
    for split, count in _split_sizes(studies).items():
        cells = _deal_cells(split, count)
        views = _deal_views(split, cells, studies < SMALL, rng)
        drawn = [(cell, view) for cell in cells for view in views[cell]]
        rng.shuffle(drawn)
        sizes = _patient_sizes(split, count)
        rng.shuffle(sizes)
        dealt += _with_metal(_number(split, drawn, sizes, first), rng)
        first += len(sizes)
    order = {part: i for i, part in enumerate(PARTS)}
    dealt.sort(key=lambda s: (s.split, order[s.part], s.patient, s.number))
    return Plan(tuple(dealt), _apple_doubles(dealt, rng))


def _split_sizes(studies: int) -> dict[str, int]:
    if studies >= SMALL:
        return apportion({split: sum(s.studies for s in _CELLS[split].values()) for split in SPLITS}, studies)
    valid = max(len(PARTS), round(studies * SMALL_VALID_SHARE))
    if studies >= 4 * len(PARTS):
        valid = max(2 * len(PARTS), valid)
    return {"train": studies - valid, "valid": valid}


def _deal_cells(split: str, count: int) -> dict[Cell, int]:
    cells = {cell: size.studies for cell, size in _CELLS[split].items()}
    if count >= len(cells):
        return apportion(cells, count, least=1)
    # Too few for both labels of each part: the labels alternate, and the other split has the other label.
    turn = SPLITS.index(split)
    wanted = [Cell(part, (i + turn) % 2 == 1) for i, part in enumerate(PARTS)]
    return apportion({cell: cells[cell] for cell in wanted}, count, least=1)


def _deal_views(split: str, cells: Mapping[Cell, int], small: bool, rng: random.Random) -> dict[Cell, list[int]]:
    """Numbers of views for the studies of each cell.

    Their distribution is the split's, and each cell gets its share of the images (abnormal studies have
    more views than normal ones). The studies are dealt at random; then a study of a cell with too many
    images changes places with one of a cell with too few that has one view less, until the sums are right
    or no such pair is left.
    """
    count = sum(cells.values())
    deck = list(Counter(apportion(SMALL_VIEWS if small else mura_v1_1.VIEWS[split], count)).elements())
    rng.shuffle(deck)
    sizes = _CELLS[split]
    share = apportion(
        {cell: n * sizes[cell].images / sizes[cell].studies for cell, n in cells.items()}, sum(deck), least=1
    )
    hands: dict[Cell, Counter[int]] = {}
    for cell, n in cells.items():
        hands[cell] = Counter(deck[:n])
        del deck[:n]
    excess = {cell: sum(hand.elements()) - share[cell] for cell, hand in hands.items()}
    while pair := _exchange(hands, excess, rng):
        giver, taker, views = pair
        hands[giver] += Counter({views - 1: 1})
        hands[giver] -= Counter({views: 1})
        hands[taker] += Counter({views: 1})
        hands[taker] -= Counter({views - 1: 1})
        excess[giver] -= 1
        excess[taker] += 1
    dealt = {cell: sorted(hand.elements()) for cell, hand in hands.items()}
    for hand in dealt.values():
        rng.shuffle(hand)
    return dealt


def _exchange(
    hands: Mapping[Cell, Counter[int]], excess: Mapping[Cell, int], rng: random.Random
) -> tuple[Cell, Cell, int] | None:
    for giver in sorted((c for c in excess if excess[c] > 0), key=lambda c: -excess[c]):
        for taker in sorted((c for c in excess if excess[c] < 0), key=lambda c: excess[c]):
            views = [v for v in sorted(hands[giver]) if hands[giver][v] and hands[taker][v - 1]]
            if views:
                weights = [min(hands[giver][v], hands[taker][v - 1]) for v in views]
                return giver, taker, rng.choices(views, weights)[0]
    return None


def _patient_sizes(split: str, count: int) -> list[int]:
    table = mura_v1_1.STUDIES_PER_PATIENT[split]
    scale = count / sum(size * patients for size, patients in table.items())
    several = [size for size in sorted(table) if size > 1 for _ in range(int(table[size] * scale + 1e-9))]
    return several + [1] * (count - sum(several))


def _number(split: str, drawn: Sequence[tuple[Cell, int]], sizes: Sequence[int], first: int) -> list[Study]:
    studies: list[Study] = []
    rest = iter(drawn)
    for patient, size in enumerate(sizes, first):
        visits: Counter[str] = Counter()  # study numbers restart in each part, as in MURA
        for _ in range(size):
            cell, views = next(rest)
            visits[cell.part] += 1
            studies.append(Study(split, cell.part, patient, visits[cell.part], cell.abnormal, views))
    return studies


def _with_metal(studies: list[Study], rng: random.Random) -> list[Study]:
    """Give a share of the abnormal studies metal."""
    abnormal = [i for i, study in enumerate(studies) if study.abnormal]
    chosen = set(rng.sample(abnormal, int(METAL_SHARE * len(abnormal))))
    return [replace(study, metal=i in chosen) for i, study in enumerate(studies)]


def _apple_doubles(studies: Sequence[Study], rng: random.Random) -> frozenset[str]:
    wrist = [study.images[0] for study in studies if study.part == "WRIST"]
    other = [study.images[0] for study in studies if study.part != "WRIST"]
    chosen = rng.sample(wrist, min(APPLE_DOUBLES_IN_WRIST, len(wrist)))
    return frozenset(chosen + rng.sample(other, APPLE_DOUBLES - len(chosen)))


def apportion(weights: Mapping[K, float], total: int, least: int = 0) -> dict[K, int]:
    """Divide `total` whole things by weight, the largest remainders rounded up (Hamilton's method).

    Each key gets at least `least`; `total` must suffice for that. Equal remainders go to the earlier key.
    """
    free = total - least * len(weights)
    assert free >= 0, f"{total} is too few for {least} each of {len(weights)}"
    # What the minimum already covers is not owed again.
    whole = sum(weights.values())
    owed = {key: max(0.0, weight / whole * total - least) for key, weight in weights.items()}
    scale = free / sum(owed.values()) if free else 0.0
    exact = {key: value * scale for key, value in owed.items()}
    # The tolerance keeps an exact share from losing one to the last bit of a division.
    parts = {key: int(value + 1e-9) for key, value in exact.items()}
    remainders = sorted(weights, key=lambda key: -round(exact[key] - parts[key], 9))
    for key in remainders[: free - sum(parts.values())]:
        parts[key] += 1
    return {key: part + least for key, part in parts.items()}
