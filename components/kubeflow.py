"""Which run of Kubeflow Pipelines this process belongs to, as its surroundings say."""

import os

RUN_ID = "KFP_RUN_ID"
UI = "KF_PIPELINES_UI_ENDPOINT"
"""Where people look at runs; also what kfp's own client goes by."""
API = "KF_PIPELINES_ENDPOINT"
"""Where programs ask for runs; the same."""


def page(run_id: str) -> str | None:
    """The address of a run's page; None where nobody has said where the user interface is."""
    ui = os.environ.get(UI, "").rstrip("/")
    return f"{ui}/#/runs/details/{run_id}" if ui else None


def tags() -> dict[str, str]:
    """What an MLflow run says of the Kubeflow run it belongs to, in the words of Kubeflow's own integration."""
    run_id = os.environ.get(RUN_ID)
    if not run_id:
        return {}
    url = page(run_id)
    return {"kfp.pipeline_run_id": run_id} | ({"kfp.pipeline_run_url": url} if url else {})
