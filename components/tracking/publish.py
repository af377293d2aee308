"""Models that are not on this server yet: made with another server, pulled by DVC, or ensembles."""

import csv
import logging
import math
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException

from components.artifacts.trained_model import TrackedRun, TrainedModel, TrainedModelFacts
from components.base.errors import ServiceRefused
from components.base.files import file_sha256
from components.tracking import address, failures, parent, readiness, server, stored_model
from components.tracking.run import Description, Run, new_run
from components.tracking.stored_model import EVALUATION_DIGEST, MODEL_DIGEST, WEIGHTS_FILE_SHA256

logger = logging.getLogger(__name__)


@failures.patient
def ensure_model(model: TrainedModel) -> TrackedRun:
    """Find a model on this server, or publish it from its artifact. Doing it twice publishes one model.

    The card names a run of the server that was in use during training, if it answered. Another server may be in use
    now, its files may be lost, or DVC may have pulled the model from its cache. What is returned was fetched and read.

    Raises:
        ServiceUnreachable: MLflow or its artifact store does not answer, or does not give back what it took.
        DataRefused: the weights do not belong to the architecture on the card.
    """
    client = server.connect()
    with failures.refusals(f"looking for {model.facts.candidate}"):
        found, lost = _find(client, model)
    if found is not None:
        return found
    if lost:
        logger.info("%s cannot be loaded from MLflow any more (%s): publishing it again", model.facts.candidate, lost)
    else:
        logger.info("%s is not on MLflow at %s yet: publishing it", model.facts.candidate, address.shown())
    readiness.check(client, parent.home(client).experiment)
    run = _publish(client, model)
    with failures.refusals(f"fetching {model.facts.candidate}"):
        fault = stored_model.fault(client, _id(run.model_uri), known=tags_of(model))
    if fault:
        raise ServiceRefused(
            f"{model.facts.candidate} was stored in MLflow at {address.shown()} and cannot be loaded from there: "
            f"{fault}. Look at the server's artifact store, then run the same command again."
        )
    return run


def tags_of(model: TrainedModel) -> dict[str, str]:
    """Tags of a logged model that tell which artifact it is: the digest, and the weights alone."""
    return {MODEL_DIGEST: model.digest, WEIGHTS_FILE_SHA256: file_sha256(model.weights)}


def _find(client: MlflowClient, model: TrainedModel) -> tuple[TrackedRun | None, str | None]:
    """The model on this server, if it can be loaded; else why one that is there cannot."""
    lost, known = None, tags_of(model)
    for logged in (*_recorded(client, model), *_published(client, model)):
        fault = stored_model.fault(client, logged.model_id, known=known)
        if fault is None:
            # The digest was not known when the training logged the model.
            if MODEL_DIGEST not in logged.tags:
                client.set_logged_model_tags(logged.model_id, {MODEL_DIGEST: model.digest})
            # The model is stored last. Whoever stored it could not end the run, and may never come again.
            if client.get_run(logged.source_run_id).info.status == "RUNNING":
                client.set_terminated(logged.source_run_id, "FINISHED")
            return TrackedRun(run_id=logged.source_run_id, model_uri=f"models:/{logged.model_id}"), None
        lost = lost or fault
    return None, lost


def _recorded(client: MlflowClient, model: TrainedModel) -> list[LoggedModel]:
    """The model that the card names."""
    if not (name := _id(model.facts.run.model_uri)):
        return []
    try:
        return [client.get_logged_model(name)]
    except MlflowException as error:
        if failures.is_hidden(error):
            return []
        raise


def _published(client: MlflowClient, model: TrainedModel) -> list[LoggedModel]:
    """Models that were published from the same artifact, newest first; no predictors."""
    found: list[LoggedModel] = client.search_logged_models(
        [parent.home(client).experiment], filter_string=f"tags.{MODEL_DIGEST} = '{model.digest}'"
    )
    return [each for each in found if EVALUATION_DIGEST not in each.tags]


def _publish(client: MlflowClient, model: TrainedModel) -> TrackedRun:
    # Imported here because TensorFlow takes ten seconds: register runs on every `dvc repro`, and most times all models
    # are on the server.
    from components.network import architectures

    facts = model.facts
    description = Description(
        candidate=facts.candidate,
        architecture=facts.architecture,
        params={**_params(facts), "image_size": facts.image_size},
        tags={
            MODEL_DIGEST: model.digest,
            "data_digest": facts.data_digest,
            **({"archive_md5": facts.archive_md5} if facts.archive_md5 else {}),
            "shards_digest": facts.shards_digest,
            "code_revision": facts.code_revision,
            "device": facts.device,
        },
        environment=facts.environment,
        key=model.digest,
    )
    with new_run(client, description, facts.run.run_id) as run:
        _log_curves(run, model)
        uri = run.log_model(architectures.load(model), tags=tags_of(model))
    return TrackedRun(run_id=run.run_id, model_uri=uri)


def _params(facts: TrainedModelFacts) -> dict[str, Any]:
    """What a training was given; of an ensemble, its members and how each counts."""
    if not facts.members:
        return {**facts.params, "seed": facts.seed}
    told = ("architecture", "model_digest", "intercept", "slope")
    members = {each.candidate: each.model_dump(mode="json", include=set(told)) for each in facts.members}
    return {**facts.params, "members": ", ".join(members), "member": members}


def _log_curves(run: Run, model: TrainedModel) -> None:
    """Log the learning curves. An ensemble has none."""
    if model.facts.members:
        return
    with model.curves.open(newline="") as file:
        for row in csv.DictReader(file):
            points = {name: _number(text) for name, text in row.items() if name not in ("epoch", "phase")}
            # With the time at which the run began: in another attempt the same points are no new ones.
            known = {name: value for name, value in points.items() if value is not None}
            run.log_epoch(int(row["epoch"]), known, run.began)
    run.log_file(model.curves)


def _number(text: str) -> float | None:
    value = float(text) if text else math.nan
    return None if math.isnan(value) else value


def _id(uri: str) -> str:
    return uri.removeprefix("models:/")
