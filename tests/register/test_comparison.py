"""The differences between candidates, and to versions that hold an alias."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from compared import entry, predicted

from components.artifacts.registration import Comparison
from components.register.comparison import by_part, of_first, with_first, with_holder
from components.scores import paired
from components.tracking import stored_studies
from components.tracking.model_registry import Holder
from components.tracking.stored_studies import Stored
from components.tracking.version_comparison import METRICS


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """Two candidates, best first."""
    place = tmp_path_factory.mktemp("entries")
    return [entry(place, 2, predicted(1, 2.4), "good"), entry(place, 1, predicted(2, 1.2), "poor")]


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """An earlier version."""
    return entry(tmp_path_factory.mktemp("held"), 7, predicted(3), "old")


def holder(of, table=None, missing="", aliases=("champion",), **changes):
    """A version with an alias, as the registry gives it."""
    found = stored_studies.nameless(of.found.table) if table is None and not missing else table
    return Holder("mura", of.version.version, aliases, of.version.model_copy(update=changes), Stored(found, missing))


def expected(one, other, split):
    found = paired.difference(one.studies(split), other.studies(split), (one.threshold, other.threshold))
    return {name: found[name] for name in METRICS}


def test_the_others_are_compared_with_the_first_on_both_splits(entries):
    first, other = entries
    contrast = with_first(entries)
    assert (contrast.reference, contrast.version, contrast.missing) == ("good (VGG-16) v2", 2, ())
    (row,) = contrast.rows
    assert row.label == "poor (VGG-16) v1"
    for split in ("tuning", "test"):
        assert dict(row.of(split)) == expected(other, first, split)
    assert row.tuning.auroc.value < 0


def test_one_candidate_is_compared_with_nothing(entries):
    assert with_first(entries[:1]) is None


def test_candidates_are_compared_with_the_champion_by_tables_without_names(entries, held):
    contrast = with_holder(entries, holder(held))
    assert (contrast.reference, contrast.aliases, contrast.missing) == ("old (VGG-16) v7", ("champion",), ())
    for mine, row in zip(entries, contrast.rows, strict=True):
        for split in ("tuning", "test"):
            for name, interval in expected(mine, held, split).items():
                found = getattr(row.of(split), name)
                # The patients come in another order.
                ends = (interval.low, interval.value, interval.high)
                assert (found.low, found.value, found.high) == pytest.approx(ends, abs=1e-12)


def of_other_labels(table):
    return table.assign(abnormal=1 - table["abnormal"])


def of_other_patients(table):
    return table.assign(patient=table["patient"] // 2)


def of_better_answers(table):
    return table.assign(probability=0.9 * table["abnormal"] + 0.05)


def of_fewer_studies(table):
    return table.iloc[1:]


def of_no_probability(table):
    return table.assign(probability=np.where(table.index == 0, 2.0, table["probability"]))


@pytest.mark.parametrize(
    "change", [of_other_labels, of_other_patients, of_better_answers, of_fewer_studies, of_no_probability]
)
def test_a_table_that_does_not_give_the_scores_is_not_compared(change, entries, held):
    contrast = with_holder(entries, holder(held, change(stored_studies.nameless(held.found.table))))
    assert contrast.missing[0] == (
        "old (VGG-16) v7, which holds the alias champion: its table of studies is not that of its scores on tuning: "
        "somebody changed it."
    )
    assert {row.tuning for row in contrast.rows} == {None}


def test_other_studies_are_said_and_the_same_ones_compared(entries, held):
    scores = held.version.scores.model_copy(update={"test_digest": "0" * 64})
    contrast = with_holder(entries, holder(held, scores=scores))
    assert contrast.missing == (
        "old (VGG-16) v7, which holds the alias champion: it was measured on other test studies (000000000000, not "
        "7e7e7e7e7e7e).",
    )
    assert all(row.test is None and row.tuning is not None for row in contrast.rows)


def test_a_missing_table_is_said_once(entries, held):
    missing = holder(held, missing="is lost from its run 1", aliases=("best", "champion"))
    contrast = with_holder(entries, missing)
    assert contrast.missing == (
        "old (VGG-16) v7, which holds the aliases best and champion: its table of studies is lost from its run 1.",
    )
    stranger = missing._replace(facts=None, studies=Stored(None, "is not known"))
    assert with_holder(entries, stranger).missing == (
        "mura v7, which holds the aliases best and champion: its table of studies is not known.",
    )


def test_the_receipt_has_the_first_less_every_holder_of_an_alias_but_itself(entries, held):
    first, other = entries
    contrast = with_holder(entries, holder(held))
    aliases = {1: ("second",), 2: ("first",), 7: ("champion",)}
    second, champion = of_first(entries, [contrast], aliases)
    assert (second.version, second.other, second.aliases) == (2, 1, ("second",))
    assert dict(second.tuning) == expected(first, other, "tuning")
    assert champion == Comparison(
        version=2, other=7, aliases=("champion",), tuning=contrast.rows[0].tuning, test=contrast.rows[0].test
    )
    assert of_first(entries[:1], [], {2: ("first",)}) == ()


def test_body_parts_come_in_the_order_of_reports_and_one_alone_is_none(entries, tmp_path):
    found = by_part(entries, "test")
    assert list(found) == ["hand", "wrist"]
    assert [scores.n_studies for scores in found["hand"]] == [60, 60]
    alone = entry(tmp_path, 1, predicted(1, parts=("wrist",)))
    assert by_part([alone], "test") == {}


def test_labels_of_the_overlay_change_no_difference(entries, tmp_path):
    relabelled = predicted(2, 1.2)
    relabelled["overlay"] = pd.array(1 - relabelled["abnormal"], "Int64")
    other = entry(tmp_path, 1, relabelled, "poor")
    assert with_first([entries[0], other]).rows == with_first(entries).rows
    assert dataclasses.is_dataclass(other.studies("test"))
