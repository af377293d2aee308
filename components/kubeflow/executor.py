"""Report an artifact to Kubeflow: its digest, and what the user interface shows of it.

Kubeflow gives a step, as JSON, the places of its outputs and the name of a file. The step describes the outputs in that
file. Kubeflow's launcher parses it strictly: an unknown key fails the step, and JSON has no infinity and no NaN.
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
from components.base import code
from components.base.errors import DataRefused, UsageError
from components.base.files import write_text
from components.base.urls import without_credentials

logger = logging.getLogger(__name__)

DIGEST = "digest"
"""The output parameter with the digest of the artifact."""
CODE = "code"
"""The input parameter with the digest of the code that the pipeline was compiled for."""
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
            document = json.loads(text)
            self.parameters: dict[str, Any] = document.get("inputs", {}).get("parameterValues", {})
            self._outputs: dict[str, Any] = document["outputs"].get("artifacts", {})
            self._output_file = Path(document["outputs"]["outputFile"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"--executor-input: expected the JSON that Kubeflow writes in place of {{{{$}}}} ({error!r})."
            ) from error

    def check(self, inputs: Mapping[str, Any], module: str) -> None:
        """Check that the artifacts are those that earlier steps made. Warn if the code is not that of the pipeline.

        Args:
            inputs: the step's arguments by name.
            module: the step's module, `components.shard`.

        Raises:
            DataRefused: an artifact has another digest than `<name>_digest` says.
        """
        for name, artifact in inputs.items():
            expected = self.parameters.get(f"{name}_{DIGEST}")
            if isinstance(artifact, Artifact) and expected and artifact.digest != expected:
                raise DataRefused(
                    f"{artifact.path}: expected the {type(artifact).__name__} of digest {expected[:12]}, which the "
                    f"step before made, found {artifact.digest[:12]}. Was the artifact replaced?"
                )
        compiled = self.parameters.get(CODE)
        if compiled and compiled != (found := code.digest(module)):
            logger.warning(
                "the pipeline was compiled for code %s, this image contains %s; Kubeflow's cache knows only the first",
                compiled[:12],
                found[:12],
            )

    def report(self, artifact: Artifact[Any]) -> None:
        """Write what Kubeflow shows of an artifact, and the digest for its cache."""
        outputs = {noun(type(artifact)): Content(_metadata(artifact))}
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
            entry = {"name": given["name"], "uri": given["uri"], "metadata": content.metadata}
            told[name] = {"artifacts": [entry]}
        document = {"artifacts": told, "parameterValues": {DIGEST: artifact.digest}}
        self._output_file.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._output_file, json.dumps(document, allow_nan=False))


def noun(kind: type[Artifact[Any]]) -> str:
    """Name of an artifact as an output: `valid_manifest` for a ValidManifest."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def mounted(uri: str) -> Path:
    """The file in the step's container that Kubeflow's launcher uploads to a URI."""
    scheme = next((scheme for scheme in _MOUNTS if uri.startswith(scheme)), "")
    return Path(_MOUNTS.get(scheme, "") + uri.removeprefix(scheme))


def _metadata(artifact: Artifact[Any]) -> dict[str, Any]:
    """The digest, the plain facts, and links to MLflow."""
    facts = artifact.facts.model_dump(mode="json")
    plain = {name: value for name, value in facts.items() if isinstance(value, str | int | float)}
    links: dict[str, str] = {}
    if isinstance(artifact, TrainedModel):
        run = artifact.facts.run
        # A training that found no MLflow has no run.
        links = {
            "mlflow_run_id": run.run_id,
            "mlflow_run": _mlflow(f"runs/{run.run_id}") if run.run_id else "",
            "mlflow_model": run.model_uri,
        }
    if isinstance(artifact, Registration):
        links = {version.candidate: _version_uri(version) for version in artifact.facts.versions}
    return plain | {name: link for name, link in links.items() if link} | {DIGEST: artifact.digest}


def _training(model: TrainedModel) -> Content:
    # Other names than those of the curves: Kubeflow's MLflow integration logs these numbers to the run of the curves.
    facts = model.facts
    counts = {"epochs": facts.epochs, "best_epoch": facts.best_epoch, "seconds": facts.seconds}
    return Content({f"best_tuning_{name}": value for name, value in facts.tuning.items()} | counts)


def _scores(evaluation: Evaluation) -> Content:
    summary = json.loads((evaluation.path / SUMMARY).read_text(encoding="utf-8"))
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
                # The threshold of the first point is infinite.
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
    return Content({name: value for name, value in metadata.items() if value})


def _version_uri(version: RegisteredModel) -> str:
    return f"models:/{version.model}/{version.version}"


def _mlflow(page: str) -> str:
    """A page of MLflow's user interface; empty if MLflow is not a server."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if urlsplit(uri).scheme not in ("http", "https"):
        return ""
    return f"{without_credentials(uri).rstrip('/')}/#/{page}"


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
