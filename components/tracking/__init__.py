"""Trainings and their models on the MLflow tracking server.

MLflow is imported when it is first talked to: it takes seconds, and its settings are read only once.
"""

from components.tracking.publish import ensure_model
from components.tracking.run import Dataset, Run, training_run
from components.tracking.server import URI, connect, is_missing, refusals, shown_uri

__all__ = ["URI", "Dataset", "Run", "connect", "ensure_model", "is_missing", "refusals", "shown_uri", "training_run"]
