"""Model versions in the MLflow registry, and the alias that names the trusted one."""

import json
import logging
import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from components import tracking
from components.artifacts.differences import differences
from components.artifacts.evaluation import REPORT, TEST_REPORT, Evaluation, Scores
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import DataRefused, ServiceRefused, UsageError
from components.base.words import in_words
from components.params.train import title
from components.tracking import effects, failures, split_data, stored_model

logger = logging.getLogger(__name__)

T = TypeVar("T")

FACTS = "registered_model"
"""Tag with the facts of a version as JSON. The number is missing: MLflow gives it afterwards."""


@failures.patient
def ensure_version(name: str, model: TrainedModel, evaluation: Evaluation, run: TrackedRun) -> RegisteredModel:
    """Find the version of a model with this evaluation, or make it.

    A version is found by its candidate and by the digests in its tags. MLflow stores the tags together with the
    version. So repeated and interrupted calls make one version for each candidate, model and evaluation. A version
    that cannot be loaded any more is replaced by a new one.

    Of calls at the same time each may make a version: MLflow has no locks. It numbers them in the order in which they
    can be seen, so all calls agree on the lowest, and whoever sees a higher one deletes it.

    Args:
        name: of the registered model.
        model: what is registered.
        evaluation: of that model.
        run: the model on this server.

    Raises:
        UsageError: MLflow does not accept the name.
        DataRefused: the version was changed since it was registered.
        ServiceUnreachable: MLflow does not answer.
    """
    if set(name) & set("/:'\"`"):
        raise UsageError(f"register: expected a model name without / : or quotes, which MLflow refuses, got {name}.")
    client = tracking.connect()
    with tracking.refusals(f"registering {model.facts.candidate}"):
        split_data.log(client, run, evaluation.facts.scores, evaluation.facts.data_digest)
        find = partial(_find, client, name, model, evaluation, run)
        found = find()
        if found is None:
            for lost in _same(client, name, model, evaluation):
                says = "%s version %s cannot be loaded any more: %s gets a new one"
                logger.info(says, name, lost.version, model.facts.candidate)
            _prepare(client, name, evaluation, run)
            made = effects.ensure(find, partial(_create, client, name, model, evaluation, run))
            found = find() or made
        expected = _facts(name, model, evaluation, run).model_copy(update={"version": int(found.version)})
        if what := _contradiction(client, found, expected):
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
    if held is None:
        return None
    try:
        return facts_of(held)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"The alias {alias} of {name} names version {held.version}. Its tag {FACTS} is missing or cannot be read: "
            "this pipeline did not register it. In MLflow, delete the alias or give it to another version."
        ) from error


