"""Make one model of several candidates: the mean of their calibrated logits.

joining.py     the step: pairs models with evaluations, checks that they belong together, writes the model
"""

from pathlib import Path

from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrainedModel
from components.params.ensemble import EnsembleParams


def ensemble(
    models: list[TrainedModel], evaluations: list[Evaluation], params: EnsembleParams, out: Path
) -> TrainedModel:
    """Make one model of evaluated candidates: the mean of their calibrated logits. Nothing is trained.

    The logit of an image is the mean of a + b z over the members, and with `flips` over the image and its mirror image:
    z is a member's logit, a and b are those of its evaluation. The offset of a body part is the mean of the members'.
    A candidate that ranks backwards on tuning, so that its b is 0, is left out with a warning. The result is a model
    like any other, which is evaluated, and so calibrated, by itself.

    Args:
        models: the members, trained on the same shards.
        evaluations: one of each model, in any order, on these shards.
        params: name, members and flips.
        out: an empty directory to fill.

    Raises:
        UsageError: models and evaluations do not belong together, or are not the members that `params` names.
        DataRefused: a member saw other data or has another image size, or all rank backwards.
    """
    from components.ensemble import joining

    return joining.run(models, evaluations, params, out)
