"""Model versions in the MLflow registry, and the alias that names the trusted one."""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from components import tracking
from components.artifacts.evaluation import REPORT, Evaluation, Interval, Scores, SplitScores
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import ServiceUnreachable, UsageError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

T = TypeVar("T")

FACTS = "registered_model"
"""The tag that holds what is known of a version, as JSON; its number excepted, which no one knows beforehand."""


def ensure_version(name: str, model: TrainedModel, evaluation: Evaluation, run: TrackedRun) -> RegisteredModel:
    """The version of a model with this evaluation; made if there is none yet.

    A version is found by the digests on its tags, which are set in the act of making it: however often this is
    done, and wherever it was interrupted, there is one version for each model and evaluation.

    Args:
        name: of the registered model.
        model: what is registered.
        evaluation: of that model.
        run: where the model is on this server.

    Raises:
        UsageError: MLflow does not take the name.
        ServiceUnreachable: MLflow does not answer.
    """
    if set(name) & set("/:'\"`"):
        raise UsageError(f"register: the model's name is {name}; MLflow takes none with / : or quotes.")
    client = tracking.connect()
    with tracking.refusals(f"registering {model.facts.architecture}"):
        _log_scores(client, run, evaluation.facts.scores)
        found = _find(client, name, model, evaluation)
        if found is None:
            found = _create(client, name, model, evaluation, run)
    return _registered(found)


def champion(name: str, alias: str) -> RegisteredModel | None:
    """The version that holds an alias; None if there is no such model, alias or version.

    Raises:
        UsageError: the version was not registered by this pipeline, so nothing is known of it.
        ServiceUnreachable: MLflow does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"looking for the {alias} of {name}"):
        # Asked directly for an alias that is missing, MLflow calls the question wrong.
        found = _or_none(lambda: client.get_registered_model(name))
        version = None if found is None else found.aliases.get(alias)
        held = None if version is None else _or_none(lambda: client.get_model_version(name, str(version)))
    if held is None:
        return None
    try:
        return _registered(held)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"The alias {alias} of {name} names version {held.version}, of which this version of the pipeline can read "
            f"no facts (tag {FACTS}). Give the alias to a version it registered, or delete it, in MLflow."
        ) from error


def set_alias(model: RegisteredModel, alias: str) -> None:
    """Let an alias name a version, and see that it does.

    Raises:
        UsageError: MLflow does not take the alias.
        ServiceUnreachable: MLflow does not answer, or someone else moved the alias at the same time.
    """
    client = tracking.connect()
    with tracking.refusals(f"giving the alias {alias} to {model.model} version {model.version}"):
        client.set_registered_model_alias(model.model, alias, str(model.version))
        held = client.get_registered_model(model.model).aliases.get(alias)
    if held is None or int(held) != model.version:
        raise ServiceUnreachable(
            f"The alias {alias} of {model.model} was given to version {model.version} and now names {held}: "
            "someone else moved it at the same time. Look at it in MLflow, then promote again."
        )


def exists(model: RegisteredModel) -> bool:
    """Whether the version is in the registry, and still that model with that evaluation.

    Raises:
        ServiceUnreachable: MLflow does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"looking for {model.model} version {model.version}"):
        found = _or_none(lambda: client.get_model_version(model.model, str(model.version)))
    if found is None or found.status != "READY":
        return False
    digests = (found.tags.get("model_digest"), found.tags.get("evaluation_digest"))
    return digests == (model.model_digest, model.evaluation_digest)


def _find(client: "MlflowClient", name: str, model: TrainedModel, evaluation: Evaluation) -> "ModelVersion | None":
    found = client.search_model_versions(
        f"name = '{name}' and tags.model_digest = '{model.digest}' and tags.evaluation_digest = '{evaluation.digest}'"
    )
    ready = [version for version in found if version.status == "READY" and FACTS in version.tags]
    return min(ready, key=lambda version: int(version.version), default=None)


