"""One training as MLflow sees it."""

import json
import logging
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME

from components.base import answers
from components.base import patience as waiting
from components.base.errors import ServiceUnreachable
from components.kubeflow import pod
from components.tracking import address, effects, failures, parent, readiness, server

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

SOURCE = "mura train"
"""What our runs name as their source: by this they are told from Kubeflow's own."""

TRAINING = "training"
"""The tag of a run that says which training it is of."""

_DIGEST_LENGTH = 36  # MLflow refuses longer digests of a data set
_BATCH = 500  # metrics in one request; MLflow takes at most 1,000
_PATIENCE = 60.0  # at the end of a training outside a pod, seconds
_PAUSE = 2.0  # seconds between two attempts to reach a server that does not answer


class Dataset(NamedTuple):
    """The data of a training, as MLflow lists it."""

    name: str
    source: str
    digest: str
    images: Mapping[str, int]
    """By split."""


class Description(NamedTuple):
    """What a run says about its training."""

    candidate: str
    """Also the name of the run and of its model."""
    architecture: str
    params: Mapping[str, Any]
    """Logged flat: `a.b` for nested ones."""
    tags: Mapping[str, str]
    """`code_revision` among them also becomes MLflow's source commit."""
    environment: Mapping[str, str] = {}
    """Versions of what the result may depend on."""
    dataset: Dataset | None = None
    """Logged as the input of the run."""
    key: str = ""
    """Tells the training from all others, and is the same when it begins again. By it a run is found of which we got no
    answer when it was created."""


Point = tuple[str, int, float]
"""Of a learning curve: the metric's name, the epoch, the value."""


class Run:
    """An open run. If the server does not answer, metrics are kept and sent later."""

    def __init__(  # Parameters: what is known of the run, and how it is reached
        self, client: MlflowClient, run: MlflowRun, name: str, patience: float, there: frozenset[Point] = frozenset()
    ) -> None:
        """Use `training_run`."""
        self.run_id: str = run.info.run_id
        self.patience = patience
        """How long to wait for a server that does not answer, seconds."""
        self.began: int = run.info.start_time
        """When, by the server's record, milliseconds since 1970."""
        self._run = run
        self._client = client
        self._name = name
        self._undelivered: list[Metric] = []
        self._there = there
        self._lost = False

    def log_epoch(self, epoch: int, metrics: Mapping[str, float], at: int | None = None) -> None:
        """Add a point to each learning curve; never fails.

        The curves are a group of their own, `epoch/`. MLflow shows it before the scores in `test/` and `tuning/`.

        A resumed training may log an epoch again. What the server has is not sent again: MLflow would keep both points.

        Args:
            epoch: counted from 1.
            metrics: by name.
            at: when it was, milliseconds since 1970; now by default. A point that is logged twice with one time is one.
        """
        now = time.time_ns() // 1_000_000 if at is None else at
        # The time is set here: a point that is sent again after a lost answer is still one point.
        points = [Metric(f"epoch/{name}", float(value), now, epoch) for name, value in metrics.items()]
        self._undelivered += [each for each in points if (each.key, each.step, each.value) not in self._there]
        if not (self._lost and server.silence()):
            self._send()

    def log_file(self, path: Path, folder: str = "") -> None:
        """Store a copy of a file with the run.

        Args:
            path: the file.
            folder: folder among the run's artifacts; empty for their root.

        Raises:
            ServiceUnreachable: MLflow or its artifact store does not answer.
        """
        self.deliver()
        store = partial(self._client.log_artifact, self.run_id, str(path), folder or None)
        doing = f"storing {path.name}"
        failures.insist(doing, lambda: failures.transfer(doing, store), self.patience)

    def log_model(self, model: "keras.Model", tags: Mapping[str, str] | None = None) -> str:
        """Store the model with the run, ready to be loaded, served and registered.

        Args:
            model: of standard layers, and not compiled: the state of an optimiser would be stored too.
            tags: tags of the logged model.

        Returns:
            `models:/m-...`.

        Raises:
            ServiceUnreachable: MLflow or its artifact store does not answer.
        """
        # Imported here because it imports TensorFlow, which takes ten seconds; register and promote do not need it.
        from components.network import backend  # noqa: F401 - imports TensorFlow without its messages
        from components.tracking import logged_model

        self.deliver()
        return logged_model.log(self._client, self._run, self._name, model, tags or {}, self.patience)

    def deliver(self) -> None:
        """Wait until the server has every metric.

        Raises:
            ServiceUnreachable: MLflow did not answer within `patience` seconds.
        """
        deadline = time.monotonic() + self.patience
        while self._undelivered:
            if not server.silence():
                self._send()
            if not self._undelivered:
                return
            if time.monotonic() > deadline:
                raise ServiceUnreachable(
                    f"MLflow at {address.shown()} did not answer within {self.patience:.0f} s; "
                    f"{len(self._undelivered)} metrics of run {self.run_id} are not delivered. When it answers again, "
                    "run the same command again: the training resumes after its last epoch."
                )
            time.sleep(min(_PAUSE, max(0.0, deadline - time.monotonic()) + 0.01))

    def _send(self) -> None:
        try:
            while self._undelivered:
                with answers.limited():
                    self._client.log_batch(self.run_id, metrics=self._undelivered[:_BATCH])
                del self._undelivered[:_BATCH]
        except failures.SERVICE_ERRORS:
            if not self._lost:
                logger.warning(
                    "MLflow at %s does not take metrics; the training goes on, and they are sent later",
                    address.shown(),
                )
            self._lost = True
            logger.debug("metrics not delivered", exc_info=True)
        else:
            if self._lost:
                logger.info("MLflow at %s takes metrics again; all are delivered", address.shown())
            self._lost = False


