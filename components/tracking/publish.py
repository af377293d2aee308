"""Trained models that are not on this server yet: made with another server, or pulled by DVC."""

import csv
import logging
import math

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException

from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.tracking import server
from components.tracking.run import Description, Run, new_run

logger = logging.getLogger(__name__)

MODEL_DIGEST = "model_digest"


def ensure_model(model: TrainedModel) -> TrackedRun:
    """Find a model on this server, or publish it from its artifact. Doing it twice publishes one model.

    The card names a run of the server that was in use during training. Another server may be in use now, or DVC may
    have pulled the model from its cache.

    Raises:
        ServiceUnreachable: MLflow or its artifact store does not answer.
        DataRefused: the weights do not belong to the architecture on the card.
    """
    client = server.connect()
    with server.refusals(f"looking for {model.facts.candidate}"):
        found = _recorded(client, model) or _published(client, model)
    return found or _publish(client, model)


def _recorded(client: MlflowClient, model: TrainedModel) -> TrackedRun | None:
    try:
        logged = client.get_logged_model(model.facts.run.model_uri.removeprefix("models:/"))
    except MlflowException as error:
        if server.is_missing(error):
            return None
        raise
    if not _is_whole(client, logged):
        return None
    # The digest was not known when the training logged the model.
    if MODEL_DIGEST not in logged.tags:
        client.set_logged_model_tags(logged.model_id, {MODEL_DIGEST: model.digest})
    return _tracked(logged)


def _published(client: MlflowClient, model: TrainedModel) -> TrackedRun | None:
    found = client.search_logged_models(
        [server.experiment_id(client)], filter_string=f"tags.{MODEL_DIGEST} = '{model.digest}'"
    )
    return next((_tracked(logged) for logged in found if _is_whole(client, logged)), None)


def _publish(client: MlflowClient, model: TrainedModel) -> TrackedRun:
    # Imported here because TensorFlow takes ten seconds: register runs on every `dvc repro`, and most times all models
    # are on the server.
    from components.network import architectures

    facts = model.facts
    logger.info("%s is not on MLflow at %s yet: publishing it", facts.candidate, server.shown_uri())
    description = Description(
        candidate=facts.candidate,
        architecture=facts.architecture,
        params={**facts.params, "seed": facts.seed, "image_size": facts.image_size},
        tags={
            MODEL_DIGEST: model.digest,
            "data_digest": facts.data_digest,
            **({"archive_md5": facts.archive_md5} if facts.archive_md5 else {}),
            "shards_digest": facts.shards_digest,
            "code_revision": facts.code_revision,
            "device": facts.device,
        },
        environment=facts.environment,
    )
    with new_run(client, description) as run:
        _log_curves(run, model)
        uri = run.log_model(architectures.load(model), tags={MODEL_DIGEST: model.digest})
    return TrackedRun(run_id=run.run_id, model_uri=uri)


def _log_curves(run: Run, model: TrainedModel) -> None:
    with model.curves.open(newline="") as file:
        for row in csv.DictReader(file):
            points = {name: _number(text) for name, text in row.items() if name not in ("epoch", "phase")}
            run.log_epoch(int(row["epoch"]), {n: value for n, value in points.items() if value is not None})
    run.log_file(model.curves)


def _number(text: str) -> float | None:
    value = float(text) if text else math.nan
    return None if math.isnan(value) else value


def _is_whole(client: MlflowClient, logged: LoggedModel) -> bool:
    """Whether it can be registered: it is complete, its files exist, its run is not deleted."""
    if logged.status != "READY" or not logged.source_run_id:
        return False
    try:
        run = client.get_run(logged.source_run_id)
    except MlflowException as error:
        if server.is_missing(error):
            return False
        raise
    files = {file.path for file in client.list_logged_model_artifacts(logged.model_id)}
    return run.info.lifecycle_stage == "active" and "MLmodel" in files


def _tracked(logged: LoggedModel) -> TrackedRun:
    return TrackedRun(run_id=logged.source_run_id, model_uri=f"models:/{logged.model_id}")
