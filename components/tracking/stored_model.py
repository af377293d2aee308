"""Whether a network that MLflow names can be loaded: its files are fetched and read, without importing TensorFlow."""

import json
import zipfile
import zlib
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from mlflow import MlflowClient, artifacts
from mlflow.exceptions import MlflowException

from components.base.files import file_sha256
from components.tracking import failures

NETWORK = Path("data/model.keras")
"""Where MLflow's Keras flavour stores the network, in the folder of a model."""
NETWORK_SHA256 = "network_sha256"
"""Tag of a logged model: sha256 of that file."""
# Keras' file is a zip with these members, and perhaps `assets`.
_MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
# What stores say of a file that they do not have.
_LOST = ("No such file", "No such artifact", "NoSuchKey", "NoSuchBucket", "404", "Not Found", "does not exist")


def fault(client: MlflowClient, model_id: str, uri: str = "") -> str | None:
    """Why a logged model cannot be loaded; None if it can, with the network that was stored.

    Args:
        client: client of the server.
        model_id: the logged model, `m-...`.
        uri: where it is fetched from, `models:/<name>/<version>`; the logged model's own address by default.

    Raises:
        ServiceUnreachable: the artifact store hangs.
        MlflowException and others of `failures.SERVICE_ERRORS`: MLflow or its artifact store does not answer.
    """
    try:
        logged = client.get_logged_model(model_id)
        if logged.status != "READY" or not logged.source_run_id:
            return "it was not stored to the end"
        if client.get_run(logged.source_run_id).info.lifecycle_stage != "active":
            return "its run was deleted"
    except MlflowException as error:
        if failures.is_missing(error):
            return "MLflow has deleted it"
        raise
    with TemporaryDirectory() as folder:
        try:
            fetch = partial(artifacts.download_artifacts, uri or f"models:/{model_id}", dst_path=folder)
            fetched = failures.transfer("fetching the model", fetch, arriving=Path(folder))
        except failures.SERVICE_ERRORS as error:
            if failures.is_missing(error) or any(sign in str(error) for sign in _LOST):
                return f"its files are lost from {logged.artifact_location}"
            raise
        broken = _broken(Path(fetched), logged.tags.get(NETWORK_SHA256))
    return broken and f"{broken} in {logged.artifact_location}"


def _broken(folder: Path, sha256: str | None) -> str | None:
    """What is wrong with the files of a model."""
    network = folder / NETWORK
    for file in (folder / "MLmodel", network):
        if not file.is_file():
            return f"{file.relative_to(folder)} is missing"
    if sha256 is not None and file_sha256(network) != sha256:
        return f"{NETWORK} is not the file that was stored"
    try:
        if "keras" not in yaml.safe_load((folder / "MLmodel").read_text())["flavors"]:
            return "MLmodel names no Keras model"
        with zipfile.ZipFile(network) as archive:
            if archive.testzip() or not set(archive.namelist()) >= _MEMBERS:
                return f"{NETWORK} is damaged"
            json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, zlib.error, yaml.YAMLError, KeyError, TypeError, ValueError, EOFError) as error:
        return f"MLmodel or {NETWORK} is damaged ({type(error).__name__})"
    return None
