"""Which models were ever measured on a test split, as far as this MLflow knows."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.entities.model_registry import ModelVersion

from components import tracking
from components.artifacts.manifest import TEST
from components.artifacts.registration import RegisteredModel
from components.base.errors import DataRefused
from components.tracking import failures, model_registry, split_data
from components.tracking.stored_model import MODEL_DIGEST

# Experiments that are asked about in one request.
EXPERIMENTS = 100


class Measured(NamedTuple):
    """What was measured on a test split."""

    models: set[str]
    """Digests of the models. Those of versions that were deleted count too, while MLflow has the models."""
    versions: list[RegisteredModel]
    """Versions of any registered model, as far as their facts can be read; by name, then number."""


@failures.patient
def on_test(test_digest: str) -> Measured:
    """Find all models that were measured on a test split and registered.

    Raises:
        ServiceUnreachable: MLflow does not answer.
    """
    client = tracking.connect()
    with tracking.refusals("counting the models that were measured on the test split"):
        versions = list(_pages(client.search_model_versions, f"tags.test_digest = '{test_digest}'"))
        models = {each.tags[MODEL_DIGEST] for each in versions if MODEL_DIGEST in each.tags}
        counted = {each.source.removeprefix("models:/") for each in versions}
        logged = (each for each in _logged(client, test_digest) if each.model_id not in counted)
        models |= {each.tags.get(MODEL_DIGEST, each.model_id) for each in logged}
        return Measured(models, list(_readable(versions)))


def _readable(versions: list[ModelVersion]) -> Iterator[RegisteredModel]:
    for version in sorted(versions, key=lambda each: (each.name, int(each.version))):
        try:
            yield model_registry.facts_of(version)
        except (KeyError, TypeError, ValueError, DataRefused):
            # Somebody else's, or changed. Its model is counted.
            continue


def _logged(client: MlflowClient, test_digest: str) -> Iterator[Any]:
    """Models that have scores on the dataset of the test split, in all experiments, deleted ones too."""
    experiments = [each.experiment_id for each in _pages(client.search_experiments, view_type=ViewType.ALL)]
    data = {"dataset_name": split_data.NAMES[TEST], "dataset_digest": test_digest[: split_data.LONGEST]}
    for start in range(0, len(experiments), EXPERIMENTS):
        yield from _pages(
            client.search_logged_models, experiment_ids=experiments[start : start + EXPERIMENTS], datasets=[data]
        )


def _pages(ask: Callable[..., Any], *words: Any, **more: Any) -> Iterator[Any]:
    """Everything that a search finds, page by page."""
    token = None
    while True:
        page = ask(*words, **more, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
