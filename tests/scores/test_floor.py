"""What can be known without looking at the bones: much where a label leaks, and nothing where it does not."""

import numpy as np
import pandas as pd
import pytest
import sklearn.linear_model as oracle
from conftest import NO_OFFSETS, scored
from protocols import PROTOCOL
from scored_studies import rows_of

from components.artifacts.manifest import BODY_PARTS
from components.params.protocol import ProtocolParams
from components.scores import floor, metrics
from components.scores.both_splits import BothSplits
from components.scores.studies import auroc

STUDIES = 600


def manifest(seed=0, **columns):
    """A table of images: studies of one to four views, of which nothing says the label."""
    random = np.random.default_rng(seed)
    views = random.integers(1, 5, STUDIES)
    study = np.array([f"study{i:05}" for i in range(STUDIES)])
    known = {
        "split": np.resize(["train", "train", "tuning", "test"], STUDIES),
        "body_part": random.choice(BODY_PARTS, STUDIES),
        "abnormal": random.integers(0, 2, STUDIES),
        "width": random.integers(300, 513, STUDIES),
        "height": random.integers(300, 513, STUDIES),
    }
    rows = pd.DataFrame({"study": study} | known | {name: make(known) for name, make in columns.items()})
    images = rows.loc[rows.index.repeat(views)].reset_index(drop=True)
    images["image"] = images["study"] + "/image" + images.groupby("study").cumcount().add(1).astype(str)
    return images


def reached(images, split="test"):
    """The AUROC of the floor."""
    studies = images.drop_duplicates("study").set_index("study").sort_index()
    found = floor.by_study(images)
    assert found.index.tolist() == studies.index.tolist()
    mine = (studies["split"] == split).to_numpy()
    return auroc(studies["abnormal"][mine], found[mine])


LEAKS = {
    "width": lambda known: 300 + 150 * known["abnormal"] + np.arange(STUDIES) % 50,
    "height": lambda known: 450 - 100 * known["abnormal"] + np.arange(STUDIES) % 50,
    "body_part": lambda known: np.where(known["abnormal"] == 1, "wrist", "elbow"),
}


@pytest.mark.parametrize("column", LEAKS)
def test_what_tells_the_label_is_found(column):
    images = manifest(**{column: LEAKS[column]})
    for split in ("tuning", "test"):
        assert reached(images, split) > 0.99


def test_a_number_of_views_that_tells_the_label_is_found():
    images = manifest()
    chosen = (images["abnormal"] == 1) | images["image"].str.endswith("image1")
    assert reached(images[chosen]) > 0.8


def test_where_nothing_tells_the_label_the_floor_is_at_chance():
    found = [reached(manifest(seed)) for seed in range(6)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.04)
    assert max(found) < 0.65


def test_the_mode_of_the_png_is_not_looked_at():
    images = manifest()
    leak = images.assign(mode=np.where(images["abnormal"] == 1, "L", "RGB"))
    assert floor.by_study(leak).equals(floor.by_study(images))


def test_labels_of_tuning_and_test_are_not_looked_at():
    images = manifest()
    turned = images.assign(abnormal=images["abnormal"].where(images["split"] == "train", 1 - images["abnormal"]))
    assert floor.by_study(turned).equals(floor.by_study(images))


def test_the_order_of_rows_does_not_matter():
    images = manifest()
    shuffled = images.sample(frac=1, random_state=np.random.default_rng(1))
    assert floor.by_study(shuffled).equals(floor.by_study(images))


def test_it_is_the_regression_of_scikit_learn():
    copies = [manifest(seed, width=LEAKS["width"]) for seed in range(8)]
    for number, copy in enumerate(copies):
        # Not quite all of the label: maximum likelihood must be finite, too.
        copy["width"] = copy["width"] + 150 * (copy["study"].str[-2:].astype(int) % 3)
        for name in ("study", "image"):
            copy[name] = f"{number}-" + copy[name]
    images = pd.concat(copies, ignore_index=True)
    studies = images.assign(w=np.log(images["width"]), h=np.log(images["height"])).groupby("study").agg(
        split=("split", "first"), part=("body_part", "first"), abnormal=("abnormal", "first"),
        views=("split", "size"), w=("w", "mean"), h=("h", "mean"),
    )  # fmt: skip
    design = np.column_stack([pd.get_dummies(studies["part"]), studies[["views", "w", "h"]]]).astype(float)
    train = (studies["split"] == "train").to_numpy()
    fitted = oracle.LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-9, max_iter=10_000, solver="newton-cg")
    expected = fitted.fit(design[train], studies["abnormal"][train]).predict_proba(design)[:, 1]
    assert floor.by_study(images).to_numpy() == pytest.approx(expected, abs=0.01)


