"""The study in a database, and the workers that share it.

A trial is finished when it is complete or pruned. A study of N trials has N that are finished or run, never more: each
worker counts the trials before its own, and gives up one that is too many. So the order of the counting does not
matter. What a dead worker leaves is failed, and enqueued again with the same values under a new number.
"""

import fcntl
import logging
import math
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import sqlalchemy.exc
from optuna.trial import FrozenTrial, Trial, TrialState

from components.base.errors import Diverged, OutsideFailed, ServiceUnreachable, UsageError, first_line
from components.base.files import json_sha256
from components.base.progress import duration
from components.base.urls import without_credentials
from components.params.train import TrainParams
from components.params.tune import Sought, is_whole
from components.tune.folds import Fold

logger = logging.getLogger(__name__)

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
BEAT, GRACE = 30, 180
"""Seconds between two signs of life of a worker, and without any until it is taken for dead."""
WAIT = 2.0
"""Seconds between two looks at the trials of other workers."""
ATTEMPTS = 5
"""Of opening a database whose tables another worker may be making."""
SLOTS = 10
"""Places in a training where trials of different numbers of epochs are compared."""
DIGITS = 3
"""Significant digits of a value. More would pretend a precision that no study has."""
# Optuna's median rule needs trials to compare with; early epochs say little.
STARTUP, WARMUP, COMPARED = 4, 3, 3
WORKER, PARAMS, EPOCH, AREAS, REASON, QUESTION = "worker", "params", "epoch", "folds", "reason", "question"
"""What is kept of a trial besides its value; the last is kept of the study."""


Measured = Callable[[int, float], None]
"""Called after each epoch with its number, from 1, and the AUROC of the studies that are held out."""


class Surplus(Exception):
    """The study has enough trials without this one."""


class _Interrupted(BaseException):
    """Ctrl-C, by a name that Optuna does not know: it would fail the trial, which shall begin again."""


class Question(NamedTuple):
    """What a study asks."""

    params: TrainParams
    """As params.yaml has them now."""
    space: Mapping[str, Sought]
    folds: list[Fold]
    seed: int
    facts: dict[str, Any]
    """What all workers must have in common, as JSON has it."""
    train: Callable[[Fold, TrainParams, int, Measured], None]
    """Trains on a fold with a seed. What `Measured` raises ends it."""

    def chosen(self, values: Mapping[str, Any]) -> TrainParams:
        """The parameters of a trial."""
        return TrainParams.model_validate(self.params.model_dump() | dict(values) | {"patience": "none"})

    @property
    def current(self) -> dict[str, Any]:
        """What params.yaml has now for the choices that are searched."""
        return {name: getattr(self.params, name) for name in self.space}

    @property
    def current_is_inside(self) -> bool:
        """Whether that is a point of the space. Then it is trial 0, with which all others are compared."""
        return all(_is_inside(value, self.space[name]) for name, value in self.current.items())


