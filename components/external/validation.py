"""Measure a registered version on other labelled data, and write what was found."""

import hashlib
import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components import tracking
from components.archive.archive import Archive
from components.artifacts.evaluation import RawAndCalibrated, SplitScores
from components.artifacts.external_validation import (
    METRICS,
    PREDICTIONS,
    REFUSED,
    REPORT,
    STUDIES,
    Counts,
    ExternalFacts,
    ExternalValidation,
    Refusals,
    Version,
    Worst,
)
from components.artifacts.manifest import ValidManifest
from components.base import provenance
from components.base.errors import DataRefused, UsageError
from components.base.files import write_text, writing
from components.base.words import count, in_words
from components.external.page import external_page
from components.external.picture_answers import OWN, Answers, ask
from components.params.protocol import Slice
from components.predict.predictor import Predictor
from components.scores import metrics, operating_points, reliability, slices
from components.scores.both_splits import answers_of
from components.scores.studies import Studies, StudyLogits

log = logging.getLogger(__name__)

SLICES: tuple[Slice, ...] = ("body_part", "views")
SEED = 0
"""Of the draws that the calibration error is compared with. Nothing else is drawn."""


def validate(model: str, place: str, manifest: ValidManifest | None, out: Path) -> ExternalValidation:
    """Measure a version on an archive: calibration and threshold are those that it was registered with.

    Args:
        model: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        place: of the archive, MURA's layout: a zip, a directory or s3://.
        manifest: of the data that the version was made with. Pictures that are the same file are left out.
        out: where the result goes.

    Raises:
        UsageError: there is no such version, or the manifest is of other data.
        DataRefused: the archive cannot be read, has studies of one label only, or was the model's own.
        OutsideFailed, ServiceUnreachable: as `Predictor.of` and `Archive.read`.
    """
    tracking.require("evaluate")
    started = time.monotonic()
    archive = Archive.read(place)
    predictor = Predictor.of(model)
    if manifest is not None and manifest.facts.data_digest != predictor.card.data_digest:
        raise UsageError(
            f"evaluate: {manifest.path} is of data set {manifest.facts.data_digest:.12}, and {predictor} was made with "
            f"{predictor.card.data_digest:.12}. Give the manifest of those data, or none."
        )
    log.info("evaluate: %s on %s", predictor, archive.name)
    known = frozenset() if manifest is None else frozenset(manifest.table["sha256"].dropna())
    compared = None if manifest is None else manifest.facts.data_digest
    inputs = {
        "model": [predictor.named.model, predictor.named.version],
        "archive": archive.identity,
        "manifest": compared,
    }
    # Before the pictures are read, which takes long: it also says whether the result may stand there.
    with writing(out, inputs, ExternalValidation.CARD) as work:
        facts = _measure(predictor, archive, ask(predictor, archive, known), compared, work)
        made = ExternalValidation.seal(work, facts)
    _log_result(facts, time.monotonic() - started)
    return ExternalValidation(out, made.facts, made.digest)


def _measure(
    predictor: Predictor, archive: Archive, answers: Answers, compared: str | None, work: Path
) -> ExternalFacts:
    raw = _studies(archive, answers)
    found = raw.with_probability(predictor.probabilities(raw.logit, raw.body_part))
    table = _table(raw, found, predictor.offset(raw.body_part))
    scores = metrics.score(found, predictor.threshold)
    facts = ExternalFacts(
        version=_version(predictor),
        archive=archive.name,
        data_digest=_data_digest(answers.answered),
        code_revision=provenance.code_revision(),
        counts=_counts(answers, raw, compared),
        scores=scores,
        worst=_worst(scores, answers, raw),
        reliability=_reliability(raw.raw(), found, scores),
        pooled_parts=tuple(sorted(set(raw.body_part.tolist()) - set(predictor.body_parts))),
        slices=slices.measure(SLICES, table, found, partial(metrics.score, threshold=predictor.threshold)),
    )
    answers.answered.to_parquet(work / PREDICTIONS, index=False)
    table.to_parquet(work / STUDIES, index=False)
    answers.refused.to_csv(work / REFUSED, index=False, lineterminator="\n")
    write_text(work / METRICS, json.dumps(_metrics(facts), indent=2, allow_nan=False) + "\n")
    write_text(work / REPORT, external_page(facts, raw.raw(), found))
    return facts


def _studies(archive: Archive, answers: Answers) -> StudyLogits:
    if not len(answers.answered):
        most = next(iter(_refusals(answers)), None)
        why = f": {count(most.images, 'picture')}: {most.why}" if most else ""
        raise DataRefused(f"{archive.name}: expected labelled pictures, got none that can be used{why}.")
    try:
        found = answers_of(answers.answered)
    except ValueError as error:
        raise DataRefused(f"{archive.name}: {error}") from error
    abnormal = int(found.abnormal.sum())
    if abnormal in (0, len(found)):
        raise DataRefused(
            f"{archive.name}: expected abnormal and normal studies, got {abnormal} abnormal of {len(found)}. Nothing "
            "can be measured."
        )
    return found


