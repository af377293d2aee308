"""A study that workers share: none of its trials is lost or doubled, whoever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from components.base.errors import Diverged, UsageError
from components.params.document import read_params
from components.params.train import TrainParams
from components.params.tune import Sought
from components.tune import searching
from components.tune.folds import Fold
from components.tune.searching import FINISHED, Measured, Question

PARAMS = read_params(Path(__file__).parents[2] / "params.yaml").train.candidates["custom_cnn"].model_dump()
RATE = Sought(low=1e-4, high=1e-2, log=True)
FOLD: Any = None  # the trainings here look at parameters only


def simple(fold: Fold, params: TrainParams, seed: int, measured: Measured) -> None:
    """A training whose AUROC is the higher, the lower the learning rate is."""
    for epoch in range(1, params.epochs + 1):
        measured(epoch, 0.9 - params.learning_rate * 10 - 0.01 / epoch)


def killed(fold: Fold, params: TrainParams, seed: int, measured: Measured) -> None:
    """The same; the process that has the file `armed` for its own is killed in the middle."""
    measured(1, 0.5)
    try:
        Path("armed").unlink()
    except FileNotFoundError:
        time.sleep(0.05)
    else:
        os.kill(os.getpid(), signal.SIGKILL)
    simple(fold, params, seed, lambda epoch, area: measured(epoch, area) if epoch > 1 else None)


def question(train: Callable[..., None] = simple, **choices: Any) -> Question:
    params = TrainParams.model_validate(PARAMS | {"epochs": 4} | choices)
    return Question(params, {"learning_rate": RATE}, [FOLD, FOLD], 1, {"seed": 1}, train)


def search(asked: Question, trials: int) -> list[FrozenTrial]:
    """Work in this process on the study of this directory; what is in it then."""
    with searching.study(asked, "sqlite:///study.db", "small") as study:
        searching.work(study, asked, trials)
        return study.get_trials()


def worker(train: str, trials: int) -> "subprocess.Popen[bytes]":
    """A process that works on it."""
    script = f"import test_searching as t; t.search(t.question(t.{train}), {trials})"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen([sys.executable, "-W", "error", "-c", script], env={**os.environ, "PYTHONPATH": path})


def finished(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state in FINISHED]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.long
def test_two_workers_share_a_study_and_one_of_them_is_killed() -> None:
    Path("armed").touch()
    ended = [process.wait(120) for process in [worker("killed", 12), worker("killed", 12)]]
    assert sorted(ended) == [-signal.SIGKILL, 0]
    trials = search(question(), 12)
    done = finished(trials)
    assert len(done) == 12
    # The killed one is failed; another number has its values.
    (failed,) = (trial for trial in trials if trial.state == TrialState.FAIL and trial.params)
    assert sum(trial.params == failed.params for trial in done) == 1
    assert len({trial.params["learning_rate"] for trial in done}) == 12
    pids = Counter(trial.user_attrs["worker"]["pid"] for trial in trials if "worker" in trial.user_attrs)
    assert len(pids) == 2


@pytest.mark.long
def test_a_killed_search_goes_on_where_it_was() -> None:
    whole = [(trial.number, trial.params, trial.value) for trial in search(question(), 6)]
    Path("study.db").unlink()
    search(question(), 3)
    assert worker("killed", 6).wait(120) == 0
    assert [(trial.number, trial.params, trial.value) for trial in search(question(), 6)] == whole


def test_an_interrupted_trial_begins_again_with_its_values() -> None:
    def interrupted(fold: Fold, params: TrainParams, seed: int, measured: Measured) -> None:
        measured(1, 0.5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(question(interrupted), 2)
    failed, again, _ = search(question(), 2)
    assert failed.state == TrialState.FAIL
    assert again.params == failed.params


def test_nothing_is_trained_if_the_study_has_its_trials() -> None:
    before = search(question(), 3)
    assert [trial.number for trial in search(question(), 3)] == [trial.number for trial in before]


def test_the_first_trial_has_the_values_of_now() -> None:
    first, second = search(question(learning_rate=0.00123), 2)
    assert first.user_attrs["params"] == {"learning_rate": 0.00123}
    assert second.user_attrs["params"] != first.user_attrs["params"]


def test_values_outside_of_the_range_are_not_tried() -> None:
    (first,) = search(question(learning_rate=0.5), 1)
    assert 1e-4 <= first.user_attrs["params"]["learning_rate"] <= 1e-2


@pytest.mark.long
def test_a_pruned_trial_is_finished_and_not_the_best() -> None:
    asked = question()
    with searching.study(asked, "sqlite:///study.db", "small") as study:
        searching.work(study, asked, 25)
        pruned = study.get_trials(states=(TrialState.PRUNED,))
        assert pruned
        assert len(finished(study.get_trials())) == 25
        assert study.best_trial.state == TrialState.COMPLETE
        # It was given up because it was worse, after fewer epochs than a whole trial has.
        assert all(trial.user_attrs["reason"].startswith("pruned in fold ") for trial in pruned)
        best = study.best_trial.user_attrs["params"]["learning_rate"]
        assert all(trial.params["learning_rate"] > best for trial in pruned)


def test_a_trial_that_diverges_is_finished_and_not_the_best() -> None:
    def diverging(fold: Fold, params: TrainParams, seed: int, measured: Measured) -> None:
        if params.learning_rate != 1e-3:
            measured(1, 0.99)
            raise Diverged("train: small diverged")
        simple(fold, params, seed, measured)

    first, *others = search(question(diverging), 3)
    assert first.state == TrialState.COMPLETE
    assert [trial.state for trial in others] == [TrialState.PRUNED] * 2
    assert [trial.user_attrs["reason"] for trial in others] == ["diverged"] * 2


def test_one_epoch_counts_for_all_folds() -> None:
    curves = iter([[0.9, 0.5, 0.6, 0.5], [0.1, 0.7, 0.8, 0.9]])

    def noisy(fold: Fold, params: TrainParams, seed: int, measured: Measured) -> None:
        for epoch, area in enumerate(next(curves), 1):
            measured(epoch, area)

    (trial,) = search(question(noisy), 1)
    assert trial.value == pytest.approx(0.7)
    assert (trial.user_attrs["epoch"], trial.user_attrs["folds"]) == (3, [0.6, 0.8])


def test_a_study_of_another_question_is_refused() -> None:
    search(question(), 1)
    other = question()._replace(facts={"seed": 2})
    with pytest.raises(UsageError, match=r"begun with other seed.*--study NAME"):
        search(other, 2)


@pytest.mark.parametrize("url", ["nothing", "oracle+none://host/x"])
def test_an_address_of_no_database_is_refused_in_one_line(url: str) -> None:
    with (
        pytest.raises(UsageError, match="no database that is known here"),
        searching.study(question(), url, "small"),
    ):
        pass


@pytest.mark.long
def test_a_trial_taken_by_another_worker_is_not_counted_twice() -> None:
    def robbed(fold: Fold, params: TrainParams, seed: int, measured: Measured) -> None:
        """Another worker takes this process for dead, once."""
        if not Path("robbed").exists():
            Path("robbed").touch()
            own = optuna.load_study(study_name="small", storage="sqlite:///study.db")
            (running,) = own.get_trials(states=(TrialState.RUNNING,))
            own.tell(running.number, state=TrialState.FAIL)
            searching.enqueue_again(own, running)
            own._storage.remove_session()  # type: ignore[no-untyped-call,unused-ignore]
            own._storage._backend.engine.dispose()  # type: ignore[attr-defined,unused-ignore]
        simple(fold, params, seed, measured)

    trials = search(question(robbed), 3)
    assert [trial.state for trial in trials] == [TrialState.FAIL, *[TrialState.COMPLETE] * 3]
    assert trials[1].params == trials[0].params
