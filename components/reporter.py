"""What Kubeflow is told of an artifact: its identity, and what the user interface shows of it.

A step in a Kubeflow container finds there, as JSON, where its outputs go, and writes to the file named in it what they
are. Kubeflow's launcher parses that file strictly: a key that it does not know fails the step.
"""

from collections.abc import Mapping
from typing import Any

from components.artifacts.artifact import Artifact
from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import ValidManifest
from components.artifacts.promotion import Promotion
from components.artifacts.trained_model import TrainedModel

# Beside the artifact itself, by Kubeflow's names of its types.
VIEWS: Mapping[type[Artifact[Any]], Mapping[str, str]] = {
    ValidManifest: {"report": "system.HTML"},
    TrainedModel: {"metrics": "system.Metrics"},
    Evaluation: {"metrics": "system.Metrics", "roc": "system.ClassificationMetrics", "report": "system.HTML"},
    Promotion: {"report": "system.HTML", "champion": "system.Model"},
}
DIGEST = "digest"
"""The output parameter that says which artifact it is."""
