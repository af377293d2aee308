"""`mura fetch`: a version from the registry, as a directory. Importing this imports MLflow."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from components import tracking
from components.artifacts import predictor
from components.artifacts.predictor import PredictorCard, Version
from components.artifacts.registration import RegisteredModel
from components.base.errors import DataRefused, OutsideFailed, UsageError
from components.base.files import write_text
from components.tracking import model_registry
from components.tracking.evidence_files import Untrusted

if TYPE_CHECKING:
    from components.predict.keras_network import KerasNetwork


def fetch(uri: str, out: Path) -> Version:
    """Fetch a version, verify it, and write its directory.

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        out: the directory. It is written whole or not at all.

    Raises:
        UsageError: there is no such version, there is something at `out`, or nobody is trusted here.
        DataRefused: the version was changed since it was registered, or is not signed by anybody who is trusted here.
        OutsideFailed: its files are lost or damaged.
        ServiceUnreachable: MLflow does not answer.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: not an empty directory. Name another one.")
    tracking.require("fetch")
    model = version_of(uri)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", suffix=".partial") as name:
        work = Path(name)
        fetched, _ = _fetched(model, work / "version")
        version = Version(model=model.model, version=model.version)
        write_text(fetched / predictor.VERSION, f"model_name: {model.model}\nmodel_version: '{model.version}'\n")
        if out.exists():
            out.rmdir()
        fetched.rename(out)
    return version


def with_keras(uri: str) -> tuple[PredictorCard, Version, "KerasNetwork"]:
    """Fetch a version, check it, and load its network. See `Predictor.of`."""
    from components.predict.keras_network import KerasNetwork

    model = version_of(uri)
    with TemporaryDirectory() as name:
        folder, card = _fetched(model, Path(name))
        try:
            network = KerasNetwork.read(folder / predictor.NETWORK, card.flips)
        except ValueError as error:
            raise DataRefused(f"{_named(model)}: {error}.") from error
    return card, Version(model=model.model, version=model.version), network


def version_of(uri: str) -> RegisteredModel:
    """A version that can answer, as the registry describes it.

    Raises:
        UsageError, DataRefused, ServiceUnreachable: as `fetch`.
    """
    model = _version(uri)
    if model.calibration is None or model.offsets is None:
        raise UsageError(f"{_named(model)} has no calibration: it is from before there was one. Register it again.")
    if what := model_registry.contradiction(model):
        raise DataRefused(f"{_named(model)} is not what was registered: {what}. Somebody changed it.")
    return model


def _fetched(model: RegisteredModel, into: Path) -> tuple[Path, PredictorCard]:
    """Fetch the files of a version, and check them: the directory and its card."""
    into.mkdir(exist_ok=True)
    found = model_registry.network(model, into)
    if isinstance(found, Untrusted):
        raise DataRefused(f"{_named(model)} is not believed, and nothing of it was opened: {found}.")
    if isinstance(found, str):
        raise OutsideFailed(f"{_named(model)} cannot be loaded: {found}. Run `mura register` again.")
    folder = found.parents[1]
    card, _ = predictor.read(folder)
    if what := predictor.difference(folder, card, model):
        raise DataRefused(f"{_named(model)}: {what}. Somebody changed it.")
    return folder, card


def _named(model: RegisteredModel) -> str:
    return f"{model.model} version {model.version}"


def _version(uri: str) -> RegisteredModel:
    named = model_registry.named(uri)
    found = model_registry.version(named.name, named.version)
    if found is None:
        raise UsageError(f"{named.name} has no version {named.version}.")
    return found
