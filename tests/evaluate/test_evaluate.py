"""A model is measured through the public door: what is refused, and what is written."""

import io
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import seal_model
from html_page import Page, check_page
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip
from scored_studies import rows_of

from components.artifacts.evaluation import METRIC_TITLES, Evaluation, Interval
from components.artifacts.manifest import BODY_PARTS, TABLE, ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import WEIGHTS, Offsets, TrainedModel
from components.base.errors import DataRefused
from components.evaluate import attribution, evaluate
from components.network import batches
from components.params.evaluate import EvaluateParams
from components.params.protocol import ProtocolParams
from components.params.train import TrainParams
from components.scores import familiarity, floor, metrics
from components.scores.studies import Studies, StudyLogits

DEMO = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
PARAMS = EvaluateParams(batch_size=8, flips=False, false_alarms=0.1)
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
    logger.setLevel(logging.INFO)
    try:
        return evaluate(*packed, model, PARAMS, RULES, 1, out), model, said.getvalue()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


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


@pytest.mark.long
def test_the_report_shows_maps_of_the_surest_studies(
    packed: tuple[ValidManifest, Shards], evaluated: tuple[Evaluation, TrainedModel, str]
) -> None:
    shards, model = packed[1], evaluated[1]
    images = batches.read_split(shards, "tuning")
    probability = np.linspace(0.1, 0.9, len(images))
    logit = np.log(probability / (1 - probability))
    studies = StudyLogits.of_images(images.study, images.patient, images.body_part, images.abnormal, logit).raw()
    shown = attribution.explainer(model, shards, False)("tuning", studies, 0.5)
    assert not shown.flips
    assert attribution.explainer(model, shards, True)("tuning", studies, 0.5).flips
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
        assert set(told["slices"]["body_part"]) == set(parts[split])
        assert told["slices"] == facts.slices.model_dump()[split]
        assert told["floor"] == {"threshold": facts.floor.threshold} | facts.floor.of(split).model_dump()
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
    return rows_of(*(rows[name] for name in ("study", "patient", "body_part", "abnormal", "probability")))


def test_the_table_of_studies_has_a_row_for_each_study_of_both_splits(
    evaluated: tuple[Evaluation, TrainedModel, str],
) -> None:
    found, model, _ = evaluated
    predictions, table = (pd.read_parquet(found.path / f"{name}.parquet") for name in ("predictions", "studies"))
    assert list(table.columns) == [
        *("study", "patient", "body_part", "split", "abnormal", "overlay", "views", "mode", "floor", "logit"),
        *("offset", "fold", "probability"),
    ]
    assert table.set_index("study")["views"].to_dict() == predictions["study"].value_counts().to_dict()
    assert (table["fold"].isna() == (table["split"] == "test")).all()
    offsets = model.facts.offsets
    assert table["offset"].tolist() == [offsets.body_part.get(part, offsets.pooled) for part in table["body_part"]]


def test_slices_and_the_floor_are_of_the_manifest(
    packed: tuple[ValidManifest, Shards], evaluated: tuple[Evaluation, TrainedModel, str]
) -> None:
    known, found = packed[0].table, evaluated[0]
    predictions, table = (pd.read_parquet(found.path / f"{name}.parquet") for name in ("predictions", "studies"))
    assert predictions["mode"].tolist() == known.set_index("image").loc[predictions["image"], "mode"].tolist()
    modes = known.groupby("study")["mode"].unique().loc[table["study"]]
    assert table["mode"].tolist() == [each[0] if len(each) == 1 else "mixed" for each in modes]
    assert "mixed" in set(table["mode"])
    assert list(found.facts.slices.tuning) == ["body_part", "views", "mode", "second_opinion"]
    assert list(found.facts.slices.tuning["second_opinion"]) == ["none"]
    floors = floor.by_study(known)
    for rows in (predictions, table):
        assert rows["floor"].tolist() == floors.loc[rows["study"]].tolist()


def test_the_report_has_what_is_known_without_the_pictures_and_the_groups(
    evaluated: tuple[Evaluation, TrainedModel, str],
) -> None:
    found, _, said = evaluated
    for report, split in ((found.report, "tuning"), (found.test_report, "test")):
        words = Page(report.read_text()).words
        below = found.facts.floor.of(split)
        assert "What can be known without looking at the bones" in words
        assert str(below.auroc) in words
        assert str(below.auroc_gain) in words
        for heading in ("Body part", "Number of views", "PNG mode"):
            assert f"{heading} Studies Patients Abnormal AUROC" in words
        studies = found.facts.scores.of(split).n_studies
        assert f"All {studies} {split} studies are of one group: none." in words
    below = found.facts.floor.tuning
    assert f"tuning AUROC {below.auroc}; the model adds {below.auroc_gain}" in said
    assert "narrow is not shown to know more on tuning than body part, number of views and picture size tell" in said


def test_the_model_card_is_beside_the_result_and_says_it(evaluated: tuple[Evaluation, TrainedModel, str]) -> None:
    facts = evaluated[0].facts
    written, page = (path.read_text() for path in evaluated[0].model_cards)
    test = facts.scores.test
    assert written.startswith("# Model card: narrow (custom CNN)\n")
    for said in (str(test.auroc), str(test.cohen_kappa), facts.model_digest, facts.data_digest):
        assert said in written
        assert said in Page(page).words
    check_page(page)


