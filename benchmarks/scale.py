"""Memory and time by the number of images, from MURA's size to a hundred times as many.

    python -m benchmarks.scale [--images 40000 400000 4000000] [--plot scale.png] [--json]

Rows are drawn, no pictures: names of MURA's layout in an archive without files, and for each what a worker would have
read. Each of ingest (lists, splits and the table, without decoding), near-duplicates (without comparing pixels) and
validation runs in a process of its own, which tells its peak memory. Time is processor time, user and system, of the
process and its workers together: a busy machine lengthens it little. Near-duplicates compare all with all: their time
grows with the square of the number. `--plot` draws memory and time on logarithmic axes. `ratio` is LIMIT divided by the
largest peak: above 1, all stay below it.

4,000,000 images need 5 GB of disk.
"""

import argparse
import hashlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks import harness
from components.archive.archive import Archive
from components.artifacts.manifest import BODY_PARTS, TABLE, Manifest
from components.ingest.contents import read_contents, read_names
from components.ingest.image_facts import FACTS
from components.ingest.reading import write_rows
from components.params.document import read_params
from components.params.ingest import IngestParams

ROOT = "MURA-v1.1"
STEPS = ("ingest", "near-duplicates", "validate")
LIMIT = 2e9
# Images of a study, and studies of a patient, as MURA has them on average.
VIEWS = 3
PARAMS = Path(__file__).parents[1] / "params.yaml"
# Rows whose facts are drawn at once.
BATCH = 1024


class Drawn(Archive):
    """An archive of which nothing exists but the names and the lists."""

    METAVAR: ClassVar[str] = Archive.METAVAR

    def __init__(self, count: int) -> None:
        """Draw so many images."""
        super().__init__(f"drawn-{count}.zip", max_members=2 * count + 10)
        self.count = count

    def __enter__(self) -> "Drawn":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def members(self) -> Iterator[str]:
        """Images and the four lists, ascending."""
        yield from sorted([*self._images(), *(f"{ROOT}/{name}.csv" for name in self._lists())])

    def list_of(self, member: str) -> bytes:
        """One of the lists."""
        split, what = self._lists()[member.removeprefix(f"{ROOT}/").removesuffix(".csv")]
        mine = (image for image in self._images() if image.startswith(f"{ROOT}/{split}/"))
        if what == "images":
            return b"".join(f"{image}\n".encode() for image in mine)
        studies = (image.rpartition("/")[0] for image in mine if image.endswith("/image1.png"))
        return b"".join(f"{study}/,{int(study.endswith('positive'))}\n".encode() for study in studies)

    def bytes_of(self, member: str, most: int = 0) -> bytes:  # noqa: ARG002 - as of an archive
        """Something that has the digest of the row."""
        return member.encode()

    def _images(self) -> Iterator[str]:
        for number in range(self.count):
            patient, view = divmod(number, VIEWS)
            part = BODY_PARTS[patient % len(BODY_PARTS)].upper()
            split = "valid" if patient % 12 == 0 else "train"
            label = "positive" if patient // len(BODY_PARTS) % 2 else "negative"
            yield f"{ROOT}/{split}/XR_{part}/patient{patient:07d}/study1_{label}/image{view + 1}.png"

    @staticmethod
    def _lists() -> dict[str, tuple[str, str]]:
        kinds = {"image_paths": "images", "labeled_studies": "studies"}
        return {f"{split}_{name}": (split, what) for split in ("train", "valid") for name, what in kinds.items()}


def facts(images: list[str], seed: int = 1) -> Iterator[dict[str, Any]]:
    """What a worker would have read of images, with pictures that are all different."""
    draw = np.random.default_rng(seed)
    for start in range(0, len(images), BATCH):
        some = images[start : start + BATCH]
        spectra = draw.integers(-127, 128, (len(some), 256), dtype=np.int8)
        # A mean of 0, as every picture's.
        spectra[:, 0] = 0
        levels = draw.normal((60.0, 46.0), (12.0, 4.0), (len(some), 2)).round(3)
        for image, spectrum, (mean, std) in zip(some, spectra, levels.tolist(), strict=True):
            digest = hashlib.sha256(image.encode()).hexdigest()
            told = (None, len(image), digest, 512, 406, "L", 0, hashlib.sha256(spectrum.data).hexdigest())
            told += (mean, std, 5, 55, 180, 0.02, 0.0, 0.1, 20.5, 90.25, digest[:16], spectrum.tobytes())
            yield dict(zip(FACTS, told, strict=True))