def _version(predictor: Predictor) -> Version:
    card, named = predictor.card, predictor.named
    return Version(
        model=named.model,
        version=named.version,
        candidate=card.candidate,
        architecture=card.architecture,
        model_digest=card.model_digest,
        evaluation_digest=card.evaluation_digest,
        data_digest=card.data_digest,
        operating_point=card.operating_point,
        scores=card.scores,
    )


def _refusals(answers: Answers) -> list[Refusals]:
    counted = answers.refused["why"].value_counts()
    rows = sorted(counted.items(), key=lambda each: (-each[1], str(each[0])))
    return [Refusals(why=str(why), images=int(images)) for why, images in rows]


def _counts(answers: Answers, found: StudyLogits, compared: str | None) -> Counts:
    left = _unanswered(answers, found)
    return Counts(
        images=len(answers.answered) + len(answers.refused),
        refused=tuple(_refusals(answers)),
        studies=len(answers.labels),
        unanswered_normal=left.count(0),
        unanswered_abnormal=left.count(1),
        compared_with=compared,
    )


def _unanswered(answers: Answers, found: StudyLogits) -> list[int]:
    """The labels of studies without an answer. Those that the model was made with do not count."""
    answered = set(found.study.tolist())
    own = set(answers.refused.loc[answers.refused["why"] == OWN, "study"])
    return [label for study, label in answers.labels.items() if study not in answered and study not in own]


def _worst(scores: SplitScores, answers: Answers, found: StudyLogits) -> Worst:
    left, cells = _unanswered(answers, found), scores.confusion
    abnormal = cells.true_positive + cells.false_negative + left.count(1)
    normal = cells.true_negative + cells.false_positive + left.count(0)
    return Worst(sensitivity=cells.true_positive / abnormal, specificity=cells.true_negative / normal)


def _reliability(raw: Studies, found: Studies, scores: SplitScores) -> RawAndCalibrated:
    # No threshold changes a Brier score.
    before = metrics.score(raw, operating_points.HALF).brier
    return RawAndCalibrated(
        raw=reliability.measure(raw, before, SEED), calibrated=reliability.measure(found, scores.brier, SEED)
    )


def _table(raw: StudyLogits, found: Studies, offset: NDArray[np.float64]) -> pd.DataFrame:
    columns = {
        "study": raw.study,
        "patient": raw.patient,
        "body_part": raw.body_part,
        "abnormal": raw.abnormal,
        "views": raw.views,
        "logit": raw.logit,
        "offset": offset,
        "probability": found.probability,
    }
    return pd.DataFrame(columns)


def _data_digest(answered: pd.DataFrame) -> str:
    rows = answered.sort_values("image")[["image", "abnormal", "sha256"]]
    return hashlib.sha256(rows.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def _metrics(facts: ExternalFacts) -> dict[str, Any]:
    version = facts.version
    return {
        "external": facts.scores.model_dump(),
        "worst": facts.worst.model_dump(),
        "counts": facts.counts.model_dump(),
        "slices": {
            name: {group: found.model_dump() for group, found in groups.items()}
            for name, groups in facts.slices.items()
        },
        "reliability": facts.reliability.model_dump(),
        "threshold": version.scores.threshold,
        "home": version.scores.test.model_dump(),
        "version": {"model": version.model, "version": version.version, "model_digest": version.model_digest},
        "digests": {"data": facts.data_digest, "home": version.data_digest},
    }


def _log_result(facts: ExternalFacts, seconds: float) -> None:
    counts, scores, home = facts.counts, facts.scores, facts.version.scores.test
    for each in counts.refused:
        log.warning("evaluate: %s without an answer: %s", count(each.images, "picture"), each.why)
    if left := counts.unanswered_normal + counts.unanswered_abnormal:
        says = "evaluate: %s without an answer, %d of them abnormal: they are not in the figures"
        log.warning(says, count(left, "study"), counts.unanswered_abnormal)
    if facts.pooled_parts:
        says = "evaluate: the model learned nothing of %s: these studies have the offset of all body parts together"
        log.warning(says, in_words(facts.pooled_parts))
    if counts.compared_with is None:
        log.warning("evaluate: not known whether the model was made with some of these pictures: give --manifest")
    says = "evaluate: %s of %s: AUROC %s, sensitivity %s, specificity %s; %.0f s"
    rates = (scores.auroc, scores.sensitivity, scores.specificity)
    log.info(says, count(scores.n_studies, "study"), facts.archive, *rates, seconds)
    log.info("evaluate: at home, on the test split: AUROC %s", home.auroc)
