"""The scores of a model, from its answers: probability and thresholds from tuning, numbers of both splits.

`evaluate` measures with it. `register` measures again, and compares.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from components.artifacts.evaluation import (
    Both,
    BothReliabilities,
    Floor,
    Groups,
    PointScores,
    RawAndCalibrated,
    SplitScores,
)
from components.artifacts.manifest import TEST, TUNING
from components.artifacts.trained_model import Offsets
from components.params.protocol import ProtocolParams
from components.scores import floor, metrics, operating_points, slices
from components.scores.calibration import Calibrated, calibrate
from components.scores.reliability import measure as measure_reliability
from components.scores.studies import Studies, StudyLogits


class BothSplits(NamedTuple):
    """What was measured."""

    calibrated: Calibrated
    points: dict[str, PointScores]
    """Every operating point by name."""
    threshold: float
    """Of the operating point that decides."""
    tuning: SplitScores
    test: SplitScores
    reliability: BothReliabilities
    slices: Both[dict[str, Groups]]
    floor: Floor
    relabelled: int
    """Number of test studies with another label in the overlay."""
    second: SplitScores
    """The test split with the labels of the overlay."""
    table: pd.DataFrame
    """One row per study, as an Evaluation has it."""

    @classmethod
    def measure(cls, predictions: pd.DataFrame, learned: Offsets, protocol: ProtocolParams, seed: int) -> Self:
        """Measure. Equal predictions, protocol and seed give equal scores.

        Args:
            predictions: one row per image, as an Evaluation has it. Tuning gives calibration and thresholds. What the
                manifest does not know need not be there.
            learned: the offsets of the model's card.
            protocol: which operating point decides, and the sensitivity that one of them reaches.
            seed: of the folds, and of the draws of the calibration error by chance.

        Raises:
            ValueError, KeyError, TypeError: the table is not what an Evaluation promises, a split is empty, or tuning
                has one class only.
        """
        answers = {split: answers_of(predictions[predictions["split"] == split]) for split in (TUNING, TEST)}
        found = calibrate(answers[TUNING], answers[TEST], learned, seed)
        points: dict[str, PointScores] = {}
        for name in operating_points.NAMES:
            threshold = operating_points.choose_threshold(found.tuning.abnormal, found.frozen, name, protocol.target)
            points[name] = PointScores(
                threshold=threshold,
                tuning=metrics.score(found.tuning, threshold),
                test=metrics.score(found.test, threshold),
            )
        deciding = points[protocol.operating_point]
        reliability: dict[str, RawAndCalibrated] = {}
        for split, studies in ((TUNING, found.tuning), (TEST, found.test)):
            raw = answers[split].raw()
            # No threshold changes a Brier score.
            before, after = metrics.score(raw, operating_points.HALF).brier, deciding.of(split).brier
            reliability[split] = RawAndCalibrated(
                raw=measure_reliability(raw, before, seed), calibrated=measure_reliability(studies, after, seed)
            )
        opinions = _opinions(predictions)
        others = _relabelled(found.test, opinions)
        relabelled = int(np.sum(others.abnormal != found.test.abnormal))
        table = _table(predictions, answers, found, opinions)
        return cls(
            calibrated=found,
            points=points,
            threshold=deciding.threshold,
            tuning=deciding.tuning,
            test=deciding.test,
            reliability=BothReliabilities(**reliability),
            slices=_slices(table, found, protocol, deciding.threshold),
            floor=_floor(table, found, protocol, deciding.threshold),
            relabelled=relabelled,
            second=metrics.score(others, deciding.threshold) if relabelled else deciding.test,
            table=table,
        )


def answers_of(rows: pd.DataFrame) -> StudyLogits:
    """The answers to studies, from those to their images.

    Raises:
        ValueError: as `StudyLogits.of_images`.
    """
    return StudyLogits.of_images(
        rows["study"], rows["patient"], rows["body_part"], rows["abnormal"], rows["logit"].astype(np.float64)
    )


def _opinions(predictions: pd.DataFrame) -> dict[str, int]:
    """Second opinions on labels, by study."""
    given = predictions[predictions["overlay"].notna()].drop_duplicates("study")
    return dict(zip(given["study"].astype(str), given["overlay"].astype(int), strict=True))


def _relabelled(studies: Studies, opinions: Mapping[str, int]) -> Studies:
    """The same studies by the labels of the overlay."""
    pairs = zip(studies.study.tolist(), studies.abnormal.tolist(), strict=True)
    labels = [opinions.get(study, label) for study, label in pairs]
    return dataclasses.replace(studies, abnormal=np.array(labels, np.int64))


def _slices(
    table: pd.DataFrame, found: Calibrated, protocol: ProtocolParams, threshold: float
) -> Both[dict[str, Groups]]:
    """The groups of every slice of the protocol."""
    score = partial(metrics.score, threshold=threshold)
    tuning, test = (
        slices.measure(protocol.slices, table[table["split"] == split], studies, score)
        for split, studies in ((TUNING, found.tuning), (TEST, found.test))
    )
    return Both(tuning=tuning, test=test)


def _floor(table: pd.DataFrame, found: Calibrated, protocol: ProtocolParams, threshold: float) -> Floor:
    """What the floor reaches at a threshold that tuning chooses by the protocol's rule, and what the model adds."""
    tuning, test = (table.loc[table["split"] == split, "floor"].to_numpy(np.float64) for split in (TUNING, TEST))
    own = operating_points.choose_threshold(found.tuning.abnormal, tuning, protocol.operating_point, protocol.target)
    return Floor(
        threshold=own,
        tuning=floor.compare(found.tuning, tuning, (threshold, own)),
        test=floor.compare(found.test, test, (threshold, own)),
    )


def _table(
    predictions: pd.DataFrame, answers: Mapping[str, StudyLogits], found: Calibrated, opinions: Mapping[str, int]
) -> pd.DataFrame:
    tables = []
    floors = predictions.groupby(predictions["study"].astype(str))["floor"].first()
    for split, studies, fold in (
        (TUNING, found.tuning, found.fold),
        (TEST, found.test, [pd.NA] * len(found.test)),
    ):
        names = studies.study.tolist()
        columns = {
            "study": studies.study,
            "patient": studies.patient,
            "body_part": studies.body_part,
            "split": split,
            "abnormal": studies.abnormal,
            "overlay": pd.array([opinions.get(study, pd.NA) for study in names], "Int64"),
            "views": answers[split].views,
            **slices.of_studies(predictions, names),
            "floor": floors.loc[names].to_numpy(np.float64),
            "logit": answers[split].logit,
            "offset": found.offset[split],
            "fold": pd.array(fold, "Int64"),
            "probability": studies.probability,
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
