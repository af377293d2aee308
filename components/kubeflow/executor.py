"""What Kubeflow is told of an artifact: its identity, and what the user interface shows of it.

A step in a Kubeflow container is given, as JSON, where its outputs go, and writes to the file named in it what they
are. Kubeflow's launcher parses that file strictly: a key that it does not know fails the step, and JSON has no
infinity and no NaN.
"""

import csv
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from components.artifacts.artifact import Artifact
from components.artifacts.evaluation import SUMMARY, Evaluation
from components.artifacts.manifest import DATA_DOCS, ValidManifest
from components.artifacts.promotion import REPORT as PROMOTION_REPORT
from components.artifacts.promotion import Promotion
from components.artifacts.registration import RegisteredModel, Registration
from components.artifacts.trained_model import TrainedModel
from components.base import provenance
from components.base.errors import DataRefused, UsageError
from components.base.files import write_text

logger = logging.getLogger(__name__)

DIGEST = "digest"
"""The output parameter that says which artifact it is."""
CODE = "code"
"""The input parameter that says which code the pipeline was compiled for."""
# Where Kubeflow's launcher keeps objects, whatever kind of store they come from.
_MOUNTS = {"s3://": "/s3/", "minio://": "/minio/", "gs://": "/gcs/"}


class Content(NamedTuple):
    """What an output holds."""

    metadata: Mapping[str, Any]
    file: Path | None = None
    """Copied to where the output goes."""


class View(NamedTuple):
    """An output beside the artifact, for the user interface."""

    schema: str
    """Kubeflow's name of its type."""
    content: Callable[[Any], Content]


class ExecutorInput:
    """What Kubeflow hands to a step."""

    def __init__(self, text: str) -> None:
        """Parse it.

        Raises:
            UsageError: it is not what Kubeflow hands over.
        """
        try:
            document = json.loads(text)
            self.parameters: dict[str, Any] = document.get("inputs", {}).get("parameterValues", {})
            self._outputs: dict[str, Any] = document["outputs"].get("artifacts", {})
            self._output_file = Path(document["outputs"]["outputFile"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"--executor-input: expected the JSON that Kubeflow puts in place of {{{{$}}}} ({error!r})."
            ) from error

    def check(self, inputs: Mapping[str, Any]) -> None:
        """See that the artifacts are those that the steps before have made, and the code that of the pipeline.

        Args:
            inputs: what the step was given, by the name of its parameter.

        Raises:
            DataRefused: an artifact is another one than its `<name>_digest` says.
        """
        for name, artifact in inputs.items():
            expected = self.parameters.get(f"{name}_{DIGEST}")
            if isinstance(artifact, Artifact) and expected and artifact.digest != expected:
                raise DataRefused(
                    f"{artifact.path}: expected the {type(artifact).__name__} of digest {expected[:12]}, as the step "
                    f"that made it said, found {artifact.digest[:12]}. Was something else put in its place?"
                )
        compiled = self.parameters.get(CODE)
        if compiled and compiled != provenance.code_digest():
            logger.warning(
                "the pipeline was compiled for code %s, this image holds %s; Kubeflow's cache goes by the first",
                compiled[:12],
                provenance.code_digest()[:12],
            )

    def report(self, artifact: Artifact[Any]) -> None:
        """Write what Kubeflow shows of an artifact, and what its cache knows it by."""
        outputs = {noun(type(artifact)): Content(_metadata(artifact))}
        outputs |= {name: view.content(artifact) for name, view in VIEWS.get(type(artifact), {}).items()}
        told = {}
        for name, content in outputs.items():
            # An artifact that is passed on a volume is no output of Kubeflow's.
            if name not in self._outputs:
                continue
            (given,) = self._outputs[name]["artifacts"]
            if content.file is not None:
                place = _place(given["uri"])
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(content.file, place)
            entry = {"name": given["name"], "uri": given["uri"], "metadata": content.metadata}
            told[name] = {"artifacts": [entry]}
        document = {"artifacts": told, "parameterValues": {DIGEST: artifact.digest}}
        self._output_file.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._output_file, json.dumps(document, allow_nan=False))


def noun(kind: type[Artifact[Any]]) -> str:
    """What an artifact is called as an output: `valid_manifest` for a ValidManifest."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def _place(uri: str) -> Path:
    scheme = next((scheme for scheme in _MOUNTS if uri.startswith(scheme)), "")
    return Path(_MOUNTS.get(scheme, "") + uri.removeprefix(scheme))


def _metadata(artifact: Artifact[Any]) -> dict[str, Any]:
    """The digest and the plain facts, and where MLflow has the same."""
    facts = artifact.facts.model_dump(mode="json")
    plain = {name: value for name, value in facts.items() if isinstance(value, str | int | float)}
    links: dict[str, str] = {}
    if isinstance(artifact, TrainedModel):
        run = artifact.facts.run
        links = {
            "mlflow_run_id": run.run_id,
            "mlflow_run": _mlflow(f"runs/{run.run_id}"),
            "mlflow_model": run.model_uri,
        }
    if isinstance(artifact, Registration):
        links = {version.architecture: _version_uri(version) for version in artifact.facts.versions}
    return {DIGEST: artifact.digest, **plain, **{name: link for name, link in links.items() if link}}


def _training(model: TrainedModel) -> Content:
    # Not by the names of the curves: Kubeflow's MLflow integration logs these numbers to the run that has the curves.
    facts = model.facts
    counts = {"epochs": facts.epochs, "best_epoch": facts.best_epoch, "seconds": facts.seconds}
    return Content({f"best_tuning_{name}": value for name, value in facts.tuning.items()} | counts)


def _scores(evaluation: Evaluation) -> Content:
    summary = json.loads((evaluation.path / SUMMARY).read_text())
    return Content({name: value for name, value in summary.items() if value is not None})


def _operating_point(evaluation: Evaluation) -> Content:
    """ROC curve and confusion matrix on the test split."""
    with (evaluation.path / "plots" / "roc.csv").open(newline="") as file:
        points = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    confusion = evaluation.facts.scores.test.confusion
    return Content(
        {
            "confidenceMetrics": [
                {
                    "confidenceThreshold": point["threshold"],
                    "falsePositiveRate": point["false_positive_rate"],
                    "recall": point["sensitivity"],
                }
                for point in points
                # The curve begins at a threshold that no study reaches.
                if math.isfinite(point["threshold"])
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
    if current is None:
        return Content({"decision": promotion.facts.decision.outcome})
    # The version is no `uri` of the artifact: a launcher would look for a store of that scheme.
    metadata = {
        "decision": promotion.facts.decision.outcome,
        "version": _version_uri(current),
        "alias": f"models:/{current.model}@{promotion.facts.alias}",
        "architecture": current.architecture,
        "model_digest": current.model_digest,
        "data_digest": current.data_digest,
        "test_auroc": str(current.scores.test.auroc),
        "registry": _mlflow(f"models/{current.model}/versions/{current.version}"),
    }
    return Content({name: value for name, value in metadata.items() if value})


def _version_uri(version: RegisteredModel) -> str:
    return f"models:/{version.model}/{version.version}"


def _mlflow(page: str) -> str:
    """A page of MLflow's user interface; empty where MLflow is not a server."""
    url = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if url.scheme not in ("http", "https"):
        return ""
    return f"{url._replace(netloc=url.netloc.rpartition('@')[2]).geturl().rstrip('/')}/#/{page}"


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
