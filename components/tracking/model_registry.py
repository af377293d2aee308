"""Model versions in the MLflow registry, and the alias that names the trusted one."""

import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from components import tracking
from components.artifacts import evidence, predictor
from components.artifacts.differences import differences
from components.artifacts.evaluation import TEST_REPORT, Evaluation, Scores
from components.artifacts.evidence import Evidence
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base import documents
from components.base.errors import DataRefused, ServiceRefused, UsageError
from components.base.files import file_sha256
from components.base.words import in_words
from components.golden import apart
from components.params.train import title
from components.signing.directory import SIGNATURE
from components.tracking import (
    address,
    effects,
    evidence_files,
    failures,
    logged_predictor,
    split_data,
    stored_model,
    stored_studies,
)
from components.tracking.publish import tags_of
from components.tracking.stored_studies import Stored

logger = logging.getLogger(__name__)

T = TypeVar("T")

FACTS = "registered_model"
"""Tag with the facts, as JSON, of a version that was registered before there was evidence."""
_BY_ALIAS = re.compile(r"models:/([^/@]+)@([^/@]+)")
_BY_NUMBER = re.compile(r"models:/([^/@]+)/([0-9]{1,9})")


class Named(NamedTuple):
    """A version by its name and number."""

    name: str
    version: int


class EvidenceLost(DataRefused):
    """This pipeline registered a version, and its evidence is gone."""


class NotOurs(UsageError):
    """This pipeline did not register a version."""


class Holder(NamedTuple):
    """A version that holds an alias."""

    name: str
    """Of the registered model."""
    version: int
    aliases: tuple[str, ...]
    facts: RegisteredModel | None
    """None if they cannot be read: this pipeline did not register it, or its tags were changed."""
    studies: Stored
    """Its studies and their probabilities, without names."""


@failures.patient
@evidence_files.read_once()
def ensure_version(name: str, model: TrainedModel, evaluation: Evaluation, run: TrackedRun) -> RegisteredModel:
    """Find the version of a model with this evaluation, or make it. It is of the predictor.

    A version is found by its candidate and by the digests in its tags. MLflow stores the tags together with the
    version. So repeated and interrupted calls make one version for each candidate, model and evaluation. A version
    that cannot be loaded any more, or is not signed, is replaced by a new one.

    Of calls at the same time each may make a version: MLflow has no locks. It numbers them in the order in which they
    can be seen, so all calls agree on the lowest, and whoever sees a higher one deletes it.

    Args:
        name: of the registered model.
        model: what is registered.
        evaluation: of that model.
        run: the predictor on this server, and the run of the model.

    Raises:
        UsageError: MLflow does not accept the name, or nobody is trusted here.
        DataRefused: the version was changed since it was registered.
        ServiceUnreachable: MLflow does not answer.
    """
    logged_predictor.check_name(name)
    client = tracking.connect()
    with tracking.refusals(f"registering {model.facts.candidate}"):
        split_data.log(client, run, evaluation.facts.scores, evaluation.facts.data_digest)
        find = partial(_find, client, name, model, evaluation, run)
        found = find()
        if found is None:
            for lost in _same(client, name, model, evaluation):
                why = _fault(client, lost, tags_of(model)) or "its predictor was lost"
                says = "%s version %s cannot be loaded any more (%s): %s gets a new one"
                logger.info(says, name, lost.version, why, model.facts.candidate)
            _prepare(client, name, evaluation, run)
            made = effects.ensure(find, partial(_create, client, name, model, evaluation, run))
            found = find() or made
        expected = evidence_files.facts(model, evaluation, name, run.run_id)
        expected = expected.model_copy(update={"version": int(found.version)})
        if what := difference(client, found, expected):
            raise DataRefused(
                f"{name} version {found.version} is not what was registered for {expected.candidate}: {what}. Somebody "
                "changed it: delete that version in MLflow and run `mura register` again."
            )
        _delete_twins(client, found, model, evaluation)
        return facts_of(found)


