"""Measure a model, and write what was found."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from components.artifacts.evaluation import (
    CARD_PAGE,
    CARD_TEXT,
    FAMILIARITY,
    PREDICTIONS,
    REPORT,
    STUDIES,
    TEST_REPORT,
    Evaluation,
    EvaluationFacts,
    Familiarity,
    Scores,
    SecondOpinion,
)
from components.artifacts.manifest import TEST, TUNING, ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.base import provenance
from components.base.errors import DataRefused
from components.base.files import write_text
from components.base.words import count
from components.evaluate import attribution
from components.evaluate.attribution import Attribution
from components.evaluate.model_card import card_page, model_card
from components.evaluate.page import Figures, Measured, Split, draw, evaluation_page
from components.evaluate.predictions import Answers, predict
from components.network import backend
from components.pages.prose import markdown
from components.params.evaluate import EvaluateParams
from components.params.protocol import ProtocolParams
from components.scores import curves, familiarity, floor, slices
from components.scores.both_splits import BothSplits, answers_of
from components.scores.json_files import json_files
from components.scores.studies import Studies

log = logging.getLogger(__name__)


def run(  # Parameters: those of the step
    manifest: ValidManifest,
    shards: Shards,
    model: TrainedModel,
    params: EvaluateParams,
    protocol: ProtocolParams,
    seed: int,
    out: Path,
) -> Evaluation:
    """Do what `components.evaluate.evaluate` says."""
    _check_inputs(manifest, shards, model)
    backend.prepare()
    started = time.monotonic()
    log.info("evaluate: %s on %s", model.facts.candidate, shards.path)
    known = manifest.table
    opinions, floors = _opinions(known), _floors(manifest, known)
    answers = predict(shards, model, params, seed)
    predictions = _with_manifest(answers.table, known, opinions, floors)
    _check_patients(predictions, shards)
    for split in (TUNING, TEST):
        _check_studies(predictions, split, shards)
    found = BothSplits.measure(predictions, model.facts.offsets, protocol, seed)
    overlay = manifest.facts.overlay_digest
    second = overlay and SecondOpinion(overlay_digest=overlay, studies=found.relabelled, test=found.second)
    facts = EvaluationFacts(
        candidate=model.facts.candidate,
        architecture=model.facts.architecture,
        model_digest=model.digest,
        data_digest=shards.facts.data_digest,
        body_parts=manifest.facts.body_parts,
        shards_digest=shards.digest,
        code_revision=provenance.code_revision(),
        params=params.model_dump(mode="json"),
        protocol=protocol.model_dump(mode="json"),
        seed=seed,
        calibration=found.calibrated.facts(model.facts.offsets),
        scores=Scores(
            tuning=found.tuning,
            test=found.test,
            threshold=found.threshold,
            tuning_digest=shards.facts.splits[TUNING].digest,
            test_digest=shards.facts.splits[TEST].digest,
        ),
        operating_points=found.points,
        reliability=found.reliability,
        slices=found.slices,
        floor=found.floor,
        second_opinion=second or None,
        false_alarms=familiarity.false_alarms(predictions, params.false_alarms, answers.pictures),
    )
    measured = Measured(facts, model.facts, manifest.facts, shards.facts, protocol, found.table, opinions)
    # An ensemble has no map: those of its members have cells of different sizes, and stand on their own pages.
    explain = None if model.facts.members else attribution.explainer(model, shards, params.flips)
    of_tuning, of_test = _splits(found, explain)
    predictions.to_parquet(out / PREDICTIONS, index=False)
    found.table.to_parquet(out / STUDIES, index=False)
    _write_familiarity(out, facts, answers)
    _write(out, measured, of_tuning, of_test, None if model.facts.members else pd.read_csv(model.curves))
    _log_result(facts, time.monotonic() - started)
    return Evaluation.seal(out, facts)


def _splits(found: BothSplits, explain: Callable[[str, Studies, float], Attribution] | None) -> tuple[Split, Split]:
    """What the page of tuning is about, and that of test."""
    studies = {TUNING: (found.calibrated.tuning, found.tuning), TEST: (found.calibrated.test, found.test)}
    tuning, test = (
        Split(name, mine, scores, found.slices.of(name), explain and explain(name, mine, found.threshold))
        for name, (mine, scores) in studies.items()
    )
    return tuning, test


def _write(out: Path, measured: Measured, tuning: Split, test: Split, epochs: pd.DataFrame | None) -> None:
    """Write what was measured: of the tuning split what is looked at often, of the test split files of its own."""
    for name, content in json_files(measured.facts, test.studies).items():
        write_text(out / name, json.dumps(content, indent=2, allow_nan=False) + "\n")
    figures = draw(measured, tuning, epochs)
    write_text(out / REPORT, evaluation_page(measured, tuning, figures))
    _write_plots(out / "plots", measured, tuning, figures)
    figures = draw(measured, test)
    write_text(out / TEST_REPORT, evaluation_page(measured, test, figures))
    card = model_card(measured, test, figures)
    write_text(out / CARD_TEXT, markdown(card))
    write_text(out / CARD_PAGE, card_page(card, measured))


def _write_familiarity(out: Path, facts: EvaluationFacts, answers: Answers) -> None:
    """Write what tells whether a view is like those of the training; null where that is not known, as DVC keeps it."""
    alarms, kept = facts.false_alarms, None
    if alarms is not None and answers.comparison is not None:
        kept = Familiarity(threshold=alarms.threshold, pictures=alarms.pictures, comparison=answers.comparison)
    write_text(out / FAMILIARITY, (kept.model_dump_json() if kept else "null") + "\n")


def _check_inputs(manifest: ValidManifest, shards: Shards, model: TrainedModel) -> None:
    if manifest.facts.data_digest != shards.facts.data_digest:
        raise DataRefused(
            f"{shards.path}: expected shards of data set {_short(manifest.facts.data_digest)} of {manifest.path}, got "
            f"those of {_short(shards.facts.data_digest)}. Shard it again, or give the manifest they were packed from."
        )
    for what, expected, got in (
        ("data set", shards.facts.data_digest, model.facts.data_digest),
        ("image size", shards.facts.image_size, model.facts.image_size),
    ):
        if expected != got:
            raise DataRefused(
                f"{model.path}: expected a model trained on {what} {_short(expected)} of {shards.path}, got one "
                f"trained on {_short(got)}. Train it again, or give the shards it was trained on."
            )


def _check_patients(predictions: pd.DataFrame, shards: Shards) -> None:
    splits = predictions.groupby("patient")["split"].nunique()
    if (shared := splits.index[splits > 1]).size:
        raise DataRefused(
            f"{shards.path}: expected no patient in two splits, got {shared.size} in both tuning and test, such as "
            f"{shared.min()}. Run ingest, validate and shard again."
        )


def _opinions(known: pd.DataFrame) -> pd.DataFrame:
    """Second opinions by study: `overlay`, `overlay_source`, `overlay_reason`."""
    return known[known["overlay"].notna()].drop_duplicates("study").set_index("study")


def _floors(manifest: ValidManifest, known: pd.DataFrame) -> "pd.Series[float]":
    """What is known of each study without its pictures."""
    try:
        return floor.by_study(known)
    except ValueError as error:
        raise DataRefused(f"{manifest.path}: {error} Run ingest and validate again.") from error


def _with_manifest(
    predictions: pd.DataFrame, known: pd.DataFrame, opinions: pd.DataFrame, floors: "pd.Series[float]"
) -> pd.DataFrame:
    """The predictions with what else is measured by: second opinions, columns for slices, and the floor."""
    by_image = known.set_index("image")
    columns = {
        "overlay": predictions["study"].map(opinions["overlay"]).astype("Int64"),
        **{name: predictions["image"].map(by_image[name]) for name in slices.CARRIED if name in known},
        "floor": predictions["study"].map(floors),
        "sha256": predictions["image"].map(by_image["sha256"]),
    }
    last = ["logit", "distance"]
    before = [name for name in predictions if name not in last]
    return predictions.assign(**columns)[[*before, *columns, *last]]


def _check_studies(predictions: pd.DataFrame, split: str, shards: Shards) -> None:
    rows = predictions[predictions.split == split]
    try:
        studies = answers_of(rows)
    except ValueError as error:
        raise DataRefused(f"{shards.path}, {split}: {error} Run ingest, validate and shard again.") from error
    abnormal = int(studies.abnormal.sum())
    if abnormal in (0, len(studies)):
        raise DataRefused(
            f"{shards.path}: expected abnormal and normal studies in {split}, got {abnormal} abnormal of "
            f"{len(studies)}. Nothing can be measured; use a larger archive or tuning fraction."
        )


def _write_plots(folder: Path, measured: Measured, split: Split, figures: Figures) -> None:
    """Write what `dvc plots` shows."""
    folder.mkdir()
    (folder / "roc.png").write_bytes(figures.roc)
    (folder / "calibration.png").write_bytes(figures.calibration.reliability)
    studies = split.studies
    words = np.array(["normal", "abnormal"])
    called = (studies.probability >= measured.facts.scores.threshold).astype(np.int64)
    for name, columns in (
        ("roc", vars(curves.roc_curve(studies.abnormal, studies.probability))),
        ("calibration", vars(curves.calibration_curve(studies.abnormal, studies.probability))),
        ("confusion", {"actual": words[studies.abnormal], "predicted": words[called]}),
    ):
        pd.DataFrame(columns).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def _log_result(facts: EvaluationFacts, seconds: float) -> None:
    tuning, test, opinion, calibration = facts.scores.tuning, facts.scores.test, facts.second_opinion, facts.calibration
    log.info("evaluate: calibrated on tuning: intercept %.3f, slope %.3f", calibration.intercept, calibration.slope)
    if calibration.slope == 0:
        log.warning(
            "evaluate: %s ranks backwards on tuning; its answers have no weight in the probabilities", facts.candidate
        )
    if calibration.pooled_parts:
        log.warning(
            "evaluate: training had no images of %s, or images of one label only: these studies have the offset of all "
            "body parts together",
            ", ".join(calibration.pooled_parts),
        )
    log.info(
        "evaluate: %s tuning studies, AUROC %s, kappa %s, %.0f s; %s is of %s",
        f"{tuning.n_studies:,}",
        tuning.auroc,
        tuning.cohen_kappa,
        seconds,
        TEST_REPORT,
        count(test.n_studies, "test study"),
    )
    below = facts.floor.tuning
    says = "evaluate: without looking at the bones (body part, views, picture size): tuning AUROC %s; the model adds %s"
    log.info(says, below.auroc, below.auroc_gain)
    if below.auroc_gain.low is None or below.auroc_gain.low <= 0:
        says = "evaluate: %s is not shown to know more on tuning than body part, number of views and picture size tell"
        log.warning(says, facts.candidate)
    if facts.false_alarms is None:
        log.warning(
            "evaluate: too few tuning studies to tell what is unlike the training data: %s, at least %s are needed",
            f"{tuning.n_studies:,}",
            familiarity.fewest_studies(facts.params["false_alarms"]),
        )
    for name, groups in facts.slices.tuning.items():
        if not groups:
            log.warning("evaluate: the manifest has no column for the slice %s: nothing is measured by it", name)
    if opinion is not None:
        studies = count(opinion.studies, "test study")
        log.info("evaluate: the overlay gives %s another label; %s has the numbers by both", studies, TEST_REPORT)


def _short(value: object) -> str:
    return str(value)[:12]
