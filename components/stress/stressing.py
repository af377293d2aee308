"""Predict disturbed pictures, measure, and write what was found."""

import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import TUNING
from components.artifacts.shards import Shards
from components.artifacts.stress import DROPS, REPORT, Disturbed, Stress, StressFacts
from components.artifacts.trained_model import TrainedModel
from components.base import provenance
from components.base.errors import DataRefused
from components.base.files import write_text
from components.network import architectures, backend, batches
from components.params.stress import StressParams
from components.scores import metrics, offsets, paired
from components.scores.calibration import Line, probability
from components.scores.studies import Studies, StudyLogits, auroc
from components.stress.disturbances import disturb, seed_of
from components.stress.page import Example, stress_page

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


class Trial(NamedTuple):
    """A disturbance at one strength."""

    name: str
    strength: float


def run(
    shards: Shards, model: TrainedModel, evaluation: Evaluation, params: StressParams, seed: int, out: Path
) -> Stress:
    """Do what `components.stress.stress` says."""
    _check_inputs(shards, model, evaluation)
    backend.prepare()
    started = time.monotonic()
    trials = [Trial(name, strength) for name, strengths in params.strengths.items() for strength in strengths]
    images = batches.read_split(shards, TUNING)
    logger.info(
        "stress: %s, %s tuning images, undisturbed and %d times disturbed",
        model.facts.candidate,
        f"{len(images):,}",
        len(trials),
    )
    network = architectures.load(model, evaluation.facts.flips)
    undisturbed, *disturbed = _logits(network, images, trials, params.batch_size, seed)
    _check_finite(model, trials, [undisturbed, *disturbed])
    threshold = evaluation.facts.scores.threshold
    calibrated = partial(_studies, images, model, evaluation)
    studies = calibrated(undisturbed)
    measured = [
        _measured(trial, studies, calibrated(logit), threshold) for trial, logit in zip(trials, disturbed, strict=True)
    ]
    facts = StressFacts(
        candidate=model.facts.candidate,
        architecture=model.facts.architecture,
        model_digest=model.digest,
        shards_digest=shards.digest,
        evaluation_digest=evaluation.digest,
        tuning_digest=shards.facts.splits[TUNING].digest,
        code_revision=provenance.code_revision(),
        params=params.model_dump(mode="json"),
        seed=seed,
        threshold=threshold,
        n_studies=len(studies),
        n_abnormal=int(studies.abnormal.sum()),
        n_patients=len(set(studies.patient.tolist())),
        auroc=auroc(studies.abnormal, studies.probability),
        cohen_kappa=_kappa(studies, threshold),
        disturbed=tuple(measured),
    )
    write_text(out / DROPS, json.dumps(_told(facts), indent=2, allow_nan=False) + "\n")
    write_text(out / REPORT, stress_page(facts, _example(images, studies, trials, seed)))
    worst = max(facts.disturbed, key=lambda each: each.auroc_drop.value or 0.0)
    logger.info(
        "stress: tuning AUROC %.3f; the largest drop is that of %s %g: %s, %.0f s",
        facts.auroc or 0.0,
        worst.name,
        worst.strength,
        worst.auroc_drop,
        time.monotonic() - started,
    )
    return Stress.seal(out, facts)


def _studies(images: batches.Split, model: TrainedModel, evaluation: Evaluation, logit: NDArray[np.float32]) -> Studies:
    """The studies of a split with the probabilities of the evaluation's line, from a logit for each image, [N]."""
    answers = StudyLogits.of_images(
        images.study, images.patient, images.body_part, images.abnormal, logit.astype(np.float64)
    )
    line = Line(evaluation.facts.calibration.intercept, evaluation.facts.calibration.slope)
    offset = offsets.of_studies(model.facts.offsets, answers.body_part)
    return answers.with_probability(probability(line, answers.logit, offset))


def _measured(trial: Trial, undisturbed: Studies, disturbed: Studies, threshold: float) -> Disturbed:
    """What a disturbance costs on the same patients."""
    drops = paired.difference(undisturbed, disturbed, (threshold, threshold))
    return Disturbed(
        **trial._asdict(),
        auroc=auroc(disturbed.abnormal, disturbed.probability),
        cohen_kappa=_kappa(disturbed, threshold),
        auroc_drop=drops["auroc"],
        cohen_kappa_drop=drops["cohen_kappa"],
    )


