"""The page of an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from components.artifacts.evaluation import EvaluationFacts, SplitScores
from components.artifacts.trained_model import TrainedModelFacts
from components.pages.render import picture, render
from components.params.evaluate import EvaluateParams
from components.scores import metrics
from components.scores.metrics import Studies

TEMPLATE = Path(__file__).with_name("report.html")
PREVALENCES = (0.05, 0.10, 0.25, 0.45)
MOST_ERRORS = 10
MOST_RELABELLED = 40
RULES = {
    "kappa": "highest Cohen's kappa",
    "youden": "highest sum of sensitivity and specificity",
    "sensitivity": "highest threshold with a sensitivity of at least {target:g}",
    "fixed": "set in advance to {target:g}",
}


class Relabelled(NamedTuple):
    """A test study that the overlay gives another label."""

    study: str
    abnormal: int
    """The other label."""
    probability: float
    source: str
    reason: str


@dataclass(frozen=True)
class EvaluationFigures:
    """The charts of the page, PNG."""

    roc: bytes
    precision_recall: bytes
    calibration: bytes
    body_parts: bytes
    learning_curves: bytes


def evaluation_page(
    facts: EvaluationFacts,
    trained: TrainedModelFacts,
    body_parts: Mapping[str, SplitScores],
    studies: Studies,
    figures: EvaluationFigures,
    params: EvaluateParams,
    seed: int,
    relabelled: Sequence[Relabelled] = (),
) -> str:
    """How good a model is, for a radiologist and for a reviewer: the verdict first, then what it rests on.

    Args:
        facts: of the evaluation.
        trained: the model's card.
        body_parts: test scores by body part, in the order to show.
        studies: of the test split, for the errors.
        figures: the charts.
        params: how it was measured.
        seed: of the bootstrap.
        relabelled: test studies that the overlay gives another label.

    Returns:
        HTML that needs no other file.
    """
    test = facts.scores.test
    missed, alarms = metrics.confident_errors(studies, facts.scores.threshold, MOST_ERRORS)
    return render(
        TEMPLATE,
        facts=facts,
        trained=trained,
        scores=facts.scores,
        test=test,
        tuning=facts.scores.tuning,
        accuracy=metrics.rate("accuracy", test.confusion),
        body_parts=body_parts,
        opinion=facts.second_opinion,
        relabelled=relabelled[:MOST_RELABELLED],
        missed=missed,
        alarms=alarms,
        predictive=[
            (share, *metrics.predictive_values(test.sensitivity.value, test.specificity.value, share))
            for share in PREVALENCES
        ],
        calibration_error=metrics.calibration_curve(studies.abnormal, studies.probability).expected_error,
        calibration_bins=metrics.CALIBRATION_BINS,
        mean_probability=float(studies.probability.mean()),
        rule=RULES[params.operating_point].format(target=params.target),
        rule_is_chosen=params.operating_point != "fixed",
        draws=params.bootstrap_draws,
        seed=seed,
        roc=picture(figures.roc, "ROC curve of the test studies with the operating point"),
        precision_recall=picture(figures.precision_recall, "Precision-recall curve of the test studies"),
        calibration=picture(figures.calibration, "Calibration of the test studies over a histogram of predictions"),
        forest=picture(figures.body_parts, "AUROC and Cohen's kappa by body part with 95 % intervals"),
        learning_curves=picture(figures.learning_curves, "Loss, tuning AUROC and learning rate by epoch"),
    )
