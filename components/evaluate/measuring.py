"""Measure a model, and write what was found."""

import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.artifacts.evaluation import (
    METRICS,
    PREDICTIONS,
    REPORT,
    SUMMARY,
    Evaluation,
    EvaluationFacts,
    Scores,
    SecondOpinion,
)
from components.artifacts.manifest import BODY_PARTS, TEST, TUNING, ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.base import provenance
from components.base.errors import DataRefused
from components.base.files import write_text
from components.evaluate import attribution
from components.evaluate.page import Figures, Measured, draw, evaluation_page
from components.evaluate.predictions import predict
from components.network import backend
from components.params.evaluate import EvaluateParams
from components.scores import curves, metrics
from components.scores.both_splits import BothSplits, studies_of
from components.scores.studies import Studies

log = logging.getLogger(__name__)


def run(
    manifest: ValidManifest, shards: Shards, model: TrainedModel, params: EvaluateParams, seed: int, out: Path
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
    tuning, test = (_studies(predictions, split, shards) for split in (TUNING, TEST))
    overlay_labels = {str(study): int(label) for study, label in opinions["overlay"].items()}
    found = BothSplits.measure(tuning, test, overlay_labels, params, seed)
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
        seed=seed,
        scores=Scores(
            tuning=found.tuning,
            test=found.test,
            threshold=found.threshold,
            tuning_digest=shards.facts.splits[TUNING].digest,
            test_digest=shards.facts.splits[TEST].digest,
        ),
        second_opinion=second or None,
    )
    score = partial(metrics.score, threshold=found.threshold, draws=params.bootstrap_draws, seed=seed)
    body_parts = {part: score(test.of_part(part)) for part in _parts(set(test.body_part.tolist()))}
    explained = attribution.explain(model, shards, TUNING, tuning, found.threshold)
    measured = Measured(facts, model.facts, params, seed, body_parts, test, opinions, explained)
    predictions.to_parquet(out / PREDICTIONS, index=False)
    _write_json(out / METRICS, _metrics(measured))
    _write_json(out / SUMMARY, _summary(facts))
    figures = draw(measured, pd.read_csv(model.curves))
    write_text(out / REPORT, evaluation_page(measured, figures))
    _write_plots(out / "plots", measured, figures)
    _log_result(facts, time.monotonic() - started)
    return Evaluation.seal(out, facts)


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


def _studies(predictions: pd.DataFrame, split: str, shards: Shards) -> Studies:
    rows = predictions[predictions.split == split]
    try:
        studies = studies_of(rows)
    except ValueError as error:
        raise DataRefused(f"{shards.path}, {split}: {error} Run ingest, validate and shard again.") from error
    abnormal = int(studies.abnormal.sum())
    if abnormal in (0, len(studies)):
        raise DataRefused(
            f"{shards.path}: expected abnormal and normal studies in {split}, got {abnormal} abnormal of "
            f"{len(studies)}. Nothing can be measured; use a larger archive or tuning fraction."
        )
    return studies


def _parts(found: set[str]) -> list[str]:
    return [part for part in BODY_PARTS if part in found] + sorted(found - set(BODY_PARTS))


def _metrics(measured: Measured) -> dict[str, Any]:
    facts = measured.facts
    scores, opinion = facts.scores, facts.second_opinion
    return {
        "test": scores.test.model_dump(),
        "tuning": scores.tuning.model_dump(),
        "body_part": {part: found.model_dump() for part, found in measured.body_parts.items()},
        "threshold": scores.threshold,
        "operating_point": measured.params.operating_point,
        "n_studies": {"test": scores.test.n_studies, "tuning": scores.tuning.n_studies},
        "digests": {
            "data": facts.data_digest,
            "shards": facts.shards_digest,
            "model": facts.model_digest,
            "tuning": scores.tuning_digest,
            "test": scores.test_digest,
        },
    } | ({} if opinion is None else {"second_opinion": opinion.model_dump()})


def _summary(facts: EvaluationFacts) -> dict[str, float | None]:
    scores, opinion = facts.scores, facts.second_opinion
    values = {
        "test_auroc": scores.test.auroc.value,
        "test_cohen_kappa": scores.test.cohen_kappa.value,
        "test_sensitivity": scores.test.sensitivity.value,
        "test_specificity": scores.test.specificity.value,
        "tuning_auroc": scores.tuning.auroc.value,
        "threshold": scores.threshold,
    }
    if opinion is not None:
        values |= {
            "overlay_test_auroc": opinion.test.auroc.value,
            "overlay_test_cohen_kappa": opinion.test.cohen_kappa.value,
        }
    return {name: None if value is None else round(value, 4) for name, value in values.items()}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _write_plots(folder: Path, measured: Measured, figures: Figures) -> None:
    """Write what `dvc plots` shows."""
    folder.mkdir()
    (folder / "roc.png").write_bytes(figures.roc)
    (folder / "calibration.png").write_bytes(figures.calibration)
    test = measured.test
    words = np.array(["normal", "abnormal"])
    called = (test.probability >= measured.facts.scores.threshold).astype(np.int64)
    for name, columns in (
        ("roc", vars(curves.roc_curve(test.abnormal, test.probability))),
        ("calibration", vars(curves.calibration_curve(test.abnormal, test.probability))),
        ("confusion", {"actual": words[test.abnormal], "predicted": words[called]}),
    ):
        pd.DataFrame(columns).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def _log_result(facts: EvaluationFacts, seconds: float) -> None:
    test, opinion = facts.scores.test, facts.second_opinion
    log.info(
        "evaluate: %s studies, test AUROC %s, kappa %s, %.0f s",
        f"{test.n_studies:,}",
        test.auroc,
        test.cohen_kappa,
        seconds,
    )
    if opinion is not None:
        log.info(
            "evaluate: with the overlay, which gives %s test studies another label: AUROC %s, kappa %s",
            f"{opinion.studies:,}",
            opinion.test.auroc,
            opinion.test.cohen_kappa,
        )


def _short(value: object) -> str:
    return str(value)[:12]
