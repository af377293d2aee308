"""The diagram from the archive to the splits: what was read, what was left out and why."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from components.artifacts.manifest import TEST, TRAIN, TUNING, ValidManifestFacts
from components.artifacts.shards import ShardsFacts, SplitFacts
from components.base.words import count, in_words

# Units of the drawing; a page shows it at most a sixth larger.
WIDTH, LINE, PADDING, GAP = 480, 17, 10, 26
MIDDLE, MIDDLE_WIDTH = 0, 262
SIDE, SIDE_WIDTH = 286, 194
# Letters of a line of a box beside the others, and of a split's.
SIDE_LETTERS, SPLIT_LETTERS = 24, 19
ORIGINS = {
    TRAIN: "published train, without the tuning patients",
    TUNING: "patients of the published train",
    TEST: "the published valid",
}


class Box(NamedTuple):
    """A frame with lines of text, the first of them bold."""

    x: int
    y: int
    width: int
    lines: Sequence[str]

    @property
    def height(self) -> int:
        """Of the frame."""
        return 2 * PADDING + LINE * len(self.lines)

    @property
    def bottom(self) -> int:
        """Its lower edge."""
        return self.y + self.height


def diagram(manifest: ValidManifestFacts, shards: ShardsFacts) -> Markup:
    """Draw the diagram as an `<svg>` in the colours of the page.

    Args:
        manifest: what was read of the archive, and what validation says.
        shards: the splits.
    """
    # Below each stage stands what it left out, to its right.
    archive = Box(MIDDLE, 0, MIDDLE_WIDTH, _archive(manifest))
    left_out = Box(SIDE, archive.bottom + GAP // 2, SIDE_WIDTH, _left_out(manifest))
    read = Box(MIDDLE, left_out.bottom + GAP // 2, MIDDLE_WIDTH, _read(manifest))
    refused = Box(SIDE, read.bottom + GAP // 2, SIDE_WIDTH, _judged(manifest, shards))
    each = (WIDTH - 2 * 12) // 3
    texts = [_split(name, facts) for name, facts in shards.splits.items()]
    longest = max(map(len, texts))
    splits = [
        Box(number * (each + 12), refused.bottom + GAP, each, text + [""] * (longest - len(text)))
        for number, text in enumerate(texts)
    ]
    axis, fork = MIDDLE + MIDDLE_WIDTH // 2, refused.bottom + GAP // 2
    arrows = [
        _arrow((axis, archive.bottom), (axis, read.y)),
        *(_arrow((axis, box.y + box.height // 2), (SIDE, box.y + box.height // 2)) for box in (left_out, refused)),
        _line((axis, read.bottom), (axis, fork)),
        _line((splits[0].x + each // 2, fork), (splits[-1].x + each // 2, fork)),
        *(_arrow((box.x + each // 2, fork), (box.x + each // 2, box.y)) for box in splits),
    ]
    height = max(box.bottom for box in splits) + 2
    said = "; ".join(
        ": ".join((box.lines[0], ", ".join(filter(None, box.lines[1:])))) for box in (archive, left_out, read, *splits)
    )
    drawn = [*arrows, *map(_draw, (archive, left_out, read, refused, *splits))]
    return Markup('<svg viewBox="-1 -1 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH + 2, height, said, Markup("").join(drawn)
    )


def _archive(manifest: ValidManifestFacts) -> list[str]:
    name = manifest.archive if len(manifest.archive) <= 34 else f"{manifest.archive[:33]}…"
    return ["Archive", name, count(manifest.images + manifest.left_out_images, "image")]


def _left_out(manifest: ValidManifestFacts) -> list[str]:
    found = []
    if manifest.left_out_images:
        studies = sum(manifest.left_out_studies.values())
        parts = in_words(list(manifest.left_out_studies)) if manifest.left_out_studies else "other body parts"
        found.append(f"{count(manifest.left_out_images, 'image')} of {count(studies, 'study')}, not chosen: {parts}")
    if manifest.empty_studies:
        found.append(f"{count(manifest.empty_studies, 'study')} without an image")
    if manifest.sidecars:
        found.append(f"{count(manifest.sidecars, 'AppleDouble file')}, no images")
    if manifest.others:
        found.append(f"{count(len(manifest.others), 'other file')}, no images")
    return ["Left out by ingest", *_wrapped(found or ["nothing"], SIDE_LETTERS)]


def _read(manifest: ValidManifestFacts) -> list[str]:
    people = f"{count(manifest.studies, 'study')}, {count(manifest.patients, 'patient')}"
    return ["Read", count(manifest.images, "image"), people]


def _judged(manifest: ValidManifestFacts, shards: ShardsFacts) -> list[str]:
    holding = manifest.expectations - len(manifest.warnings)
    found = [f"nothing: all gates hold ({holding} of {count(manifest.expectations, 'expectation')} hold)"]
    if manifest.warnings:
        found.append(f"warnings: {', '.join(manifest.warnings)}")
    if lost := manifest.images - sum(split.images for split in shards.splits.values()):
        found.append(f"{count(lost, 'image')} in no split")
    return ["Refused by validate", *_wrapped(found, SIDE_LETTERS)]


def _split(name: str, facts: SplitFacts) -> list[str]:
    share = 100 * facts.abnormal_studies / facts.studies if facts.studies else 0
    counts = [count(facts.images, "image"), count(facts.studies, "study"), count(facts.patients, "patient")]
    origin = _wrapped([ORIGINS[name]], SPLIT_LETTERS) if name in ORIGINS else []
    return [name.capitalize(), *origin, *counts, f"{share:.0f} % abnormal"]


def _wrapped(texts: Iterable[str], letters: int) -> list[str]:
    return [line for text in texts for line in textwrap.wrap(text, letters)]


def _draw(box: Box) -> Markup:
    frame = Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="5"/>').format(box.x, box.y, box.width, box.height)
    lines = [
        Markup('<text x="{}" y="{}"{}>{}</text>').format(
            box.x + PADDING, box.y + PADDING + LINE * number + 13, Markup(' class="head"') if not number else "", line
        )
        for number, line in enumerate(box.lines)
        if line
    ]
    return Markup("").join([frame, *lines])


def _line(start: tuple[int, int], end: tuple[int, int]) -> Markup:
    return Markup('<path d="M{} {}L{} {}"/>').format(*start, *end)


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> Markup:
    """A line down or to the right, with a head."""
    x, y = end
    head = f"M{x - 4} {y - 7}L{x} {y}L{x + 4} {y - 7}" if start[0] == x else f"M{x - 7} {y - 4}L{x} {y}L{x - 7} {y + 4}"
    return _line(start, end) + Markup('<path d="{}"/>').format(head)
