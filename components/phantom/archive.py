"""Writing a phantom archive: the zip of MURA's layout."""

import hashlib
import multiprocessing
import os
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from components.phantom import plan as planning
from components.phantom.plan import Plan, Study

# The day of the data set's paper; any fixed date would do, the clock would not.
_DATE = (2018, 5, 22, 0, 0, 0)
# What macOS leaves beside a file that has a Finder note: magic, version 2, filler, no entries.
_APPLE_DOUBLE = bytes.fromhex("00051607 00020000") + b"Mac OS X        " + bytes(2)
_STUDIES_PER_TASK = 8
_TASKS_AHEAD = 3  # per worker: enough to keep them busy, few enough to keep memory flat


@dataclass(frozen=True)
class PhantomSummary:
    """What was written."""

    studies: int
    images: int
    patients: int
    bytes: int
    sha256: str


def write_phantom(
    out: Path,
    *,
    studies: int,
    seed: int,
    difficulty: float = 0.3,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PhantomSummary:
    """Draw an archive that a reader of MURA v1.1 takes for MURA.

    `out` appears when it is whole and not before. With the same numpy, OpenCV and processor family, the same
    studies, seed and difficulty give the same bytes, whatever the number of workers.

    Args:
        out: the zip to write; its folder is made.
        studies: at least 14; 14,656 gives MURA's own counts (40,005 images).
        seed: another seed, another archive.
        difficulty: 0 (obvious, on every view) to 1 (small, faint, and on half of an abnormal study's views).
        workers: processes that draw; by default one per core that this process may use.
        progress: called with (images done, images in all) every few images.

    Raises:
        ValueError: an argument is out of its range.
    """
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty: expected a number from 0 to 1, got {difficulty}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    plan = planning.plan(studies, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            done = 0
            for study, pictures in _drawn(plan, seed, float(difficulty), workers or _cores()):
                for member, content in zip(study.images, pictures, strict=True):
                    _add(archive, member, content)
                    if member in plan.apple_doubles:
                        _add(archive, _beside(member), _APPLE_DOUBLE)
                done += study.views
                if progress is not None:
                    progress(done, plan.images)
            for name, text in _lists(plan).items():
                _add(archive, name, text.encode())
        with partial.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        summary = PhantomSummary(len(plan.studies), plan.images, plan.patients, partial.stat().st_size, digest)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return summary


def _drawn(plan: Plan, seed: int, difficulty: float, workers: int) -> Iterator[tuple[Study, list[bytes]]]:
    """The studies in order, each with the PNG files of its views."""
    studies = iter(plan.studies)
    tasks = iter(lambda: tuple(islice(studies, _STUDIES_PER_TASK)), ())
    if workers == 1:
        for task in tasks:
            yield from zip(task, _draw(task, seed, difficulty), strict=True)
        return
    # Not forked: the caller may hold threads (TensorFlow's), whose locks a forked child would inherit.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_single_threaded) as pool:
        ahead: deque[tuple[tuple[Study, ...], Future[list[list[bytes]]]]] = deque()
        try:
            while True:
                for task in islice(tasks, _TASKS_AHEAD * workers - len(ahead)):
                    ahead.append((task, pool.submit(_draw, task, seed, difficulty)))
                if not ahead:
                    return
                task, future = ahead.popleft()
                yield from zip(task, future.result(), strict=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _draw(studies: tuple[Study, ...], seed: int, difficulty: float) -> list[list[bytes]]:
    from components.phantom import radiograph

    return [[radiograph.png(study, view, seed, difficulty) for view in range(1, study.views + 1)] for study in studies]


def _single_threaded() -> None:
    import cv2

    cv2.setNumThreads(1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system = 3  # Unix, on every system
    entry.external_attr = 0o100644 << 16
    archive.writestr(entry, content)
