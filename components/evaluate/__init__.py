"""Measure a model: calibration and thresholds from the tuning split, numbers of the tuning and of the test split.

measuring.py     the step: checks its inputs, measures, writes the artifact
predictions.py   the model's answer to every tuning and test image, and how far each is from the training pictures
page.py          the two reports and their charts, from what was measured
report.html      their template, for one split; cohort.html: the part about the data
unlike.html      the part about pictures that are unlike the training data
attribution.py   what the network used: maps over the surest studies; attribution.html shows them
flow.py          the diagram from the archive to the splits
floor.html       the part about what can be known without looking at the bones
model_card.py    the model card, as Markdown and as a page; card_numbers.py: what it says of numbers; model_card.html
calibration_page.py
                 the part of the reports that is about probabilities; calibration.html: its template
"""

from pathlib import Path

from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.params.evaluate import EvaluateParams
from components.params.protocol import ProtocolParams


def evaluate(  # Parameters: three artifacts, and the three that say how to measure
    manifest: ValidManifest,
    shards: Shards,
    model: TrainedModel,
    params: EvaluateParams,
    protocol: ProtocolParams,
    seed: int,
    out: Path,
) -> Evaluation:
    """Predict the tuning and test studies, calibrate and choose thresholds on tuning, measure on both.

    The log, the report and everything that DVC shows are of the tuning split. What was measured on the test split lies
    in `test.json`, `test.html` and the model card; look there when all choices are made. The official labels count.
    Where the manifest has second opinions on labels, the test studies are measured once more by those, for comparison.
    Beside the model stands its floor: what body part, number of views and picture size tell without its pictures.

    Args:
        manifest: the table that the shards were packed from. Slices and the floor need it.
        shards: the images; the model must have been trained on the same data set.
        model: the model to measure.
        params: how to measure.
        protocol: what was fixed before the test split is opened. The evaluation carries it.
        seed: of the folds of the calibration, and of the draws that its error is compared with.
        out: an empty directory to fill.

    Raises:
        DataRefused: manifest, model and shards do not belong together, a patient is in both splits, the model's
            answers are not numbers, or a split has one class only.
    """
    from components.evaluate import measuring

    return measuring.run(manifest, shards, model, params, protocol, seed, out)
