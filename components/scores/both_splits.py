"""The scores of a model, from its predictions: the threshold from tuning, the numbers from test.

`evaluate` measures with it. `register` measures again, and compares.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from components.artifacts.evaluation import SplitScores
from components.artifacts.manifest import TEST, TUNING
from components.params.evaluate import EvaluateParams
from components.params.protocol import ProtocolParams
from components.scores import metrics
from components.scores.studies import Studies


class BothSplits(NamedTuple):
    """What was measured."""

    threshold: float
    tuning: SplitScores
    test: SplitScores
    relabelled: int
    """Number of test studies with another label in the overlay."""
    second: SplitScores
    """The test split with the labels of the overlay."""

    @classmethod
    def measure(
        cls,
        tuning: Studies,
        test: Studies,
        overlay: Mapping[str, int],
        params: EvaluateParams,
        protocol: ProtocolParams,
        seed: int,
    ) -> Self:
        """Measure. The same patients and the same seed give the same draws, so the scores can be compared.

        Args:
            tuning: chooses the threshold.
            test: gives the numbers.
            overlay: second opinions on labels, by study.
            params: how to measure.
            protocol: how the threshold is chosen.
            seed: of the bootstrap.

        Raises:
            ValueError: a split is empty, or tuning has one class only.
        """
        rule, target = protocol.operating_point, protocol.target
        threshold = metrics.choose_threshold(tuning.abnormal, tuning.probability, rule, target)
        score = partial(metrics.score, threshold=threshold, draws=params.bootstrap_draws, seed=seed)
        labels = [overlay.get(study, label) for study, label in zip(test.study, test.abnormal, strict=True)]
        others = dataclasses.replace(test, abnormal=np.array(labels, np.int64))
        relabelled, official = int(np.sum(others.abnormal != test.abnormal)), score(test)
        second = score(others) if relabelled else official
        return cls(threshold, score(tuning), official, relabelled, second)

    @classmethod
    def of_predictions(
        cls, predictions: pd.DataFrame, params: EvaluateParams, protocol: ProtocolParams, seed: int
    ) -> Self:
        """Measure again from the table of an Evaluation.

        Raises:
            ValueError, KeyError, TypeError: the table is not what an Evaluation promises.
        """
        tuning, test = (studies_of(predictions[predictions["split"] == split]) for split in (TUNING, TEST))
        opinions = predictions[predictions["overlay"].notna()].drop_duplicates("study")
        overlay = dict(zip(opinions["study"], opinions["overlay"].astype(int), strict=True))
        return cls.measure(tuning, test, overlay, params, protocol, seed)


def studies_of(rows: pd.DataFrame) -> Studies:
    """The studies of predicted images.

    Raises:
        ValueError: as `Studies.of_images`.
    """
    return Studies.of_images(rows["study"], rows["patient"], rows["body_part"], rows["abnormal"], rows["probability"])
