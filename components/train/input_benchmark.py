"""What limits the speed of the input of a training, measured stage by stage on this machine."""

import os
import time
from collections.abc import Callable, Iterator
from itertools import chain, count, repeat
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.table import Table

from components.artifacts.manifest import TRAIN
from components.artifacts.shards import Shards
from components.base.console import Console
from components.base.errors import DataRefused
from components.network import architectures, backend, batches
from components.params.train import TrainParams
from components.train import phases

READ, SHUFFLE, TRANSFER, COMPUTE = "read", "shuffle", "to the device", "compute"
# How long a stage is measured by itself.
SECONDS = 2.0
# A smaller share of waiting does not matter.
NOTICEABLE = 0.05


class Stage(NamedTuple):
    """One stage, measured by itself."""

    name: str
    images_per_second: float
    about: str


class Diagnosis(NamedTuple):
    """Every stage measured by itself, and all together."""

    stages: tuple[Stage, ...]
    training: float
    """Images per second of a training, all stages together."""
    waiting: float
    """Share of its time in which a training waits for its next batch, 0 to 1."""
    residence: str
    """Where the pixels were, in words."""

    @property
    def ceiling(self) -> Stage:
        """The slowest stage that every batch passes. Training cannot be faster."""
        on_the_way = [stage for stage in self.stages if stage.name != READ or self.residence == "on disk"]
        return min(on_the_way, key=lambda stage: stage.images_per_second)

    def told(self) -> str:
        """What the figures mean, and what to do."""
        bound = self.ceiling
        compute = next(stage for stage in self.stages if stage.name == COMPUTE).images_per_second
        rates = f"{self.training:,.0f} images/s, waiting {self.waiting:.1%} of its time"
        if bound.name == COMPUTE and self.waiting <= NOTICEABLE:
            supply = min((s.images_per_second for s in self.stages if s.name not in (COMPUTE, READ)), default=0.0)
            return (
                f"Bound by compute: training runs at {rates}; batches could come {supply / compute:,.0f} times as "
                "fast. Only a faster device, a smaller network or smaller images would help."
            )
        if bound.name == COMPUTE:
            return (
                f"Bound by compute, but unsteadily: {rates}, although every stage by itself is faster. "
                "Other work uses the processor's cores that the input needs."
            )
        remedy = {
            READ: "Hold the images in memory (residence: memory), or put the shards on a faster disk.",
            SHUFFLE: "Larger batches help, or more cores.",
            TRANSFER: "Larger batches help.",
        }[bound.name]
        return f"Bound by the input, its stage '{bound.name}': {rates}. {remedy}"


def diagnose(shards: Shards, params: TrainParams, seed: int, steps: int) -> Diagnosis:
    """Measure reading, shuffling, the transfer to the device and the network, each alone and then together.

    Decoding is not a stage, because records are raw pixels. The network is trained for some steps and discarded.

    Args:
        shards: the shards with the training split.
        params: architecture, batch size, precision and residence.
        seed: seed of weights and order.
        steps: steps of training, once for `compute` and once for all together.

    Raises:
        DataRefused: the shards are damaged, or the training split is empty.
    """
    backend.prepare()
    if not shards.facts.splits[TRAIN].images:
        raise DataRefused(f"{shards.path}: expected images in {TRAIN}, found none; there is nothing to measure.")
    stages = [_read(shards)]
    split = batches.read_split(shards, TRAIN, params.residence)
    weights = np.ones(len(split), np.float32)

    def epochs(first: int) -> Iterator[Any]:
        made = (batches.training_batches(split, weights, params.batch_size, seed, epoch) for epoch in count(first))
        return chain.from_iterable(made)

    stages.append(Stage(SHUFFLE, _rate(epochs(0)), f"batches of {params.batch_size} drawn {split.residence}"))
    one = next(epochs(0))
    if backend.device() != "CPU":
        stages.append(Stage(TRANSFER, _rate(backend.copies_on_gpu(one[0])), f"from memory to the {backend.device()}"))
    step = _trainer(shards, params, seed)
    step(one)  # Keras traces the network in its first step.
    compute, _ = _train(step, repeat(one), steps)
    precision, device = backend.precision(params.precision), backend.device()
    stages.append(Stage(COMPUTE, compute, f"steps of {params.candidate} on one batch, {precision} on {device}"))
    training, waiting = _train(step, epochs(1), steps)
    return Diagnosis(tuple(stages), training, waiting, split.residence)


def show(diagnosis: Diagnosis) -> None:
    """Print a diagnosis as a table and a sentence."""
    console = Console(width=None if os.isatty(1) else 120)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("stage")
    table.add_column("images/s", justify="right")
    table.add_column("what is measured")
    for stage in diagnosis.stages:
        bound = stage == diagnosis.ceiling
        table.add_row(
            f"{stage.name}{' *' if bound else ''}",
            f"{stage.images_per_second:,.0f}",
            stage.about,
            style="bold" if bound else "",
        )
        if stage.name == READ:
            table.add_row("decode", "-", "nothing to do: records are raw pixels")
    table.add_section()
    table.add_row("training", f"{diagnosis.training:,.0f}", f"all together; waits {diagnosis.waiting:.1%} for input")
    console.print(table)
    console.print(f"* the ceiling. {diagnosis.told()}", soft_wrap=True)


def _read(shards: Shards) -> Stage:
    """Read the training split once, from the disk itself where the kernel can drop the files from its cache."""
    about = "once, checksums compared"
    if hasattr(os, "posix_fadvise"):
        for path in shards.files(TRAIN):
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)
        about += ", not from the kernel's cache"
    pixels = batches.read_split(shards, TRAIN, "disk").pixels
    started, done = time.perf_counter(), 0
    for chosen in np.array_split(np.random.default_rng(0).permutation(len(pixels)), -(-len(pixels) // 32)):
        done += len(pixels[chosen])
        if time.perf_counter() - started > SECONDS:
            break
    return Stage(READ, done / (time.perf_counter() - started), about)


def _rate(drawn: Iterator[Any]) -> float:
    """Images per second of batches."""
    next(drawn)  # The first batch waits until the pipeline is built.
    started, done = time.perf_counter(), 0
    for batch in drawn:
        done += len(batch[0])
        if time.perf_counter() - started > SECONDS:
            break
    return done / (time.perf_counter() - started)


def _trainer(shards: Shards, params: TrainParams, seed: int) -> Callable[[Any], Any]:
    """One step of training all layers."""
    network = architectures.build(
        params, shards.facts.image_size, seed=seed, precision=backend.precision(params.precision)
    )
    phases.compile_for(network, phases.phases(params)[-1], params, shards.facts.splits[TRAIN].images)
    return lambda batch: network.train_on_batch(batch[0], batch[1], sample_weight=batch[2])


def _train(step: Callable[[Any], Any], drawn: Iterator[Any], steps: int) -> tuple[float, float]:
    """Images per second of some steps, and the share of the time that was spent waiting for batches."""
    step(next(drawn))
    started, waited, done = time.perf_counter(), 0.0, 0
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(drawn)
        waited += time.perf_counter() - asked
        step(batch)
        done += len(batch[0])
    seconds = time.perf_counter() - started
    return done / seconds, waited / seconds
