"""A model is measured through the public door: what is refused, and what is written."""

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import seal_model
from html_page import Page
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import BODY_PARTS, ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import WEIGHTS, Offsets, TrainedModel
from components.base.errors import DataRefused
from components.evaluate import attribution, evaluate
from components.network import batches
from components.params.evaluate import EvaluateParams
from components.params.protocol import ProtocolParams
from components.params.train import TrainParams
from components.scores import metrics
from components.scores.studies import Studies

DEMO = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
PARAMS = EvaluateParams(batch_size=8)
RULES = ProtocolParams(**DEMO["protocol"])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[ValidManifest, Shards]:
    folder = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        path = write_zip(folder / "MURA-v1.1.zip", archive(images(train=56, valid=28)))
        valid = prove(manifest(path, folder / "manifest", seed=1), folder / "valid")
        return valid, pack(path, valid, folder / "shards")


@pytest.fixture(scope="module")
def evaluated(
    packed: tuple[ValidManifest, Shards], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Evaluation, TrainedModel, str]:
    """The evaluation of `narrow`, a network with random weights that two body parts trained; it, and what was said."""
    from components.network import architectures

    folder = tmp_path_factory.mktemp("narrow")
    document = DEMO["train"]["default"] | {"candidate": "narrow", "architecture": "custom_cnn"}
    architectures.build(TrainParams(**document), 32, seed=1, augment=False).save_weights(folder / WEIGHTS)
    model = seal_model(
        folder / "model",
        "custom_cnn",
        (folder / WEIGHTS).read_bytes(),
        candidate="narrow",
        params=document,
        offsets=Offsets(body_part={"wrist": 0.3, "hand": 1.0}, pooled=-0.1),
        data_digest=packed[1].facts.data_digest,
    )
    (out := folder / "evaluation").mkdir()
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logger = logging.getLogger("components.evaluate")
    logger.addHandler(handler)
    try:
        return evaluate(*packed, model, PARAMS, RULES, 1, out), model, said.getvalue()
    finally:
        logger.removeHandler(handler)


def test_an_evaluation_holds_what_its_predictions_give(evaluated: tuple[Evaluation, TrainedModel, str]) -> None:
    found = evaluated[0]
    out = found.path
    assert (found.facts.candidate, found.facts.architecture) == ("narrow", "custom_cnn")
    predictions = pd.read_parquet(out / "predictions.parquet")
    assert (predictions.groupby("study")["split"].nunique() == 1).all()
    table = pd.read_parquet(out / "studies.parquet")
    studies = {split: studies_in(table, split) for split in ("tuning", "test")}
    scores, points = found.facts.scores, found.facts.operating_points
    assert set(points) == {"kappa", "sensitivity", "half"}
    deciding = points["kappa"]
    assert (deciding.threshold, deciding.tuning, deciding.test) == (scores.threshold, scores.tuning, scores.test)
    for split in ("tuning", "test"):
        assert scores.of(split) == metrics.score(studies[split], scores.threshold)
        assert points["half"].of(split) == metrics.score(studies[split], 0.5)


def test_the_report_shows_maps_of_the_surest_studies(
    packed: tuple[ValidManifest, Shards], evaluated: tuple[Evaluation, TrainedModel, str]
) -> None:
    shards, model = packed[1], evaluated[1]
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


def test_the_numbers_of_each_split_are_in_files_of_their_own(evaluated: tuple[Evaluation, TrainedModel, str]) -> None:
    found = evaluated[0]
    facts, scores = found.facts, found.facts.scores
    parts = pd.read_parquet(found.path / "studies.parquet").groupby("split")["body_part"].unique()
    for name, split, other in (("metrics.json", "tuning", "test"), ("test.json", "test", "tuning")):
        told = json.loads((found.path / name).read_text())
        assert told[split] == scores.of(split).model_dump()
        assert set(told["body_part"]) == set(parts[split])
        assert told["digests"]["protocol"] == RULES.digest == facts.protocol_digest
        for point, value in facts.operating_points.items():
            assert told["operating_points"][point] == {
                "threshold": value.threshold,
                split: value.of(split).model_dump(),
            }
        assert told["calibration"][split] == facts.reliability.of(split).model_dump()
        assert told["calibration"]["slope"] == facts.calibration.slope
        assert not {other} & (set(told) | set(told["calibration"]))
    assert told["roc"]["sensitivity"][-1] == 1
    told = json.loads((found.path / "summary.json").read_text())
    assert told["tuning_auroc"] == round(scores.tuning.auroc.value or 0, 4)
    for report, split in ((found.report, "tuning"), (found.test_report, "test")):
        assert f"Evaluation of narrow (custom CNN) on the {split} split" in report.read_text()