@failures.patient
def champion(name: str, alias: str) -> RegisteredModel | None:
    """The version that holds an alias; None if there is no such model, alias or version.

    Raises:
        UsageError: the version was not registered by this pipeline, so its facts are missing.
        ServiceUnreachable: MLflow does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"looking for the {alias} of {name}"):
        # For a missing alias, get_model_version_by_alias reports a wrong request, not a missing thing.
        found = _or_none(lambda: client.get_registered_model(name))
        version = None if found is None else found.aliases.get(alias)
        held = None if version is None else _or_none(lambda: client.get_model_version(name, str(version)))
        advice = f"The alias {alias} names it: in MLflow, delete the alias or give it to another version."
        return None if held is None else _ours(held, advice)


@failures.patient
def named(uri: str) -> Named:
    """The version that an address names. Nothing of it is read.

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        UsageError: it is no such address, or no version holds the alias.
        ServiceUnreachable: MLflow does not answer.
    """
    if match := _BY_NUMBER.fullmatch(uri):
        return Named(match[1], int(match[2]))
    if not (match := _BY_ALIAS.fullmatch(uri)):
        raise UsageError(f"expected models:/NAME@ALIAS or models:/NAME/VERSION, got {uri}.")
    name, alias = match.groups()
    client = tracking.connect()
    with tracking.refusals(f"looking for the {alias} of {name}"):
        # For a missing alias, get_model_version_by_alias reports a wrong request, not a missing thing.
        found = _or_none(lambda: client.get_registered_model(name))
    if found is None or alias not in found.aliases:
        raise UsageError(f"{name} has no version with the alias {alias}. Promote one: mura promote.")
    return Named(name, int(found.aliases[alias]))


@failures.patient
def aliases(name: str) -> dict[int, tuple[str, ...]]:
    """The aliases of a registered model, by the version that holds them; none if there is no such model.

    Raises:
        ServiceUnreachable: MLflow does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"looking for the aliases of {name}"):
        found = _or_none(lambda: client.get_registered_model(name))
    held = sorted((int(version), alias) for alias, version in found.aliases.items()) if found else []
    return {number: tuple(alias for version, alias in held if version == number) for number in dict(held)}


@failures.patient
def alias_holder(name: str, alias: str) -> int | None:
    """The number of the version that an alias names; None if there is none.

    Raises:
        ServiceUnreachable: MLflow does not answer.
    """
    return next((number for number, held in aliases(name).items() if alias in held), None)


def is_there(client: MlflowClient, name: str, number: int | None) -> bool:
    """Whether a registered model has a version of that number. Raises what MLflow's client raises."""
    return number is not None and _or_none(lambda: client.get_model_version(name, str(number))) is not None


@failures.patient
@evidence_files.read_once()
def holder(name: str, version: int, held: tuple[str, ...]) -> Holder:
    """A version that holds aliases, with the table of its studies.

    Args:
        name: of the registered model.
        version: its number.
        held: its aliases.

    Raises:
        ServiceUnreachable: MLflow or its artifact store does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"reading {name} version {version}"):
        found = _seen(lambda: client.get_model_version(name, str(version)))
        if found is None:
            return Holder(name, version, held, None, Stored(None, "is not known, as MLflow has no such version"))
        try:
            facts = facts_of(found)
        except DataRefused as error:
            return Holder(name, version, held, None, Stored(None, f"is not believed: {error}"))
        except (KeyError, TypeError, ValueError):
            unknown = Stored(None, f"is not known, as it is not signed and its tag {FACTS} cannot be read")
            return Holder(name, version, held, None, unknown)
        if what := difference(client, found, facts):
            changed = Stored(None, f"is not used, as the version was changed since it was registered ({what})")
            return Holder(name, version, held, facts, changed)
        return Holder(name, version, held, facts, _studies(client, found, facts))


@failures.patient
def studies(model: RegisteredModel) -> Stored:
    """The studies of a version and their probabilities, without names.

    Raises:
        ServiceUnreachable: MLflow or its artifact store does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"reading {model.model} version {model.version}"):
        return _studies(client, client.get_model_version(model.model, str(model.version)), model)


