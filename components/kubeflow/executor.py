"""What Kubeflow tells a step, and what the step reports: its digest, and what the user interface shows of its artifact.

Kubeflow gives a step, as JSON, its inputs, the places of its outputs and the name of a file. The step describes the
outputs in that file. Kubeflow's launcher parses it strictly: an unknown key fails the step, and JSON has no infinity
and no NaN.
"""

import csv
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from components.archive import known_md5
from components.archive.archive import Archive
from components.artifacts.artifact import Artifact
from components.artifacts.evaluation import SUMMARY, Evaluation
from components.artifacts.manifest import DATA_DOCS, Manifest, ValidManifest
from components.artifacts.parts import ManifestPart, ShardsPart
from components.artifacts.promotion import REPORT as PROMOTION_REPORT
from components.artifacts.promotion import Promotion
from components.artifacts.registration import RegisteredModel
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.base import code, documents
from components.base.errors import DataRefused, OutsideFailed, UsageError
from components.base.files import write_text
from components.base.urls import mlflow_page

logger = logging.getLogger(__name__)

DIGEST = "digest"
"""The output parameter with the digest of the artifact."""
CODE = "code"
"""The input parameter with the digest of the code that the pipeline was compiled for."""
NAME = "name"
"""The input parameter `archive_name`: what people call the archive. Its object on S3 is named by its content."""
BROUGHT: Mapping[type[Artifact[Any]], str] = {Evaluation: "model", Shards: "manifest"}
"""Artifacts in which another one lies, an input of their step, by its name. `register` finds each model in its
evaluation, `evaluate` the manifest in the shards: as inputs of their own, they would take as much of a run's state as a
whole step."""
WITHOUT_DIGEST = (ManifestPart, ShardsPart)
"""Artifacts whose digests Kubeflow is not told. `merge` reads them, and what decides them is an input of it too."""
DIGITS = 32
"""Digits of a digest that Kubeflow is told, 128 bits. What it is told stands many times in the state of a run."""
CODE_DIGITS = 16
"""Digits of the digest of the code. It tells revisions of one project apart, and nobody forges it: 64 bits suffice."""
# Where Kubeflow's launcher notes the store of an artifact, if there is no such note.
_STORE = "store_session_info"
# What a later run of the trainings alone may take, by the flag of `mura pipeline submit` that names it.
_TAKEN_BY: Mapping[type[Artifact[Any]], str] = {ValidManifest: "--manifest", Shards: "--shards"}
_CARDS = (Artifact.CARD, Shards.CARD)
# The directories in which Kubeflow's launcher keeps objects, by the store that they come from.
_MOUNTS = {"s3://": "/s3/", "minio://": "/minio/", "gs://": "/gcs/"}


class Content(NamedTuple):
    """The content of an output."""

    metadata: Mapping[str, Any]
    file: Path | None = None
    """Copied to the place of the output."""


class View(NamedTuple):
    """An output beside the artifact, for the user interface."""

    schema: str
    """Kubeflow's name of its type."""
    content: Callable[[Any], Content]


