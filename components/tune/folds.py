"""Folds of the training split. All images of a patient are in the same fold."""

import hashlib
from typing import TYPE_CHECKING

from components.artifacts.manifest import TRAIN, TUNING
from components.artifacts.shards import PartFacts, Shards
from components.base.errors import DataRefused
from components.base.files import json_sha256

if TYPE_CHECKING:
    import pandas


class Fold(Shards):
    """Shards in which one fold of the training split stands for the tuning split, and the other folds are `train`.

    The files are those of the shards. The real tuning and test splits are not in it.
    """

    def __init__(self, shards: Shards, table: "pandas.DataFrame", name: str) -> None:
        """Divide the training split.

        Args:
            shards: where the images are.
            table: their records, of train and of the fold that stands for tuning.
            name: tells the fold from others of the same shards.
        """
        facts = shards.facts.model_copy(update={"train_images": _counts(table[table["split"] == TRAIN])})
        super().__init__(shards.path, facts, json_sha256([shards.digest, name]))
        self._table = table

    def records(self) -> "pandas.DataFrame":
        """The table of records of both parts."""
        return self._table


def folds(shards: Shards, count: int, seed: int) -> list[Fold]:
    """Divide the training split by patient, so that each fold has its share of every body part and label.

    Args:
        shards: where the images are.
        count: how many folds.
        seed: of the order of the patients.

    Raises:
        DataRefused: there are too few patients: a fold has one label only, or all patients of a body part are in one.
    """
    table = shards.records()
    table = table[table["split"] == TRAIN].reset_index(drop=True)
    number = table["patient"].map(_assigned(table, count, seed))
    made = []
    for fold in range(count):
        held_out = number == fold
        _check(table[~held_out], table[held_out], shards, fold)
        divided = table.assign(split=held_out.map({True: TUNING, False: TRAIN}))
        made.append(Fold(shards, divided, f"fold {fold + 1} of {count}, seed {seed}"))
    return made


def _assigned(table: "pandas.DataFrame", count: int, seed: int) -> dict[str, int]:
    """The fold of each patient. Patients of the same body parts and labels are dealt out in turn."""
    kinds: dict[str, set[str]] = {}
    for patient, *kind in table[["patient", "body_part", "abnormal"]].itertuples(index=False, name=None):
        kinds.setdefault(patient, set()).add(" ".join(map(str, kind)))

    def place(patient: str) -> tuple[list[str], str]:
        return sorted(kinds[patient]), hashlib.sha256(f"{seed}/{patient}".encode()).hexdigest()

    return {patient: turn % count for turn, patient in enumerate(sorted(kinds, key=place))}


def _check(train: "pandas.DataFrame", held_out: "pandas.DataFrame", shards: Shards, fold: int) -> None:
    """Refuse a fold that cannot be measured.

    Raises:
        DataRefused: it cannot.
    """
    if held_out["abnormal"].nunique() < 2 or train["abnormal"].nunique() < 2:
        raise DataRefused(
            f"{shards.path}: fold {fold + 1} has images of one label only. Choose fewer tune.folds, or a larger "
            "archive."
        )
    if lacking := sorted(set(held_out["body_part"]) - set(train["body_part"])):
        raise DataRefused(
            f"{shards.path}: all training patients with {lacking[0]} are in fold {fold + 1}. Their AUROC could "
            "not be measured. Leave that body part out (ingest.body_parts), or use a larger archive."
        )


def _counts(train: "pandas.DataFrame") -> dict[str, PartFacts]:
    """Training images of each body part, by label."""
    return {
        str(part): PartFacts(normal=int((rows == 0).sum()), abnormal=int((rows == 1).sum()))
        for part, rows in train.groupby("body_part")["abnormal"]
    }
