"""A network as MLflow stores it: anyone who has MLflow and Keras can load it.

Importing this module imports Keras.
"""

import hashlib
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.entities import Run as MlflowRun
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from components.base.files import file_sha256
from components.tracking import effects, failures, stored_model

with warnings.catch_warnings():
    # MLflow warns of the type hints of its own classes while it is imported.
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    import mlflow.keras
    import mlflow.pyfunc  # imported by `save_model` otherwise

WEIGHTS_SHA256 = "weights_sha256"
"""Tag of a logged model: sha256 of its weights. By it a model is found of which we got no answer when it was made."""
SLOWEST = 1 << 20
"""A store that takes fewer bytes in a second hangs."""


class Described(NamedTuple):
    """What a logged model is."""

    name: str
    kind: str
    """Its type, for people."""
    known: Mapping[str, str]
    """Tags that it is found again by."""
    tags: Mapping[str, str]
    """Other tags."""
    signed_for: str = ""
    """Name of the registered model that its files are signed for; empty for a network alone."""


def log(
    client: MlflowClient, run: MlflowRun, name: str, model: keras.Model, tags: Mapping[str, str], patience: float
) -> str:
    """Store a network as the output of a run, once. MLflow's active run is not used.

    Args:
        client: client of the server.
        run: the run that made the model; its parameters become the model's.
        name: name of the logged model.
        model: takes pixels [n, S, S, 1] and gives logits [n, 1].
        tags: tags of the logged model.
        patience: how long to wait for a server that does not answer, seconds.

    Returns:
        `models:/m-...`, ready.

    Raises:
        ServiceUnreachable: MLflow or its artifact store does not answer.
    """
    known = {WEIGHTS_SHA256: _weights_sha256(model)}
    return store(client, run, Described(name, "image classifier", known, tags), partial(_save, model), patience)


def store(
    client: MlflowClient,
    run: MlflowRun,
    described: Described,
    save: Callable[[LoggedModel, Path], None],
    patience: float,
) -> str:
    """Store files as a logged model of a run, once. It is found again by its tags. Parameters and results as `log`.

    Args:
        client: client of the server.
        run: the run that made the model.
        described: what the logged model is.
        save: writes the files into an empty directory.
        patience: how long to wait for a server that does not answer, seconds.
    """
    run_id, doing = run.info.run_id, "storing the model"
    ours = " and ".join(
        [f"source_run_id = '{run_id}'", *(f"tags.{tag} = '{text}'" for tag, text in described.known.items())]
    )

    def find() -> LoggedModel | None:
        return next(iter(client.search_logged_models([run.info.experiment_id], filter_string=ours)), None)

    def create() -> LoggedModel:
        return client.create_logged_model(
            run.info.experiment_id,
            name=described.name,
            source_run_id=run_id,
            tags={**described.tags, **described.known},
            params=client.get_run(run_id).data.params,
            model_type=described.kind,
        )

    logged = failures.insist(doing, lambda: effects.ensure(find, create), patience)
    if logged.status == "READY":
        signed_for = described.signed_for
        look = partial(stored_model.fault, client, logged.model_id, signed_for=signed_for)
        fault = failures.insist(doing, look, patience)
        if fault is None:
            return f"models:/{logged.model_id}"
    with TemporaryDirectory() as folder:
        save(logged, Path(folder))
        files = {tag: Path(folder) / file for tag, file in stored_model.FILES.items()}
        digests = {tag: file_sha256(file) for tag, file in files.items() if file.is_file()}
        size = sum(path.stat().st_size for path in Path(folder).rglob("*"))

        def send_all() -> None:
            send = partial(client.log_model_artifacts, logged.model_id, folder)
            failures.transfer(doing, send, failures.file_seconds() + size / SLOWEST)
            client.set_logged_model_tags(logged.model_id, digests)
            _name_output(client, run_id, logged.model_id)
            client.finalize_logged_model(logged.model_id, "READY")

        failures.insist(doing, send_all, patience)
    return f"models:/{logged.model_id}"


def _name_output(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Say that a model is the output of a run. MLflow refuses to be told twice."""

    def find() -> bool | None:
        outputs = client.get_run(run_id).outputs
        return any(each.model_id == model_id for each in outputs.model_outputs) or None if outputs else None

    def make() -> bool:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
        return True

    effects.ensure(find, make)


def _weights_sha256(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for weights in model.get_weights():
        digest.update(weights.tobytes())
    return digest.hexdigest()


def _save(model: keras.Model, logged: LoggedModel, folder: Path) -> None:
    _, height, width, channels = model.input_shape
    # uint8 is the type of a grey image in every library, and MLflow then refuses other types: pixels scaled to [0, 1]
    # are an error instead of a prediction.
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, height, width, channels))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 1))]),
    )
    # The folder must exist: `log_model` of MLflow 3.17 does not create it before it writes the example (mlflow #16183).
    mlflow.keras.save_model(
        model,
        str(folder),
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            run_id=logged.source_run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        ),
        signature=signature,
        input_example=_ramp(height, width, channels),
        # Otherwise MLflow loads the model in a new process to find them, which takes 13 s.
        pip_requirements=_requirements(),
    )


def _ramp(height: int, width: int, channels: int) -> "np.ndarray[Any, Any]":
    """The example of an input: a ramp of grey levels, since no patient's image may travel with a model."""
    levels = np.linspace(0, 255, width).astype(np.uint8)
    return np.broadcast_to(levels[None, None, :, None], (1, height, width, channels)).copy()


def _requirements() -> list[str]:
    # TensorFlow is installed as `tensorflow` or `tensorflow-cpu`; the first exists on every platform.
    return [f"tensorflow=={tf.__version__}", *(f"{name}=={metadata.version(name)}" for name in ("keras", "numpy"))]
