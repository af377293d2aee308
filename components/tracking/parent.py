"""The run that somebody began for this process, as Kubeflow's MLflow plugin does for each task: ours are its children.

MLflow then shows one tree: the pipeline, its tasks, their trainings. The run itself belongs to who began it. We write
nothing into it, and do not end it.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.base.errors import UsageError
from components.tracking import address, failures, server

RUN_ID = "MLFLOW_RUN_ID"


class Home(NamedTuple):
    """Where runs of this process go."""

    experiment: str
    """Its id."""
    tags: Mapping[str, str]
    """Tags that make a run a child; none if there is no parent."""


def home(client: MlflowClient) -> Home:
    """Where runs go: below the run that MLFLOW_RUN_ID names, in its experiment; without one, see `server`.

    Raises:
        UsageError: there is no such run, or the experiment has been deleted.
        ServiceUnreachable: MLflow does not answer.
    """
    run_id = os.environ.get(RUN_ID)
    if not run_id:
        return Home(server.experiment_id(client), {})
    with failures.refusals(f"looking for the run {run_id}"):
        try:
            found = client.get_run(run_id)
        except MlflowException as error:
            if not (failures.is_hidden(error) or error.error_code == "INVALID_PARAMETER_VALUE"):
                raise
            found = None
    if found is None or found.info.lifecycle_stage != "active":
        raise UsageError(
            f"{RUN_ID} is {run_id}, and MLflow at {address.shown()} has no such run for this user. "
            f"Unset it, or set {address.URI} to the server of that run."
        )
    return Home(found.info.experiment_id, {MLFLOW_PARENT_RUN_ID: run_id})
