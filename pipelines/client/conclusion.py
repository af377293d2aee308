"""How a run ended: what is printed, and the exit code."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

from components.base.errors import ExitCode, RunFailed
from components.base.progress import duration
from components.base.terminal import tell
from pipelines.checks.step_pod import StepPod
from pipelines.client import step_log
from pipelines.client.cluster import Kubeflow
from pipelines.client.in_cluster import InCluster
from pipelines.client.runs import LOST, UNHEARD, Progress
from pipelines.client.step_log import StepLog
from pipelines.graph.package import Step

# The last lines of a failed step's log. Those of Kubeflow's launcher and of Argo are left out: more are read.
LINES = 20
_READ = 400
_ENDS = {"FAILED": "failed", "CANCELED": "was cancelled", "SKIPPED": "was skipped"}


class Failure(NamedTuple):
    """A step that failed."""

    step: Step
    pod: StepPod | None
    log: StepLog | None

    @property
    def killed(self) -> bool:
        """Whether its memory was too small."""
        return bool((self.log and self.log.killed) or (self.pod and self.pod.killed))


def conclude(run: Progress, kubeflow: Kubeflow, cluster: InCluster, steps: Sequence[Step]) -> None:
    """Print how a run ended.

    Raises:
        RunFailed: it did not succeed. The exit code is that of the step that failed, if its log says it.
    """
    if lost := [
        row.name for row in run.rows if row.state in (LOST, UNHEARD) or (row.state, row.seconds) == ("done", None)
    ]:
        tell(
            f"Kubeflow has not told of the end of {', '.join(lost)}. It stops telling of steps when the workflow of a "
            "run grows past 1 MiB."
        )
    if run.state == "SUCCEEDED":
        reused = sum(row.state == "reused" for row in run.rows)
        cached = f"; {reused} of {len(run.rows)} steps were there already" if reused else ""
        tell(f"{run.name} succeeded in {duration(run.seconds)}{cached}.")
        return
    if run.state == "FAILED":
        _fail(run, kubeflow, cluster, steps)
    raise RunFailed(f"{run.name} {_ENDS[run.state]} after {duration(run.seconds)}{_because(run.error)}.")


def _fail(run: Progress, kubeflow: Kubeflow, cluster: InCluster, steps: Sequence[Step]) -> NoReturn:
    """Show the logs of the steps that failed, and raise."""
    failures = list(_failures(run, cluster, steps))
    for failure in failures:
        _show(failure)
    reasons = [_reason(failure) for failure in failures if failure.killed or (failure.log and failure.log.launcher)]
    reasons += [f"{row.name}: {row.why}" for row in run.rows if row.state == "failed" and row.why]
    steps_of_it = {row.key for row in run.rows}
    reasons += [f"{name}: {why}" for name, why in cluster.troubles.items() if name not in steps_of_it]
    logs = f"Its logs: `mura pipeline logs {run.name}`, or {kubeflow.run_link(run.run_id)}"
    told = " ".join(f"{reason.rstrip('.')}." for reason in reasons)
    error = RunFailed(
        f"{run.name} failed{_where(run)} after {duration(run.seconds)}{_because(run.error)}. "
        + (f"{told} " if told else "")
        + logs
    )
    codes = [failure.log.code for failure in failures if failure.log and failure.log.code]
    # More than one code: that of the step which comes first.
    error.exit_code = codes[0] if codes else ExitCode.RUN
    raise error


def _failures(run: Progress, cluster: InCluster, steps: Sequence[Step]) -> Iterator[Failure]:
    """The steps that failed, with their pods and logs."""
    known = {step.key: step for step in steps}
    for row in run.rows:
        if row.state == "failed":
            text = cluster.log_of_failed(run, row.key, _READ)
            step = known.get(row.key, Step(row.key, row.name))
            yield Failure(step, cluster.failed_pod(row.key), step_log.read(text) if text else None)
    # Pods that do not say which step they are of.
    for pod in (pod for pod in cluster.failed if not pod.node):
        text = cluster.log_of(pod.name, _READ)
        yield Failure(Step(pod.name, pod.name), pod, step_log.read(text) if text else None)


def _show(failure: Failure) -> None:
    if failure.log is None or not failure.log.lines:
        return
    tell(f"\nThe last lines of {failure.step.name}:")
    tell("\n".join(f"  {line}" for line in failure.log.lines[-LINES:]))


def _reason(failure: Failure) -> str:
    """Why a step failed that could not say so itself."""
    step = failure.step
    if not failure.killed:
        launcher = failure.log.launcher if failure.log else ""
        return f"{step.name}: Kubeflow's launcher failed ({launcher})"
    limit = (failure.pod.memory if failure.pod else "") or step.memory
    had = f" of {limit}" if limit else ""
    section = step.section or step.key.partition("-")[0]
    return (
        f"{step.name} needed more memory than its limit{had} and was killed. Give it more in params.yaml, "
        f"`kubeflow.steps.{section}.memory`, and submit again"
    )


def _where(run: Progress) -> str:
    """The steps in which a run failed, as far as it is known."""
    if failed := [row.name for row in run.rows if row.state == "failed"]:
        return f" in {', '.join(failed)}"
    if lost := [row.name for row in run.rows if row.state in ("stopped", LOST)]:
        return f" in or after {', '.join(lost)},"
    done = [row.name for row in run.rows if row.state in ("done", "reused")]
    return f" after {done[-1]}," if done else ""


def _because(error: str) -> str:
    return f": {error.rstrip('.')}" if error else ""
