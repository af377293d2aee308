"""The evidence of a version: written into its directory and signed there, and read from the store."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from mlflow import MlflowClient, artifacts
from mlflow.entities import LoggedModel

from components.artifacts import evidence
from components.artifacts.evaluation import (
    CARD_PAGE,
    CARD_TEXT,
    METRICS,
    REPORT,
    TEST_METRICS,
    TEST_REPORT,
    Evaluation,
)
from components.artifacts.evidence import Evidence
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import TrainedModel
from components.base.errors import DataRefused
from components.base.files import file_sha256, write_text
from components.signing import directory
from components.tracking import failures, stored_studies
from components.tracking.absent import is_lost
from components.tracking.gate_figures import gate_figures

_OF_EVALUATION = (Evaluation.CARD, METRICS, TEST_METRICS, REPORT, TEST_REPORT, CARD_TEXT, CARD_PAGE)
"""Its files that travel. The others name studies, patients and pictures."""
UNSIGNED = (
    f"it is not signed: an older version of this program registered it, or {directory.SIGNATURE} was removed. Sign it "
    "anew: mura register --adopt VERSION"
)
_known: ContextVar[dict[tuple[str, str], Evidence | None] | None] = ContextVar("known", default=None)


class Untrusted(str):
    """Why a directory is not believed, in words: it is there, and is not as somebody signed it who is trusted here."""

    __slots__ = ()


class Bound(NamedTuple):
    """What the evidence of a model and its evaluation is bound to."""

    name: str
    """Of the registered model."""
    run_id: str
    logged_model: str


def facts(model: TrainedModel, evaluation: Evaluation, name: str, run_id: str) -> RegisteredModel:
    """What is known of a version, without its number.

    Args:
        model: what is registered.
        evaluation: of that model.
        name: of the registered model.
        run_id: of the model.
    """
    return RegisteredModel(
        model=name,
        version=0,
        run_id=run_id,
        candidate=model.facts.candidate,
        architecture=model.facts.architecture,
        model_digest=model.digest,
        evaluation_digest=evaluation.digest,
        data_digest=model.facts.data_digest,
        body_parts=evaluation.facts.body_parts,
        protocol=evaluation.facts.protocol,
        calibration=evaluation.facts.calibration,
        offsets=model.facts.offsets,
        flips=evaluation.facts.flips,
        code_revision=model.facts.code_revision,
        training_seconds=model.facts.seconds,
        gate=gate_figures(evaluation),
        scores=evaluation.facts.scores,
    )


def write(model: TrainedModel, evaluation: Evaluation, bound: Bound, folder: Path) -> None:
    """Write the evidence of a version into its directory. The golden set is no part of this.

    Raises:
        UsageError: there is no key that signs here; it keys the ids of the studies.
    """
    studies = stored_studies.keyed(evaluation)
    said = Evidence(
        registered=facts(model, evaluation, bound.name, bound.run_id),
        logged_model=bound.logged_model,
        shards_digest=model.facts.shards_digest,
        protocol_digest=evaluation.facts.protocol_digest,
        archive_md5=model.facts.archive_md5,
        weights_sha256=file_sha256(model.weights),
        studies_sha256=stored_studies.sha256(studies),
    )
    place = folder / evidence.EVALUATION
    place.mkdir(parents=True)
    write_text(folder / evidence.VERSION, said.model_dump_json(indent=2) + "\n")
    studies.to_parquet(folder / evidence.STUDIES, index=False)
    shutil.copyfile(model.path / TrainedModel.CARD, folder / evidence.TRAINING_CARD)
    for name in _OF_EVALUATION:
        if (evaluation.path / name).is_file():
            shutil.copyfile(evaluation.path / name, place / name)


def doubt(folder: Path, logged: LoggedModel, name: str) -> Untrusted | None:
    """Why the files of a version are not believed; None if they are. Nothing else of them is opened before.

    Args:
        folder: as the store gave it back.
        logged: the logged model that it should be of.
        name: of the registered model that it should be of.

    Raises:
        UsageError: nobody is trusted here.
    """
    if not (folder / directory.SIGNATURE).exists():
        return Untrusted(UNSIGNED)
    try:
        directory.verify(folder)
        said = evidence.read(folder)
    except DataRefused as refusal:
        return Untrusted(_without(folder, refusal))
    return _elsewhere(said, logged.model_id, name)


def of(client: MlflowClient, model_id: str, name: str) -> Evidence | None:
    """The evidence of a logged model in the store: verified, without fetching its networks; None if it is not signed.

    Args:
        client: client of the server.
        model_id: the logged model, `m-...`.
        name: of the registered model that it should be of.

    Raises:
        DataRefused: it is not as somebody signed it who is trusted here.
        ServiceUnreachable, MlflowException and others: MLflow or its artifact store does not answer.
    """
    known, key = _known.get(), (model_id, name)
    if known is not None and key in known:
        return known[key]
    with TemporaryDirectory() as place:
        said = fetch(client, model_id, name, Path(place))
    if known is not None:
        known[key] = said
    return said


@contextmanager
def read_once() -> Iterator[None]:
    """Read the evidence of each version once in this block: of one decision, and not longer. Blocks may be nested."""
    token = _known.set({} if (known := _known.get()) is None else known)
    try:
        yield
    finally:
        _known.reset(token)


def fetch(client: MlflowClient, model_id: str, name: str, place: Path, *more: Path) -> Evidence | None:
    """As `of`, with more files of the directory.

    Args:
        client: client of the server.
        model_id: as `of`.
        name: as `of`.
        place: an empty directory, for the files.
        more: files or directories that are fetched too. What is missing is left out.
    """
    location = client.get_logged_model(model_id).artifact_location
    listed: dict[Path, set[str]] = {}
    for file in (Path(directory.SIGNATURE), evidence.VERSION, *more):
        # Servers answer 500 for a file that is not there, and clients repeat that for minutes.
        if file.parent not in listed:
            listed[file.parent] = _names(f"{location}/{file.parent.as_posix()}".removesuffix("/."))
        if file.name in listed[file.parent]:
            into = place / file.parent
            into.mkdir(parents=True, exist_ok=True)
            download = partial(artifacts.download_artifacts, f"{location}/{file.as_posix()}", dst_path=str(into))
            failures.transfer("fetching the evidence", download, arriving=into)
        elif file.name == directory.SIGNATURE:
            return None
    try:
        directory.verify_part(place)
        said = evidence.read(place)
    except DataRefused as refusal:
        raise DataRefused(_without(place, refusal)) from refusal
    if (what := _elsewhere(said, model_id, name)) is not None:
        raise DataRefused(what)
    return said


def _names(location: str) -> set[str]:
    """The names in a directory of the artifact store; none if there is no such directory."""
    look = partial(artifacts.list_artifacts, artifact_uri=location)
    try:
        return {Path(each.path).name for each in failures.transfer("listing the evidence", look)}
    except failures.SERVICE_ERRORS as error:
        if is_lost(error):
            return set()
        raise


def _elsewhere(said: Evidence, model_id: str, name: str) -> Untrusted | None:
    """Whether a directory that is as it was signed lies in the place of another."""
    if said.registered.model != name:
        return Untrusted(f"it was signed as a version of {said.registered.model}, not of {name}")
    if said.logged_model != model_id:
        return Untrusted(f"it is the directory of another version: signed as {said.logged_model}, found as {model_id}")
    return None


def _without(folder: Path, refusal: DataRefused) -> str:
    """The words of a refusal without the place, which is a temporary one."""
    return str(refusal).removeprefix(f"{folder}: ").replace(f"{folder}/", "").rstrip(".")
