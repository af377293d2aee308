"""The speed of `mura ingest`, compared with bare decoding of the same images.

    python -m benchmarks.ingest [--images 1000] [--archive phantom.zip] [--scaling] [--json]

The ceiling is the number of cores times the rate of one core for bare decoding, file to pixels, with the fastest of
OpenCV, Pillow, imagecodecs (if installed) and TensorFlow, measured in the same run, before and after. `ratio` is the
rate of the whole command, with start-up, divided by the ceiling. `steady_ratio` is without start-up, which is measured
with FEW images. Above 1, ingest is faster than these libraries: it decodes with another one, which is listed too.
`--scaling` repeats the measurement with a quarter and a fortieth of the images.
"""

import functools
import importlib.util
import os
import time
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks import harness
from components.base import workers

# Images of the run that tells the start-up.
FEW = 40
# Images that the ceiling is measured on: enough for the mean, few enough for memory.
SAMPLE = 300

Decoder = Callable[[bytes], object]


def main() -> None:
    """Measure and print."""
    parser = harness.parser(__doc__ or "", images=1000)
    parser.add_argument("--scaling", action="store_true", help="also a quarter and a fortieth of the images")
    flags = parser.parse_args()
    counts = [flags.images, *([flags.images // 4, flags.images // 40] if flags.scaling else []), FEW]
    with harness.archive(flags, *counts) as archives:
        pngs = sample(archives[0])
        before = rates(pngs)
        runs = [_ingest(path) for path in archives]
        after = rates(pngs)
    best = {name: max(before[name], after[name]) for name in before}
    ours = best.pop("components.xray.png")
    fastest = max(best, key=lambda name: best[name])
    ceiling = workers.cores() * best[fastest]
    result: dict[str, Any] = {
        **runs[0],
        "cores": workers.cores(),
        "decoders": {name: round(rate, 1) for name, rate in best.items()},
        "own_decoder": round(ours, 1),
        "fastest": fastest,
        "ceiling": round(ceiling, 1),
        "ratio": round(runs[0]["images_per_second"] / ceiling, 3),
        "steady_ratio": round(steady(runs[0], runs[-1]) / ceiling, 3),
        "runs": runs,
    }
    head = ("ingest", "images", "seconds", "images/s", "of the ceiling", "peak memory")
    rows = [
        (
            "mura ingest",
            each["images"],
            f"{each['seconds']:.1f}",
            f"{each['images_per_second']:.0f}",
            f"{each['images_per_second'] / ceiling:.2f}",
            f"{each['peak_bytes'] / 1e6:.0f} MB",
        )
        for each in runs
    ]
    rows.append(("without start-up", "", "", f"{steady(runs[0], runs[-1]):.0f}", f"{result['steady_ratio']:.2f}", ""))
    rows += [(f"{name}, one core", "", "", f"{rate:.0f}", "", "") for name, rate in [*best.items(), ("ours", ours)]]
    harness.tell(
        result, f"on {workers.cores()} cores; ceiling: {fastest}, {ceiling:.0f} images/s", [head, *rows], flags.json
    )


def rates(pngs: list[bytes], rounds: int = 3) -> dict[str, float]:
    """Images per second of one core by decoder, the best of some rounds, in turn."""
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, decode in decoders().items():
            started = time.perf_counter()
            for png in pngs:
                decode(png)
            seconds.setdefault(name, []).append(time.perf_counter() - started)
    return {name: len(pngs) / min(times) for name, times in seconds.items()}


@functools.cache
def decoders() -> dict[str, Decoder]:
    """Bare decoding, bytes to pixels, on one thread, by the name of the library."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import cv2
    import numpy as np
    import tensorflow as tf
    from PIL import Image

    from components.xray import png

    cv2.setNumThreads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    found: dict[str, Decoder] = {
        "OpenCV": lambda file: cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED),
        "Pillow": lambda file: np.asarray(Image.open(BytesIO(file))),
        "TensorFlow": lambda file: tf.io.decode_png(file).numpy(),
        "components.xray.png": png.decode,
    }
    if importlib.util.find_spec("imagecodecs"):
        found["imagecodecs"] = importlib.import_module("imagecodecs").png_decode
    return found


def sample(path: Path) -> list[bytes]:
    """Some images of a zip, from all over it."""
    names = harness.images_in(path)
    with zipfile.ZipFile(path) as whole:
        return [whole.read(name) for name in names[:: max(1, len(names) // SAMPLE)]]


def steady(large: dict[str, Any], small: dict[str, Any]) -> float:
    """Images per second of a run without the time that both runs needed to start."""
    rate: float = (large["images"] - small["images"]) / max(large["seconds"] - small["seconds"], 1e-3)
    return rate


def _ingest(path: Path) -> dict[str, Any]:
    with harness.folder() as folder:
        words = ["--quiet", "ingest", "--archive", path, "--seed", "1", "--out", folder / "manifest"]
        used = harness.run([*harness.mura(), *words])
    images = len(harness.images_in(path))
    return {
        "images": images,
        "seconds": round(used.seconds, 2),
        "images_per_second": round(images / used.seconds, 1),
        "peak_bytes": used.peak_bytes,
    }


if __name__ == "__main__":
    main()
