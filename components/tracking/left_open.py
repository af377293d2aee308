"""Runs that killed steps of a Kubeflow run left open."""

import logging

from components.base import patience
from components.base.errors import MuraError
from components.kubeflow import pod
from components.tracking import address, failures, parent, server
from components.tracking.run import SOURCE

logger = logging.getLogger(__name__)

_PATIENCE = 60.0  # at most, seconds: the exit handler has a few minutes
_PAGE = 200


def end(kubeflow_run: str) -> None:
    """End our runs of a Kubeflow run that are open although its steps are over. A later attempt opens them again.

    Errors are only logged: they do not fail the run.

    Args:
        kubeflow_run: the id of the run of Kubeflow Pipelines.
    """
    try:
        server.locate()
        if address.is_off():
            return
        if reason := server.wait(min(_PATIENCE, server.patience(elsewhere=0.0))):
            logger.warning("notify: MLflow at %s does not answer (%s): open runs stay open", address.shown(), reason)
            return
        with patience.none(), failures.refusals("ending open runs"):
            ended = _end(kubeflow_run)
    except MuraError as error:
        logger.warning("notify: open runs stay open: %s", error)
        return
    if ended:
        logger.info("notify: killed steps left runs open in MLflow, which are ended now: %s", ", ".join(ended))


def _end(kubeflow_run: str) -> list[str]:
    client = server.connect()
    # Kubeflow's own runs have the tag, too.
    ours = f"tags.`{pod.RUN_TAG}` = '{kubeflow_run}' and tags.`mlflow.source.name` = '{SOURCE}'"
    found = client.search_runs(
        [parent.home(client).experiment], f"{ours} and attributes.status = 'RUNNING'", max_results=_PAGE
    )
    for run in found:
        client.set_terminated(run.info.run_id, "KILLED")
    return [f"{run.info.run_name} ({run.info.run_id})" for run in found]
