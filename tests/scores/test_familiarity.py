"""Which views are unlike those of the training: distances in features, a threshold with a stated share of alarms."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from components.artifacts.evaluation import Comparison, Familiarity, Numbers
from components.scores import familiarity
from components.scores.familiarity import Measure

SEEN = ((10, 6), (5, 4))
WIDTH = sum(rows * channels for rows, channels in SEEN)


def features(count: int, seed: int, shift: float = 0.0, spread: float = 1.0) -> np.ndarray:
    """Features of pictures of one kind: a few causes, seen in all of them."""
    rng = np.random.default_rng(seed)
    causes = np.random.default_rng(0).normal(size=(5, WIDTH))
    return (shift + spread * rng.normal(size=(count, 5)) @ causes + 0.1 * rng.normal(size=(count, WIDTH))).astype("f4")


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    known, strange = features(300, 1), features(300, 2, spread=6.0)
    learned = familiarity.depths(known, strange, SEEN, seed=1)
    assert [each.rows for each in learned] == [10, 5]
    return familiarity.fit(learned, *(familiarity.reduced(learned, each) for each in (known, strange)), seed=1)


def test_new_views_of_the_training_kind_are_near_and_others_far(comparison: Comparison) -> None:
    measure = Measure(comparison)
    near, far, never_seen = (
        measure(each) for each in (features(200, 3), features(200, 4, spread=6.0), features(200, 5, shift=40.0))
    )
    assert near.dtype == np.float32
    assert np.median(near) < 0.3
    assert np.median(far) > 0.7
    assert np.quantile(near, 0.95) < np.quantile(far, 0.2)
    # Nothing like these was there when it learned: far from everything is far.
    assert np.quantile(near, 0.95) < never_seen.min()


def test_a_view_keeps_its_distance_in_any_company_and_from_a_file(comparison: Comparison) -> None:
    views = features(20, 6)
    whole = Measure(comparison)(views)
    alone = np.concatenate([Measure(comparison)(views[row : row + 1]) for row in range(len(views))])
    np.testing.assert_allclose(alone, whole, atol=1e-5)
    kept = Familiarity(threshold=0.5, pictures=300, comparison=comparison)
    again = Familiarity.model_validate_json(kept.model_dump_json())
    assert again == kept
    assert np.array_equal(Measure(again.comparison)(views), whole)
    assert familiarity.is_unlike(np.array([0.4, 0.5, 0.6], np.float32), again).tolist() == [False, False, True]


def test_the_same_pictures_and_seed_give_the_same(comparison: Comparison) -> None:
    known, strange = features(300, 1), features(300, 2, spread=6.0)
    learned = familiarity.depths(known, strange, SEEN, seed=1)
    again = familiarity.fit(learned, *(familiarity.reduced(learned, each) for each in (known, strange)), seed=1)
    assert again == comparison


def test_what_is_no_number_is_unlike(comparison: Comparison) -> None:
    views = features(3, 7)
    views[1, 0] = np.nan
    distances = Measure(comparison)(views)
    assert np.isinf(distances).tolist() == [False, True, False]
    kept = Familiarity(threshold=9.0, pictures=300, comparison=comparison)
    assert familiarity.is_unlike(distances, kept).tolist() == [False, True, False]


def test_a_depth_that_sees_no_difference_does_no_harm() -> None:
    known, strange = features(60, 1), features(60, 2, spread=6.0)
    for each in (known, strange):
        each[:, 60:] = 1.0
    learned = familiarity.depths(known, strange, SEEN, seed=1)
    found = familiarity.fit(learned, *(familiarity.reduced(learned, each) for each in (known, strange)), seed=1)
    assert np.isfinite(Measure(found)(features(10, 3))).all()


def test_numbers_say_their_shape_and_have_it(comparison: Comparison) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    packed = familiarity.pack(array)
    assert np.array_equal(familiarity.unpack(packed), array)
    with pytest.raises(ValidationError, match="expected numbers of shape"):
        Numbers(shape=(2, 4), base64=packed.base64)
    document = comparison.model_dump()
    for name in ("basis", "references", "weights", "centre"):
        with pytest.raises(ValidationError, match="expected numbers of shape"):
            Comparison.model_validate(document | {name: familiarity.pack(np.zeros((3, 3))).model_dump()})


def predictions(tuning: int, test: int, seed: int = 1, views: int = 2) -> pd.DataFrame:
    """A table of studies, one patient each, with distances that are drawn alike."""
    rng = np.random.default_rng(seed)
    studies = [("tuning", number) for number in range(tuning)] + [("test", number) for number in range(test)]
    rows = [(f"{split}{number}", f"p-{split}{number}", split) for split, number in studies for _ in range(views)]
    table = pd.DataFrame(rows, columns=["study", "patient", "split"])
    return table.assign(distance=rng.random(len(table)).astype("f4"))


@pytest.mark.parametrize(("share", "fewest"), [(0.01, 99), (0.02, 49), (0.1, 9), (0.05, 19)])
def test_a_share_needs_enough_tuning_studies(share: float, fewest: int) -> None:
    assert familiarity.fewest_studies(share) == fewest
    assert familiarity.false_alarms(predictions(fewest - 1, 50), share, 10) is None
    found = familiarity.false_alarms(predictions(fewest, 50), share, 10)
    assert found is not None
    # The largest of all: no tuning study is beyond it.
    assert found.tuning.value == 0


def test_the_stated_share_of_studies_holds_on_the_average() -> None:
    shares = []
    for seed in range(60):
        found = familiarity.false_alarms(predictions(149, 200, seed), 0.02, 10)
        assert found is not None
        shares.append(found.test.value)
        assert found.test.low is not None
        assert found.test.high is not None
        assert found.test.low <= found.test.value <= found.test.high
    assert 0.01 < np.mean(shares) < 0.025


def test_a_study_is_as_far_as_its_farthest_view() -> None:
    table = predictions(99, 20)
    far = table["study"] == "test3"
    table.loc[far, "distance"] = [0.0, 2.0]
    found = familiarity.false_alarms(table, 0.01, 10)
    assert found is not None
    assert found.test.value == pytest.approx(1 / 20)
    assert found.threshold == pytest.approx(float(table.loc[table["split"] == "tuning", "distance"].max()))


def test_the_test_split_chooses_nothing() -> None:
    table = predictions(120, 50)
    other = table.assign(distance=np.where(table["split"] == "test", 7.0, table["distance"]))
    one, two = (familiarity.false_alarms(each, 0.01, 10) for each in (table, other))
    assert one is not None
    assert two is not None
    assert one.threshold == two.threshold
    assert two.test.value == 1


def test_without_distances_nothing_is_known() -> None:
    table = predictions(120, 50)
    assert familiarity.false_alarms(table.drop(columns="distance"), 0.01, 10) is None
    assert familiarity.false_alarms(table.assign(distance=np.nan), 0.01, 10) is None
