"""A model is measured through the public door: what is refused, and what is written."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components.artifacts.manifest import ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import WEIGHTS, TrainedModel
from components.base.errors import DataRefused
from components.evaluate import attribution, evaluate
from components.network import batches
from components.params.evaluate import EvaluateParams
from components.params.train import TrainParams
from components.scores import metrics
from components.scores.studies import Studies

DEMO = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
PARAMS = EvaluateParams(operating_point="kappa", target=0.9, bootstrap_draws=2000, batch_size=8)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[ValidManifest, Shards]:
    folder = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        path = write_zip(folder / "MURA-v1.1.zip", archive(images(train=56, valid=28)))
        valid = prove(manifest(path, folder / "manifest", seed=1), folder / "valid")
        return valid, pack(path, valid, folder / "shards")


@pytest.fixture
def model(
    packed: tuple[ValidManifest, Shards], make_model: Callable[..., TrainedModel], tmp_path: Path
) -> TrainedModel:
    """A network with random weights, as the candidate `narrow`."""
    from components.network import architectures

    document = DEMO["train"]["default"] | {"candidate": "narrow", "architecture": "custom_cnn"}
    architectures.build(TrainParams(**document), 32, seed=1, augment=False).save_weights(tmp_path / WEIGHTS)
    return make_model(
        "custom_cnn",
        (tmp_path / WEIGHTS).read_bytes(),
        candidate="narrow",
        params=document,
        data_digest=packed[1].facts.data_digest,
    )


def test_an_evaluation_holds_what_its_predictions_give(
    packed: tuple[ValidManifest, Shards], model: TrainedModel, tmp_path: Path
) -> None:
    (out := tmp_path / "evaluation").mkdir()
    found = evaluate(*packed, model, PARAMS, 1, out)
    assert (found.facts.candidate, found.facts.architecture) == ("narrow", "custom_cnn")
    predictions = pd.read_parquet(out / "predictions.parquet")
    assert (predictions.groupby("study")["split"].nunique() == 1).all()
    studies = {
        split: Studies.of_images(*(rows[name] for name in ("study", "patient", "body_part", "abnormal", "probability")))
        for split, rows in predictions.groupby("split")
    }
    tuning, test, scores = studies["tuning"], studies["test"], found.facts.scores
    assert scores.threshold == metrics.choose_threshold(tuning.abnormal, tuning.probability, "kappa", 0.9)
    assert scores.test == metrics.score(test, scores.threshold, 2000, 1)
    assert scores.tuning == metrics.score(tuning, scores.threshold, 2000, 1)
    told = json.loads((out / "metrics.json").read_text())
    assert told["test"] == scores.test.model_dump()
    assert set(told["body_part"]) == set(test.body_part)
    assert json.loads((out / "summary.json").read_text())["test_auroc"] == round(scores.test.auroc.value or 0, 4)
    report = found.report.read_text()
    assert "Evaluation of narrow (custom CNN)" in report
    assert "Attribution is no localisation." in report


def test_the_report_shows_maps_of_the_surest_studies(packed: tuple[ValidManifest, Shards], model: TrainedModel) -> None:
    _, shards = packed
    images = batches.read_split(shards, "tuning")
    probability = np.linspace(0.1, 0.9, len(images))
    studies = Studies.of_images(images.study, images.patient, images.body_part, images.abnormal, probability)
    shown = attribution.explain(model, shards, "tuning", studies, 0.5)
    assert [len(kind.studies) for kind in shown.kinds] == [
        len(found) for found in attribution.surest(studies, 0.5).values()
    ]
    for each in (each for kind in shown.kinds for each in kind.studies):
        names = sorted(Path(image).name for image in images.image[images.study == each.study])
        assert [view.name for view in each.views] == names[: attribution.MOST_VIEWS]
        assert each.left_out == max(0, len(names) - attribution.MOST_VIEWS)
    kb = sum(len(view.grey + view.map) for kind in shown.kinds for each in kind.studies for view in each.views) / 1000
    assert kb < 100


def test_an_evaluation_writes_what_dvc_plots(
    packed: tuple[ValidManifest, Shards], model: TrainedModel, tmp_path: Path
) -> None:
    (out := tmp_path / "evaluation").mkdir()
    found = evaluate(*packed, model, PARAMS, 1, out)
    plots = out / "plots"
    assert {path.name for path in plots.iterdir()} == {
        "roc.csv", "calibration.csv", "confusion.csv", "roc.png", "calibration.png",
    }  # fmt: skip
    roc, calibration, confusion = (pd.read_csv(plots / f"{name}.csv") for name in ("roc", "calibration", "confusion"))
    assert list(roc.columns) == ["false_positive_rate", "sensitivity", "threshold"]
    assert np.trapezoid(roc.sensitivity, roc.false_positive_rate) == pytest.approx(found.facts.scores.test.auroc.value)
    assert {"mean_probability", "abnormal_share"} <= set(calibration.columns)
    assert calibration.studies.sum() == found.facts.scores.test.n_studies
    counts = found.facts.scores.test.confusion
    both = confusion[(confusion.actual == "abnormal") & (confusion.predicted == "abnormal")]
    assert len(both) == counts.true_positive
    assert len(confusion) == found.facts.scores.test.n_studies


def test_shards_of_another_manifest_are_not_evaluated(
    packed: tuple[ValidManifest, Shards], make_model: Callable[..., TrainedModel], tmp_path: Path
) -> None:
    _, shards = packed
    other = prove(manifest(shards.path.parent / "MURA-v1.1.zip", tmp_path / "manifest", seed=2), tmp_path / "other")
    model = make_model(data_digest=shards.facts.data_digest)
    with pytest.raises(DataRefused, match=r"shards: expected shards of data set \w{12} of .*other, got those of"):
        evaluate(other, shards, model, PARAMS, 1, tmp_path / "evaluation")


@pytest.mark.parametrize(("fact", "value"), [("data_digest", "0" * 64), ("image_size", 64)])
def test_a_model_that_was_trained_on_other_shards_is_not_evaluated(
    fact: str,
    value: object,
    packed: tuple[ValidManifest, Shards],
    make_model: Callable[..., TrainedModel],
    tmp_path: Path,
) -> None:
    facts = {"data_digest": packed[1].facts.data_digest} | {fact: value}
    with pytest.raises(DataRefused, match="expected a model trained on"):
        evaluate(*packed, make_model(**facts), PARAMS, 1, tmp_path / "evaluation")
