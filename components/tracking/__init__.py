"""MLflow: trainings, their models, the registry. Nothing else of this project imports MLflow.

server.py           where MLflow is, whether it answers, and what its errors mean
run.py              one training as a run
logged_model.py     a network as the output of a run
publish.py          a trained model that is not on this server yet
model_registry.py   versions, and the alias of the trusted one

Importing this package sets MLflow's settings, as MLflow reads them while it is imported, and then imports it.
"""

import os

# The user's own settings take precedence.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Otherwise saving a model asks a package index for the installed versions.
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    # MLflow's defaults, 7 retries of 120 s, need more than three minutes to report a refused connection.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)

from components.tracking.publish import ensure_model  # noqa: E402
from components.tracking.run import Dataset, Description, Run, training_run  # noqa: E402
from components.tracking.server import URI, connect, is_missing, refusals, shown_uri  # noqa: E402

__all__ = [
    "URI", "Dataset", "Description", "Run", "connect", "ensure_model", "is_missing", "refusals", "shown_uri",
    "training_run",
]  # fmt: skip