@failures.patient
def fault(model: RegisteredModel) -> str | None:
    """Why a version cannot be loaded; None if it can. Its files are fetched and read.

    Raises:
        ServiceUnreachable: MLflow or its artifact store does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"fetching {model.model} version {model.version}"):
        return _fault(client, client.get_model_version(model.model, str(model.version)))


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
        found = _or_none(lambda: client.get_model_version(model.model, str(model.version)))
    if found is None or found.status != "READY":
        return False
    digests = (found.tags.get("model_digest"), found.tags.get("evaluation_digest"))
    return digests == (model.model_digest, model.evaluation_digest)


@failures.patient
def contradiction(model: RegisteredModel) -> str | None:
    """What the registry says otherwise than a receipt or another record of a version, in words; None if it agrees.

    The version has the facts as JSON in one tag, and some in tags of their own. The scores were logged with its run
    too: a metric can be added there, and none can be changed.

    Raises:
        ServiceUnreachable: MLflow does not answer.
    """
    client = tracking.connect()
    with tracking.refusals(f"comparing {model.model} version {model.version}"):
        return _contradiction(client, client.get_model_version(model.model, str(model.version)), model)


def _contradiction(client: MlflowClient, version: ModelVersion, expected: RegisteredModel) -> str | None:
    try:
        said = facts_of(version)
    except (KeyError, TypeError, ValueError):
        return f"its tag {FACTS} is missing or cannot be read"
    for name, expects, found in differences(expected, said):
        return f"expected {name} {expects!r:.80}, its tag {FACTS} says {found!r:.80}"
    for name, text in _plain_tags(expected).items():
        if version.tags.get(name, text) != text:
            return f"expected {name} {text:.80}, its tag of that name says {version.tags[name]:.80}"
    return _metric_contradiction(client, version.run_id, expected.scores)


def _metric_contradiction(client: MlflowClient, run_id: str, scores: Scores) -> str | None:
    """The first score that was never logged to a run, although others of the name were."""
    run = _or_none(lambda: client.get_run(run_id))
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
    """The first version that can be loaded."""
    for version in _same(client, name, model, evaluation):
        # The model of `run` has just been read.
        if version.source == run.model_uri or _fault(client, version) is None:
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
    ready = [each for each in ours if each.status == "READY" and FACTS in each.tags]
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
    logged = _or_none(lambda: client.get_logged_model(model_id))
    listed = json.loads(logged.tags.get(MLFLOW_MODEL_VERSIONS, "[]")) if logged else []
    left = [each for each in listed if (each["name"], str(each["version"])) != (deleted.name, str(deleted.version))]
    if left != listed:
        client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(left)})


def _fault(client: MlflowClient, version: ModelVersion) -> str | None:
    uri = f"models:/{version.name}/{version.version}"
    return stored_model.fault(client, version.model_id or version.source.removeprefix("models:/"), uri)


def _prepare(client: MlflowClient, name: str, evaluation: Evaluation, run: TrackedRun) -> None:
    """Make what a version needs: the registered model, and the report beside its run."""
    try:
        client.create_registered_model(name, description="Bone X-rays: is the study normal or abnormal?")
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise
    for report in (evaluation.report, evaluation.test_report):
        if report.is_file():
            folder = f"evaluation/{evaluation.digest[:12]}"
            store = partial(client.log_artifact, run.run_id, str(report), folder)
            failures.transfer("storing the report", store)


def _create(
    client: MlflowClient, name: str, model: TrainedModel, evaluation: Evaluation, run: TrackedRun
) -> ModelVersion:
    return client.create_model_version(
        name,
        source=run.model_uri,
        run_id=run.run_id,
        model_id=run.model_uri.removeprefix("models:/"),
        tags=_tags(name, model, evaluation, run),
        description=_description(model, evaluation),
    )


def _facts(name: str, model: TrainedModel, evaluation: Evaluation, run: TrackedRun) -> RegisteredModel:
    """What is known of a version, without its number."""
    return RegisteredModel(
        model=name,
        version=0,
        run_id=run.run_id,
        candidate=model.facts.candidate,
        architecture=model.facts.architecture,
        model_digest=model.digest,
        evaluation_digest=evaluation.digest,
        data_digest=model.facts.data_digest,
        body_parts=evaluation.facts.body_parts,
        protocol=evaluation.facts.protocol,
        calibration=evaluation.facts.calibration,
        offsets=model.facts.offsets,
        code_revision=model.facts.code_revision,
        training_seconds=model.facts.seconds,
        scores=evaluation.facts.scores,
    )


def _tags(name: str, model: TrainedModel, evaluation: Evaluation, run: TrackedRun) -> dict[str, str]:
    facts = _facts(name, model, evaluation, run)
    return {
        **_plain_tags(facts),
        **({"archive_md5": model.facts.archive_md5} if model.facts.archive_md5 else {}),
        "shards_digest": model.facts.shards_digest,
        "code_revision": facts.code_revision,
        "protocol_digest": evaluation.facts.protocol_digest,
        FACTS: facts.model_dump_json(exclude={"version"}),
    }


def _plain_tags(facts: RegisteredModel) -> dict[str, str]:
    """Facts in tags of their own, for people and searches."""
    scores = facts.scores
    return {
        "candidate": facts.candidate,
        "architecture": facts.architecture,
        "model_digest": facts.model_digest,
        "evaluation_digest": facts.evaluation_digest,
        "data_digest": facts.data_digest,
        **({"body_parts": ", ".join(facts.body_parts)} if facts.body_parts else {}),
        "test_digest": scores.test_digest,
        "test_auroc": str(scores.test.auroc),
        "test_cohen_kappa": str(scores.test.cohen_kappa),
        "test_sensitivity": str(scores.test.sensitivity),
        "test_specificity": str(scores.test.specificity),
        "tuning_auroc": str(scores.tuning.auroc),
        "threshold": f"{scores.threshold:.3f}",
        **_probability(facts),
    }


def _probability(facts: RegisteredModel) -> dict[str, str]:
    """How a probability that the threshold is for comes from the logits of a study's views."""
    line, learned = facts.calibration, facts.offsets
    if line is None or learned is None:
        return {}
    offsets = {**learned.body_part, "others": learned.pooled}
    told = ", ".join(f"{part} {offset:+.4f}" for part, offset in offsets.items())
    formula = f"sigmoid({line.intercept:.4f} + {line.slope:.4f} z - o)"
    return {"probability": f"{formula}; z: logit of the mean of sigmoid(logit) over the views; o: {told}"}


def facts_of(version: ModelVersion) -> RegisteredModel:
    """What this pipeline wrote down of a version.

    Raises:
        KeyError, TypeError, ValueError: it did not register it, or its tag was changed.
    """
    facts = json.loads(version.tags[FACTS])
    # Older versions of this program trained one candidate of each architecture and named it so.
    named = {"candidate": facts["architecture"]} | facts
    # Some stores give the number as text.
    return RegisteredModel.model_validate(named | {"version": int(version.version)})


def _or_none(ask: Callable[[], T]) -> T | None:
    """Ask MLflow; None if it does not have the thing."""
    try:
        return ask()
    except MlflowException as error:
        if tracking.is_missing(error):
            return None
        raise


def _description(model: TrainedModel, evaluation: Evaluation) -> str:
    test, parts = evaluation.facts.scores.test, evaluation.facts.body_parts
    only = f" ({in_words(parts)} only)" if parts else ""
    return (
        f"{title(model.facts.candidate, model.facts.architecture)} at code revision {model.facts.code_revision[:12]} "
        f"on data {model.facts.data_digest[:12]}{only}: AUROC {test.auroc}, Cohen's kappa {test.cohen_kappa} on "
        f"{test.n_studies:,} test studies. {TEST_REPORT} among the artifacts of its run is the report, {REPORT} that "
        "of the tuning split. Its tag `probability` says how the probability of a study comes from the logits."
    )
