"""Disturb the pictures, and measure what that costs a model.

stressing.py       the step: predicts the tuning studies, undisturbed and disturbed, and measures
disturbances.py    what is done to a picture
drop_chart.py      the chart
page.py            the page, from what was measured; report.html is its template
"""

from pathlib import Path

from components.artifacts.evaluation import Evaluation
from components.artifacts.shards import Shards
from components.artifacts.stress import Stress
from components.artifacts.trained_model import TrainedModel
from components.params.stress import StressParams


def stress(
    shards: Shards, model: TrainedModel, evaluation: Evaluation, params: StressParams, seed: int, out: Path
) -> Stress:
    """Disturb the tuning pictures, and measure how much worse the model becomes.

    Each disturbance, at each strength, is compared with the undisturbed pictures on the same patients: AUROC, and
    Cohen's kappa at the threshold of the evaluation. Probabilities are calibrated as the evaluation says. Pictures are
    disturbed as the network sees them, after they were fitted into the square. The test split is not opened, and
    nothing is chosen: no later step reads the result.

    Args:
        shards: the images.
        model: the model to measure.
        evaluation: of this model; its threshold is kept.
        params: the disturbances and their strengths.
        seed: of the disturbances.
        out: an empty directory to fill.

    Raises:
        DataRefused: shards, model and evaluation do not belong together, or the model's answers are not numbers.
    """
    from components.stress import stressing

    return stressing.run(shards, model, evaluation, params, seed, out)
