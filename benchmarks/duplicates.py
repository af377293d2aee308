"""The search for copies: its time, the share of planted copies that it finds, and its false alarms.

    python -m benchmarks.duplicates [--images 2000] [--archive phantom.zip] [--planted 50] [--json]

Three parts. The clean phantom is searched: seconds, peak memory, pairs whose pixels were compared, and false alarms,
which are images of pairs that were called copies. Copies of every kind are planted in a thousand of its images and
searched for: recall. Then tables without an archive are searched, of 1,000, 10,000, 40,000 and 400,000 pictures, up to
`--images`. Each picture has the low frequencies of a mixture of two phantom pictures of one body part. `ratio` is the
time to compare 10,000 hashes of these with all others, divided by the time of the lookup, both on one core. Both find
the same pairs.
"""

import json
import logging
import random
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from benchmarks import harness
from components.archive.archive import Archive
from components.artifacts.manifest import Manifest
from components.validate import duplicates
from components.validate.hash_lookup import Lookup
from components.validate.warps import WARPS, Spectra
from components.xray.png import Grey, decode
from components.xray.signature import low_frequencies

SIZES = (1_000, 10_000, 40_000, 400_000)
# Images among which copies are planted.
HAYSTACK = 1_000
# Pictures of which all hashes are compared with all.
COMPARED = 10_000


def main() -> None:
    """Measure and print."""
    parser = harness.parser(__doc__, images=2_000)
    parser.add_argument("--planted", type=int, default=50, help="copies of every kind [default: %(default)s]")
    flags = parser.parse_args()
    with harness.folder() as here:
        source = (flags.archive or harness.draw(here / "phantom.zip", min(flags.images, 40_005))).absolute()
        clean = harness.part(source, flags.images, here / "clean.zip")
        table, found = _searched(clean, here / "clean")
        alarms = len({*found["pairs"]["first"], *found["pairs"]["second"]})
        recall = _recall(source, here, flags.planted)
        scaling = {size: _scaled(table, size) for size in _sizes(flags.images)}
    brute, banded = _lookup(table, COMPARED)
    result = {
        "images": len(table),
        "seconds": found["seconds"],
        "peak_bytes": found["peak_bytes"],
        "pairs_compared": found["looked_at"],
        "false_alarms": alarms,
        "false_alarm_share": alarms / len(table),
        "planted": flags.planted,
        "recall": recall,
        "scaling": scaling,
        "ratio": round(brute / banded, 1),
    }
    rows: list[list[object]] = [["", "images", "seconds", "found"]]
    rows += [["clean phantom", f"{len(table):,}", found["seconds"], f"{alarms} false alarms"]]
    rows += [[kind, flags.planted, "", f"{share:.1%}"] for kind, share in recall.items()]
    rows += [["low frequencies", f"{n:,}", one["seconds"], f"{one['pairs']:,} pairs"] for n, one in scaling.items()]
    peak = found["peak_bytes"] / 1e9
    harness.tell(result, f"duplicates: {found['looked_at']:,} pairs compared, peak {peak:.2f} GB", rows, flags.json)


def search(archive: str, manifest: str, out: str) -> None:
    """Run in the measured process: search, and write the time to a file."""
    looked_at = 0

    class Counter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nonlocal looked_at
            looked_at = int(str(record.args[1]).split()[0].replace(",", "")) if isinstance(record.args, tuple) else 0

    duplicates.logger.setLevel(logging.INFO)
    duplicates.logger.addHandler(Counter())
    table = Manifest.read(Path(manifest)).table
    started = time.perf_counter()
    pairs = duplicates.find(Archive.read(archive), table)
    seconds = time.perf_counter() - started
    told = {"seconds": seconds, "looked_at": looked_at, "pairs": pairs.to_dict("list")}
    Path(out).write_text(json.dumps(told), encoding="utf-8")


