"""Which run of Kubeflow Pipelines this process belongs to, as its surroundings say."""

import os
from pathlib import Path

RUN_ID = "KFP_RUN_ID"
UI = "KF_PIPELINES_UI_ENDPOINT"
"""Where people look at runs; also what kfp's own client goes by."""
API = "KF_PIPELINES_ENDPOINT"
"""Where programs ask for runs; the same."""
TOKEN_PATH = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 - a name of a variable
"""Names the file with the token that a pod was given for the API; the same."""
POD_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
"""Where it is as a rule."""


def page(run_id: str) -> str | None:
    """The address of a run's page; None where nobody has said where the user interface is."""
    ui = os.environ.get(UI, "").rstrip("/")
    return f"{ui}/#/runs/details/{run_id}" if ui else None


def token_path() -> Path:
    """Where the token of this pod is, if it was given one; read anew for each request, for it expires."""
    return Path(os.environ.get(TOKEN_PATH) or POD_TOKEN)


def tags() -> dict[str, str]:
    """What an MLflow run says of the Kubeflow run it belongs to, in the words of Kubeflow's own integration."""
    run_id = os.environ.get(RUN_ID)
    if not run_id:
        return {}
    url = page(run_id)
    return {"kfp.pipeline_run_id": run_id} | ({"kfp.pipeline_run_url": url} if url else {})
