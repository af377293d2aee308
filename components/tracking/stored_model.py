"""Whether a network that MLflow names can be loaded: its files are fetched and read, without importing TensorFlow."""

import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import yaml
from mlflow import MlflowClient, artifacts
from mlflow.exceptions import MlflowException

from components.artifacts import predictor
from components.base import documents
from components.base.files import file_sha256
from components.tracking import evidence_files, failures
from components.tracking.absent import is_lost

NETWORK = predictor.NETWORK
"""Where MLflow's Keras flavour stores the network, in the folder of a model."""
MODEL_DIGEST = "model_digest"
"""Tag of a logged model, of its run and of its versions: the digest of the artifact that it was made of."""
WEIGHTS_FILE_SHA256 = "weights_file_sha256"
"""Tag of a logged model: sha256 of the artifact's file of weights. A card may name any logged model as its own."""
EVALUATION_DIGEST = "evaluation_digest"
"""Tag of a logged model that is a predictor, and of versions: the digest of the evaluation that its card is of."""
NETWORK_SHA256 = "network_sha256"
"""Tag of a logged model: sha256 of that file."""
ONNX_SHA256 = "onnx_sha256"
"""Tag of a predictor: sha256 of its network for ONNX Runtime."""
FILES: Mapping[str, Path] = MappingProxyType(
    {NETWORK_SHA256: NETWORK, ONNX_SHA256: predictor.ONNX, "card_sha256": predictor.CARD}
)
"""The tags with the sha256 of a file, and the files."""
NOTHING: Mapping[str, str] = MappingProxyType({})
# Keras' file is a zip with these members, and perhaps `assets`.
_MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
# What readers of a file say that is none of theirs.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, yaml.YAMLError, KeyError, TypeError, ValueError, EOFError, OSError, RuntimeError,
)  # fmt: skip


def fault(
    client: MlflowClient, model_id: str, uri: str = "", known: Mapping[str, str] = NOTHING, signed_for: str = ""
) -> str | None:
    """Why a logged model cannot be loaded as what it should be; None if it can, with the network that was stored.

    Args:
        client: client of the server.
        model_id: the logged model, `m-...`.
        uri: where it is fetched from, `models:/<name>/<version>`; the logged model's own address by default.
        known: tags that it should have. One that it lacks is not compared: older versions set fewer.
        signed_for: name of the registered model that its files should be signed for, before anything opens one; empty
            for a network alone, which nobody signs.

    Raises:
        UsageError: it should be signed, and nobody is trusted here.
        ServiceUnreachable: the artifact store hangs.
        MlflowException and others of `failures.SERVICE_ERRORS`: MLflow or its artifact store does not answer.
    """
    with TemporaryDirectory() as folder:
        found = fetch(client, model_id, Path(folder), uri, known, signed_for)
        return found if isinstance(found, str) else None


def fetch(
    client: MlflowClient,
    model_id: str,
    folder: Path,
    uri: str = "",
    known: Mapping[str, str] = NOTHING,
    signed_for: str = "",
) -> Path | str:
    """Fetch a logged model and check it.

    Args:
        client: client of the server.
        model_id: the logged model, `m-...`.
        folder: an empty directory, for its files.
        uri: as `fault`.
        known: as `fault`.
        signed_for: as `fault`.

    Returns:
        The network's file; or why it cannot be loaded, in words: `Untrusted` if it is there and is not believed.

    Raises:
        UsageError, ServiceUnreachable, MlflowException and others: as `fault`.
    """
    try:
        logged = client.get_logged_model(model_id)
        if logged.status != "READY" or not logged.source_run_id:
            return "it was not stored to the end"
        if client.get_run(logged.source_run_id).info.lifecycle_stage != "active":
            return "its run was deleted"
        for name, value in known.items():
            if logged.tags.get(name, value) != value:
                return (
                    f"it is another network: its {name} is {logged.tags[name]:.12}, and that of the model {value:.12}"
                )
    except MlflowException as error:
        if failures.is_hidden(error):
            return "MLflow has deleted it"
        raise
    try:
        download = partial(artifacts.download_artifacts, uri or f"models:/{model_id}", dst_path=str(folder))
        fetched = Path(failures.transfer("fetching the model", download, arriving=folder))
    except failures.SERVICE_ERRORS as error:
        if is_lost(error):
            return f"its files are lost from {logged.artifact_location}"
        raise
    if signed_for and (doubt := evidence_files.doubt(fetched, logged, signed_for)):
        return doubt
    if broken := _broken(fetched, logged.tags):
        return f"{broken} in {logged.artifact_location}"
    return fetched / NETWORK


def _broken(folder: Path, tags: Mapping[str, str]) -> str | None:
    """What is wrong with the files of a model."""
    network = folder / NETWORK
    stored = {tag: file for tag, file in FILES.items() if tag in tags}
    for file in (Path("MLmodel"), NETWORK, *stored.values()):
        if not (folder / file).is_file():
            return f"{file} is missing"
    for tag, file in stored.items():
        if file_sha256(folder / file) != tags[tag]:
            return f"{file} is not the file that was stored"
    try:
        if "keras" not in documents.yaml_of(documents.content(folder / "MLmodel").decode())["flavors"]:
            return "MLmodel names no Keras model"
        with zipfile.ZipFile(network) as archive:
            # Keras does not pack its files.
            if sum(member.file_size for member in archive.infolist()) > network.stat().st_size:
                return f"{NETWORK} claims more than it holds"
            if archive.testzip() or not set(archive.namelist()) >= _MEMBERS:
                return f"{NETWORK} is damaged"
            with archive.open("config.json") as config:
                documents.json_of(config.read(documents.MOST))
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno:
            raise  # of the system, not of the file
        return f"MLmodel or {NETWORK} is damaged ({type(error).__name__})"
    return None