def studies_in(table: pd.DataFrame, split: str) -> Studies:
    rows = table[table["split"] == split]
    return Studies.of_images(*(rows[name] for name in ("study", "patient", "body_part", "abnormal", "probability")))


def test_the_table_of_studies_has_a_row_for_each_study_of_both_splits(
    evaluated: tuple[Evaluation, TrainedModel, str],
) -> None:
    found, model, _ = evaluated
    predictions, table = (pd.read_parquet(found.path / f"{name}.parquet") for name in ("predictions", "studies"))
    assert list(table.columns) == [
        *("study", "patient", "body_part", "split", "abnormal", "overlay", "views", "logit", "offset", "fold"),
        "probability",
    ]
    assert table.set_index("study")["views"].to_dict() == predictions["study"].value_counts().to_dict()
    assert (table["fold"].isna() == (table["split"] == "test")).all()
    offsets = model.facts.offsets
    assert table["offset"].tolist() == [offsets.body_part.get(part, offsets.pooled) for part in table["body_part"]]


def test_body_parts_that_did_not_train_the_network_are_named(evaluated: tuple[Evaluation, TrainedModel, str]) -> None:
    found, _, said = evaluated
    assert found.facts.calibration.pooled_parts == tuple(sorted(set(BODY_PARTS) - {"wrist", "hand"}))
    assert "training had no images of elbow, finger" in said
    for report in (found.report, found.test_report):
        assert "have the offset of all body parts together, -0.10" in Page(report.read_text()).words


def test_an_evaluation_writes_what_dvc_plots(evaluated: tuple[Evaluation, TrainedModel, str]) -> None:
    found = evaluated[0]
    plots = found.path / "plots"
    assert {path.name for path in plots.iterdir()} == {
        "roc.csv", "calibration.csv", "confusion.csv", "roc.png", "calibration.png",
    }  # fmt: skip
    roc, calibration, confusion = (pd.read_csv(plots / f"{name}.csv") for name in ("roc", "calibration", "confusion"))
    assert list(roc.columns) == ["false_positive_rate", "sensitivity", "threshold"]
    assert np.trapezoid(roc.sensitivity, roc.false_positive_rate) == pytest.approx(
        found.facts.scores.tuning.auroc.value
    )
    assert {"mean_probability", "abnormal_share"} <= set(calibration.columns)
    assert calibration.studies.sum() == found.facts.scores.tuning.n_studies
    counts = found.facts.scores.tuning.confusion
    both = confusion[(confusion.actual == "abnormal") & (confusion.predicted == "abnormal")]
    assert len(both) == counts.true_positive
    assert len(confusion) == found.facts.scores.tuning.n_studies


def test_shards_of_another_manifest_are_not_evaluated(
    packed: tuple[ValidManifest, Shards], make_model: Callable[..., TrainedModel], tmp_path: Path
) -> None:
    _, shards = packed
    other = prove(manifest(shards.path.parent / "MURA-v1.1.zip", tmp_path / "manifest", seed=2), tmp_path / "other")
    model = make_model(data_digest=shards.facts.data_digest)
    with pytest.raises(DataRefused, match=r"shards: expected shards of data set \w{12} of .*other, got those of"):
        evaluate(other, shards, model, PARAMS, RULES, 1, tmp_path / "evaluation")


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
        evaluate(*packed, make_model(**facts), PARAMS, RULES, 1, tmp_path / "evaluation")
