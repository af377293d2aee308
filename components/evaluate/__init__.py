"""Measure a model: the threshold from the tuning split, the numbers from the test split.

measuring.py     the step: checks its inputs, measures, writes the artifact
predictions.py   the model's answer to every tuning and test image
attribution.py   what the network used: maps over the surest studies; attribution.html shows them
page.py          the report and its charts, from what was measured
report.html      its template
"""

from pathlib import Path

from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.params.evaluate import EvaluateParams


def evaluate(
    manifest: ValidManifest, shards: Shards, model: TrainedModel, params: EvaluateParams, seed: int, out: Path
) -> Evaluation:
    """Predict the tuning and test studies, choose the threshold on tuning, measure on test.

    The official labels count. Where the manifest has second opinions on labels, the test studies are measured once
    more by those, for comparison.

    Args:
        manifest: the table that the shards were packed from.
        shards: the images; the model must have been trained on the same data set.
        model: the model to measure.
        params: how to measure.
        seed: of the bootstrap.
        out: an empty directory to fill.

    Raises:
        DataRefused: manifest, model and shards do not belong together, a patient is in both splits, the model's
            answers are not numbers, or a split has one class only.
    """
    from components.evaluate import measuring

    return measuring.run(manifest, shards, model, params, seed, out)
