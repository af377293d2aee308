"""What can be told of a version by the registry and the artifact store: the links from its run to its signature."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from components import tracking
from components.artifacts import evidence, predictor
from components.artifacts.evidence import Evidence
from components.base.errors import DataRefused, UsageError
from components.signing import directory
from components.tracking import failures, model_registry, stored_model
from components.tracking.evidence_files import Untrusted
from components.tracking.model_registry import Named

UNLOOKED = "the signature is not believed, so nothing else was opened"


class Examined(NamedTuple):
    """A version. Of each link: what is wrong, in words; None if it is whole."""

    evidence: Evidence | None
    """None if the signature is not believed, or the files cannot be fetched."""
    signer: str
    """Name of the key that signed; empty without evidence."""
    run: str | None
    weights: str | None
    version: str | None
    signature: str | None


@failures.patient
def examine(named: Named) -> Examined:
    """Fetch a version and look at its links. The signature is verified before anything opens a file.

    Raises:
        UsageError: there is no such version, or nobody is trusted here.
        ServiceUnreachable: MLflow or its artifact store does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"examining {named.name} version {named.version}"), TemporaryDirectory() as place:
        found = model_registry.lookup(client, named)
        if found is None:
            raise UsageError(f"{named.name} has no version {named.version}.")
        fetched = model_registry.fetch_version(client, found, Path(place))
        if isinstance(fetched, Untrusted):
            return Examined(None, "", None, None, None, str(fetched))
        if isinstance(fetched, str):
            return Examined(None, "", None, fetched, None, None)
        return _examined(client, found, fetched.parents[1])


def _examined(client: MlflowClient, found: ModelVersion, folder: Path) -> Examined:
    """As `examine`, of a directory whose signature was verified."""
    said, signed = evidence.read(folder), directory.verify(folder)
    facts = said.registered.model_copy(update={"version": int(found.version)})
    run = None
    source = client.get_logged_model(said.logged_model).source_run_id
    for where, run_id in (("the registry", found.run_id), ("its logged model", source)):
        if run_id != facts.run_id:
            run = f"{where} names the run {run_id}, and its evidence {facts.run_id}"
    try:
        card, _ = predictor.read(folder)
        weights = predictor.difference(folder, card, facts)
    except DataRefused as refusal:
        weights = str(refusal)
    if weights is None and (digest := found.tags.get(stored_model.MODEL_DIGEST, "")) != facts.model_digest:
        weights = f"the registry says of the model {digest:.12}, and its evidence {facts.model_digest:.12}"
    return Examined(said, signed.name, run, weights, model_registry.difference(client, found, facts), None)