class Unrecorded(Run):
    """In place of a run when MLflow did not answer: `mura register` publishes the model with its curves later."""

    def __init__(self) -> None:
        """Nothing is sent."""
        self.run_id, self.began = "", 0

    def log_epoch(self, epoch: int, metrics: Mapping[str, float], at: int | None = None) -> None:
        """Do nothing: the curves are in the artifact."""

    def log_file(self, path: Path, folder: str = "") -> None:
        """Do nothing: the file is in the artifact."""

    def log_model(self, model: "keras.Model", tags: Mapping[str, str] | None = None) -> str:  # noqa: ARG002
        """Return no address."""
        return ""

    def deliver(self) -> None:
        """Do nothing."""


@contextmanager
def training_run(description: Description, run_id: str | None = None, patience: float | None = None) -> Iterator[Run]:
    """Open a run for a training: it is FINISHED when the block ends well, FAILED when it raises.

    MLflow is asked first for all that the training needs at its end. If it does not answer at all, MURA_PATIENCE says
    how long to wait (not at all outside a pod); then the training goes on without a run. With MLFLOW_TRACKING_URI=off
    it does so at once.

    Where MLFLOW_RUN_ID names a run, as Kubeflow's MLflow plugin does for each task, the run is its child.

    Args:
        description: what the run says about the training.
        run_id: the run to resume. A new run begins if the server does not have it, or has it with other parameters, or
            in another experiment than MLFLOW_RUN_ID's.
        patience: how long to wait at the end for a server that does not answer, seconds; by default MURA_PATIENCE, a
            minute outside a pod.

    Raises:
        ServiceUnreachable: MLflow lacks something, or does not answer at the end.
        UsageError: MLFLOW_RUN_ID names no run of this server, or another setting is wrong.
    """
    server.locate()
    if address.is_off():
        logger.info("%s is %s: training without a run", address.URI, address.OFF)
        yield Unrecorded()
        return
    if reason := server.wait(server.patience(elsewhere=0.0)):
        logger.warning(
            "MLflow at %s does not answer (%s): training without it; `mura register` publishes run, curves and model",
            address.shown(),
            reason,
        )
        yield Unrecorded()
        return
    client = server.connect()
    found, there = waiting.insist(lambda: _begun(client, description, run_id), server.patience(elsewhere=0.0))
    patient = server.patience(_PATIENCE) if patience is None else patience
    run = Run(client, found, description.candidate, patient, there)
    logger.info("MLflow run %s at %s", run.run_id, address.shown())
    with opened(client, run):
        yield run


def _begun(client: MlflowClient, description: Description, run_id: str | None) -> tuple[MlflowRun, frozenset[Point]]:
    """A new run for a training, or the one to resume, described; and the points that it has."""
    with failures.refusals("beginning a run"):
        home, params = parent.home(client), _flat(description.params)
        readiness.check(client, home.experiment)
        found = _find(client, run_id) if run_id else None
        # A run cannot move to another experiment, and MLflow shows a child beside its parent only.
        apart = found is not None and bool(home.tags) and found.info.experiment_id != home.experiment
        if found is None or apart or _disagree(found, params):
            found = _begun_before(client, home, description, "= 'RUNNING'")
        else:
            client.update_run(found.info.run_id, status="RUNNING")
        _describe(client, found.info.run_id, description, params, home.tags)
        return found, _points(client, found)


def _points(client: MlflowClient, run: MlflowRun) -> frozenset[Point]:
    """The learning curves that a run has."""
    curves = [name for name in run.data.metrics if name.startswith("epoch/")]
    found = (each for name in curves for each in client.get_metric_history(run.info.run_id, name))
    return frozenset((each.key, each.step, each.value) for each in found)


