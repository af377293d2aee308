"""`mura tune`: from params.yaml and shards to better parameters."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from optuna.trial import TrialState
from pydantic import ValidationError

from components.artifacts.shards import Shards
from components.base import code, documents
from components.base.errors import UsageError
from components.base.files import write_text
from components.base.words import count
from components.network import architectures, backend
from components.params.document import Params, read_params
from components.params.train import TrainSection
from components.params.tune import Sought
from components.tune import params_patch, searching, trial_table
from components.tune.fold_training import check_alone, train_fold
from components.tune.folds import folds
from components.tune.searching import PARAMS, Question

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a study is, and how large it shall be."""

    url: str
    study: str
    trials: int


class Changed(NamedTuple):
    """A params.yaml with better values."""

    path: Path
    before: str
    after: str

    @property
    def patch(self) -> str:
        """The difference, for `git apply`."""
        return params_patch.patch(self.before, self.after, self.path)

    def write(self) -> None:
        """Write the file.

        Raises:
            UsageError: somebody changed it meanwhile.
        """
        if _text(self.path) != self.before:
            raise UsageError(
                f"{self.path}: was changed during the search. The same command without --write shows the patch."
            )
        write_text(self.path, self.after)


def search(shards: Shards, file: Path, candidate: str, place: Place) -> Changed | None:
    """Search, and tell what was found.

    Args:
        shards: the images.
        file: params.yaml.
        candidate: whose parameters.
        place: the study.

    Returns:
        A better params.yaml; None if no trial is better than the values of now.

    Raises:
        UsageError: a parameter has no effect on the candidate, or the study is another one's.
        DataRefused: the shards are damaged, or there are too few patients for the folds.
    """
    check_alone()
    text, params = _text(file), read_params(file)
    if candidate not in params.train.candidates:
        raise UsageError(f"{file}: no candidate {candidate}; there are {', '.join(params.train.candidates)}.")
    question = ask(shards, params, documents.yaml_of(text)["train"], candidate)
    architectures.check_pretrained(question.params)
    backend.prepare()
    logger.info(
        "tune: %s, %s on %s of %s, searching %s",
        candidate,
        count(place.trials, "trial"),
        count(len(question.folds), "fold"),
        count(shards.facts.splits["train"].patients, "patient"),
        ", ".join(question.space),
    )
    with searching.study(question, place.url, place.study) as study:
        searching.work(study, question, place.trials)
        trial_table.show(study, question)
        complete = study.get_trials(states=(TrialState.COMPLETE,))
        if not complete:
            raise UsageError("tune: every trial diverged. Lower the range of learning_rate in the section tune.")
        best = study.best_trial
        values: dict[str, Any] = best.user_attrs[PARAMS]
        for each in complete:
            if each.user_attrs[PARAMS] == question.current and each.number != best.number:
                logger.info("tune: trial %s: %s", best.number, trial_table.gain(best, each))
    changes = {name: value for name, value in values.items() if value != question.current[name]}
    if not changes:
        logger.info("tune: no trial is better than the values of %s", file)
        return None
    return Changed(file, text, params_patch.patched(text, candidate, changes, str(file)))


def ask(shards: Shards, params: Params, section: Mapping[str, Any], candidate: str) -> Question:
    """What a study asks.

    Args:
        shards: the images.
        params: params.yaml.
        section: its section `train`, as it is written.
        candidate: whose parameters.

    Raises:
        UsageError: a parameter has no effect on the candidate.
        DataRefused: there are too few patients for the folds.
    """
    base, space = params.train.candidates[candidate], _space(params, section, candidate)
    fixed = base.model_dump(mode="json", exclude={*space, "patience"})
    facts = {
        "shards": shards.digest,
        "parameters": fixed,
        "search space": {name: sought.model_dump(mode="json") for name, sought in space.items()},
        "folds": params.tune.folds,
        "seed": params.seed,
        "precision": backend.precision(base.precision),
        "code": code.digest("components.train"),
    }
    return Question(base, space, folds(shards, params.tune.folds, params.seed), params.seed, facts, train_fold)


def _space(params: Params, section: Mapping[str, Any], candidate: str) -> dict[str, Sought]:
    """The choices that are searched for a candidate. Those of the default without effect on it are left out.

    Raises:
        UsageError: one of the candidate's own has no effect, or none is left.
    """
    own = params.tune.candidates.get(candidate, {})
    space = dict(own)
    for name, sought in params.tune.default.items():
        if name not in own:
            if problem := _without_effect(section, candidate, name, sought):
                logger.info("tune: %s is not searched: %s", name, problem)
            else:
                space[name] = sought
    for name, sought in own.items():
        if problem := _without_effect(section, candidate, name, sought):
            raise UsageError(f"tune.candidates.{candidate}.{name}: {problem}.")
    if not space:
        raise UsageError(f"tune: nothing is searched for {candidate}. Name ranges in the section tune.")
    return space


def _without_effect(section: Mapping[str, Any], candidate: str, name: str, sought: Sought) -> str | None:
    """Why params.yaml could not have each of these values. None if it could."""
    entry = section["candidates"][candidate] or {}
    for value in sought.ends:
        try:
            TrainSection.model_validate({**section, "candidates": {candidate: {**entry, name: value}}})
        except ValidationError as error:
            return error.errors()[0]["msg"].removeprefix("Value error, ").partition(": ")[2]
    return None


def _text(path: Path) -> str:
    """A file as it is, with its line ends.

    Raises:
        UsageError: it is not there, or is no text.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; run in the project's directory, or name one with --params.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}).") from error
