"""Writing a phantom archive: the zip of MURA's layout, and beside it what is to be found on its pictures."""

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from components.archive import zip_entry
from components.base import space
from components.base import workers as processes
from components.base.files import alone
from components.phantom import plan as planning
from components.phantom import truth
from components.phantom.plan import Plan, Study
from components.phantom.truth import Truth

# The day of the data set's paper; any fixed date would do, the clock would not.
_DATE = (2018, 5, 22, 0, 0, 0)
# What macOS leaves beside a file that has a Finder note: magic, version 2, filler, no entries.
_APPLE_DOUBLE = bytes.fromhex("00051607 00020000") + b"Mac OS X        " + bytes(2)
# What a picture takes at least; 96 kB on average.
_IMAGE_BYTES = 80_000
_STUDIES_PER_TASK = 8


@dataclass(frozen=True)
class PhantomSummary:
    """What was written."""

    studies: int
    images: int
    patients: int
    findings: int
    """Rows of the truth."""
    bytes: int
    sha256: str


class _Drawn(NamedTuple):
    """A study as it goes into the archive."""

    study: Study
    pngs: list[bytes]  # of its views
    truth: list[Truth]


class _Drawing(NamedTuple):
    """How studies are drawn."""

    seed: int
    difficulty: float


def write_phantom(
    out: Path,
    *,
    studies: int,
    seed: int,
    difficulty: float = planning.DIFFICULTY,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PhantomSummary:
    """Draw an archive that a reader of MURA v1.1 takes for MURA, and write the truth about it beside it.

    `out` appears when it is whole and its truth is there, and not before. With the same numpy, OpenCV and processor
    family, the same studies, seed and difficulty give the same bytes, whatever the number of workers.

    Args:
        out: the zip to write; its folder is made. Its truth is at `truth.path_beside(out)`.
        studies: at least 14; 14,656 gives MURA's own counts (40,005 images).
        seed: another seed, another archive.
        difficulty: -0.5 (coarse) over 0 (obvious, on every view) to 1 (small, faint, and on half of an abnormal study's
            views).
        workers: processes that draw; by default one per core that this process may use.
        progress: called with (images done, images in all) every few images.

    Raises:
        ValueError: an argument is out of its range.
        UsageError: another process is writing `out`.
        OutsideFailed: a worker died (killed, or out of memory).
    """
    easiest, hardest = planning.DIFFICULTIES
    if not easiest <= difficulty <= hardest:
        raise ValueError(f"difficulty: expected a number from {easiest:g} to {hardest:g}, got {difficulty}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    plan = planning.plan(studies, seed)
    space.require(out.parent, plan.images * _IMAGE_BYTES, f"a phantom of {plan.images:,} images")
    beside = truth.path_beside(out)
    zipped, told = (path.with_name(f".{path.name}.partial") for path in (out, beside))
    with alone(out):
        try:
            drawn = _all_drawn(plan, _Drawing(seed, float(difficulty)), workers or processes.cores())
            with space.named(out):
                rows = _pack(zipped, plan, drawn, progress or (lambda *_: None))
                told.write_text(truth.to_csv(rows), encoding="utf-8", newline="")
            with zipped.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = zipped.stat().st_size
            # An older archive goes first: at no moment does an archive lie beside the truth of another.
            out.unlink(missing_ok=True)
            told.replace(beside)
            zipped.replace(out)
        finally:
            zipped.unlink(missing_ok=True)
            told.unlink(missing_ok=True)
    return PhantomSummary(len(plan.studies), plan.images, plan.patients, len(rows), size, digest)


def _pack(path: Path, plan: Plan, drawn: Iterator[_Drawn], progress: Callable[[int, int], None]) -> list[Truth]:
    """Write the zip; return the truth in the order of its members."""
    rows: list[Truth] = []
    done = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for study, pngs, found in drawn:
            for member, content in zip(study.images, pngs, strict=True):
                _add(archive, member, content)
                if member in plan.apple_doubles:
                    _add(archive, _beside(member), _APPLE_DOUBLE)
            rows += found
            done += study.views
            progress(done, plan.images)
        for name, text in _lists(plan).items():
            _add(archive, name, text.encode())
    return rows


def _all_drawn(plan: Plan, drawing: _Drawing, workers: int) -> Iterator[_Drawn]:
    """The studies in order."""
    studies = iter(plan.studies)
    tasks = iter(lambda: tuple(islice(studies, _STUDIES_PER_TASK)), ())
    with processes.in_order(partial(_draw, drawing=drawing), tasks, workers=workers) as drawn:
        for some in drawn:
            yield from some


def _draw(studies: tuple[Study, ...], drawing: _Drawing) -> list[_Drawn]:
    import cv2

    from components.phantom import radiograph

    # There is a process for each core.
    cv2.setNumThreads(1)
    drawn = []
    for study in studies:
        pngs: list[bytes] = []
        rows: list[Truth] = []
        for number in range(1, study.views + 1):
            view = radiograph.View(study, number, *drawing)
            picture, found = radiograph.draw(view)
            pngs.append(radiograph.png(picture, view))
            rows += found
        assert bool(rows) == study.abnormal, f"{study.path}: expected findings on abnormal studies only, got {rows}"
        drawn.append(_Drawn(study, pngs, rows))
    return drawn


def _lists(plan: Plan) -> dict[str, str]:
    """The four CSV files: no header, LF endings, study paths with a closing slash."""
    lists = {}
    for split in planning.SPLITS:
        studies = [study for study in plan.studies if study.split == split]
        lists[f"{planning.ROOT}/{split}_image_paths.csv"] = "".join(
            f"{member}\n" for study in studies for member in study.images
        )
        lists[f"{planning.ROOT}/{split}_labeled_studies.csv"] = "".join(
            f"{study.path},{int(study.abnormal)}\n" for study in studies
        )
    return lists


def _beside(member: str) -> str:
    folder, _, name = member.rpartition("/")
    return f"{folder}/._{name}"


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    zip_entry.add(archive, name, content, _DATE)