def test_a_body_part_that_training_does_not_have_is_given_the_mean_of_the_others():
    images = manifest(body_part=lambda known: np.where(known["abnormal"] == 1, "wrist", "elbow"))
    images.loc[images["split"] == "tuning", "body_part"] = "knee"
    studies = images.groupby("study")[["width", "height"]].first()
    found = floor.by_study(images)
    knees = images.loc[images["split"] == "tuning", "study"].unique()
    assert found[knees].between(0.2, 0.8).all()
    others = found.drop(knees)
    assert not others.between(0.2, 0.8).any()
    assert len(studies) == len(found)


@pytest.mark.parametrize(
    "columns",
    [
        {"width": lambda _: 512, "height": lambda _: 512},
        {"height": lambda known: 2 * known["width"]},
        {"width": lambda _: 1, "height": lambda _: 1},
    ],
    ids=["one size", "one shape", "a pixel"],
)
def test_columns_that_say_nothing_of_their_own_are_left_out(columns):
    found = floor.by_study(manifest(**columns))
    assert np.isfinite(found).all()


def test_one_view_of_one_part_and_size_gives_every_study_the_share_of_training():
    images = manifest(width=lambda _: 512, height=lambda _: 400, body_part=lambda _: "wrist").drop_duplicates("study")
    found = floor.by_study(images)
    train = images[images["split"] == "train"]["abnormal"]
    assert found.nunique() == 1
    # Firth's penalty adds half a study of either label.
    assert found.iloc[0] == pytest.approx((train.sum() + 0.5) / (len(train) + 1))


def test_a_body_part_with_one_label_has_a_finite_estimate():
    images = manifest(abnormal=lambda known: np.where(known["body_part"] == "hand", 1, known["abnormal"]))
    found = floor.by_study(images)
    assert found.between(0, 1, inclusive="neither").all()


def test_without_training_studies_there_is_no_floor():
    images = manifest()
    with pytest.raises(ValueError, match="expected training studies to fit the floor on, got none"):
        floor.by_study(images[images["split"] != "train"])


def test_a_model_is_compared_with_its_floor_on_the_same_patients():
    predictions, _ = scored(0.8)
    found = BothSplits.measure(predictions, NO_OFFSETS, ProtocolParams(**PROTOCOL), 1)
    test = found.table[found.table["split"] == "test"]
    below = rows_of(*(test[name] for name in ("study", "patient", "body_part", "abnormal", "floor")))
    alone = metrics.score(below, found.floor.threshold)
    scores = found.floor.test
    assert (scores.auroc, scores.cohen_kappa) == (alone.auroc, alone.cohen_kappa)
    assert scores.auroc_gain.value == pytest.approx(found.test.auroc.value - alone.auroc.value)
    assert scores.auroc_gain.low > 0
    assert found.floor.of("tuning") == found.floor.tuning


def test_a_model_that_is_its_floor_adds_nothing():
    predictions, _ = scored(0.8)
    same = predictions.assign(floor=1 / (1 + np.exp(-predictions["logit"])))
    gain = BothSplits.measure(same, NO_OFFSETS, ProtocolParams(**PROTOCOL), 1).floor.test.auroc_gain
    assert gain.value == pytest.approx(0, abs=1e-3)
    assert gain.low < 0 < gain.high


@pytest.mark.parametrize("value", [np.nan, 1.5])
def test_predictions_with_a_floor_that_is_no_probability_are_refused(value):
    predictions, _ = scored(0.8)
    with pytest.raises(ValueError, match="expected probabilities in"):
        BothSplits.measure(predictions.assign(floor=value), NO_OFFSETS, ProtocolParams(**PROTOCOL), 1)
