"""The tuning split, on which every epoch is measured."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.artifacts.manifest import TUNING
from components.artifacts.shards import Shards
from components.base.errors import DataRefused
from components.network import batches
from components.network.batches import Split
from components.params.train import TrainParams
from components.scores import offsets
from components.scores.studies import StudyLogits, auroc, sigmoid
from components.train.multi_worker import Predict
from components.train.state import Epoch

# Differences between two processors, which in bfloat16 (8 bits) may round every product differently.
AUROC_ROUNDING, LOSS_ROUNDING = 0.01, 0.02


class Measures(NamedTuple):
    """A network on the tuning split."""

    loss: float
    """Weighted binary cross-entropy, mean over the images; NaN if a logit is not finite."""
    auroc: float
    """Over the studies, without the offsets of their body parts; NaN if a logit is not finite."""

    def close_to(self, row: Epoch) -> bool:
        """Whether an epoch measured the same. On one machine it is equal; another processor may round differently."""
        return abs(self.auroc - row.tuning_auroc) <= AUROC_ROUNDING and math.isclose(
            self.loss, row.tuning_loss, rel_tol=LOSS_ROUNDING
        )


class Tuning:
    """The tuning split, and the weights of its images in the loss."""

    def __init__(self, shards: Shards, params: TrainParams) -> None:
        """Read the split.

        Raises:
            DataRefused: the shards are damaged, all images of the split have the same label, or one shows a body part
                that no training image shows.
        """
        self.split = batches.read_split(shards, TUNING)
        if len(set(self.split.abnormal.tolist())) < 2:
            raise DataRefused(
                f"{shards.path}: expected normal and abnormal images in {TUNING}, found one label only, of which no "
                "AUROC can be measured. Use a larger archive or a larger tuning_fraction."
            )
        self._weights = loss_weights(self.split, shards, params)
        self.offsets = offsets.of_training(shards.facts.train_images, params.class_weighting)
        self._batch_size = params.batch_size

    def measure(self, predict: Predict) -> Measures:
        """Measure a network.

        Raises:
            DataRefused: a record is damaged.
        """
        with batches.reading(self.split):
            logit = predict(batches.in_order(self.split, self._batch_size)).astype(np.float64)
        if not np.isfinite(logit).all():
            return Measures(np.nan, np.nan)
        split = self.split
        # Binary cross-entropy of a logit z is log(1 + exp(z)) - y z.
        loss = float(np.mean(self._weights * (np.logaddexp(0, logit) - split.abnormal * logit)))
        studies = StudyLogits.of_images(split.study, split.patient, split.body_part, split.abnormal, logit)
        # The weights of the loss shift body parts against each other, and so the ranking of all studies together.
        area = auroc(studies.abnormal, sigmoid(studies.logit - offsets.of_studies(self.offsets, studies.body_part)))
        assert area is not None, "both labels are there"
        return Measures(loss, area)


def loss_weights(split: Split, shards: Shards, params: TrainParams) -> NDArray[np.float32]:
    """Weights of the images of a split in the loss, float32 [N].

    Raises:
        DataRefused: the split shows a body part that no training image shows.
    """
    if params.class_weighting == "none":
        return np.ones(len(split), np.float32)
    weights: NDArray[np.float32] = batches.loss_weights(split.abnormal, split.body_part, shards.facts.train_images)
    return weights
