"""Measure a model: the threshold from the tuning split, the numbers from the test split."""

import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.evaluation import (
    METRICS,
    PREDICTIONS,
    REPORT,
    SUMMARY,
    Evaluation,
    EvaluationFacts,
    Scores,
    SecondOpinion,
    SplitScores,
)
from components.artifacts.manifest import BODY_PARTS, TEST, TUNING, ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.base.errors import DataRefused
from components.base.files import write_text
from components.params.evaluate import EvaluateParams

if TYPE_CHECKING:
    import pandas

    from components.evaluate.page import Relabelled
    from components.scores.metrics import Studies

log = logging.getLogger(__name__)


def run(
    manifest: ValidManifest, shards: Shards, model: TrainedModel, params: EvaluateParams, seed: int, out: Path
) -> Evaluation:
    """Do what `components.evaluate.evaluate` says."""
    _check_pair(manifest, shards, model)
    from components.base import provenance
    from components.network import backend
    from components.scores import metrics

    backend.prepare()
    started = time.monotonic()
    log.info("evaluate: %s on %s", model.facts.architecture, shards.path)
    opinions = _opinions(manifest)
    predictions = _predictions(shards, model, params.batch_size)
    predictions.insert(6, "overlay", predictions["study"].map(opinions["overlay"]).astype("Int64"))
    shared = set(predictions.patient[predictions.split == TUNING]) & set(predictions.patient[predictions.split == TEST])
    if shared:
        raise DataRefused(
            f"{shards.path}: expected no patient in two splits, got {len(shared)} in both tuning and test, such as "
            f"{min(shared)}. Run ingest, validate and shard again."
        )
    tuning, test = (_studies(predictions, split, shards) for split in (TUNING, TEST))
    threshold = metrics.choose_threshold(tuning.abnormal, tuning.probability, params.operating_point, params.target)
    scores = Scores(
        tuning=metrics.score(tuning, threshold, params.bootstrap_draws, seed),
        test=metrics.score(test, threshold, params.bootstrap_draws, seed),
        threshold=threshold,
        tuning_digest=shards.facts.splits[TUNING].digest,
        test_digest=shards.facts.splits[TEST].digest,
    )
    body_parts = {
        part: metrics.score(test.of_part(part), threshold, params.bootstrap_draws, seed)
        for part in _parts(set(test.body_part.tolist()))
    }
    facts = EvaluationFacts(
        candidate=model.facts.candidate,
        architecture=model.facts.architecture,
        model_digest=model.digest,
        data_digest=shards.facts.data_digest,
        shards_digest=shards.digest,
        code_revision=provenance.code_revision(),
        scores=scores,
        second_opinion=_second_opinion(manifest, test, opinions, threshold, params, seed),
    )
    predictions.to_parquet(out / PREDICTIONS, index=False)
    _write_json(out / METRICS, _metrics(facts, body_parts, params))
    _write_json(out / SUMMARY, _summary(facts))
    _write_pictures(out, facts, model, body_parts, test, opinions, params, seed)
    log.info(
        "evaluate: %s studies, test AUROC %s, kappa %s, %.0f s",
        f"{scores.test.n_studies:,}",
        scores.test.auroc,
        scores.test.cohen_kappa,
        time.monotonic() - started,
    )
    if facts.second_opinion is not None:
        log.info(
            "evaluate: with the overlay, which gives %s test studies another label: AUROC %s, kappa %s",
            f"{facts.second_opinion.studies:,}",
            facts.second_opinion.test.auroc,
            facts.second_opinion.test.cohen_kappa,
        )
    return Evaluation.seal(out, facts)


def _check_pair(manifest: ValidManifest, shards: Shards, model: TrainedModel) -> None:
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


def _predictions(shards: Shards, model: TrainedModel, batch_size: int) -> "pandas.DataFrame":
    """One row per image of the tuning and test splits, ascending by split and image."""
    import numpy as np
    import pandas as pd

    from components.network import architectures, batches
    from components.scores import metrics

    network = architectures.load(model)
    tables = []
    for split in (TUNING, TEST):
        images = batches.read_split(shards, split)
        with batches.reading(images):
            answers = network.predict(batches.in_order(images, batch_size), verbose=0)
        logit = np.asarray(answers, dtype=np.float32)[:, 0]
        strays = np.flatnonzero(~np.isfinite(logit))
        if strays.size:
            raise DataRefused(
                f"{model.path}: expected a finite logit for every image, got {logit[strays[0]]} for "
                f"{images.image[strays[0]]} ({strays.size} in {split}). Its training diverged; train it again."
            )
        table = pd.DataFrame(
            {
                "image": images.image,
                "study": images.study,
                "patient": images.patient,
                "body_part": images.body_part,
                "split": split,
                "abnormal": images.abnormal,
                "logit": logit,
                "probability": metrics.sigmoid(logit),
            }
        )
        tables.append(table.sort_values("image", ignore_index=True))
    return pd.concat(tables, ignore_index=True)


