"""How fast batches come, beside Keras' own reader of pictures and beside a copy of the same bytes.

    python -m benchmarks.input [--images 2000] [--image-size 320] [--archive phantom.zip] [--steps 10] [--json]

The same training images at the same size, in batches of 32. Each way is measured over some epochs, in turn, from the
second batch on; the best epoch counts:

- shuffled batches from memory, and from disk (the files are in the kernel's cache, as after a first epoch)
- Keras' `image_dataset_from_directory` on the PNG files
- a plain copy of the array, batch by batch: the ceiling

`ratio` is batches per second from memory over those of Keras. `waiting` is the share of a real training (of the custom
CNN, the fastest of the four networks) that is spent waiting for the next batch.
"""

import json
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.shard import prove
from components.artifacts.manifest import TRAIN
from components.artifacts.shards import Shards
from components.network import backend, batches
from components.params.document import read_params
from components.train.input_benchmark import Diagnosis, diagnose

BATCH = 32
ROUNDS = 3


def main() -> None:
    """Measure and print."""
    parser = harness.parser(__doc__ or "", images=2000)
    parser.add_argument("--image-size", type=int, default=320, help="[default: %(default)s]")
    parser.add_argument("--steps", type=int, default=10, help="of training [default: %(default)s]")
    flags = parser.parse_args()
    with harness.archive(flags) as (archive,), harness.folder() as folder:
        shards = pack(archive, folder, flags.image_size)
        pictures = unpack(archive, shards, folder / "pictures")
        backend.prepare()
        rates = measure(shards, pictures)
        training = _train(shards, flags.steps)
    result = {
        "images": shards.facts.splits[TRAIN].images,
        "image_size": flags.image_size,
        "device": backend.device(),
        "batches_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "ratio": round(rates["memory"] / rates["keras"], 1),
        "of_copy": round(rates["memory"] / rates["copy"], 3),
        "waiting": round(training.waiting, 4),
        "training_images_per_second": round(training.training, 1),
    }
    names = {
        "memory": "shuffled, from memory",
        "disk": "shuffled, from disk",
        "keras": "image_dataset_from_directory",
        "copy": "a copy of the bytes",
    }
    rows: list[tuple[object, ...]] = [("batches of 32", "batches/s", "images/s", "of Keras")]
    rows += [
        (name, f"{rates[key]:,.1f}", f"{rates[key] * BATCH:,.0f}", f"{rates[key] / rates['keras']:.1f}")
        for key, name in names.items()
    ]
    rows.append(("training, waiting for input", "", f"{training.training:,.0f}", f"{training.waiting:.2%}"))
    harness.tell(result, f"{result['images']} images of {flags.image_size} px, {result['device']}", rows, flags.json)


def pack(archive: Path, folder: Path, image_size: int) -> Shards:
    """The shards of an archive."""
    valid, out = prove(archive, folder), folder / "shards"
    params = json.dumps({"image_size": image_size, "images_per_shard": 512})
    words = ["--archive", archive, "--manifest", valid.path, "--params", params, "--out", out]
    harness.run([*harness.mura(), "--quiet", "shard", *words])
    return Shards.read(out)


def unpack(archive: Path, shards: Shards, folder: Path) -> Path:
    """The training images as files, a directory for each label, as Keras reads them."""
    rows = shards.records().query("split == @TRAIN")
    with zipfile.ZipFile(archive) as whole:
        for number, (image, abnormal) in enumerate(zip(rows["image"], rows["abnormal"], strict=True)):
            path = folder / ("abnormal" if abnormal else "normal") / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(whole.read(image))
    return folder


def measure(shards: Shards, pictures: Path) -> dict[str, float]:
    """Batches per second of each way, the best of some epochs, in turn."""
    import keras  # after components.network, which imports TensorFlow without its messages

    held, kept = batches.read_split(shards, TRAIN, "memory"), batches.read_split(shards, TRAIN, "disk")
    weights = np.ones(len(held), np.float32)
    pixels, into = np.asarray(held.pixels), np.empty((BATCH, *held.pixels.shape[1:]), np.uint8)

    def copies() -> Iterable[int]:
        for start in range(0, len(pixels), BATCH):
            part = pixels[start : start + BATCH]
            np.copyto(into[: len(part)], part)
            yield start

    size = (shards.facts.image_size,) * 2
    theirs = keras.utils.image_dataset_from_directory(
        pictures, label_mode="binary", color_mode="grayscale", batch_size=BATCH, image_size=size, seed=1, verbose=False
    )
    ways: dict[str, Callable[[int], Iterable[Any]]] = {
        "memory": lambda epoch: batches.training_batches(held, weights, BATCH, 1, epoch),
        "disk": lambda epoch: batches.training_batches(kept, weights, BATCH, 1, epoch),
        "keras": lambda _: theirs,
        "copy": lambda _: copies(),
    }
    best = dict.fromkeys(ways, 0.0)
    for epoch in range(ROUNDS):
        for name, way in ways.items():
            drawn = iter(way(epoch))
            next(drawn)  # waits until the pipeline is built
            started = time.perf_counter()
            count = sum(1 for _ in drawn)
            best[name] = max(best[name], count / (time.perf_counter() - started))
    return best


def _train(shards: Shards, steps: int) -> Diagnosis:
    params = read_params(Path("params.mura.yaml")).train.candidates["custom_cnn"]
    return diagnose(shards, params, seed=1, steps=steps)


if __name__ == "__main__":
    main()