class ExecutorInput:
    """Kubeflow's instructions for a step: its parameters, and the places of its outputs."""

    def __init__(self, text: str) -> None:
        """Parse the JSON.

        Raises:
            UsageError: it has another form.
        """
        try:
            document = documents.json_of(text)
            inputs = document.get("inputs", {})
            self.parameters: dict[str, Any] = inputs.get("parameterValues", {})
            self._inputs: dict[str, Any] = inputs.get("artifacts", {})
            self._outputs: dict[str, Any] = document["outputs"].get("artifacts", {})
            self._output_file = Path(document["outputs"]["outputFile"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"--executor-input: expected the JSON that Kubeflow writes in place of {{{{$}}}} ({error!r})."
            ) from error

    def parameter(self, name: str) -> Any:
        """The value of an input; None if there is none of the name."""
        return self.parameters.get(name)

    def artifact(self, name: str) -> Path | None:
        """The directory of an input artifact; None if there is none of the name."""
        found = self._inputs.get(name)
        return mounted(found["artifacts"][0]["uri"]) if found else None

    def artifacts(self) -> dict[str, Path]:
        """The directories of all input artifacts, by name."""
        return {name: mounted(found["artifacts"][0]["uri"]) for name, found in self._inputs.items()}

    def several(self, word: str) -> tuple[Path, ...]:
        """The directories of the input artifacts of a list, in its order. Kubeflow sorts inputs by their names."""
        places = self.artifacts()
        names = [name for name in places if re.fullmatch(rf"{word}_\d+", name)]
        return tuple(places[name] for name in sorted(names, key=lambda name: int(name.rpartition("_")[2])))

    def output(self, kind: type[Artifact[Any]]) -> Path | None:
        """The directory for the result; None if it is no output of Kubeflow's."""
        found = self._outputs.get(noun(kind))
        return mounted(found["artifacts"][0]["uri"]) if found else None

    def check_there(self) -> None:
        """Check that the input artifacts still exist. Kubeflow's cache does not see it when their objects are removed.

        Raises:
            OutsideFailed: one is gone, or a file of it.
        """
        for name, found in self._inputs.items():
            uri = found["artifacts"][0]["uri"]
            along = self._needed_of(name)
            if _is_gone(mounted(uri)) or (along is not None and _is_gone(brought(mounted(uri), along))):
                raise OutsideFailed(
                    f"{name}: the cache's artifact is gone from the bucket, {uri}: objects were removed. Submit with "
                    "--no-cache, and let the bucket keep artifacts for as long as the cache is used."
                )

    def _needed_of(self, name: str) -> str | None:
        """What the step reads of the artifact that an input brings along, by its name."""
        for kind, along in BROUGHT.items():
            # A step that reads one of them is told its digest, one that reads a list is not.
            one = name == noun(kind) and f"{along}_{DIGEST}" in self.parameters and along not in self._inputs
            if one or name.startswith(f"{noun(kind)}_"):
                return along
        return None

    def check(self, inputs: Mapping[str, Any], module: str) -> None:
        """Check that the artifacts are those that earlier steps made. Warn if the code is not that of the pipeline.

        Args:
            inputs: the step's arguments by name. An archive gets its name from here.
            module: the step's module, `components.shard`.

        Raises:
            DataRefused: an artifact has another digest than `<name>_digest` says, or the archive is not the one that
                was told or that the manifest describes.
        """
        for name, artifact in self._named(inputs):
            expected = self.parameters.get(f"{name}_{DIGEST}")
            if isinstance(artifact, Artifact) and expected and not artifact.digest.startswith(expected):
                raise DataRefused(
                    f"{artifact.path}: expected the {type(artifact).__name__} of digest {expected[:12]}, which the "
                    f"step before made, found {artifact.digest[:12]}. Was the artifact replaced?"
                )
            if isinstance(artifact, Archive):
                artifact.name = str(self.parameters.get(f"{name}_{NAME}") or artifact.name)
                artifact.expect_digest(str(expected or ""))
                described = inputs.get("manifest")
                if isinstance(described, Manifest | ValidManifest) and (md5 := described.facts.archive_md5):
                    known_md5.compare(artifact.place, artifact.expected_md5, md5)
        compiled = self.parameters.get(CODE)
        if compiled and not (found := code.digest(module)).startswith(compiled):
            logger.warning(
                "the pipeline was compiled for code %s, this image contains %s; Kubeflow's cache knows only the first",
                compiled[:12],
                found[:12],
            )

    def _named(self, inputs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """The step's arguments, by the names of Kubeflow's inputs: those of a list have one each."""
        names = {path: name for name, path in self.artifacts().items()}
        for name, value in inputs.items():
            if isinstance(value, list):
                yield from ((names[each.path], each) for each in value if each.path in names)
            else:
                yield name, value

    def report(self, artifact: Artifact[Any], inputs: Mapping[str, Any]) -> None:
        """Write what Kubeflow shows of an artifact, and the digest for its cache. Put into it what it brings along.

        Args:
            artifact: the result, where Kubeflow takes it from.
            inputs: the step's arguments by name.
        """
        along = BROUGHT.get(type(artifact))
        # Shards that were merged have no manifest among their inputs, and bring none.
        if along is not None and along in inputs:
            shutil.copytree(inputs[along].path, brought(artifact.path, along), copy_function=_link, dirs_exist_ok=True)
        if isinstance(artifact, TrainedModel) and (page := _mlflow(f"runs/{artifact.facts.run.run_id}")):
            # In the step's log, a tab of the user interface. Metadata would be copied into every step that reads it.
            logger.info("train: curves and model are in MLflow at %s", page)
        outputs = {noun(type(artifact)): Content({})}
        outputs |= {name: view.content(artifact) for name, view in VIEWS.get(type(artifact), {}).items()}
        told = {}
        for name, content in outputs.items():
            # An artifact on a volume is no output of Kubeflow's.
            if name not in self._outputs:
                continue
            (given,) = self._outputs[name]["artifacts"]
            if content.file is not None:
                place = mounted(given["uri"])
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(content.file, place)
            metadata = dict(content.metadata) if name in VIEWS.get(type(artifact), {}) else passed_on(given["uri"])
            entry = {"name": given["name"], "uri": given["uri"], "metadata": metadata}
            told[name] = {"artifacts": [entry]}
            if name == noun(type(artifact)) and (flag := _TAKEN_BY.get(type(artifact))):
                logger.info("a run of the trainings alone takes it by %s '%s#%s'", flag, given["uri"], artifact.digest)
        values = {} if isinstance(artifact, WITHOUT_DIGEST) else {DIGEST: artifact.digest[:DIGITS]}
        document = {"artifacts": told, "parameterValues": values}
        self._output_file.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._output_file, json.dumps(document, allow_nan=False))


def brought(path: Path, name: str) -> Path:
    """The directory of an artifact that another one at `path` brings along. The card of that one does not list it."""
    return path / f".{name}"


def _link(source: str, target: str) -> None:
    """A second name for a file, or a copy where it would lie on another disk."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def noun(kind: type[Artifact[Any]]) -> str:
    """Name of an artifact as an output: `valid_manifest` for a ValidManifest."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def mounted(uri: str) -> Path:
    """The file in the step's container that Kubeflow's launcher uploads to a URI."""
    scheme = next((scheme for scheme in _MOUNTS if uri.startswith(scheme)), "")
    return Path(_MOUNTS.get(scheme, "") + uri.removeprefix(scheme))


def passed_on(uri: str) -> dict[str, str]:
    """The metadata of an artifact that other steps read.

    It stands six times in the state of each of those steps, and Kubernetes limits the state of a run. So there are no
    facts in it: people find them in the views, steps on the artifact's own card. Left alone, Kubeflow's launcher adds
    where the store is and which secret opens it, 400 bytes, in quotes of quotes. It reads neither again: it opens the
    bucket by its own configuration. Told that there is nothing to add, it adds nothing.
    """
    scheme = urlsplit(uri).scheme
    return {_STORE: json.dumps({"Provider": scheme, "Params": {"fromEnv": "true"}})} if scheme else {}


def _is_gone(path: Path) -> bool:
    """Whether an artifact has lost its card, or a file that the card lists."""
    card = next((path / name for name in _CARDS if (path / name).is_file()), None)
    if card is None:
        return True
    try:
        return not all((path / name).is_file() for name in documents.json_of(documents.content(card))["files"])
    except (ValueError, KeyError, TypeError):
        # Whoever reads it tells what is wrong with it.
        return False


def _training(model: TrainedModel) -> Content:
    # Other names than those of the curves: Kubeflow's MLflow plugin logs these numbers to the run of the task.
    facts = model.facts
    counts = {"seconds": facts.seconds, "parameters": facts.parameters}
    if not facts.members:
        counts |= {"epochs": facts.epochs, "best_epoch": facts.best_epoch}
    return Content({f"best_tuning_{name}": value for name, value in facts.tuning.items()} | counts)


def _scores(evaluation: Evaluation) -> Content:
    """Scores on the tuning split: people look at them at every run."""
    summary = documents.json_of((evaluation.path / SUMMARY).read_text(encoding="utf-8"))
    return Content({name: value for name, value in summary.items() if value is not None})


def _operating_point(evaluation: Evaluation) -> Content:
    """ROC curve and confusion matrix on the tuning split."""
    with (evaluation.path / "plots" / "roc.csv").open(newline="") as file:
        points = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    # JSON has no infinity, the threshold of the first point, (0, 0): nothing is called abnormal.
    above_all = 1 + max((point["threshold"] for point in points if math.isfinite(point["threshold"])), default=0.0)
    confusion = evaluation.facts.scores.tuning.confusion
    return Content(
        {
            "confidenceMetrics": [
                {
                    "confidenceThreshold": min(point["threshold"], above_all),
                    "falsePositiveRate": point["false_positive_rate"],
                    "recall": point["sensitivity"],
                }
                for point in points
            ],
            "confusionMatrix": {
                "annotationSpecs": [{"displayName": "normal"}, {"displayName": "abnormal"}],
                "rows": [
                    {"row": [confusion.true_negative, confusion.false_positive]},
                    {"row": [confusion.false_negative, confusion.true_positive]},
                ],
            },
        }
    )


def _champion(promotion: Promotion) -> Content:
    current = promotion.facts.current
    # Of every candidate: the receipt of `register` is an input, and has no metadata. Views of it would take much of the
    # run's state.
    versions = {version.candidate: _version_uri(version) for version in promotion.facts.candidates}
    versions |= {f"{each.candidate}_test_auroc": str(each.scores.test.auroc) for each in promotion.facts.candidates}
    if promotion.facts.opened is not None:
        versions["models_measured_on_test"] = str(promotion.facts.opened.models)
    if current is None:
        return Content({"decision": promotion.facts.decision.outcome, **versions})
    # The version is not the artifact's `uri`: a launcher would look for a store of that scheme.
    metadata = {
        "decision": promotion.facts.decision.outcome,
        "version": _version_uri(current),
        "alias": f"models:/{current.model}@{promotion.facts.alias}",
        "candidate": current.candidate,
        "architecture": current.architecture,
        "model_digest": current.model_digest,
        "data_digest": current.data_digest,
        "test_auroc": str(current.scores.test.auroc),
        "registry": _mlflow(f"models/{current.model}/versions/{current.version}"),
    }
    return Content(versions | {name: value for name, value in metadata.items() if value})


def _version_uri(version: RegisteredModel) -> str:
    return f"models:/{version.model}/{version.version}"


def _mlflow(page: str) -> str:
    """A page of MLflow's user interface; empty if MLflow is not a server, or the page has no name."""
    # A training that found no MLflow has no run.
    return "" if page.endswith("/") else mlflow_page(os.environ.get("MLFLOW_TRACKING_URI", ""), page)


VIEWS: Mapping[type[Artifact[Any]], Mapping[str, View]] = {
    ValidManifest: {"report": View("system.HTML", lambda valid: Content({}, valid.path / DATA_DOCS))},
    TrainedModel: {"metrics": View("system.Metrics", _training)},
    Evaluation: {
        "metrics": View("system.Metrics", _scores),
        "roc": View("system.ClassificationMetrics", _operating_point),
        "report": View("system.HTML", lambda evaluation: Content({}, evaluation.report)),
    },
    Promotion: {
        "report": View("system.HTML", lambda promotion: Content({}, promotion.path / PROMOTION_REPORT)),
        "champion": View("system.Model", _champion),
    },
}
