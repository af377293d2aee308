"""Measure a model, and write what was found."""

import json
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.artifacts.evaluation import (
    METRICS,
    PREDICTIONS,
    REPORT,
    STUDIES,
    SUMMARY,
    TEST_METRICS,
    TEST_REPORT,
    Evaluation,
    EvaluationFacts,
    Scores,
    SecondOpinion,
    SplitScores,
)
from components.artifacts.manifest import BODY_PARTS, TEST, TUNING, ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.base import provenance
from components.base.errors import DataRefused
from components.base.files import write_text
from components.base.words import count
from components.evaluate import attribution
from components.evaluate.attribution import Attribution
from components.evaluate.page import Figures, Measured, Split, draw, evaluation_page
from components.evaluate.predictions import predict
from components.network import backend
from components.params.evaluate import EvaluateParams
from components.params.protocol import ProtocolParams
from components.scores import curves, metrics
from components.scores.both_splits import BothSplits, answers_of
from components.scores.studies import Studies

log = logging.getLogger(__name__)

# What `register` draws of the test split.
ROC = ("false_positive_rate", "sensitivity")


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
    opinions = _opinions(manifest)
    predictions = predict(shards, model, params.batch_size)
    predictions.insert(6, "overlay", predictions["study"].map(opinions["overlay"]).astype("Int64"))
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
        second_opinion=second or None,
    )
    measured = Measured(facts, model.facts, manifest.facts, shards.facts, protocol, found.table, opinions)
    of_tuning, of_test = _splits(found, protocol, partial(attribution.explain, model, shards))
    predictions.to_parquet(out / PREDICTIONS, index=False)
    found.table.to_parquet(out / STUDIES, index=False)
    _write(out, measured, of_tuning, of_test, pd.read_csv(model.curves))
    _log_result(facts, time.monotonic() - started)
    return Evaluation.seal(out, facts)


def _splits(
    found: BothSplits, protocol: ProtocolParams, explain: Callable[[str, Studies, float], Attribution]
) -> tuple[Split, Split]:
    """What the page of tuning is about, and that of test."""
    score = partial(metrics.score, threshold=found.threshold)
    studies = {TUNING: (found.calibrated.tuning, found.tuning), TEST: (found.calibrated.test, found.test)}
    tuning, test = (
        Split(
            name,
            mine,
            scores,
            _by_part(mine, score) if "body_part" in protocol.slices else {},
            explain(name, mine, found.threshold),
        )
        for name, (mine, scores) in studies.items()
    )
    return tuning, test


def _write(out: Path, measured: Measured, tuning: Split, test: Split, epochs: pd.DataFrame) -> None:
    """Write what was measured: of the tuning split what is looked at often, of the test split files of its own."""
    _write_json(out / METRICS, _metrics(measured, tuning) | {"threshold": measured.facts.scores.threshold})
    _write_json(out / SUMMARY, _summary(measured.facts))
    figures = draw(measured, tuning, epochs)
    write_text(out / REPORT, evaluation_page(measured, tuning, figures))
    _write_plots(out / "plots", measured, tuning, figures)
    opinion = measured.facts.second_opinion
    second = {} if opinion is None else {"second_opinion": opinion.model_dump()}
    curve = curves.roc_curve(test.studies.abnormal, test.studies.probability)
    # Without the thresholds, of which the first is infinite: JSON has no such number.
    points = {name: getattr(curve, name).tolist() for name in ROC}
    _write_json(out / TEST_METRICS, _metrics(measured, test) | {"roc": points} | second)
    write_text(out / TEST_REPORT, evaluation_page(measured, test, draw(measured, test)))


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


def _opinions(manifest: ValidManifest) -> pd.DataFrame:
    """Second opinions by study: `overlay`, `overlay_source`, `overlay_reason`."""
    table = manifest.table
    return table[table["overlay"].notna()].drop_duplicates("study").set_index("study")


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


def _by_part(studies: Studies, score: Callable[[Studies], SplitScores]) -> dict[str, SplitScores]:
    found = set(studies.body_part.tolist())
    parts = [part for part in BODY_PARTS if part in found] + sorted(found - set(BODY_PARTS))
    return {part: score(studies.of_part(part)) for part in parts}


def _metrics(measured: Measured, split: Split) -> dict[str, Any]:
    facts = measured.facts
    return {
        split.name: split.scores.model_dump(),
        "body_part": {part: found.model_dump() for part, found in split.body_parts.items()},
        "operating_point": measured.protocol.operating_point,
        "operating_points": {
            name: {"threshold": point.threshold, split.name: point.of(split.name).model_dump()}
            for name, point in facts.operating_points.items()
        },
        "calibration": facts.calibration.model_dump() | {split.name: facts.reliability.of(split.name).model_dump()},
        "digests": {
            "data": facts.data_digest,
            "shards": facts.shards_digest,
            "model": facts.model_digest,
            "tuning": facts.scores.tuning_digest,
            "test": facts.scores.test_digest,
            "protocol": facts.protocol_digest,
        },
    }


def _summary(facts: EvaluationFacts) -> dict[str, float | None]:
    """What `dvc metrics show` and `dvc exp show` tell: nothing of the test split."""
    tuning = facts.scores.tuning
    values = {
        "tuning_auroc": tuning.auroc.value,
        "tuning_cohen_kappa": tuning.cohen_kappa.value,
        "tuning_sensitivity": tuning.sensitivity.value,
        "tuning_specificity": tuning.specificity.value,
        "threshold": facts.scores.threshold,
    }
    return {name: None if value is None else round(value, 4) for name, value in values.items()}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


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
    if opinion is not None:
        studies = count(opinion.studies, "test study")
        log.info("evaluate: the overlay gives %s another label; %s has the numbers by both", studies, TEST_REPORT)


def _short(value: object) -> str:
    return str(value)[:12]