def _searched(archive: Path, work: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The manifest of an archive, and the result of a search in a process of its own."""
    manifest, out = work.with_suffix(".manifest"), work.with_suffix(".json")
    harness.run([*harness.mura(), "--quiet", "ingest", "--archive", archive, "--seed", 1, "--out", manifest])
    code = f"from benchmarks import duplicates; duplicates.search({str(archive)!r}, {str(manifest)!r}, {str(out)!r})"
    used = harness.run([sys.executable, "-c", code])
    return Manifest.read(manifest).table, json.loads(out.read_text()) | {"peak_bytes": used.peak_bytes}


def _recall(source: Path, here: Path, planted: int) -> dict[str, float]:
    """Share of the planted copies that were found as copies of their originals, by kind."""
    haystack = here / "planted.zip"
    shutil.copyfile(harness.part(source, HAYSTACK, here / "haystack.zip"), haystack)
    # Originals are of training patients, their copies of test patients that have nothing else.
    originals = [member for member in harness.images_in(haystack) if "/train/" in member]
    planted = min(planted, len(originals))
    drawn = random.Random(1)
    made: dict[str, list[frozenset[str]]] = {}
    with zipfile.ZipFile(haystack, "a") as whole:
        folder = originals[0].split("/train/")[0]
        for number, (kind, copy) in enumerate(kinds(drawn).items()):
            made[kind] = []
            for place, original in enumerate(drawn.sample(originals, planted)):
                patient = f"patient{50_000 + number * planted + place}"
                name = f"{folder}/valid/XR_HAND/{patient}/study1_negative/image1.png"
                pixels = np.ascontiguousarray(copy(decode(whole.read(original)).grey))
                whole.writestr(name, cv2.imencode(".png", pixels)[1].tobytes())
                made[kind].append(frozenset((original, name)))
    _, found = _searched(haystack, here / "planted")
    pairs = {frozenset(pair) for pair in zip(found["pairs"]["first"], found["pairs"]["second"], strict=True)}
    return {kind: sum(pair in pairs for pair in mine) / planted for kind, mine in made.items()}


def kinds(drawn: random.Random) -> dict[str, Callable[[Grey], Grey]]:
    """How copies are made: functions from uint8 [height, width] to the same. `drawn` gives random numbers."""

    def cropped(grey: Grey) -> Grey:
        height, width = grey.shape
        down, right = round(0.05 * height), round(0.05 * width)
        top, left = round(drawn.random() * down), round(drawn.random() * right)
        return grey[top : height - down + top, left : width - right + left]

    def cropped_everywhere(grey: Grey) -> Grey:
        height, width = grey.shape
        down, right = round(0.05 * height), round(0.05 * width)
        return grey[down : height - down, right : width - right]

    def turned(grey: Grey) -> Grey:
        height, width = grey.shape
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), drawn.choice([-2.0, 2.0]), 1)
        return _grey(cv2.warpAffine(grey, turn, (width, height)))

    def brighter(by: float) -> Callable[[Grey], Grey]:
        return lambda grey: np.clip(grey * by, 0, 255).astype(np.uint8)

    def compressed(grey: Grey) -> Grey:
        file = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
        return _grey(cv2.imdecode(file, cv2.IMREAD_GRAYSCALE))

    return {
        "same pixels": lambda grey: grey,
        "crop 5 %": cropped,
        "crop 5 % at every edge": cropped_everywhere,
        "mirrored": lambda grey: grey[:, ::-1],
        "JPEG quality 60": compressed,
        "20 % brighter": brighter(1.2),
        "20 % darker": brighter(0.8),
        "turned 2 degrees": turned,
    }


def _grey(pixels: Any) -> Grey:
    return np.asarray(pixels, np.uint8)


def _sizes(most: int) -> list[int]:
    return [size for size in SIZES if size <= most] or [most]


def _mixed(table: pd.DataFrame, size: int) -> Spectra:
    """Spectra of so many imaginary pictures.

    For each body part they vary around the mean as the spectra of the table do.
    """
    rng = np.random.default_rng(1)
    low = low_frequencies(table["spectrum"])
    aspect = (table["width"] / table["height"]).to_numpy(np.float64)
    one = rng.integers(len(low), size=size)
    other = np.empty(size, np.int64)
    mean = np.empty_like(low)
    parts = table["body_part"].factorize()[0]
    for part in np.unique(parts):
        members, mine = np.flatnonzero(parts == part), parts[one] == part
        mean[members] = low[members].mean(axis=0)
        other[mine] = rng.choice(members, mine.sum())
    share = rng.uniform(0.2, 0.8, (size, 1)).astype(np.float32)
    away = low - mean
    return Spectra.of(mean[one] + np.sqrt(share) * away[one] + np.sqrt(1 - share) * away[other], aspect[one])


def _scaled(table: pd.DataFrame, size: int) -> dict[str, float]:
    spectra = _mixed(table, size)
    started = time.perf_counter()
    found = duplicates.candidates(spectra, lambda one, _: np.ones(len(one), bool))
    return {"seconds": time.perf_counter() - started, "pairs": len(found.copy)}


def _lookup(table: pd.DataFrame, size: int) -> tuple[float, float]:
    """Seconds to compare all hashes with all, and of the lookup, both on one core."""
    spectra = _mixed(table, size)
    entries = np.concatenate([spectra.hashes(warp, np.arange(size)) for warp in WARPS])
    queries = spectra.hashes(WARPS[0], np.arange(size))
    started = time.perf_counter()
    height = max(1, 2**18 // len(entries))
    compared = 0
    for start in range(0, len(queries), height):
        unequal = np.bitwise_xor.outer(queries[start : start + height], entries)
        compared += int(np.count_nonzero(np.bitwise_count(unequal) <= duplicates.RADIUS))
    brute = time.perf_counter() - started
    started = time.perf_counter()
    lookup = Lookup(queries, entries, duplicates.RADIUS)
    looked_up = sum(len(hit) for band in range(duplicates.RADIUS + 1) for hit, _ in lookup.hits(band))
    banded = time.perf_counter() - started
    assert looked_up == compared, "the lookup is exact"
    return brute, banded


if __name__ == "__main__":
    main()