def _opinions(manifest: ValidManifest) -> "pandas.DataFrame":
    """Second opinions by study: `overlay`, `overlay_source`, `overlay_reason`."""
    table = manifest.table
    return table[table["overlay"].notna()].drop_duplicates("study").set_index("study")


def _second_opinion(
    manifest: ValidManifest,
    test: "Studies",
    opinions: "pandas.DataFrame",
    threshold: float,
    params: EvaluateParams,
    seed: int,
) -> SecondOpinion | None:
    import numpy as np

    from components.scores import metrics

    if manifest.facts.overlay_digest is None:
        return None
    labels = np.array(
        [opinions["overlay"].get(study, label) for study, label in zip(test.study, test.abnormal, strict=True)],
        np.int64,
    )
    return SecondOpinion(
        overlay_digest=manifest.facts.overlay_digest,
        studies=int(np.sum(labels != test.abnormal)),
        # The same patients and the same seed: the same draws, so that the two can be compared.
        test=metrics.score(dataclasses.replace(test, abnormal=labels), threshold, params.bootstrap_draws, seed),
    )


def _studies(predictions: "pandas.DataFrame", split: str, shards: Shards) -> "Studies":
    from components.scores.metrics import Studies

    rows = predictions[predictions.split == split]
    try:
        studies = Studies.of_images(rows.study, rows.patient, rows.body_part, rows.abnormal, rows.probability)
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


def _metrics(facts: EvaluationFacts, body_parts: dict[str, SplitScores], params: EvaluateParams) -> dict[str, Any]:
    scores, opinion = facts.scores, facts.second_opinion
    return {
        "test": scores.test.model_dump(),
        "tuning": scores.tuning.model_dump(),
        "body_part": {part: found.model_dump() for part, found in body_parts.items()},
        "threshold": scores.threshold,
        "operating_point": params.operating_point,
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


def _write_pictures(
    out: Path,
    facts: EvaluationFacts,
    model: TrainedModel,
    body_parts: dict[str, SplitScores],
    test: "Studies",
    opinions: "pandas.DataFrame",
    params: EvaluateParams,
    seed: int,
) -> None:
    """The report, and what `dvc plots` shows."""
    import numpy as np
    import pandas as pd

    from components.evaluate.page import EvaluationFigures, evaluation_page
    from components.scores import charts, metrics

    scores, threshold = facts.scores.test, facts.scores.threshold
    roc = metrics.roc_curve(test.abnormal, test.probability)
    calibration = metrics.calibration_curve(test.abnormal, test.probability)
    precision_recall = metrics.precision_recall_curve(test.abnormal, test.probability)
    figures = EvaluationFigures(
        roc=charts.roc(roc, scores),
        precision_recall=charts.precision_recall(precision_recall, scores),
        calibration=charts.calibration(calibration, scores),
        body_parts=charts.body_parts(scores, body_parts),
        learning_curves=charts.learning_curves(pd.read_csv(model.curves), model.facts.best_epoch),
    )
    relabelled = _relabelled(test, opinions)
    page = evaluation_page(facts, model.facts, body_parts, test, figures, params, seed, relabelled)
    write_text(out / REPORT, page)

    plots = out / "plots"
    plots.mkdir()
    (plots / "roc.png").write_bytes(figures.roc)
    (plots / "calibration.png").write_bytes(figures.calibration)
    words = np.array(["normal", "abnormal"])
    confusion = {
        "actual": words[test.abnormal],
        "predicted": words[(test.probability >= threshold).astype(np.int64)],
    }
    for name, columns in (("roc", vars(roc)), ("calibration", vars(calibration)), ("confusion", confusion)):
        pd.DataFrame(columns).to_csv(plots / f"{name}.csv", index=False, lineterminator="\n")


def _relabelled(test: "Studies", opinions: "pandas.DataFrame") -> "list[Relabelled]":
    """Test studies with a second opinion, the surest predictions first: they move the metrics most."""
    from components.evaluate.page import Relabelled

    found = []
    for study, probability in zip(test.study.tolist(), test.probability.tolist(), strict=True):
        if study in opinions.index:
            label, source, reason = opinions.loc[study, ["overlay", "overlay_source", "overlay_reason"]]
            found.append(Relabelled(study, int(label), probability, source, reason))
    return sorted(found, key=lambda each: (-abs(each.probability - 0.5), each.study))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _short(value: object) -> str:
    return str(value)[:12]
