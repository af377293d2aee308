"""One training as MLflow sees it."""

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.base.errors import ServiceUnreachable, UsageError
from components.kubeflow import pod
from components.tracking import logged_model, server

if TYPE_CHECKING:
    import keras
    import numpy as np
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.entities import Run as MlflowRun

logger = logging.getLogger(__name__)

RUN_ID = "MLFLOW_RUN_ID"

_DIGEST_LENGTH = 36  # the longest digest of a data set that MLflow takes
_BATCH = 500  # metrics in one request; MLflow takes 1,000
_PAUSE = 2.0  # seconds between two attempts to reach a server that went away


class Dataset(NamedTuple):
    """The data a model learns from, as MLflow lists it."""

    name: str
    source: str
    digest: str
    images: Mapping[str, int]
    """By split."""


class Run:
    """A run that is open. It outlives the server: what cannot be delivered now is kept and delivered later."""

    def __init__(self, client: "MlflowClient", run: "MlflowRun", architecture: str, patience: float) -> None:
        """Use `training_run`."""
        self.run_id: str = run.info.run_id
        self._experiment_id: str = run.info.experiment_id
        self._client = client
        self._architecture = architecture
        self._patience = patience
        self._undelivered: list[Metric] = []
        self._lost = False

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Add a point to each learning curve; never fails.

        The curves are a group of their own, `epoch/`, which MLflow shows before the scores of `test/` and `tuning/`.

        A training that goes on after a crash may log an epoch again: MLflow keeps both points and shows the later
        one as the value, so the curves agree as far as the training is deterministic.

        Args:
            epoch: counted from 1.
            metrics: by name.
        """
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        # With their time, so that a point sent twice because the answer got lost is still one point.
        self._undelivered += [Metric(f"epoch/{name}", float(value), now, epoch) for name, value in metrics.items()]
        if not (self._lost and server.silence()):
            self._send()

    def log_file(self, path: Path, folder: str = "") -> None:
        """Keep a copy of a file with the run.

        Args:
            path: the file.
            folder: where among the run's artifacts; empty for their root.

        Raises:
            ServiceUnreachable: MLflow or its artifact store does not answer.
        """
        self.deliver()
        with server.refusals(f"storing {path.name}"):
            self._client.log_artifact(self.run_id, str(path), folder or None)

    def log_model(
        self, model: "keras.Model", example: "np.ndarray[Any, Any] | None" = None, tags: Mapping[str, str] | None = None
    ) -> str:
        """Keep the model with the run, ready to be loaded, served and registered.

        Args:
            model: not compiled (or its optimiser's state is stored with it), of standard layers.
            example: uint8 [n, S, S, 1], stored as the example of an input. By default a ramp of grey levels, for a
                model travels further than the images it learned from may.
            tags: of the logged model.

        Returns:
            `models:/m-...`.

        Raises:
            ServiceUnreachable: MLflow or its artifact store does not answer.
        """
        self.deliver()
        return logged_model.log(
            self._client, self._experiment_id, self.run_id, self._architecture, model, example, dict(tags or {})
        )

    def deliver(self) -> None:
        """Wait until the server has every metric.

        Raises:
            ServiceUnreachable: it has been waited for in vain.
        """
        deadline = time.monotonic() + self._patience
        while self._undelivered:
            if not server.silence():
                self._send()
            if not self._undelivered:
                return
            if time.monotonic() > deadline:
                raise ServiceUnreachable(
                    f"MLflow at {server.shown_uri()} has been silent for {self._patience:.0f} s with "
                    f"{len(self._undelivered)} metrics of run {self.run_id} to deliver. Once it answers again, run "
                    "the same command again: the training goes on where it stands."
                )
            time.sleep(min(_PAUSE, max(0.0, deadline - time.monotonic()) + 0.01))

    def _send(self) -> None:
        try:
            while self._undelivered:
                self._client.log_batch(self.run_id, metrics=self._undelivered[:_BATCH])
                del self._undelivered[:_BATCH]
        except server.service_errors():
            if not self._lost:
                logger.warning(
                    "MLflow at %s does not take metrics; the training goes on, they are kept and sent later",
                    server.shown_uri(),
                )
            self._lost = True
            logger.debug("metrics not delivered", exc_info=True)
        else:
            if self._lost:
                logger.info("MLflow at %s takes metrics again; all are delivered", server.shown_uri())
            self._lost = False


@contextmanager
def training_run(
    *,
    architecture: str,
    run_id: str | None,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    dataset: Dataset | None,
    environment: Mapping[str, str],
    patience: float = 60.0,
) -> Iterator[Run]:
    """A run around a training: FINISHED when the block ends well, FAILED when it raises.

    A killed process leaves it RUNNING, to be resumed by `run_id`. Where MLFLOW_RUN_ID is set, as Kubeflow does for
    each task, that run is used, and its owner ends it.

    Args:
        architecture: also the name of the run and of its model.
        run_id: to be resumed; a new run begins if the server does not know it, or knows it with other parameters.
        params: logged flat, `a.b` for nested ones. In another's run they carry the architecture as a prefix, so as
            not to collide with what its owner logs.
        tags: `code_revision` among them also becomes MLflow's source commit.
        dataset: logged as the run's input.
        environment: versions of what the result may depend on; no host.
        patience: how long to wait at the end for a server that went away, seconds.

    Raises:
        ServiceUnreachable: MLflow does not answer, at the beginning or at the end.
        UsageError: MLFLOW_RUN_ID names no run of this server.
    """
    client = server.connect()
    attached = os.environ.get(RUN_ID)
    flat = _flat(params, f"{architecture}." if attached else "")
    with server.refusals("beginning a run"):
        found = _attached_run(client, attached, flat) if attached else _resumable(client, run_id, flat)
        if found is None:
            found = client.create_run(server.experiment_id(client), run_name=architecture)
        elif not attached:
            client.update_run(found.info.run_id, status="RUNNING")
        _describe(client, found.info.run_id, architecture, flat, tags, dataset, environment)
    run = Run(client, found, architecture, patience)
    logger.info("MLflow run %s at %s", run.run_id, server.shown_uri())
    with opened(client, run, owned=not attached):
        yield run


@contextmanager
def new_run(
    client: "MlflowClient", *, architecture: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[Run]:
    """A run of our own, whatever the surroundings say, for a training that is over."""
    with server.refusals("beginning a run"):
        created = client.create_run(server.experiment_id(client), run_name=architecture)
        _describe(client, created.info.run_id, architecture, _flat(params), tags, None, {})
    run = Run(client, created, architecture, patience=0.0)
    with opened(client, run, owned=True):
        yield run


@contextmanager
def opened(client: "MlflowClient", run: Run, *, owned: bool) -> Iterator[None]:
    """Measure the machine if MLflow is asked to, deliver everything, and end the run if it is ours to end."""
    monitor = _system_metrics(run.run_id)
    try:
        yield
        run.deliver()
    except BaseException as error:
        if owned:
            _end_badly(client, run.run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    else:
        if owned:
            with server.refusals("ending the run"):
                client.set_terminated(run.run_id, "FINISHED")
    finally:
        if monitor is not None:
            monitor.finish()


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in params.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": str(value)}
    return flat


def _attached_run(client: "MlflowClient", run_id: str, params: Mapping[str, str]) -> "MlflowRun":
    found = _find(client, run_id)
    if found is None:
        raise UsageError(
            f"{RUN_ID} is {run_id}, and MLflow at {server.shown_uri()} has no such run. "
            f"Unset it, or set {server.URI} to the server that has."
        )
    if _disagree(found, params):
        raise UsageError(
            f"{RUN_ID} is {run_id}, which has been used for a training with other parameters. Unset it for a new run."
        )
    return found


def _resumable(client: "MlflowClient", run_id: str | None, params: Mapping[str, str]) -> "MlflowRun | None":
    found = _find(client, run_id) if run_id else None
    return None if found is None or _disagree(found, params) else found


def _find(client: "MlflowClient", run_id: str) -> "MlflowRun | None":
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_run(run_id)
    except MlflowException as error:
        if server.is_missing(error):
            return None
        raise
    return found if found.info.lifecycle_stage == "active" else None


def _disagree(run: "MlflowRun", params: Mapping[str, str]) -> bool:
    # MLflow never changes a parameter; a run that was killed early may lack some.
    return any(run.data.params.get(name, value) != value for name, value in params.items())


def _describe(
    client: "MlflowClient",
    run_id: str,
    architecture: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    dataset: Dataset | None,
    environment: Mapping[str, str],
) -> None:
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput, InputTag, Param, RunTag

    described = {
        "mlflow.source.name": "mura train",
        "architecture": architecture,
        **tags,
        **pod.tags(),
        # Tags and not parameters: a training may go on after an upgrade.
        **{f"environment.{name}": version for name, version in environment.items()},
    }
    if commit := re.match(r"[0-9a-f]{40}", tags.get("code_revision", "")):
        described["mlflow.source.git.commit"] = commit[0]
    client.log_batch(
        run_id,
        params=[Param(name, value) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in described.items()],
    )
    if dataset is not None:
        entity = MlflowDataset(
            name=dataset.name,
            digest=dataset.digest[:_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": dataset.source}),
            profile=json.dumps({f"{split}_images": count for split, count in dataset.images.items()}),
        )
        client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])


def _end_badly(client: "MlflowClient", run_id: str, status: str) -> None:
    # What is being raised matters more than what the server makes of it.
    try:
        if not server.silence():
            client.set_terminated(run_id, status)
            return
    except server.service_errors():
        logger.debug("run not ended", exc_info=True)
    logger.warning("MLflow at %s was not told that run %s has ended", server.shown_uri(), run_id)


def _system_metrics(run_id: str) -> Any:
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

    if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        return None
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, resume_logging=True)
    except Exception as error:
        logger.warning("MLflow cannot measure the machine: %s", error)
        return None
    monitor.start()
    return monitor
