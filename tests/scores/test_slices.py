"""Studies are measured apart: which groups there are, and what is said where nothing is known."""

from functools import partial
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from conftest import NO_OFFSETS, scored
from protocols import PROTOCOL
from scored_studies import drawn, studies_of

from components.artifacts.manifest import KEPT
from components.params.protocol import ProtocolParams, Slice
from components.scores import metrics, slices
from components.scores.both_splits import BothSplits

NAMES = get_args(Slice)
SCORE = partial(metrics.score, threshold=0.5)


@pytest.fixture
def studies():
    return studies_of(*drawn(0, 120))


def table(studies, **columns):
    """A table of studies with columns that are repeated until it is full."""
    known = {
        "body_part": ["wrist", "elbow"],
        "views": [1, 2, 3, 4, 5, 11],
        "mode": ["RGB", "L", "mixed", "I;16"],
        "overlay": [pd.NA, 1, 0],
        "view_position": ["AP and LATERAL", "PA", "unknown"],
        "manufacturer": ["AGFA", "other"],
        "sex": ["unknown", "male", "female"],
        "age": ["70-79", "0-9", "90 or more", "40-49"],
    } | columns
    rows = {name: [values[i % len(values)] for i in range(len(studies))] for name, values in known.items()}
    return pd.DataFrame({"study": studies.study, "abnormal": studies.abnormal} | rows)


def test_every_slice_of_the_protocol_has_its_grouping():
    assert tuple(slices.SLICES) == NAMES
    assert ("mode", *KEPT) == slices.CARRIED


def test_groups_come_in_their_order_and_hold_each_study_once(studies):
    found = slices.measure(NAMES, table(studies), studies, SCORE)
    assert {name: list(groups) for name, groups in found.items()} == {
        "body_part": ["elbow", "wrist"],
        "views": ["1", "2", "3", "4 or more"],
        "mode": ["L", "RGB", "I;16", "mixed"],
        "second_opinion": ["changed", "confirmed", "none"],
        "view_position": ["AP and LATERAL", "PA", "unknown"],
        "manufacturer": ["AGFA", "other"],
        "sex": ["female", "male", "unknown"],
        "age": ["0-9", "40-49", "70-79", "90 or more"],
    }
    for groups in found.values():
        assert sum(each.n_studies for each in groups.values()) == len(studies)


@pytest.mark.parametrize("name", NAMES)
def test_a_group_is_scored_as_its_studies_alone(studies, name):
    rows = table(studies)
    chosen = {
        "body_part": rows["body_part"] == "elbow", "views": rows["views"] >= 4, "mode": rows["mode"] == "I;16",
        "second_opinion": rows["overlay"].notna() & (rows["overlay"] != rows["abnormal"]),
        "view_position": rows["view_position"] == "PA", "manufacturer": rows["manufacturer"] == "AGFA",
        "sex": rows["sex"] == "male", "age": rows["age"] == "0-9",
    }[name].to_numpy(bool)  # fmt: skip
    group = {
        "body_part": "elbow", "views": "4 or more", "mode": "I;16", "second_opinion": "changed", "view_position": "PA",
        "manufacturer": "AGFA", "sex": "male", "age": "0-9",
    }[name]  # fmt: skip
    assert slices.measure([name], rows, studies, SCORE)[name][group] == SCORE(studies.where(chosen))


def test_a_second_opinion_is_held_against_the_official_label():
    studies = studies_of([0, 0, 0, 1, 1, 1], [0.1] * 6)
    found = slices.measure(["second_opinion"], table(studies, overlay=[pd.NA, 0, 1]), studies, SCORE)["second_opinion"]
    assert {group: (each.n_studies, each.n_abnormal) for group, each in found.items()} == {
        "changed": (2, 1), "confirmed": (2, 1), "none": (2, 1),
    }  # fmt: skip


def test_one_group_is_one_group(studies):
    found = slices.measure(["mode"], table(studies, mode=["L"]), studies, SCORE)
    assert found == {"mode": {"L": SCORE(studies)}}


def test_few_patients_of_a_group_are_too_few(studies):
    rows = table(studies, views=[1] * 19 + [4])
    few = slices.measure(["views"], rows, studies, SCORE)["views"]["4 or more"]
    assert few.auroc.value is not None
    assert few.auroc.too_few
    assert few.cohen_kappa.too_few


@pytest.mark.parametrize("name", NAMES)
def test_without_its_column_a_slice_has_no_group(studies, name):
    rows = table(studies).drop(columns=slices.SLICES[name].column)
    assert slices.measure([name], rows, studies, SCORE) == {name: {}}


def test_a_study_whose_images_differ_is_mixed_and_one_without_a_value_is_unknown():
    images = pd.DataFrame(
        {
            "study": ["b", "a", "b", "c", "d", "d", "e"],
            "mode": ["L", "RGB", "RGB", "L", "L", "L", None],
        }
    )
    found = slices.of_studies(images, ["a", "b", "c", "d", "e"])
    assert {name: values.tolist() for name, values in found.items()} == {"mode": ["RGB", "mixed", "L", "L", "unknown"]}
    assert slices.of_studies(images[["study"]], ["a"]) == {}
    turned = slices.of_studies(images[::-1], ["e", "d"])["mode"]
    assert turned.tolist() == ["unknown", "L"]


def test_a_study_with_several_view_positions_is_in_the_group_of_them_all():
    images = pd.DataFrame(
        {
            "study": ["a", "a", "b", "b", "c", "d", "d", "d", "d", "e"],
            "view_position": ["LATERAL", "AP", "AP", None, None, "AP", "PA", "LL", "RL", "PA"],
            "sex": ["male", "male", "male", "female", None, "male", "male", "male", "male", "female"],
        }
    )
    found = {name: values.tolist() for name, values in slices.of_studies(images, list("abcde")).items()}
    assert found == {
        "view_position": ["AP and LATERAL", "AP", "unknown", "mixed", "PA"],
        "sex": ["male", "mixed", "unknown", "male", "female"],
    }


def measured(predictions, names=NAMES):
    return BothSplits.measure(predictions, NO_OFFSETS, ProtocolParams(**PROTOCOL | {"slices": names}), 1)


def test_both_splits_are_sliced_by_what_their_predictions_know():
    predictions, _ = scored(0.8)
    found = measured(predictions)
    for split in ("tuning", "test"):
        groups = found.slices.of(split)
        assert list(groups) == list(NAMES)
        assert list(groups["mode"]) == ["L", "RGB"]
        assert list(groups["second_opinion"]) == ["none"]
        rows = found.table[(found.table["split"] == split) & (found.table["mode"] == "RGB")]
        assert groups["mode"]["RGB"].n_studies == len(rows) == 150
    without = measured(predictions.drop(columns="mode"))
    assert without.slices.tuning["mode"] == {}
    assert "mode" not in without.table
    assert without.tuning == found.tuning
    assert measured(predictions, []).slices.test == {}


def test_the_order_of_predictions_does_not_matter():
    predictions, _ = scored(0.7)
    shuffled = predictions.sample(frac=1, random_state=np.random.default_rng(3))
    assert measured(shuffled).slices == measured(predictions).slices
    assert measured(shuffled).floor == measured(predictions).floor
