"""Ask a model about every tuning and test image, and how far each is from those that it learned from."""

import hashlib
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.artifacts.evaluation import Comparison
from components.artifacts.manifest import TEST, TRAIN, TUNING
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.base.errors import DataRefused
from components.network import architectures, batches, strange
from components.network.features import WithFeatures, with_features
from components.params.evaluate import EvaluateParams
from components.scores import familiarity
from components.scores.familiarity import Measure

MOST_PICTURES = 4_000
"""Training pictures that others are compared with."""
FEWEST_PICTURES = 50
NEGATIVES = 4
"""One in so many of them is shown as a negative, too."""
STRANGE = (500, 6_000)
"""Fewest and most pictures that show nothing of their kind; between, one for each training picture."""
SAMPLE = 700
"""Of each kind, whose features are held at one time: an ensemble has 75,000 of each picture."""


class Answers(NamedTuple):
    """What a model says."""

    table: pd.DataFrame
    """One row per image, ascending by split and image: image, study, patient, body_part, split, abnormal, logit, and
    distance to the training pictures, missing where there is nothing to compare with."""
    comparison: Comparison | None
    """What distances are from; None if there are too few pictures or tuning studies to make use of it."""
    pictures: int
    """Number of training pictures that distances are from."""


def predict(shards: Shards, model: TrainedModel, params: EvaluateParams, seed: int) -> Answers:
    """Predict the images of the tuning and test splits.

    Args:
        shards: the images.
        model: whom to ask.
        params: how many at once, and whether about the mirror image, too.
        seed: of the choice of training pictures, if there are many.

    Raises:
        DataRefused: a logit is not finite.
    """
    network = with_features(architectures.load(model, params.flips))
    enough = shards.facts.splits[TUNING].studies >= familiarity.fewest_studies(params.false_alarms)
    compared = _compared(network, shards, params.batch_size, seed) if enough else None
    comparison, pictures = compared or (None, 0)
    tables = []
    for split in (TUNING, TEST):
        images = batches.read_split(shards, split)
        logit, distance = _asked(network, images, params.batch_size, comparison)
        strays = np.flatnonzero(~np.isfinite(logit))
        if strays.size:
            raise DataRefused(
                f"{model.path}: expected a finite logit for every image, got {logit[strays[0]]} for "
                f"{images.image[strays[0]]} ({strays.size} in {split}). Its training diverged; train it again."
            )
        table = pd.DataFrame(
            {
                "image": images.image,
                "study": images.study,
                "patient": images.patient,
                "body_part": images.body_part,
                "split": split,
                "abnormal": images.abnormal,
                "logit": logit,
                "distance": distance,
            }
        )
        tables.append(table.sort_values("image", ignore_index=True))
    return Answers(pd.concat(tables, ignore_index=True), comparison, pictures)


def _compared(network: WithFeatures, shards: Shards, batch_size: int, seed: int) -> tuple[Comparison, int] | None:
    """What the network saw in training pictures, and in pictures that show nothing of their kind; how many the former.

    Some training pictures are shown as negatives, too: a bone is one in either display, and few of them are stored so.
    """
    # On disk: of many pictures, few are read.
    images = batches.read_split(shards, TRAIN, "disk")
    keys = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in images.image.tolist()]
    chosen = np.array(sorted(sorted(range(len(keys)), key=keys.__getitem__)[:MOST_PICTURES]), np.int64)
    if len(chosen) < FEWEST_PICTURES:
        return None
    known = images.pixels[chosen][..., 0]
    own = np.concatenate([known, strange.negative(known[::NEGATIVES])])
    others = strange.draw(known, int(np.clip(len(known), *STRANGE)), seed)

    features = network.features

    def seen(pictures: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        for first in range(0, len(pictures), batch_size):
            yield features.predict_on_batch(pictures[first : first + batch_size, ..., None])

    def reduced(pictures: NDArray[np.uint8], held: NDArray[np.float32]) -> NDArray[np.float32]:
        # Features of all pictures would fill the memory; reduced ones are small. Of the sample they are held.
        sampled = _sampled(len(pictures))
        order = np.argsort(np.concatenate([np.flatnonzero(sampled), np.flatnonzero(~sampled)]))
        there = (held[first : first + batch_size] for first in range(0, len(held), batch_size))
        found = (familiarity.reduced(learned, each) for each in chain(there, seen(pictures[~sampled])))
        return np.concatenate(list(found))[order]

    of_own, of_others = (np.concatenate(list(seen(each[_sampled(len(each))]))) for each in (own, others))
    learned = familiarity.depths(of_own, of_others, network.depths, seed)
    like, unlike = reduced(own, of_own), reduced(others, of_others)
    return familiarity.fit(learned, like, unlike, seed), len(chosen)


def _sampled(count: int) -> NDArray[np.bool_]:
    """Which of so many pictures are the sample, bool [count]."""
    return np.asarray(np.arange(count) % max(1, count // SAMPLE) == 0)


def _asked(
    network: WithFeatures, images: batches.Split, batch_size: int, comparison: Comparison | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The logit of each image of a split, and its distance, float32 [N] each; NaN without a comparison."""
    logits, distances = [], []
    measure = Measure(comparison) if comparison else lambda found: np.full(len(found), np.nan, np.float32)
    with batches.reading(images):
        # What the network saw in all images of a split would fill the memory.
        for pixels in batches.in_order(images, batch_size):
            logit, seen = network.model.predict_on_batch(pixels)
            logits.append(np.asarray(logit, np.float32)[:, 0])
            distances.append(measure(seen))
    return np.concatenate(logits), np.concatenate(distances)
