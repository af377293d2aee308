"""`mura shards show`: print what is in shards, and draw a contact sheet."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from components.artifacts.shards import Shards
from components.base.console import Console
from components.base.files import write_bytes
from components.network.pixels import OnDisk

# The contact sheet: pictures in a row, pixels between two, height of a caption, and pixels from it to the next row: so
# many that it lies nearer to its own picture.
ACROSS, GAP, CAPTION, BELOW = 8, 4, 16, 12
# Grey levels.
PAPER, INK = 28, 230


def show(shards: Shards) -> None:
    """Print counts by split, body part and label, sizes and digests. The files are not read."""
    records, facts = shards.records(), shards.facts
    console = Console()
    size = sum(path.stat().st_size for path in shards.path.glob("*.tfrecord"))
    console.print(
        f"{shards.path}: {len(records):,} images of {facts.image_size} x {facts.image_size} pixels, "
        f"{sum(len(split.files) for split in facts.splits.values())} files, {size / 1e6:,.1f} MB",
        soft_wrap=True,
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("images, abnormal")
    for split in facts.splits:
        table.add_column(split, justify="right")
    for part, rows in records.groupby("body_part"):
        table.add_row(str(part), *_counts(rows, list(facts.splits)))
    table.add_section()
    table.add_row("all", *_counts(records, list(facts.splits)), style="bold")
    for name in ("studies", "patients"):
        table.add_row(name, *(f"{getattr(split, name):,}" for split in facts.splits.values()))
    table.add_row("files", *(str(len(split.files)) for split in facts.splits.values()))
    table.add_row("digest", *(split.digest[:12] for split in facts.splits.values()))
    console.print(table)
    console.print(f"shards    {shards.digest}\ndata set  {facts.data_digest}", soft_wrap=True)


def sheet(shards: Shards, count: int, out: Path) -> None:
    """Draw the first images of the training split as networks see them. They have no particular order.

    Args:
        shards: with the images.
        count: the largest number of images.
        out: the PNG to write.
    """
    rows = shards.records().head(count)
    pixels = OnDisk.of(shards, rows)[np.arange(len(rows))]
    side = shards.facts.image_size
    cell = max(side, 96)  # wide enough for its caption
    down = -(-len(rows) // ACROSS)
    row = side + CAPTION + BELOW
    paper = np.full((GAP + down * row + CAPTION, ACROSS * (cell + GAP) + GAP), PAPER, np.uint8)
    captions = zip(rows["body_part"], rows["abnormal"], strict=True)
    for number, (square, (part, abnormal)) in enumerate(zip(pixels, captions, strict=True)):
        top = GAP + number // ACROSS * row
        left = GAP + number % ACROSS * (cell + GAP)
        paper[top : top + side, left : left + side] = square[:, :, 0]
        _write(paper, f"{part}{' +' if abnormal else ''}", (left, top + side + CAPTION - 4))
    _write(paper, "+ abnormal", (GAP, paper.shape[0] - 5))
    done, encoded = cv2.imencode(".png", paper)
    assert done, "OpenCV encodes every uint8 image"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, encoded.tobytes())


def _write(paper: np.ndarray, words: str, at: tuple[int, int]) -> None:
    cv2.putText(paper, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)


def _counts(rows: pd.DataFrame, splits: list[str]) -> list[str]:
    """For each split: number of images, number of abnormal images."""
    found: list[str] = []
    for split in splits:
        abnormal: Any = rows.loc[rows["split"] == split, "abnormal"]
        found.append(f"{len(abnormal):,}, {int(abnormal.sum()):,}")
    return found
