"""The run of Kubeflow Pipelines that this process belongs to, from its environment."""

import os
from pathlib import Path
from urllib.parse import quote

from components.base import patience
from components.base.urls import without_credentials
from components.base.variables import KUBEFLOW_RUN

RUN_ID = KUBEFLOW_RUN
RUN_TAG = "kfp.pipeline_run_id"
"""The tag of an MLflow run that names its Kubeflow run. Kubeflow's own MLflow integration uses the same."""
UI = "KF_PIPELINES_UI_ENDPOINT"
"""The user interface. kfp's own client reads the same variable."""
API = "KF_PIPELINES_ENDPOINT"
"""The API. kfp's own client reads the same variable."""
TOKEN_PATH = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 - a name of a variable
"""The file with the pod's token for the API. kfp's own client reads the same variable."""
POD_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
"""The file by default."""


def inside() -> bool:
    """Whether this process runs in a pod."""
    return patience.in_pod()


def page(run_id: str) -> str | None:
    """The address of a run's page; None if the user interface is not known."""
    # It goes into messages and into tags of MLflow.
    ui = without_credentials(os.environ.get(UI, "")).rstrip("/")
    return f"{ui}/#/runs/details/{quote(run_id, safe='')}" if ui else None


def token_path() -> Path:
    """The file with this pod's token, if it has one. Read it for each request: the token expires."""
    return Path(os.environ.get(TOKEN_PATH) or POD_TOKEN)


def tags() -> dict[str, str]:
    """Tags of an MLflow run that name its Kubeflow run. Kubeflow's own MLflow integration uses the same tags."""
    run_id = os.environ.get(RUN_ID)
    if not run_id:
        return {}
    url = page(run_id)
    return {RUN_TAG: run_id} | ({"kfp.pipeline_run_url": url} if url else {})
