"""What the benchmarks share: flags, archives to work on, children to measure, tables to print."""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

# A full-size phantom has 2.7 images a study, as MURA, a small one fewer.
IMAGES_PER_STUDY = 1.9
# Seconds between two looks at the memory of a process and its children.
GLANCE = 0.5


class Used(NamedTuple):
    """What a command used."""

    seconds: float
    peak_bytes: int
    """Most memory at one time of the process and all its children, shared pages counted once; 0 where there is no
    /proc."""


def parser(doc: str, images: int) -> argparse.ArgumentParser:
    """The flags that all benchmarks have.

    Args:
        doc: the benchmark's docstring.
        images: how many images, unless told.
    """
    made = argparse.ArgumentParser(description=doc.split("\n")[0], epilog=doc, formatter_class=_formatter)
    made.add_argument("--images", type=int, default=images, help="about so many images [default: %(default)s]")
    made.add_argument("--archive", type=Path, help="a zip to take them from; a phantom is drawn otherwise")
    made.add_argument("--json", action="store_true", help="one object instead of a table")
    return made


def tell(result: dict[str, Any], title: str, rows: Sequence[Sequence[object]], as_json: bool) -> None:
    """Print a result: as one JSON object, or as a table.

    Args:
        result: what was measured; `ratio` is the headline.
        title: what the table is about.
        rows: the table, its head first.
        as_json: which of the two.
    """
    if as_json:
        print(json.dumps(result))
        return
    texts = [[f"{cell:,.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))]
    print(title)
    for first, *others in texts:
        cells = [first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(others, widths[1:], strict=True))]
        print("  " + "  ".join(cells).rstrip())
    print(f"  ratio {result['ratio']}")


@contextmanager
def archive(flags: argparse.Namespace, *counts: int) -> Iterator[list[Path]]:
    """Zips of so many images each, in a temporary folder; of `--images` unless told.

    Args:
        flags: of `parser`.
        counts: how many images.
    """
    counts = counts or (flags.images,)
    with folder() as here:
        source = (flags.archive or draw(here / "phantom.zip", max(counts))).absolute()
        yield [part(source, count, here / f"{count}.zip") for count in counts]


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def draw(path: Path, images: int, seed: int = 1) -> Path:
    """A phantom of about so many images."""
    studies = max(14, round(images / IMAGES_PER_STUDY))
    command = ("phantom", "--out", str(path), "--studies", str(studies), "--seed", str(seed))
    subprocess.run([*mura(), "--quiet", *command], check=True, stdout=sys.stderr)
    return path


def part(source: Path, images: int, path: Path) -> Path:
    """A zip of about so many images of another, whole studies from all over it; the other itself if it has no more."""
    with zipfile.ZipFile(source) as whole:
        lists = {name: _rows(whole.read(name)) for name in whole.namelist() if name.endswith(".csv")}
        studies = [row[0] for name, rows in lists.items() if "labeled_studies" in name for row in rows if "/" in row[0]]
        listed = [row[0] for name, rows in lists.items() if "image_paths" in name for row in rows if "/" in row[0]]
        if len(listed) <= images:
            return source
        step = len(listed) / images
        chosen = {study for number, study in enumerate(studies) if int(number / step) != int((number - 1) / step)}
        with zipfile.ZipFile(path, "w") as made:
            for name in whole.namelist():
                if name in lists:
                    kept = [row for row in lists[name] if row and f"{row[0].rpartition('/')[0]}/" in chosen]
                    made.writestr(name, "".join(f"{','.join(row)}\n" for row in kept))
                elif f"{name.rpartition('/')[0]}/" in chosen:
                    made.writestr(name, whole.read(name))
    return path


def images_in(path: Path) -> list[str]:
    """Members of a zip that are images."""
    with zipfile.ZipFile(path) as whole:
        return [name for name in whole.namelist() if name.endswith(".png") and "/._" not in name]


def mura() -> list[str]:
    """The command line of this environment."""
    return [str(Path(sys.executable).with_name("mura"))]


def run(command: Sequence[object], cwd: Path | None = None, environment: dict[str, str] | None = None) -> Used:
    """Run a command to its end and measure it; what it says goes to stderr.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    started = time.perf_counter()
    with subprocess.Popen([str(word) for word in command], cwd=cwd, env=environment, stdout=sys.stderr) as process:
        peak = [0]
        watch = threading.Thread(target=_watch, args=(process, peak), daemon=True)
        watch.start()
        code = process.wait()
        seconds = time.perf_counter() - started
        watch.join()
    if code:
        raise subprocess.CalledProcessError(code, [str(word) for word in command])
    return Used(seconds, peak[0])


def memory_of(pid: int) -> int:
    """Bytes that a process and all its children use, shared pages counted once; 0 where there is no /proc."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            for line in Path(f"/proc/{one}/smaps_rollup").read_text(encoding="utf-8").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except (OSError, ProcessLookupError):
            continue  # it ended meanwhile
    return total


def _watch(process: "subprocess.Popen[bytes]", peak: list[int]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], memory_of(process.pid))
        time.sleep(GLANCE)


def _rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(
        prog, width=min(120, os.get_terminal_size().columns if sys.stdout.isatty() else 120)
    )
