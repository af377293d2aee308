"""The splits that models were measured on, as MLflow's datasets: each score is logged with the one it is of.

By name and digest of the dataset, MLflow ranks all models that were measured on one test split.
"""

import json
import time
from collections.abc import Iterator, Mapping

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from components.artifacts.evaluation import Interval, Scores, SplitScores
from components.artifacts.manifest import TEST, TUNING
from components.artifacts.trained_model import TrackedRun
from components.tracking import effects

NAMES: Mapping[str, str] = {TUNING: "mura-tuning", TEST: "mura-test"}
"""Of the datasets, by split."""
LONGEST = 36
"""Letters of a dataset's digest that MLflow takes."""


def log(client: MlflowClient, run: TrackedRun, scores: Scores, data_digest: str) -> None:
    """Log the splits and the scores with a model and its run. What is there is not logged again.

    Args:
        client: client of the server.
        run: the model on this server.
        scores: of the model.
        data_digest: of the data set that the splits are of.
    """
    effects.ensure_inputs(client, run.run_id, list(_splits(scores, data_digest)))
    model_id = run.model_uri.removeprefix("models:/")
    logged = {(each.key, each.value, each.dataset_digest) for each in client.get_logged_model(model_id).metrics or []}
    now = time.time_ns() // 1_000_000
    metrics = [
        Metric(name, value, now, 0, model_id, NAMES[split], digest_of(scores, split))
        for split, name, value in score_values(scores)
    ]
    if any((each.key, each.value, each.dataset_digest) not in logged for each in metrics):
        client.log_batch(run.run_id, metrics)


def digest_of(scores: Scores, split: str) -> str:
    """The digest of a split's dataset."""
    return {TUNING: scores.tuning_digest, TEST: scores.test_digest}[split][:LONGEST]


def score_values(scores: Scores) -> Iterator[tuple[str, str, float]]:
    """The split, the name of MLflow's metric and the value of each score."""
    for split in NAMES:
        for name, value in _values(scores.of(split)).items():
            # MLflow groups metrics by the part before a slash. `tuning_auroc` is the curve over the epochs.
            yield split, f"{split}/{name}", value
    yield TUNING, "threshold", scores.threshold


def _values(scores: SplitScores) -> dict[str, float]:
    measured = {name: getattr(scores, name) for name in SplitScores.model_fields}
    values = {name: each.value for name, each in measured.items() if isinstance(each, Interval)}
    values |= {"auroc_low": scores.auroc.low, "auroc_high": scores.auroc.high}
    return {name: value for name, value in values.items() if value is not None}


def _splits(scores: Scores, data_digest: str) -> Iterator[DatasetInput]:
    for split, name in NAMES.items():
        found = scores.of(split)
        profile = {"studies": found.n_studies, "abnormal_studies": found.n_abnormal, "patients": found.n_patients}
        data = Dataset(
            name=name,
            digest=digest_of(scores, split),
            source_type="local",
            source=json.dumps({"uri": f"{split} split of data set {data_digest}"}),
            profile=json.dumps(profile),
        )
        yield DatasetInput(data, [InputTag(MLFLOW_DATASET_CONTEXT, "evaluation")])
