"""`mura pipeline schedule`: runs that start by the clock, and do work when the data has changed."""

import logging
from typing import Any

import click

from components.base.errors import UsageError
from pipelines import cron
from pipelines.access import Access
from pipelines.options import cluster
from pipelines.submission import Choices, Submission, chosen, gather

logger = logging.getLogger(__name__)

_NAME = "mura"


@click.command("schedule")
@click.option("--name", default=_NAME, show_default=True, help="Of the schedule; there is one of a name.")
@click.option("--cron", "when", metavar="FIELDS", help="When: 'second minute hour day month weekday', in UTC.")
@click.option("--remove", is_flag=True, help="Remove the schedule; runs that have started go on.")
@click.option("--list", "listing", is_flag=True, help="Show all schedules.")
@cluster
@chosen
def command(access: Access, choices: Choices, name: str, when: str | None, remove: bool, listing: bool) -> None:
    """Start the pipeline by the clock; each time, only what has changed is computed.

    A schedule holds the digest of the data, the code and every choice as arguments of the pipeline. Kubeflow's cache
    compares them when a step is about to start, on the cluster: as long as they are what they were, no step computes
    anything, and registering and promoting find nothing to do. New data is a new digest: run the same command again
    after `dvc push` (by hand, or in the job that follows a push to the repository). It replaces the schedule of that
    name if anything has changed, and does nothing otherwise. With --no-cache every step runs each time.

    \b
    mura pipeline schedule --cron '0 0 3 * * *'      every night at three, UTC
    mura pipeline schedule --cron '30 6 * * 1-5'     crontab's five fields: weekdays at half past six
    mura pipeline schedule --list
    mura pipeline schedule --remove
    """  # noqa: D301 - click wants the backspace itself
    if sum((when is not None, remove, listing)) != 1:
        raise UsageError("schedule: expected exactly one of --cron FIELDS, --list and --remove.")

    from pipelines.cluster import Kubeflow

    if listing:
        _show(Kubeflow(access))
        return
    if remove:
        _remove(Kubeflow(access), name)
        return
    read = cron.read(when or "")
    if read.note:
        logger.info("schedule: %s", read.note)
    submission = gather(choices)
    if choices.dry_run:
        click.echo("\n".join([*submission.lines(access), f"{'schedule':12}{name}, {read.expression} (UTC)"]))
        return
    _put(Kubeflow(access).new_enough(), name, read.expression, submission)


def _put(kubeflow: Any, name: str, expression: str, submission: Submission) -> None:
    """See that there is one schedule of that name, and that it is this one."""
    from components.base import provenance
    from pipelines import upload

    version = upload.upload(kubeflow, submission.package, f"code revision {provenance.code_revision()}")
    models = kubeflow.client.api_models
    wanted = models.V2beta1RecurringRun(
        display_name=name,
        experiment_id=upload.experiment(kubeflow, submission.experiment),
        pipeline_version_reference=models.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        runtime_config=models.V2beta1RuntimeConfig(
            parameters=submission.arguments, pipeline_root=submission.pipeline_root
        ),
        service_account=submission.service_account,
        trigger=models.V2beta1Trigger(cron_schedule=models.V2beta1CronSchedule(cron=expression)),
        mode=models.RecurringRunMode.ENABLE,
        # One at a time, and none for the nights on which the server was down.
        max_concurrency="1",
        no_catchup=True,
        namespace=kubeflow.namespace or None,
    )
    there = _named(kubeflow, name)
    same = [each for each in there if _same(each, wanted)]
    if not same:
        service = kubeflow.client.recurring_runs
        # The new one before the old ones go: a failure between leaves one too many, never none.
        kubeflow.call(
            f"making the schedule {name}",
            service.recurring_run_service_create_recurring_run,
            recurring_run=wanted,
        )
    for each in there:
        if each not in same[:1]:
            _delete(kubeflow, each)
    what = "is as it was" if same else "replaced" if there else "made"
    click.echo(f"{name}: {what}; {expression} (UTC), pipeline {submission.package.version}.")


def _show(kubeflow: Any) -> None:
    found = list(_all(kubeflow))
    for each in found:
        digest = (each.runtime_config.parameters or {}).get("archive_digest", "") if each.runtime_config else ""
        data = f"  data {digest[:12]}" if digest else ""
        click.echo(f"{each.display_name:24}  {_when(each):20}  {str(each.status).lower()}{data}")
    if not found:
        click.echo("No schedules.")


def _when(recurring: Any) -> str:
    """Its schedule, which the user interface can also make of a period."""
    trigger = recurring.trigger
    if trigger and trigger.cron_schedule and trigger.cron_schedule.cron:
        return str(trigger.cron_schedule.cron)
    if trigger and trigger.periodic_schedule and trigger.periodic_schedule.interval_second:
        return f"every {trigger.periodic_schedule.interval_second} s"
    return "by hand"


def _remove(kubeflow: Any, name: str) -> None:
    found = _named(kubeflow, name)
    for each in found:
        _delete(kubeflow, each)
    click.echo(f"{name}: removed." if found else f"{name}: there is no such schedule, nothing to remove.")


def _delete(kubeflow: Any, recurring: Any) -> None:
    from pipelines.refusal import Missing

    try:
        kubeflow.call(
            f"removing the schedule {recurring.display_name}",
            kubeflow.client.recurring_runs.recurring_run_service_delete_recurring_run,
            recurring.recurring_run_id,
        )
    except Missing:
        logger.info("schedule: %s was removed by somebody else", recurring.display_name)


def _named(kubeflow: Any, name: str) -> list[Any]:
    from pipelines.cluster import whose_name

    # The server's filter does not tell upper from lower case.
    return [each for each in _all(kubeflow, filter=whose_name("EQUALS", name)) if each.display_name == name]


def _all(kubeflow: Any, **more: str) -> Any:
    return kubeflow.pages(
        "listing schedules",
        kubeflow.client.recurring_runs.recurring_run_service_list_recurring_runs,
        "recurring_runs",
        namespace=kubeflow.namespace,
        **more,
    )


def _same(there: Any, wanted: Any) -> bool:
    """Whether a schedule runs what is wanted, when it is wanted. What is not asked for, the server chooses."""
    reference, config = there.pipeline_version_reference, there.runtime_config
    return bool(
        reference
        and config
        and there.experiment_id == wanted.experiment_id
        and reference.pipeline_version_id == wanted.pipeline_version_reference.pipeline_version_id
        and (config.parameters or {}) == wanted.runtime_config.parameters
        and wanted.runtime_config.pipeline_root in (None, config.pipeline_root)
        and wanted.service_account in (None, there.service_account)
        and _when(there) == wanted.trigger.cron_schedule.cron
        and there.max_concurrency == wanted.max_concurrency
        and bool(there.no_catchup) == wanted.no_catchup
        # One that somebody has paused is another one.
        and there.status != "DISABLED"
    )
