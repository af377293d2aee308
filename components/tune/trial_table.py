"""What is told at the end of a search."""

import math
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from components.base.console import Console
from components.tune.searching import AREAS, EPOCH, PARAMS, REASON

if TYPE_CHECKING:
    from components.tune.searching import Question

SHOWN = 10
# Importances of fewer trials say nothing.
ENOUGH = 8


def show(study: optuna.Study, question: "Question") -> None:
    """Print the best trials, the counts and the importance of each choice to stderr: stdout is for the patch."""
    console = Console(stderr=True)
    complete = sorted(study.get_trials(states=(TrialState.COMPLETE,)), key=lambda trial: -(trial.value or 0))
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    table = Table(title=f"{question.params.candidate}: trials on {len(question.folds)} folds of the training split")
    for heading in ("trial", "AUROC", "± SE", "epoch", *question.space):
        table.add_column(heading, justify="right", overflow="fold")
    for trial in complete[:SHOWN]:
        values = [str(trial.user_attrs[PARAMS][name]) for name in question.space]
        name = f"{trial.number} (now)" if trial.user_attrs[PARAMS] == question.current else str(trial.number)
        table.add_row(name, f"{trial.value:.4f}", _error(trial), str(trial.user_attrs[EPOCH]), *values)
    if importances := _importances(study, len(complete)):
        table.add_section()
        table.add_row("importance", "", "", "", *(f"{importances.get(name, 0):.0%}" for name in question.space))
    console.print(table)
    diverged = sum(trial.user_attrs.get(REASON) == "diverged" for trial in pruned)
    console.print(f"{len(complete)} complete, {len(pruned) - diverged} pruned, {diverged} diverged.")
    console.print(
        "The best of many looks better than it is: the folds chose it. `mura evaluate` measures it on tuning."
    )


def gain(best: FrozenTrial, current: FrozenTrial) -> str:
    """The paired difference of two trials over the folds, in words."""
    differences = np.subtract(best.user_attrs[AREAS], current.user_attrs[AREAS])
    each = ", ".join(f"{difference:+.3f}" for difference in differences)
    return f"{differences.mean():+.4f} AUROC over the parameters of now (by fold: {each})"


def _error(trial: FrozenTrial) -> str:
    areas = trial.user_attrs[AREAS]
    return f"{np.std(areas, ddof=1) / math.sqrt(len(areas)):.4f}"


def _importances(study: optuna.Study, complete: int) -> dict[str, float]:
    if complete < ENOUGH:
        return {}
    try:
        found: dict[str, float] = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError):
        # All trials measure the same.
        return {}
    return found
