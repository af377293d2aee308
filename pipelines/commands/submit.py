"""`mura pipeline submit`: upload the pipeline and run it on the cluster."""

import logging
import time
from typing import Any

import click

from components.base.terminal import tell
from pipelines.checks import mlflow_place
from pipelines.client import runs, upload
from pipelines.client.access import Access
from pipelines.client.cluster import Kubeflow
from pipelines.client.following import follow
from pipelines.client.refusal import Unavailable
from pipelines.client.submission import Choices, Submission, gather
from pipelines.commands.options import INTERVAL, chosen, cluster

logger = logging.getLogger(__name__)


@click.command("submit")
@cluster
@chosen
@click.option("--name", help="Name of the run. [default: the pipeline's, and the time]")
@click.option(
    "--once",
    is_flag=True,
    help="Start nothing if a run of this pipeline with these arguments is under way or done.",
)
@click.option(
    "--wait",
    is_flag=True,
    help="Show the steps until the run ends. The exit code is that of the run, or of the step that failed.",
)
@INTERVAL
def command(access: Access, choices: Choices, name: str | None, once: bool, wait: bool, interval: float) -> None:
    """Compile the pipeline, upload it and run it on Kubeflow Pipelines.

    The archive is the object on DVC's S3 remote with the tracked content. Its name is the digest of the content, so
    nobody replaces it while the run reads it. The version is named by its content too: an existing one is not uploaded
    again. With --dry-run no request is sent.

    With --parts it is the pipeline mura-data, which ends with shards. The last lines of the logs of `validate` and
    `merge-shards` are the flags of the run that begins with them.

    \b
    Exit codes: 0 submitted (with --wait: the run succeeded);
    2 wrong usage: a flag, params.yaml, a missing archive or image;
    5 S3 or Kubeflow Pipelines does not answer, or refuses the login;
    with --wait, that of the step which failed, if its log says it; else
    6 the run failed, was cancelled or skipped.
    """  # noqa: D301 - click wants the backspace itself
    submission = gather(choices)
    run_name = name or f"{submission.package.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if choices.dry_run:
        tell("\n".join([*submission.lines(access), f"{'run':12}{run_name}"]))
        return

    if not choices.no_check:
        mlflow_place.demand(access.namespace or "kubeflow", submission.package, submission.sources)
    kubeflow = Kubeflow(access).new_enough()
    version = upload.upload(kubeflow, submission.package)
    logger.info(
        "pipeline: %s %s, %s", submission.package.name, submission.package.version, "new" if version.new else "known"
    )
    experiment = upload.experiment(kubeflow, submission.experiment)
    run = _known(kubeflow, experiment, version.version_id, submission) if once else None
    if run is not None:
        logger.info("there is such a run already, %s: nothing is started", str(run.state).lower())
    else:
        run = _start(kubeflow, run_name, experiment, version, submission)
    tell(f"{run.display_name}  {kubeflow.run_link(run.run_id)}")
    if wait:
        follow(kubeflow, run.run_id, submission.package, interval)
    else:
        logger.info("`mura pipeline watch %s` shows its steps", run.display_name)


def _known(kubeflow: Kubeflow, experiment: str, version_id: str, submission: Submission) -> Any:
    """The newest run of a version with these arguments that is under way or succeeded; None if there is none."""
    listed = kubeflow.pages(
        "listing runs",
        kubeflow.client.runs.run_service_list_runs,
        "runs",
        experiment_id=experiment,
        sort_by="created_at desc",
    )
    for run in listed:
        reference, config = run.pipeline_version_reference, run.runtime_config
        same = reference is not None and reference.pipeline_version_id == version_id
        given = (config.parameters or {}) if config is not None else {}
        if same and given == submission.arguments and run.state not in ("FAILED", "SKIPPED", "CANCELING", "CANCELED"):
            # A run whose workflow was removed is listed as running for ever.
            now = runs.progress(run, None, kubeflow.clock())
            if not runs.overdue(now, submission.package):
                return run
    return None


def _start(kubeflow: Kubeflow, name: str, experiment: str, version: upload.Version, submission: Submission) -> Any:
    body = kubeflow.client.api_models.V2beta1Run(
        experiment_id=experiment, display_name=name, **upload.fields(kubeflow, version, submission)
    )
    try:
        return kubeflow.call(f"starting {name}", kubeflow.client.runs.run_service_create_run, run=body)
    except Unavailable as error:
        raise Unavailable(f"{error} The run may have started: `mura pipeline watch {name}` shows it.") from error
