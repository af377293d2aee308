"""`mura pipeline schedule`: runs that start by the clock, and compute only what has changed."""

import logging
from typing import Any

import click

from components.base.errors import UsageError
from components.base.terminal import tell
from pipelines.checks import mlflow_place
from pipelines.client import cron, upload
from pipelines.client.access import Access
from pipelines.client.cluster import Kubeflow, whose_name
from pipelines.client.refusal import Missing
from pipelines.client.submission import Choices, Submission, gather
from pipelines.commands.options import chosen, cluster

logger = logging.getLogger(__name__)

_NAME, _DATA = "mura", "mura-data"


def _read_cron(_context: click.Context, _option: click.Parameter, text: str | None) -> cron.Cron | None:
    """Read the fields while flags are parsed, before a server is looked for."""
    return None if text is None else cron.read(text)


@click.command("schedule")
@click.option("--name", help=f"Name of the schedule. There is one of a name. [default: {_NAME}; {_DATA} with --parts]")
@click.option(
    "--cron",
    "when",
    metavar="FIELDS",
    callback=_read_cron,
    help="Start: 'second minute hour day month weekday', in UTC.",
)
@click.option("--remove", is_flag=True, help="Remove the schedule. Runs that have started go on.")
@click.option("--list", "listing", is_flag=True, help="Show all schedules.")
@cluster
@chosen
def command(
    access: Access, choices: Choices, name: str | None, when: cron.Cron | None, remove: bool, listing: bool
) -> None:
    """Start the pipeline by the clock. Each run computes only what has changed.

    A schedule contains the digests of data and code, and every choice. Kubeflow's cache compares them on the cluster
    before a step starts: while they stay the same, no step computes anything, and registering and promoting have
    nothing to do. New data has a new digest: run the same command again after `dvc push`, by hand or in the job that
    follows a push to the repository. It replaces the schedule of that name if anything has changed, and does nothing
    otherwise. With --no-cache every step runs each time.

    \b
    mura pipeline schedule --cron '0 0 3 * * *'      every night at three, UTC
    mura pipeline schedule --cron '30 6 * * 1-5'     crontab's five fields: weekdays at half past six
    mura pipeline schedule --list
    mura pipeline schedule --remove
    """  # noqa: D301 - click wants the backspace itself
    if sum((when is not None, remove, listing)) != 1:
        raise UsageError("schedule: expected exactly one of --cron FIELDS, --list and --remove.")
    name = name or (_DATA if choices.parts else _NAME)

    if listing:
        _show(Kubeflow(access))
        return
    if remove:
        _remove(Kubeflow(access), name)
        return
    assert when is not None, "it is the only one left"
    if when.note:
        logger.info("schedule: %s", when.note)
    submission = gather(choices)
    if choices.dry_run:
        tell("\n".join([*submission.lines(access), f"{'schedule':12}{name}, {when.expression} (UTC)"]))
        return
    if not choices.no_check:
        mlflow_place.demand(access.namespace or "kubeflow", submission.package, submission.sources)
    _put(Kubeflow(access).new_enough(), name, when.expression, submission)


def _put(kubeflow: Kubeflow, name: str, expression: str, submission: Submission) -> None:
    """Make this schedule the only one of its name."""
    version = upload.upload(kubeflow, submission.package)
    models = kubeflow.client.api_models
    wanted = models.V2beta1RecurringRun(
        display_name=name,
        experiment_id=upload.experiment(kubeflow, submission.experiment),
        **upload.fields(kubeflow, version, submission),
        trigger=models.V2beta1Trigger(cron_schedule=models.V2beta1CronSchedule(cron=expression)),
        mode=models.RecurringRunMode.ENABLE,
        # One run at a time. No runs are made up for when the server was down.
        max_concurrency="1",
        no_catchup=True,
        namespace=kubeflow.namespace or None,
    )
    there = _named(kubeflow, name)
    same = [each for each in there if _same(each, wanted)]
    if not same:
        service = kubeflow.client.recurring_runs
        # Made before the old ones are removed: a failure leaves one too many, never none.
        kubeflow.call(
            f"making the schedule {name}",
            service.recurring_run_service_create_recurring_run,
            recurring_run=wanted,
        )
    for each in there:
        if each not in same[:1]:
            _delete(kubeflow, each)
    what = "unchanged" if same else "replaced" if there else "made"
    tell(f"{name}: {what}; {expression} (UTC), pipeline {submission.package.version}.")


def _show(kubeflow: Kubeflow) -> None:
    found = list(_all(kubeflow))
    for each in found:
        digest = (each.runtime_config.parameters or {}).get("archive_digest", "") if each.runtime_config else ""
        data = f"  data {digest[:12]}" if digest else ""
        tell(f"{each.display_name:24}  {_when(each):20}  {str(each.status).lower()}{data}")
    if not found:
        tell("No schedules.")


def _when(recurring: Any) -> str:
    """When it starts runs. Made in the user interface, it can have a period instead of a cron."""
    trigger = recurring.trigger
    if trigger and trigger.cron_schedule and trigger.cron_schedule.cron:
        return str(trigger.cron_schedule.cron)
    if trigger and trigger.periodic_schedule and trigger.periodic_schedule.interval_second:
        return f"every {trigger.periodic_schedule.interval_second} s"
    return "by hand"


def _remove(kubeflow: Kubeflow, name: str) -> None:
    found = _named(kubeflow, name)
    for each in found:
        _delete(kubeflow, each)
    tell(f"{name}: removed." if found else f"{name}: there is no such schedule, nothing to remove.")


def _delete(kubeflow: Kubeflow, recurring: Any) -> None:
    try:
        kubeflow.call(
            f"removing the schedule {recurring.display_name}",
            kubeflow.client.recurring_runs.recurring_run_service_delete_recurring_run,
            recurring.recurring_run_id,
            # Otherwise Kubernetes removes the workflows of its runs too, those that are at work as well.
            propagation_policy="ORPHAN",
        )
    except Missing:
        logger.info("schedule: %s was removed by somebody else", recurring.display_name)


def _named(kubeflow: Kubeflow, name: str) -> list[Any]:
    # The server's filter ignores case.
    return [each for each in _all(kubeflow, filter=whose_name("EQUALS", name)) if each.display_name == name]


def _all(kubeflow: Kubeflow, **more: str) -> Any:
    return kubeflow.pages(
        "listing schedules",
        kubeflow.client.recurring_runs.recurring_run_service_list_recurring_runs,
        "recurring_runs",
        namespace=kubeflow.namespace,
        **more,
    )


def _same(there: Any, wanted: Any) -> bool:
    """Whether a schedule is the wanted one. The server chooses what `wanted` leaves open."""
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
        # A paused schedule is replaced.
        and there.status != "DISABLED"
    )