@contextmanager
def study(question: Question, url: str, name: str) -> Iterator[optuna.Study]:
    """Open a study, or begin it.

    Raises:
        UsageError: the address is wrong, or the study has another question.
        ServiceUnreachable: the database does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    place = without_credentials(url)
    try:
        storage, opened = _opened(url, name)
        if QUESTION not in opened.user_attrs:
            opened.set_user_attr(QUESTION, question.facts)
    except (sqlalchemy.exc.ArgumentError, ImportError) as error:
        raise UsageError(f"tune: {place}: no database that is known here ({first_line(error)}).") from error
    except (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
        raise ServiceUnreachable(f"tune: {place} does not answer ({first_line(error)}).") from error
    try:
        _check_same(opened.user_attrs[QUESTION], question.facts, name, place)
        yield opened
    except optuna.exceptions.StorageInternalError as error:
        raise ServiceUnreachable(
            f"tune: {place} does not answer ({first_line(error)}). The same command goes on with the study."
        ) from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _opened(url: str, name: str) -> tuple[Any, optuna.Study]:
    """The database, and the study in it; both are made if they are not there."""
    for left in reversed(range(ATTEMPTS)):
        try:
            with _one_at_a_time(url), _experimental():
                storage = optuna.storages.RDBStorage(
                    url,
                    # SQLite lets one process write; the others wait.
                    engine_kwargs={"connect_args": {"timeout": 120}} if sqlite_file(url) else None,
                    heartbeat_interval=BEAT,
                    grace_period=GRACE,
                    heartbeat_stale_trial_callback=enqueue_again,
                )
                pruner = optuna.pruners.MedianPruner(STARTUP, WARMUP, n_min_trials=COMPARED)
                return storage, optuna.create_study(
                    storage=storage, study_name=name, direction="maximize", load_if_exists=True, pruner=pruner
                )
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError, optuna.exceptions.StorageInternalError):
            # Another worker makes the same tables in this moment.
            if not left:
                raise
            time.sleep(WAIT)
    raise AssertionError("the last attempt returns or raises")


def work(opened: optuna.Study, question: Question, trials: int) -> None:
    """Train trials until the study has enough, and wait for those of other workers.

    Args:
        opened: the study.
        question: what it asks.
        trials: how many finished trials it shall have, over all workers.
    """
    waits = False
    while True:
        revive(opened)
        found = opened.get_trials(deepcopy=False)
        running = sum(trial.state == TrialState.RUNNING for trial in found)
        finished = sum(trial.state in FINISHED for trial in found)
        if running + finished < trials:
            waits = False
            _train_one(opened, question, trials)
        elif finished >= trials:
            return
        else:
            if not waits:
                logger.info("tune: waiting for %s of other workers", "a trial" if running == 1 else f"{running} trials")
            waits = True
            time.sleep(WAIT)


def _train_one(opened: optuna.Study, question: Question, trials: int) -> None:
    """Train a trial and keep its result."""
    raised: list[Exception] = []

    def objective(trial: Trial) -> float:
        try:
            return _objective(trial, question, trials)
        except KeyboardInterrupt:
            raise _Interrupted from None
        except Exception as error:
            raised.append(error)
            raise

    try:
        with _experimental():
            opened.optimize(objective, n_trials=1)
    except Surplus:
        return
    except _Interrupted:
        raise KeyboardInterrupt from None
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError) as error:
        # Optuna has no error of its own for the result of a trial that has ended already.
        if isinstance(error, ValueError) and any(error is each for each in raised):
            raise
        logger.warning(
            "tune: a trial was taken for dead: this process gave no sign of life for %s s. Another worker has it",
            GRACE,
        )
        return
    last = max(
        (trial for trial in opened.get_trials(deepcopy=False) if _is_ours(trial)),
        key=lambda each: each.datetime_complete,
    )
    logger.info(
        "tune: %s trial %s: %s, %s (%s)",
        question.params.candidate,
        last.number,
        f"AUROC {last.value:.3f}" if last.state == TrialState.COMPLETE else last.user_attrs.get(REASON, "pruned"),
        ", ".join(f"{name} {value}" for name, value in last.user_attrs[PARAMS].items()),
        duration((last.datetime_complete - last.datetime_start).total_seconds()),
    )


def _is_ours(trial: FrozenTrial) -> bool:
    return trial.state in FINISHED and trial.user_attrs.get(WORKER) == _worker()


def _objective(trial: Trial, question: Question, trials: int) -> float:
    """Train a trial on each fold.

    Returns:
        The AUROC over the studies that were held out, the mean over the folds at the epoch where that is the highest.
        It is one epoch for all folds: the best of each fold would reward chance.
    """
    before = trial.study.get_trials(deepcopy=False)[: trial.number]
    if sum(each.state != TrialState.FAIL for each in before) >= trials:
        raise Surplus
    trial.set_user_attr(WORKER, _worker())
    values = _suggested(trial, question)
    trial.set_user_attr(PARAMS, values)
    params, curves = question.chosen(values), []
    epochs = params.epochs + params.head_epochs
    for number, fold in enumerate(question.folds):
        curve: list[float] = []
        curves.append(curve)

        def measured(epoch: int, area: float, number: int = number, curve: list[float] = curve) -> None:
            curve.append(area)
            # Long trainings have several epochs in one slot: the first of them counts.
            if epoch * SLOTS // epochs > (epoch - 1) * SLOTS // epochs:
                trial.report(float(np.mean([max(each) for each in curves])), number * SLOTS + epoch * SLOTS // epochs)
                if trial.should_prune():
                    trial.set_user_attr(REASON, f"pruned in fold {number + 1}, epoch {epoch}")
                    raise optuna.TrialPruned

        try:
            question.train(fold, params, question.seed, measured)
        except Diverged as error:
            logger.warning("%s", error)
            trial.set_user_attr(REASON, "diverged")
            raise optuna.TrialPruned from error
    mean = np.mean(curves, axis=0)
    best = int(np.argmax(mean))
    trial.set_user_attr(EPOCH, best + 1)
    trial.set_user_attr(AREAS, [curve[best] for curve in curves])
    return float(mean[best])


def _suggested(trial: Trial, question: Question) -> dict[str, Any]:
    """The values of a trial. They depend on its number and on the trials that were finished then."""
    seed = int(json_sha256([question.seed, trial.number])[:8], 16)
    sampler: optuna.samplers.BaseSampler = optuna.samplers.TPESampler(seed=seed)
    if trial.number == 0 and question.current_is_inside:
        sampler = optuna.samplers.PartialFixedSampler(question.current, sampler)
    trial.study.sampler = sampler
    values = {}
    for name, sought in question.space.items():
        value = _drawn(trial, name, sought)
        values[name] = value if sought.choices is not None else _rounded(value, getattr(question.params, name), sought)
    return values


def _drawn(trial: Trial, name: str, sought: Sought) -> Any:
    if sought.choices is not None:
        return trial.suggest_categorical(name, sought.choices)
    draw = trial.suggest_int if is_whole(name) else trial.suggest_float
    return draw(name, sought.low, sought.high, log=sought.log)


def _is_inside(value: Any, sought: Sought) -> bool:
    if sought.choices is not None:
        return value in sought.choices
    assert sought.low is not None
    assert sought.high is not None
    return bool(sought.low <= value <= sought.high)


def _rounded(value: float, current: float, sought: Sought) -> float:
    """A value with few digits, within its range. What params.yaml has stays as it is."""
    if isinstance(value, int) or math.isclose(value, current, rel_tol=1e-12):
        return value
    assert sought.low is not None
    assert sought.high is not None
    return float(min(max(float(f"{value:.{DIGITS}g}"), sought.low), sought.high))


def enqueue_again(opened: optuna.Study, trial: FrozenTrial) -> None:
    """Enqueue a trial whose worker is dead, with the same values, under a new number."""
    logger.warning("tune: the worker of trial %s is gone; the trial begins again", trial.number)
    if trial.params:
        opened.add_trial(
            optuna.create_trial(state=TrialState.WAITING, params=trial.params, distributions=trial.distributions)
        )


def revive(opened: optuna.Study) -> None:
    """Fail the trials of dead workers, and enqueue them again.

    A worker of this machine is dead if its process is gone. One elsewhere is dead without a sign of life for GRACE
    seconds.
    """
    with _experimental():
        optuna.storages.fail_stale_trials(opened)
    for trial in opened.get_trials(deepcopy=True, states=(TrialState.RUNNING,)):
        if not _is_dead(trial):
            continue
        # Another worker may have seen it first: then it enqueues it.
        with suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
            opened.tell(trial.number, state=TrialState.FAIL)
            enqueue_again(opened, trial)


def _is_dead(trial: FrozenTrial) -> bool:
    worker = trial.user_attrs.get(WORKER)
    if worker is None:
        # Killed before it could say who it is. No sign of life follows.
        return trial.datetime_start is not None and time.time() - trial.datetime_start.timestamp() > GRACE
    if worker["machine"] != _machine():
        return False
    # Nothing of our own runs while we look at the others.
    return worker == _worker() or str(worker["began"]) != _began(worker["pid"])


def _worker() -> dict[str, Any]:
    """This process, as no other is called."""
    return {"machine": _machine(), "pid": os.getpid(), "began": _began(os.getpid())}


def _machine() -> str:
    """Where a number of a process means one thing: containers of one machine have numbers of their own."""
    names = [platform.node()]
    with suppress(OSError):
        names += [
            str(Path("/proc/self/ns/pid").readlink()),
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        ]
    return " ".join(names)


def _began(pid: int) -> str:
    """When a process began, in the kernel's ticks. Empty if there is none."""
    try:
        os.kill(pid, 0)
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except ProcessLookupError:
        return ""
    except OSError:
        # It is there, and is not ours or there is no /proc.
        return "unknown"
    # Its name may have blanks and brackets. A zombie (Z) has ended.
    state, *rest = text.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]


def _check_same(found: dict[str, Any], ours: dict[str, Any], name: str, place: str) -> None:
    """Check that a study asks what we ask.

    Raises:
        UsageError: it does not.
    """
    differing = [key for key in ours if found.get(key) != ours[key]]
    if differing:
        raise UsageError(
            f"tune: the study {name} in {place} was begun with other {' and '.join(differing)}, so its trials cannot "
            "be compared with new ones. Begin another one with --study NAME."
        )


@contextmanager
def _one_at_a_time(url: str) -> Iterator[None]:
    """Let one process make the tables of a SQLite file; others wait."""
    path = sqlite_file(url)
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise OutsideFailed(f"tune: {path}: cannot be written ({error.strerror}).") from error


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database. None for a server."""
    head, _, path = url.partition(":///")
    return Path(path.partition("?")[0]) if head.startswith("sqlite") and path else None


@contextmanager
def _experimental() -> Iterator[None]:
    """Optuna calls heartbeats and fixed values experimental, and warns of them each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