def _studies(client: MlflowClient, found: ModelVersion, facts: RegisteredModel) -> Stored:
    with TemporaryDirectory() as name:
        place = Path(name)
        try:
            said = evidence_files.fetch(client, _logged(found), found.name, place, evidence.STUDIES)
        except DataRefused as refusal:
            return Stored(None, f"is not believed: {refusal}")
        if said is None:
            return stored_studies.fetch(facts, found.tags.get(stored_studies.SHA256))
        return stored_studies.of_evidence(place / evidence.STUDIES, facts, said.studies_sha256)


@failures.patient
def version(name: str, number: int) -> RegisteredModel | None:
    """A version by its number; None if there is no such model or version.

    Raises:
        UsageError: the version was not registered by this pipeline, so its facts are missing.
        ServiceUnreachable: MLflow does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"looking for version {number} of {name}"):
        found = _seen(lambda: client.get_model_version(name, str(number)))
        return None if found is None else _ours(found, "Name another version.")


@failures.patient
def network(model: RegisteredModel, folder: Path) -> Path | str:
    """Fetch the network of a version. Its signature is verified before anything opens a file.

    Args:
        model: the version.
        folder: an empty directory, for its files.

    Returns:
        The file; or why it cannot be loaded, in words: `Untrusted` if it is there and is not believed.

    Raises:
        UsageError: nobody is trusted here.
        ServiceUnreachable: MLflow or its artifact store does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"fetching {model.model} version {model.version}"):
        return fetch_version(client, client.get_model_version(model.model, str(model.version)), folder)


def fetch_version(client: MlflowClient, version: ModelVersion, folder: Path) -> Path | str:
    """As `network`, of a version that was just read."""
    return stored_model.fetch(client, _logged(version), folder, _uri(version), _said(version), version.name)


def lookup(client: MlflowClient, named: Named) -> ModelVersion | None:
    """The version that is in the registry; None if there is none."""
    return _or_none(lambda: client.get_model_version(named.name, str(named.version)))


@failures.patient
def fault(model: RegisteredModel) -> str | None:
    """Why a version's files cannot be trusted or loaded; None if they can. They are fetched, and verified first.

    Raises:
        UsageError: nobody is trusted here.
        ServiceUnreachable: MLflow or its artifact store does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"fetching {model.model} version {model.version}"):
        return _fault(client, client.get_model_version(model.model, str(model.version)))


@failures.patient
def replay(model: RegisteredModel) -> str | None:
    """Answer the golden set of a version in a fresh process, by ONNX Runtime; what differs, in words, or None.

    Raises:
        ServiceUnreachable: MLflow or its artifact store does not answer.
        OutsideFailed: the process fails.
    """
    client = tracking.connect()
    with tracking.refusals(f"replaying {model.model} version {model.version}"), TemporaryDirectory() as name:
        found, place = client.get_model_version(model.model, str(model.version)), Path(name)
        needed = (evidence.GOLDEN, predictor.ONNX, predictor.CARD)
        try:
            if evidence_files.fetch(client, _logged(found), found.name, place, *needed) is None:
                return str(evidence_files.UNSIGNED)
            return apart.replay_apart(place).difference
        except DataRefused as refusal:
            return str(refusal).removesuffix(".")


@failures.patient
def fault_and_replay(model: RegisteredModel) -> tuple[str | None, str | None]:
    """As `fault` and, of a version without any, `replay`: its files are fetched once for both. Errors as theirs."""
    client = tracking.connect()
    with tracking.refusals(f"fetching {model.model} version {model.version}"), TemporaryDirectory() as name:
        found = fetch_version(client, client.get_model_version(model.model, str(model.version)), Path(name))
        if isinstance(found, str):
            return found, None
        folder = found.parents[len(stored_model.NETWORK.parts) - 1]
        try:
            return None, apart.replay_apart(folder).difference
        except DataRefused as refusal:
            return None, str(refusal).removesuffix(".")


@failures.patient
def evidence_digest(model: RegisteredModel) -> str:
    """sha256 (hex) of the signature of a version, which lists all of its files; empty if it has none, or is lost.

    Raises:
        DataRefused: it is not as somebody signed it who is trusted here.
        ServiceUnreachable: MLflow or its artifact store does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"reading {model.model} version {model.version}"), TemporaryDirectory() as name:
        found, place = client.get_model_version(model.model, str(model.version)), Path(name)
        said = _seen(lambda: evidence_files.fetch(client, _logged(found), found.name, place))
        return file_sha256(place / SIGNATURE) if said else ""


