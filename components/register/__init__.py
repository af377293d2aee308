"""Make trained and evaluated models versions in the registry."""

from pathlib import Path

from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import Registration
from components.artifacts.trained_model import TrainedModel
from components.params.register import RegisterParams


def register(
    models: list[TrainedModel], evaluations: list[Evaluation], params: RegisterParams, out: Path
) -> Registration:
    """Register each model with its evaluation; one that is registered already stays the version it is.

    All candidates at once, because every process that talks to MLflow spends seconds on its import.

    Args:
        models: the candidates, one of each architecture.
        evaluations: one of each model, in any order, all on the same data.
        params: name of the registered model.
        out: where the receipt is written.

    Raises:
        UsageError: models and evaluations do not match, or not each other.
        ServiceUnreachable: MLflow does not answer.
    """
    from components.register import versions

    return versions.run(models, evaluations, params, out)
