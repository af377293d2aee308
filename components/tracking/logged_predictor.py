"""A model with its evaluation as a logged model of its own: what versions are of, and what answers for studies."""

import logging
from functools import partial
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel

from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base import patience
from components.base.errors import ServiceRefused, UsageError
from components.signing import keys
from components.tracking import address, failures, parent, publish, server, stored_model
from components.tracking.stored_model import EVALUATION_DIGEST, MODEL_DIGEST

logger = logging.getLogger(__name__)

SIGNED_FOR = "signed_for"
"""Tag of a predictor: name of the registered model. Its evidence binds that."""


@failures.patient
def ensure(model: TrainedModel, evaluation: Evaluation, name: str) -> TrackedRun:
    """Find the predictor of a model and its evaluation on this server, or store and sign it below the model's run.

    What is returned was fetched, and its signature was verified. Doing it twice stores one.

    Args:
        model: what answers.
        evaluation: of that model.
        name: of the registered model that it is signed for.

    Raises:
        UsageError: there is no key that signs here, or nobody is trusted here.
        ServiceUnreachable: MLflow or its artifact store does not answer, or does not give back what it took.
        DataRefused: the weights do not belong to the architecture on the card.
    """
    check_name(name)
    client, known = server.connect(), tags_of(model, evaluation, name)
    with failures.refusals(f"looking for the predictor of {model.facts.candidate}"):
        if found := _find(client, known, name):
            return found
    # Before minutes of work: whoever may not sign is told now.
    keys.signing_key()
    run = publish.ensure_model(model)
    uri = _store(client, run, model, evaluation, name)
    with failures.refusals(f"fetching the predictor of {model.facts.candidate}"):
        fault = stored_model.fault(client, uri.removeprefix("models:/"), known=known, signed_for=name)
    if fault:
        raise ServiceRefused(
            f"The predictor of {model.facts.candidate} was stored in MLflow at {address.shown()} and cannot be loaded "
            f"from there: {fault}. Look at the server's artifact store, then run the same command again."
        )
    return TrackedRun(run_id=run.run_id, model_uri=uri)


def check_name(name: str) -> None:
    """Check the name of a registered model.

    Raises:
        UsageError: MLflow does not accept it.
    """
    if set(name) & set("/:'\"`"):
        raise UsageError(f"register: expected a model name without / : or quotes, which MLflow refuses, got {name}.")


def tags_of(model: TrainedModel, evaluation: Evaluation, name: str) -> dict[str, str]:
    """Tags of a logged model that tell which predictor it is, and for which registered model it is signed."""
    return {
        MODEL_DIGEST: model.digest,
        EVALUATION_DIGEST: evaluation.digest,
        "candidate": model.facts.candidate,
        SIGNED_FOR: name,
    }


def _find(client: MlflowClient, known: dict[str, str], name: str) -> TrackedRun | None:
    """A predictor that can be loaded, the newest first."""
    ours = " and ".join(f"tags.{name} = '{text}'" for name, text in known.items())
    for logged in client.search_logged_models([parent.home(client).experiment], filter_string=ours):
        fault = stored_model.fault(client, logged.model_id, known=known, signed_for=name)
        if fault is None and stored_model.ONNX_SHA256 not in logged.tags:
            fault = f"its tag {stored_model.ONNX_SHA256} is missing"
        if fault is None:
            return TrackedRun(run_id=logged.source_run_id, model_uri=f"models:/{logged.model_id}")
        logger.info("the predictor of %s cannot be loaded from MLflow any more (%s)", known["candidate"], fault)
    return None


def _store(client: MlflowClient, run: TrackedRun, model: TrainedModel, evaluation: Evaluation, name: str) -> str:
    # Imported here because they import TensorFlow, which takes ten seconds: register runs on every `dvc repro`, and
    # most times all predictors are on the server.
    from components.network import backend  # noqa: F401 - imports TensorFlow without its messages
    from components.tracking import logged_model, saved_predictor

    def save(logged: LoggedModel, folder: Path) -> None:
        saved_predictor.save(model, evaluation, logged, folder, name)

    logger.info("%s: network for ONNX Runtime, calibration and threshold are stored together", model.facts.candidate)
    known = tags_of(model, evaluation, name)
    described = logged_model.Described(model.facts.candidate, "study classifier", known, {}, name)
    kept = failures.insist("looking for the run", partial(client.get_run, run.run_id), 0.0)
    return logged_model.store(client, kept, described, save, patience.seconds(elsewhere=0.0))