def test_no_number_of_the_test_split_is_in_a_file_of_the_tuning_split(
    evaluated: tuple[Evaluation, TrainedModel, str],
) -> None:
    found, _, said = evaluated
    facts = found.facts

    def shown(values: Iterable[Interval]) -> set[str]:
        return {str(value) for value in values if value.low is not None}

    def intervals(split: str) -> set[str]:
        below = facts.floor.of(split)
        groups = [group for each in facts.slices.of(split).values() for group in each.values()]
        scores = [getattr(each, name) for each in (facts.scores.of(split), *groups) for name in METRIC_TITLES]
        return shown([*scores, below.auroc, below.cohen_kappa, below.auroc_gain, below.cohen_kappa_gain])

    hidden = intervals("test") - intervals("tuning")
    assert len(hidden) > 10
    words = Page(found.report.read_text()).words
    assert {each for each in intervals("tuning") if each in words}
    card = found.model_cards[0].read_text()
    assert {each for each in hidden if each in card}
    for text in (words, said, (found.path / "summary.json").read_text()):
        assert not {each for each in hidden if each in text}
    told = json.loads((found.path / "metrics.json").read_text())
    assert told["floor"]["auroc"] == facts.floor.tuning.auroc.model_dump()
    assert "test" not in told


@pytest.mark.longest
def test_a_slice_that_the_manifest_has_no_column_for_is_said_to_be_unknown(
    packed: tuple[ValidManifest, Shards],
    evaluated: tuple[Evaluation, TrainedModel, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "components")
    for name in ("manifest", "evaluation"):
        (tmp_path / name).mkdir()
    valid, shards = packed
    valid.table.drop(columns="mode").to_parquet(tmp_path / "manifest" / TABLE, index=False)
    without = ValidManifest.seal(tmp_path / "manifest", valid.facts)
    found = evaluate(without, shards, evaluated[1], PARAMS, RULES, 1, tmp_path / "evaluation")
    assert found.facts.slices.test["mode"] == {}
    assert found.facts.scores == evaluated[0].facts.scores
    assert "the manifest has no column for the slice mode: nothing is measured by it" in caplog.text
    assert "the manifest has no column mode ." in Page(found.report.read_text()).words
    assert "PNG mode: the data do not know it" in found.model_cards[0].read_text()


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


def test_without_training_studies_nothing_is_evaluated(
    packed: tuple[ValidManifest, Shards], make_model: Callable[..., TrainedModel], tmp_path: Path
) -> None:
    valid, shards = packed
    (tmp_path / "manifest").mkdir()
    valid.table.query("split != 'train'").to_parquet(tmp_path / "manifest" / TABLE, index=False)
    without = ValidManifest.seal(tmp_path / "manifest", valid.facts)
    model = make_model(data_digest=shards.facts.data_digest)
    with pytest.raises(DataRefused, match=r"manifest: expected training studies .*, got none\. Run ingest and"):
        evaluate(without, shards, model, PARAMS, RULES, 1, tmp_path / "evaluation")


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


def test_it_keeps_what_tells_unlike_pictures_and_how_often_that_is_wrong(
    packed: tuple[ValidManifest, Shards], evaluated: tuple[Evaluation, TrainedModel, str]
) -> None:
    found, kept = evaluated[0], evaluated[0].familiarity()
    predictions = pd.read_parquet(found.path / "predictions.parquet")
    alarms = familiarity.false_alarms(predictions, PARAMS.false_alarms, packed[1].facts.splits["train"].images)
    assert found.facts.false_alarms == alarms
    assert alarms is not None
    assert kept is not None
    assert (kept.threshold, kept.pictures) == (alarms.threshold, alarms.pictures)
    for name, report, split, other in (
        ("metrics.json", found.report, "tuning", "test"),
        ("test.json", found.test_report, "test", "tuning"),
    ):
        told = json.loads((found.path / name).read_text())["unlike"]
        assert told[split] == alarms.of(split).model_dump()
        assert other not in told
        words = Page(report.read_text()).words
        assert "Pictures that are unlike the training data" in words
        assert f"Of the {split} studies" in words
    assert str(alarms.test) in found.model_cards[0].read_text()
    # It is part of what the evaluation is.
    assert "familiarity.json" in Evaluation.CONTENT


def test_dvc_keeps_every_file_of_an_evaluation(evaluated: tuple[Evaluation, TrainedModel, str]) -> None:
    """One that it did not know would be lost by `dvc pull`, and be in the way when the stage runs again."""
    stage = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text())["stages"]["evaluate"]
    listed = [
        name
        for kind in ("outs", "metrics", "plots")
        for each in stage[kind]
        for name in ([each] if isinstance(each, str) else each)
    ]
    kept = {name.partition("${item.candidate}/")[2] for name in listed} - {""}
    written = {
        file.relative_to(evaluated[0].path).as_posix() for file in evaluated[0].path.rglob("*") if file.is_file()
    }
    assert kept == written


@pytest.mark.long
def test_with_too_few_tuning_studies_it_says_that_nothing_is_known(
    packed: tuple[ValidManifest, Shards], evaluated: tuple[Evaluation, TrainedModel, str], tmp_path: Path
) -> None:
    (out := tmp_path / "evaluation").mkdir()
    found = evaluate(*packed, evaluated[1], PARAMS.model_copy(update={"false_alarms": 0.01}), RULES, 1, out)
    assert found.facts.false_alarms is None
    assert found.familiarity() is None
    # Also here, as DVC wants every file that it is told of.
    assert (out / "familiarity.json").read_text() == "null\n"
    assert pd.read_parquet(out / "predictions.parquet")["distance"].isna().all()
    assert json.loads((out / "metrics.json").read_text())["unlike"] is None
    words = Page(found.report.read_text()).words
    assert "The model cannot tell them." in words
    assert "at least 99 are needed" in words
    # What the network says of the studies is the same with and without.
    assert found.facts.scores == evaluated[0].facts.scores