@failures.patient
def set_alias(model: RegisteredModel, alias: str) -> None:
    """Set an alias, and check it.

    Raises:
        UsageError: MLflow does not accept the alias.
        ServiceUnreachable: MLflow does not answer, or somebody else moved the alias at the same time.
    """
    client = tracking.connect()
    with tracking.refusals(f"giving the alias {alias} to {model.model} version {model.version}"):
        client.set_registered_model_alias(model.model, alias, str(model.version))
        held = client.get_registered_model(model.model).aliases.get(alias)
    if held is None or int(held) != model.version:
        raise ServiceRefused(
            f"The alias {alias} of {model.model} was given to version {model.version} and now names {held}: "
            "somebody else moved it at the same time. Look at it in MLflow, then promote again."
        )


@failures.patient
def exists(model: RegisteredModel) -> bool:
    """Whether the version is in the registry and has the same model and evaluation.

    Raises:
        ServiceUnreachable: MLflow does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"looking for {model.model} version {model.version}"):
        found = _seen(lambda: client.get_model_version(model.model, str(model.version)))
    if found is None or found.status != "READY":
        return False
    digests = (found.tags.get("model_digest"), found.tags.get("evaluation_digest"))
    return digests == (model.model_digest, model.evaluation_digest)


@failures.patient
def contradiction(model: RegisteredModel) -> str | None:
    """What the registry says otherwise than a receipt or another record of a version, in words; None if it agrees.

    The version has the facts in its evidence, which is signed, and some in tags. The scores were logged with its run
    too: a metric can be added there, and none can be changed.

    Raises:
        ServiceUnreachable: MLflow does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"comparing {model.model} version {model.version}"):
        return difference(client, client.get_model_version(model.model, str(model.version)), model)


def difference(client: MlflowClient, version: ModelVersion, expected: RegisteredModel) -> str | None:
    """As `contradiction`, of a version that was just read."""
    try:
        said = facts_of(version)
    except DataRefused as error:
        return str(error)
    except (KeyError, TypeError, ValueError):
        if FACTS in version.tags:
            return f"it is not signed, and its tag {FACTS} cannot be read"
        # Its files are lost, or its signature was removed: `fault` says so. The tags still say something.
        said = expected
    unsigned = FACTS in version.tags
    where = f"its tag {FACTS}" if unsigned else "its evidence"
    for name, expects, found in differences(expected, said):
        return f"expected {name} {expects!r:.80}, {where} says {found!r:.80}"
    for name, text in tags_of_version(expected).items():
        # Older versions of this program set other tags.
        tag = version.tags.get(name, text if unsigned else "")
        if tag != text:
            return f"expected {name} {text:.80}, its tag of that name says {tag or 'nothing':.80}"
    return _metric_contradiction(client, version.run_id, expected.scores)


def _metric_contradiction(client: MlflowClient, run_id: str, scores: Scores) -> str | None:
    """The first score that was never logged to a run, although others of the name were."""
    run = _seen(lambda: client.get_run(run_id))
    last = {} if run is None else run.data.metrics
    for _, name, value in split_data.score_values(scores):
        if name not in last or _equal(last[name], value):
            continue
        # Another evaluation of the model logs its scores to the same run.
        if not any(_equal(logged.value, value) for logged in client.get_metric_history(run_id, name)):
            return f"expected {name} {value}, its run {run_id} has {last[name]}"
    return None


def _equal(one: float, other: float) -> bool:
    # A database may keep fewer digits.
    return math.isclose(one, other, rel_tol=0, abs_tol=1e-9)


