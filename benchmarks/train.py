"""How close the training loop comes to the bare step, and what checkpoints and tracking add.

    python -m benchmarks.train [--candidate vgg16 ...] [--precision float32 ...] [--image-size 64] [--json]

For each candidate and precision, in turn:

step    the compiled step of training, again and again on one batch that is in memory
loop    the project's loop over an epoch of drawn batches, moving average included

`ratio` is the smallest images/s of the loop over those of the step; the goal is 0.97. `checkpoint` and `tracking` are
the seconds after an epoch in which the checkpoint is saved and the epoch is logged to MLflow (SQLite), as shares of an
epoch of MURA's size at the loop's speed; the goal is 0.02 for both. Where there is a GPU, its peak memory and its watts
during the loop are told too. Without `--precision`, float32 and what `precision: auto` chooses are measured.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from components import tracking
from components.network import architectures, backend, batches, weights_file
from components.params.document import read_params
from components.params.train import TrainParams
from components.train import multi_worker, phases
from components.train.averaging import Averages
from components.train.checkpoint import Checkpoint
from components.train.state import Epoch, Origin, State

# Training images of MURA that are not in the tuning split.
MURA = 33_000
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    candidates = read_params(Path("params.yaml")).train.candidates
    parser.add_argument("--candidate", nargs="+", default=list(candidates), choices=candidates, metavar="NAME")
    parser.add_argument("--precision", nargs="+", help="dtype policies of Keras")
    parser.add_argument("--image-size", type=int, default=64, help="[default: %(default)s]")
    parser.add_argument("--batch-size", type=int, default=32, help="[default: %(default)s]")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement [default: %(default)s]")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    flags = parser.parse_args()
    backend.prepare()
    precisions = flags.precision or list(dict.fromkeys(("float32", backend.precision("auto"))))
    found = []
    with harness.folder() as folder:
        for name, precision in itertools.product(flags.candidate, precisions):
            params = candidates[name].model_copy(update={"batch_size": flags.batch_size, "averaging": 1.0})
            found.append({"candidate": name, "precision": precision} | measure(params, precision, flags, folder))
    head = ("candidate", "precision", "step, images/s", "loop", "of step", "checkpoint", "tracking", "memory", "watts")
    rows = [head] + [
        (
            each["candidate"],
            each["precision"],
            f"{each['step']:,.1f}",
            f"{each['loop']:,.1f}",
            f"{each['loop'] / each['step']:.3f}",
            f"{each['checkpoint']:.2%}",
            f"{each['tracking']:.2%}",
            f"{each['gpu_bytes'] / 1e9:.1f} GB" if each["gpu_bytes"] else "-",
            f"{each['watts']:.0f}" if each["watts"] else "-",
        )
        for each in found
    ]
    ratio = round(min(each["loop"] / each["step"] for each in found), 3)
    title = f"training at {flags.image_size} px in batches of {flags.batch_size}, {backend.device()}"
    harness.tell({"device": backend.device(), "rows": found, "ratio": ratio}, title, rows, flags.json)


def measure(params: TrainParams, precision: str, flags: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One candidate in one precision."""
    trained = Trained(params, precision, flags.image_size)
    trained.loop(2)  # Keras traces the network.
    trained.step(2)
    count = max(8, round(flags.seconds * trained.step(4) / params.batch_size))
    steps, loops = [], []
    with watts() as power:
        for _ in range(ROUNDS):
            steps.append(trained.step(count))
            loops.append(trained.loop(count))
    # Not the median: an epoch that ends late is part of a training.
    loop = statistics.harmonic_mean(loops)
    epoch = MURA / loop
    return {
        "step": statistics.harmonic_mean(steps),
        "loop": loop,
        "checkpoint": trained.checkpoint(folder) / epoch,
        "tracking": tracked(params, folder) / epoch,
        "gpu_bytes": _peak_memory(),
        "watts": statistics.mean(power) if power else 0.0,
    }


class Trained:
    """A network, its compiled step and the project's loop around it."""

    def __init__(self, params: TrainParams, precision: str, image_size: int) -> None:
        self.params, self._size = params, image_size
        self._model = architectures.build(params, image_size, seed=1, precision=precision)
        phases.compile_for(self._model, phases.phases(params)[-1], params, MURA)
        self._averages = Averages(self._model, 100.0)
        self._train_epoch = multi_worker.Worker().trainer(self._model)
        self._step = backend.compiled(self._model.train_step)
        self._epoch = 0

    def step(self, count: int) -> float:
        """Images per second of so many steps on one batch in memory."""
        (batch,) = self._batches(1)
        return self._rate(count, lambda: [self._step(batch) for _ in range(count)])

    def loop(self, count: int) -> float:
        """Images per second of an epoch of so many batches."""
        drawn = self._batches(count)
        return self._rate(count, lambda: self._train_epoch(drawn, lambda _: self._averages.advance()))

    def checkpoint(self, folder: Path) -> float:
        """Seconds that saving takes after an epoch that was the best."""
        path = folder / f"checkpoint-{time.time_ns()}"
        path.mkdir()
        row = Epoch(epoch=1, phase="all", learning_rate=0.1, loss=1.0, tuning_loss=1.0, tuning_auroc=0.5)
        origin = Origin(shards="", params={}, seed=1, precision="", code="")
        state = State(origin=origin, epoch_in_phase=1, curves=[row])
        values = [*self._model.variables, *self._model.optimizer.variables, *self._averages.variables]

        def kept() -> bytes:
            with self._averages.applied():
                return weights_file.content(self._model)

        began = time.perf_counter()
        Checkpoint(path).save(values, state, kept)
        return time.perf_counter() - began

    def _batches(self, count: int) -> Any:
        images, rng = count * self.params.batch_size, np.random.default_rng(0)
        words = np.full(images, "-")
        pixels = rng.integers(0, 256, (images, self._size, self._size, 1), dtype=np.uint8)
        split = batches.Split(pixels, rng.integers(0, 2, images), words, words, words, words)
        self._epoch += 1
        return batches.training_batches(split, np.ones(images, np.float32), self.params.batch_size, 1, self._epoch)

    def _rate(self, count: int, work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        np.asarray(self._model.weights[0])  # A GPU may still be at work.
        return count * self.params.batch_size / (time.perf_counter() - began)


def tracked(params: TrainParams, folder: Path) -> float:
    """Seconds that logging an epoch to MLflow takes: the median of some."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    description = tracking.Description(params.candidate, params.architecture, params.model_dump(mode="json"), {})
    metrics = dict.fromkeys(("learning_rate", "loss", "tuning_loss", "tuning_auroc"), 0.5)
    seconds = []
    with tracking.training_run(description) as run:
        for epoch in range(1, 12):
            began = time.perf_counter()
            run.log_epoch(epoch, metrics)
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


@contextmanager
def watts() -> Iterator[list[float]]:
    """What the first GPU draws, twice a second; empty where there is none."""
    drawn: list[float] = []
    over = threading.Event()

    def watch() -> None:
        query = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--id=0"]
        while not over.wait(0.5):
            told = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
            if told.replace(".", "", 1).isdigit():
                drawn.append(float(told))

    thread = threading.Thread(target=watch, daemon=True)
    if backend.device() != "CPU":
        thread.start()
    try:
        yield drawn
    finally:
        over.set()
        if thread.is_alive():
            thread.join()


def _peak_memory() -> int:
    """Most bytes that TensorFlow held on the first GPU since this was last asked; 0 without one."""
    if backend.device() == "CPU":
        return 0
    return backend.peak_memory()


if __name__ == "__main__":
    main()