def _kappa(studies: Studies, threshold: float) -> float | None:
    return metrics.rate("cohen_kappa", metrics.confusion(studies.abnormal, studies.probability, threshold))


def _check_inputs(shards: Shards, model: TrainedModel, evaluation: Evaluation) -> None:
    for artifact, what, expected, got in (
        (model, "a model trained on the data of", shards.facts.data_digest, model.facts.data_digest),
        (model, "a model for the image size of", shards.facts.image_size, model.facts.image_size),
        (evaluation, "an evaluation on", shards.digest, evaluation.facts.shards_digest),
    ):
        if expected != got:
            raise DataRefused(
                f"{artifact.path}: expected {what} {shards.path} ({str(expected)[:12]}), got one of another "
                f"({str(got)[:12]}). Make it again, or give the shards that belong to it."
            )
    if evaluation.facts.model_digest != model.digest:
        raise DataRefused(
            f"{evaluation.path}: expected the evaluation of {model.path} ({model.digest[:12]}), got that of another "
            f"model ({evaluation.facts.model_digest[:12]}). Evaluate this model first: `mura evaluate`."
        )


def _logits(
    network: "keras.Model", images: batches.Split, trials: list[Trial], batch_size: int, seed: int
) -> list[NDArray[np.float32]]:
    """The logit of every image, undisturbed and in each trial: float32 [N] each. Every picture is read once."""
    found: list[list[NDArray[np.float32]]] = [[] for _ in range(len(trials) + 1)]
    with batches.reading(images):
        for start in range(0, len(images), batch_size):
            chosen = np.arange(start, min(start + batch_size, len(images)))
            pixels = np.asarray(images.pixels[chosen])[..., 0]
            for number, seen in enumerate([pixels, *_disturbed(pixels, images.image[chosen], trials, seed)]):
                found[number].append(np.asarray(network.predict_on_batch(seen[..., None]), np.float32)[:, 0])
    return [np.concatenate(each) for each in found]


def _check_finite(model: TrainedModel, trials: list[Trial], logits: list[NDArray[np.float32]]) -> None:
    """Check the logits of the undisturbed pictures and of each trial.

    Raises:
        DataRefused: one is not finite.
    """
    for logit, trial in zip(logits, [None, *trials], strict=True):
        if not np.isfinite(logit).all():
            name = f"{trial.name} {trial.strength:g}" if trial else "undisturbed"
            raise DataRefused(
                f"{model.path}: expected finite logits, got {logit[~np.isfinite(logit)][0]} ({name}). Its training "
                "diverged; train it again."
            )


def _disturbed(
    pixels: NDArray[np.uint8], names: NDArray[np.str_], trials: list[Trial], seed: int
) -> "list[NDArray[np.uint8]]":
    """The pictures, uint8 [N, S, S], in each trial."""
    seeds = {name: [seed_of(str(image), name, seed) for image in names] for name in {each.name for each in trials}}
    return [disturb(pixels, trial.name, trial.strength, seeds[trial.name]) for trial in trials]


def _example(images: batches.Split, studies: Studies, trials: list[Trial], seed: int) -> Example:
    """The first view of the abnormal study that the model is surest of, undisturbed and disturbed."""
    surest = np.argmax(np.where(studies.abnormal == 1, studies.probability, -1.0))
    rows = np.flatnonzero(images.study == studies.study[surest])
    row = rows[np.argsort(images.image[rows])][:1]
    pixels = np.asarray(images.pixels[row])[..., 0]
    # Whatever its own seed says of an inversion: the example shows one.
    inverted = {number: 255 - pixels for number, trial in enumerate(trials) if trial.name == "inversion"}
    made = _disturbed(pixels, images.image[row], trials, seed)
    return Example(str(images.image[row[0]]), pixels[0], [inverted.get(i, each)[0] for i, each in enumerate(made)])


def _told(facts: StressFacts) -> dict[str, Any]:
    """What the JSON file says."""
    chosen = ("candidate", "threshold", "n_studies", "n_abnormal", "n_patients")
    return {
        **facts.model_dump(mode="json", include=set(chosen)),
        "undisturbed": {"auroc": facts.auroc, "cohen_kappa": facts.cohen_kappa},
        "disturbed": [each.model_dump(mode="json") for each in facts.disturbed],
        "digests": {
            "tuning": facts.tuning_digest,
            "shards": facts.shards_digest,
            "model": facts.model_digest,
            "evaluation": facts.evaluation_digest,
        },
    }