def _find(
    client: MlflowClient, name: str, model: TrainedModel, evaluation: Evaluation, run: TrackedRun
) -> ModelVersion | None:
    """The first version whose predictor can be loaded."""
    for version in _same(client, name, model, evaluation):
        # The predictor of `run` has just been read.
        if version.source == run.model_uri or _fault(client, version, tags_of(model)) is None:
            return version
    return None


def _same(client: MlflowClient, name: str, model: TrainedModel, evaluation: Evaluation) -> list[ModelVersion]:
    """The versions of a candidate with this model and this evaluation, lowest first."""
    found = client.search_model_versions(
        f"name = '{name}' and tags.model_digest = '{model.digest}' and tags.evaluation_digest = '{evaluation.digest}'"
    )
    # Older versions of this program trained one candidate of each architecture and named it so.
    unnamed = model.facts.architecture
    ours = [each for each in found if each.tags.get("candidate", unnamed) == model.facts.candidate]
    ready = [each for each in ours if each.status == "READY"]
    return sorted(ready, key=lambda version: int(version.version))


def _delete_twins(client: MlflowClient, kept: ModelVersion, model: TrainedModel, evaluation: Evaluation) -> None:
    """Delete higher versions that say the same. One that somebody gave an alias stays."""
    same = _same(client, kept.name, model, evaluation)
    twins = [version for version in same if int(version.version) > int(kept.version)]
    if not twins:
        return
    named = {int(version) for version in client.get_registered_model(kept.name).aliases.values()}
    for twin in twins:
        says = f"{twin.name} version {twin.version} says the same as version {kept.version}"
        if int(twin.version) in named:
            logger.warning("%s and has an alias: it stays", says)
            continue
        try:
            # Another call may delete it at the same time.
            _or_none(partial(client.delete_model_version, twin.name, twin.version))
            _strike(client, twin)
        except failures.SERVICE_ERRORS as error:
            logger.warning("%s and cannot be deleted (%s). Delete it in MLflow.", says, failures.one_line(error))
        else:
            logger.info("%s, and is deleted", says)


def _strike(client: MlflowClient, deleted: ModelVersion) -> None:
    """Remove a version from the list that MLflow's server keeps with the model. The server does not do it itself."""
    model_id = deleted.source.removeprefix("models:/")
    logged = _seen(lambda: client.get_logged_model(model_id))
    listed = documents.json_of(logged.tags.get(MLFLOW_MODEL_VERSIONS, "[]")) if logged else []
    left = [each for each in listed if (each["name"], str(each["version"])) != (deleted.name, str(deleted.version))]
    if left != listed:
        client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(left)})


def _fault(client: MlflowClient, version: ModelVersion, known: Mapping[str, str] | None = None) -> str | None:
    return stored_model.fault(client, _logged(version), _uri(version), _said(version) | dict(known or {}), version.name)


