"""Measure a model: the threshold from the tuning split, the numbers from the test split."""

from pathlib import Path

from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.params.evaluate import EvaluateParams


def evaluate(
    manifest: ValidManifest, shards: Shards, model: TrainedModel, params: EvaluateParams, seed: int, out: Path
) -> Evaluation:
    """Predict the tuning and test studies, choose the operating point on the first, measure on the second.

    By the official labels. Where the manifest has second opinions on labels, the test studies are measured once more by
    those, beside the official result.

    Args:
        manifest: the table that the shards were packed from.
        shards: the images; their data set must be the one the model was trained on.
        model: what to measure.
        params: how to measure.
        seed: of the bootstrap.
        out: an empty directory to fill.

    Raises:
        DataRefused: manifest, model and shards do not belong together, a patient is in both splits, the model's
            answers are not numbers, or a split has one class only.
    """
    from components.evaluate import measuring

    return measuring.run(manifest, shards, model, params, seed, out)
