"""Candidates that were measured on the same drawn studies, for the comparison of several."""

from pathlib import Path

import numpy as np
import pandas as pd
from conftest import COMMIT, MEASURED_WITH, NO_OFFSETS, seal_model
from protocols import PROTOCOL

from components.artifacts.evaluation import EvaluationFacts, Scores
from components.artifacts.registration import RegisteredModel
from components.params.protocol import ProtocolParams
from components.register.comparison import Entry
from components.scores.both_splits import BothSplits

TUNING_DIGEST, TEST_DIGEST = "71" * 32, "7e" * 32


def predicted(seed, merit=1.6, tuning=160, test=120, parts=("wrist", "hand"), answers=None):
    """The answers of a network to a view of each study. Studies and labels are those of every seed.

    Args:
        seed: of the network.
        merit: distance of the answers to abnormal and normal studies.
        tuning, test: numbers of studies; two of a patient.
        parts: body parts, in turn.
        answers: makes logits of the labels, in place of drawn ones.
    """
    tables = []
    for split, studies in (("tuning", tuning), ("test", test)):
        abnormal = np.random.default_rng(5 + studies).permutation(np.arange(studies) % 5 < 2).astype(np.int64)
        noise = np.random.default_rng([seed, studies]).normal(size=studies)
        tables.append(
            pd.DataFrame(
                {
                    "study": [f"{split}/study{number:05}" for number in range(studies)],
                    "patient": [f"{split}-patient{number // 2:05}" for number in range(studies)],
                    "body_part": [parts[number % len(parts)] for number in range(studies)],
                    "split": split,
                    "abnormal": abnormal,
                    "overlay": pd.array([pd.NA] * studies, "Int64"),
                    "floor": 0.4 + 0.2 * (np.arange(studies) % 2),
                    "logit": merit * (abnormal - 0.5) + noise if answers is None else answers(abnormal),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def entry(place, version, predictions, candidate="vgg16", protocol=None, **facts):
    """A candidate with these predictions.

    Args:
        place: a directory for its model.
        version: its number.
        predictions: as `predicted` draws them.
        candidate: its name.
        protocol: changes of the protocol.
        facts: of its model.
    """
    rules = PROTOCOL | (protocol or {})
    found = BothSplits.measure(predictions, NO_OFFSETS, ProtocolParams(**rules), 1)
    scores = Scores(
        threshold=found.threshold,
        tuning=found.tuning,
        test=found.test,
        tuning_digest=TUNING_DIGEST,
        test_digest=TEST_DIGEST,
    )
    known = {"candidate": candidate, "architecture": "vgg16", "data_digest": "da" * 32}
    digests = {"model_digest": f"{version:064}", "code_revision": COMMIT}
    evaluation = EvaluationFacts(
        **known,
        **digests,
        shards_digest="5a" * 32,
        params=MEASURED_WITH,
        protocol=rules,
        seed=1,
        calibration=found.calibrated.facts(NO_OFFSETS),
        scores=scores,
        operating_points=found.points,
        reliability=found.reliability,
        slices=found.slices,
        floor=found.floor,
    )
    registered = RegisteredModel(
        **known,
        **digests,
        model="mura",
        version=version,
        run_id=f"{version:032}",
        evaluation_digest="e0" * 32,
        training_seconds=60.0,
        protocol=rules,
        scores=scores,
    )
    architecture = facts.pop("architecture", "vgg16")
    model = seal_model(Path(place) / f"{candidate}-{version}", architecture, **{"candidate": candidate} | facts)
    return Entry(registered, model, evaluation, found)