def _uri(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"


def _logged(version: ModelVersion) -> str:
    """The logged model of a version, `m-...`."""
    return str(version.model_id or version.source.removeprefix("models:/"))


def _said(version: ModelVersion) -> dict[str, str]:
    """What the tags of a version say of its logged model."""
    return {name: version.tags[name] for name in (stored_model.MODEL_DIGEST,) if name in version.tags}


def _prepare(client: MlflowClient, name: str, evaluation: Evaluation, run: TrackedRun) -> None:
    """Make what a version needs: the registered model, and the reports and the model card beside its run."""
    try:
        client.create_registered_model(name, description="Bone X-rays: is the study normal or abnormal?")
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise
    for report in (evaluation.report, evaluation.test_report, *evaluation.model_cards):
        if report.is_file():
            folder = stored_studies.folder(evaluation.digest)
            store = partial(client.log_artifact, run.run_id, str(report), folder)
            failures.transfer("storing the report", store)


def _create(
    client: MlflowClient, name: str, model: TrainedModel, evaluation: Evaluation, run: TrackedRun
) -> ModelVersion:
    facts = evidence_files.facts(model, evaluation, name, run.run_id)
    return client.create_model_version(
        name,
        source=run.model_uri,
        run_id=run.run_id,
        model_id=run.model_uri.removeprefix("models:/"),
        tags=tags_of_version(facts),
        description=_description(facts, client.get_run(run.run_id)),
    )


def tags_of_version(facts: RegisteredModel) -> dict[str, str]:
    """What people see in lists of versions, and what versions are found by. The evidence has all of it too."""
    return {
        "candidate": facts.candidate,
        "test_auroc": str(facts.scores.test.auroc),
        "tuning_auroc": str(facts.scores.tuning.auroc),
        "model_digest": facts.model_digest,
        "evaluation_digest": facts.evaluation_digest,
        "test_digest": facts.scores.test_digest,
    }


def _ours(found: ModelVersion, advice: str) -> RegisteredModel:
    """What is known of a version.

    Raises:
        NotOurs: this pipeline did not register it.
        EvidenceLost: it did, and nothing says what it is.
        DataRefused: it is not as somebody signed it who is trusted here.
    """
    try:
        return facts_of(found)
    except DataRefused as error:
        raise DataRefused(f"{found.name} version {found.version} is not believed: {error}. {advice}") from error
    except (KeyError, TypeError, ValueError) as error:
        if FACTS not in found.tags and "evaluation_digest" in found.tags:
            raise EvidenceLost(
                f"{found.name} version {found.version}: it is not signed: its files are lost, or {SIGNATURE} was "
                f"removed. Register its model again. {advice}"
            ) from error
        raise NotOurs(
            f"{found.name} version {found.version}: it is not signed, and its tag {FACTS} is missing or cannot be "
            f"read, so this pipeline did not register it. {advice}"
        ) from error


def facts_of(version: ModelVersion) -> RegisteredModel:
    """What is known of a version: by its evidence, of which two small files are fetched.

    Of a version that was registered before there was evidence, by its tag. `fault` says that it is not signed.

    Raises:
        KeyError, TypeError, ValueError: this pipeline did not register it, or its tag was changed.
        DataRefused: it is not as somebody signed it who is trusted here.
        MlflowException and others of `failures.SERVICE_ERRORS`: MLflow or its artifact store does not answer.
    """
    said = evidence_of(version)
    if said is not None:
        return said.registered.model_copy(update={"version": int(version.version)})
    facts = documents.json_of(version.tags[FACTS])
    # Older versions of this program trained one candidate of each architecture and named it so.
    named = {"candidate": facts["architecture"]} | facts
    # Some stores give the number as text.
    return RegisteredModel.model_validate(named | {"version": int(version.version)})


def evidence_of(version: ModelVersion) -> Evidence | None:
    """The evidence of a version, verified; None if it is not signed, or its logged model was deleted.

    Raises:
        DataRefused, MlflowException and others: as `facts_of`.
    """
    client = MlflowClient(tracking_uri=address.current())
    return _seen(lambda: evidence_files.of(client, _logged(version), version.name))


def _or_none(ask: Callable[[], T]) -> T | None:
    """Ask MLflow; None if it does not have the thing."""
    try:
        return ask()
    except MlflowException as error:
        if tracking.is_missing(error):
            return None
        raise


def _seen(ask: Callable[[], T]) -> T | None:
    """Read something from MLflow; None if it does not have it, or does not show it to this user."""
    try:
        return ask()
    except MlflowException as error:
        if failures.is_hidden(error):
            return None
        raise


def _description(facts: RegisteredModel, run: Run) -> str:
    """The verdict in a sentence, and where the report is."""
    test, parts = facts.scores.test, facts.body_parts
    only = f" ({in_words(parts)} only)" if parts else ""
    folder = stored_studies.folder(facts.evaluation_digest)
    return (
        f"{title(facts.candidate, facts.architecture)}{only}: AUROC {test.auroc}, sensitivity {test.sensitivity} and "
        f"specificity {test.specificity} on {test.n_studies:,} test studies. The report is {folder}/{TEST_REPORT} "
        f"among the artifacts of its run, {run.info.run_name}."
    )
