"""Folds of the training split: no patient in two, every body part and label in each, nothing of the other splits."""

from pathlib import Path

import pytest
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components.artifacts.manifest import TRAIN, TUNING
from components.artifacts.shards import Shards
from components.base.errors import DataRefused
from components.tune.folds import folds


def made(place: Path, patients: int) -> Shards:
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        path = write_zip(place / "a.zip", archive(images(train=patients, valid=2)))
        return pack(path, prove(manifest(path, place / "manifest"), place / "valid"), place / "shards")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return made(tmp_path_factory.mktemp("packed"), 84)


def test_each_training_patient_is_held_out_once_and_no_other_patient_is_read(shards: Shards) -> None:
    table = shards.records()
    whole = table[table["split"] == TRAIN]
    seen: list[str] = []
    for fold in folds(shards, 3, seed=1):
        divided = fold.records()
        held_out, train = (set(divided.loc[divided["split"] == name, "patient"]) for name in (TUNING, TRAIN))
        assert not held_out & train
        assert set(divided["image"]) == set(whole["image"])
        seen += held_out
    assert sorted(seen) == sorted(set(whole["patient"]))


def test_each_fold_has_every_body_part_with_both_labels_and_counts_its_own_images(shards: Shards) -> None:
    for fold in folds(shards, 2, seed=1):
        divided = fold.records()
        for _, rows in divided.groupby("split"):
            assert rows["body_part"].nunique() == 7
            assert rows["abnormal"].nunique() == 2
        train = divided[divided["split"] == TRAIN]
        assert sum(part.abnormal for part in fold.facts.train_images.values()) == train["abnormal"].sum()
        assert sum(part.normal for part in fold.facts.train_images.values()) == (1 - train["abnormal"]).sum()


def test_the_seed_decides_the_folds(shards: Shards) -> None:
    one, same, other = (folds(shards, 2, seed)[0] for seed in (1, 1, 2))
    assert one.records().equals(same.records())
    assert one.digest == same.digest
    assert not one.records().equals(other.records())
    assert one.digest != other.digest


def test_a_body_part_with_one_patient_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=r"all training patients with \w+ are in fold \d"):
        folds(made(tmp_path, 11), 2, seed=1)