def ingest(count: int, folder: Path) -> None:
    """Lists, splits and the table, without decoding."""
    archive, params = Drawn(count), IngestParams(tuning_fraction=0.1)
    contents = read_contents(archive, read_names(archive, params), None, params, seed=1)
    folder.mkdir(parents=True)
    write_rows(contents, contents.images, facts(contents.images), folder)
    Manifest.seal(folder, contents.facts)


def near_duplicates(count: int, folder: Path) -> None:
    """Pairs that may be copies."""
    from components.validate import duplicates

    found = duplicates.find_in(Drawn(count), folder / TABLE, folder.parent)
    assert not len(found), "drawn pictures are all different"


def validate(count: int, folder: Path) -> None:
    """Everything but near-duplicates."""
    from components.validate import proof

    params = read_params(PARAMS).validate_
    skipped = {name: {"severity": "skip"} for name in proof.NEAR}
    params = params.model_validate(params.model_dump() | {"expectations": skipped, "pictures": False})
    out = folder.parent / "valid"
    out.mkdir(exist_ok=True)
    proof.run(Drawn(count), Manifest.peek(folder), params, out)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[40_000, 400_000, 4_000_000])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--plot", type=Path, help="a PNG to draw")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    parser.add_argument("--child", nargs=3, metavar=("STEP", "COUNT", "DIR"), help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        step, count, folder = flags.child
        {"ingest": ingest, "near-duplicates": near_duplicates, "validate": validate}[step](int(count), Path(folder))
        print(peak())
        return
    runs = [
        measure(count, [step for step in STEPS if step in flags.steps or step == "ingest"]) for count in flags.images
    ]
    result = {
        "runs": runs,
        "ratio": round(LIMIT / max(run[step]["peak_bytes"] for run in runs for step in flags.steps), 2),
    }
    head = ("images", *(f"{step}{what}" for step in flags.steps for what in (", MB", ", s")))
    rows = [
        (
            f"{run['images']:,}",
            *(v for s in flags.steps for v in (round(run[s]["peak_bytes"] / 1e6), round(run[s]["seconds"]))),
        )
        for run in runs
    ]
    harness.tell(result, "peak memory and processor time by number of images", [head, *rows], flags.json)
    if flags.plot:
        plot(runs, flags.steps, flags.plot)


def measure(count: int, steps: list[str]) -> dict[str, Any]:
    """Peak memory and processor seconds of each step, each in a process of its own."""
    told: dict[str, Any] = {"images": count}
    with harness.folder() as folder:
        for step in steps:
            words = [sys.executable, "-m", "benchmarks.scale", "--child", step, str(count), str(folder / "manifest")]
            before = processor_seconds()
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
            told[step] = {
                "seconds": round(processor_seconds() - before, 1),
                "peak_bytes": int(done.stdout.split()[-1]),
            }
    return told


def processor_seconds() -> float:
    """User and system time of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak() -> int:
    """Most memory that this process has had, bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def plot(runs: list[dict[str, Any]], steps: list[str], path: Path) -> None:
    """Memory and time by the number of images."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(9, 4), layout="constrained")
    memory, seconds = figure.subplots(1, 2)
    counts = [run["images"] for run in runs]
    for step in steps:
        memory.plot(counts, [run[step]["peak_bytes"] / 1e9 for run in runs], "o-", label=step)
        seconds.plot(counts, [run[step]["seconds"] for run in runs], "o-", label=step)
    memory.axhline(LIMIT / 1e9, color="grey", linestyle="--", linewidth=1)
    memory.text(counts[0], LIMIT / 1e9, "limit", va="bottom", color="grey")
    for axes, title in ((memory, "Peak memory, GB"), (seconds, "Processor time, s")):
        axes.set(xscale="log", xlabel="Images", title=title)
        axes.grid(alpha=0.3)
        # Else their labels overlap.
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(counts, [f"{number:,}" for number in counts])
    memory.set_ylim(0, 1.15 * max(LIMIT / 1e9, *(run[step]["peak_bytes"] / 1e9 for run in runs for step in steps)))
    seconds.set_yscale("log")
    # Three labels a decade: a small range of times would have one or none.
    seconds.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    seconds.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    seconds.yaxis.set_minor_formatter(NullFormatter())
    memory.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