@contextmanager
def new_run(client: MlflowClient, description: Description, run_id: str = "") -> Iterator[Run]:
    """Open a run for a training that is over: the one that it began, or an attempt before, or a new one.

    Args:
        client: client of the server.
        description: what the run says about the training.
        run_id: the run that the training began before it lost the server; empty if it had none.
    """
    patient = server.patience(elsewhere=0.0)

    def begin() -> tuple[MlflowRun, frozenset[Point]]:
        home, params = parent.home(client), _flat(description.params)
        found = _find(client, run_id) if run_id else None
        if found is None or found.info.experiment_id != home.experiment or _disagree(found, params):
            found = _begun_before(client, home, description, "!= 'FINISHED'")
        if found.info.status != "RUNNING":
            client.update_run(found.info.run_id, status="RUNNING")
        _describe(client, found.info.run_id, description, params, home.tags)
        return found, _points(client, found)

    created, there = failures.insist("beginning a run", begin, patient)
    run = Run(client, created, description.candidate, patient, there)
    with opened(client, run):
        yield run


@contextmanager
def opened(client: MlflowClient, run: Run) -> Iterator[None]:
    """Measure the machine if MLflow is set to do so; at the end deliver all metrics, and end the run."""
    monitor = _system_metrics(run.run_id)
    try:
        yield
        run.deliver()
    except BaseException as error:
        _end_badly(client, run.run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    else:
        end = partial(client.set_terminated, run.run_id, "FINISHED")
        failures.insist("ending the run", end, run.patience)
    finally:
        if monitor is not None:
            monitor.finish()


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in params.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": str(value)}
    return flat


def _find(client: MlflowClient, run_id: str) -> MlflowRun | None:
    try:
        found = client.get_run(run_id)
    except MlflowException as error:
        if failures.is_hidden(error):
            return None
        raise
    return found if found.info.lifecycle_stage == "active" else None


def _begun_before(client: MlflowClient, home: parent.Home, description: Description, status: str) -> MlflowRun:
    """The run that an attempt before began and did not tell us of, or a new one."""
    key, params = description.key or uuid.uuid4().hex, _flat(description.params)

    def find() -> MlflowRun | None:
        ours = f"tags.{TRAINING} = '{key}' and attributes.status {status}"
        found = client.search_runs([home.experiment], ours, order_by=["attributes.start_time ASC"], max_results=10)
        return next((run for run in found if not _disagree(run, params)), None)

    def make() -> MlflowRun:
        tags = {**home.tags, MLFLOW_SOURCE_NAME: SOURCE, TRAINING: key}
        return client.create_run(home.experiment, run_name=description.candidate, tags=tags)

    return effects.ensure(find, make)


def _disagree(run: MlflowRun, params: Mapping[str, str]) -> bool:
    # MLflow never changes a parameter. A run that was killed early may lack some.
    return any(run.data.params.get(name, value) != value for name, value in params.items())


def _describe(
    client: MlflowClient, run_id: str, description: Description, params: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    described = {
        MLFLOW_SOURCE_NAME: SOURCE,
        **tags,
        "candidate": description.candidate,
        "architecture": description.architecture,
        **description.tags,
        **pod.tags(),
        # Tags, not parameters: MLflow never changes a parameter, and a training may resume after an upgrade.
        **{f"environment.{name}": version for name, version in description.environment.items()},
    }
    if commit := re.match(r"[0-9a-f]{40}", description.tags.get("code_revision", "")):
        described["mlflow.source.git.commit"] = commit[0]
    client.log_batch(
        run_id,
        params=[Param(name, value) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in described.items()],
    )
    if (dataset := description.dataset) is not None:
        entity = MlflowDataset(
            name=dataset.name,
            digest=dataset.digest[:_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": dataset.source}),
            profile=json.dumps({f"{split}_images": count for split, count in dataset.images.items()}),
        )
        effects.ensure_inputs(client, run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])


def _end_badly(client: MlflowClient, run_id: str, status: str) -> None:
    # Another error is being raised, and matters more than one of the server.
    try:
        if not server.silence():
            with answers.limited():
                client.set_terminated(run_id, status)
            return
    except failures.SERVICE_ERRORS:
        logger.debug("run not ended", exc_info=True)
    logger.warning("MLflow at %s does not answer; it still shows run %s as running", address.shown(), run_id)


def _system_metrics(run_id: str) -> Any:
    if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        return None
    try:
        # Imported here because it needs psutil, which may be missing.
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, resume_logging=True)
    except Exception as error:
        logger.warning("MLflow cannot measure the machine: %s", error)
        return None
    monitor.start()
    return monitor