def _create(
    client: "MlflowClient", name: str, model: TrainedModel, evaluation: Evaluation, run: TrackedRun
) -> "ModelVersion":
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Bone X-rays: is the study normal or abnormal?")
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise
    if evaluation.report.is_file():
        client.log_artifact(run.run_id, str(evaluation.report), f"evaluation/{evaluation.digest[:12]}")
    return client.create_model_version(
        name,
        source=run.model_uri,
        run_id=run.run_id,
        model_id=run.model_uri.removeprefix("models:/"),
        tags=_tags(name, model, evaluation, run),
        description=_description(model, evaluation),
    )


def _tags(name: str, model: TrainedModel, evaluation: Evaluation, run: TrackedRun) -> dict[str, str]:
    scores = evaluation.facts.scores
    facts = RegisteredModel(
        model=name,
        version=0,
        run_id=run.run_id,
        candidate=model.facts.candidate,
        architecture=model.facts.architecture,
        model_digest=model.digest,
        evaluation_digest=evaluation.digest,
        data_digest=model.facts.data_digest,
        code_revision=model.facts.code_revision,
        training_seconds=model.facts.seconds,
        scores=scores,
    )
    return {
        "architecture": facts.architecture,
        "model_digest": facts.model_digest,
        "evaluation_digest": facts.evaluation_digest,
        "data_digest": facts.data_digest,
        **({"archive_md5": model.facts.archive_md5} if model.facts.archive_md5 else {}),
        "shards_digest": model.facts.shards_digest,
        "test_digest": scores.test_digest,
        "code_revision": facts.code_revision,
        "test_auroc": str(scores.test.auroc),
        "test_cohen_kappa": str(scores.test.cohen_kappa),
        "test_sensitivity": str(scores.test.sensitivity),
        "test_specificity": str(scores.test.specificity),
        "tuning_auroc": str(scores.tuning.auroc),
        "threshold": f"{scores.threshold:.3f}",
        FACTS: facts.model_dump_json(exclude={"version"}),
    }


def _registered(version: "ModelVersion") -> RegisteredModel:
    # Stores differ in whether the number is a number.
    return RegisteredModel.model_validate({**json.loads(version.tags[FACTS]), "version": int(version.version)})


def _or_none(ask: Callable[[], T]) -> T | None:
    """The answer, or None where MLflow knows no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if tracking.is_missing(error):
            return None
        raise


def _description(model: TrainedModel, evaluation: Evaluation) -> str:
    test = evaluation.facts.scores.test
    return (
        f"{model.facts.architecture} at code revision {model.facts.code_revision[:12]} on data "
        f"{model.facts.data_digest[:12]}: AUROC {test.auroc}, Cohen's kappa {test.cohen_kappa} on {test.n_studies:,} "
        f"test studies; what the evaluation found is in {REPORT} among the artifacts of its run."
    )


def _log_scores(client: "MlflowClient", run: TrackedRun, scores: Scores) -> None:
    """Let MLflow show and compare the scores, with the model and with its run."""
    from mlflow.entities import Metric

    model_id = run.model_uri.removeprefix("models:/")
    values = {
        **_values("test", scores.test),
        **_values("tuning", scores.tuning),
        "threshold": scores.threshold,
    }
    logged = {metric.key: metric.value for metric in client.get_logged_model(model_id).metrics or []}
    if any(logged.get(name) != value for name, value in values.items()):
        now = time.time_ns() // 1_000_000
        client.log_batch(run.run_id, [Metric(name, value, now, 0, model_id=model_id) for name, value in values.items()])


def _values(split: str, scores: SplitScores) -> dict[str, float]:
    # With a slash MLflow groups them, and `tuning_auroc` remains the curve over the epochs.
    measured = {name: getattr(scores, name) for name in SplitScores.model_fields}
    intervals = {name: interval for name, interval in measured.items() if isinstance(interval, Interval)}
    values = {f"{split}/{name}": interval.value for name, interval in intervals.items()}
    values |= {f"{split}/auroc_low": scores.auroc.low, f"{split}/auroc_high": scores.auroc.high}
    return {name: value for name, value in values.items() if value is not None}
