"""The report of an evaluation: its charts and its page."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from components.artifacts.evaluation import METRIC_TITLES, EvaluationFacts, SplitScores
from components.artifacts.manifest import LABEL_NAMES
from components.artifacts.trained_model import TrainedModelFacts
from components.evaluate.attribution import Attribution
from components.pages.render import picture, render
from components.params.evaluate import EvaluateParams
from components.params.train import title
from components.scores import charts, curves, metrics
from components.scores.studies import Studies

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


class Measured(NamedTuple):
    """A model, and all that was measured of it."""

    facts: EvaluationFacts
    trained: TrainedModelFacts
    params: EvaluateParams
    seed: int
    """Of the bootstrap."""
    body_parts: dict[str, SplitScores]
    """Test scores by body part, in the order to show."""
    test: Studies
    opinions: pd.DataFrame
    """Second opinions by study: `overlay`, `overlay_source`, `overlay_reason`."""
    attribution: Attribution | None = None
    """What the network used."""


class Figures(NamedTuple):
    """The charts of the page, PNG."""

    roc: bytes
    precision_recall: bytes
    calibration: bytes
    body_parts: bytes
    learning_curves: bytes


class Relabelled(NamedTuple):
    """A test study that the overlay has a label for: 1 abnormal, 0 normal."""

    study: str
    official: int
    overlay: int
    probability: float
    source: str
    reason: str


def draw(measured: Measured, epochs: pd.DataFrame) -> Figures:
    """Draw the charts.

    Args:
        measured: what to show.
        epochs: the learning curves of the model.
    """
    test, scores = measured.test, measured.facts.scores.test
    roc = curves.roc_curve(test.abnormal, test.probability)
    precision_recall = curves.precision_recall_curve(test.abnormal, test.probability)
    calibration = curves.calibration_curve(test.abnormal, test.probability)
    return Figures(
        roc=charts.png(charts.roc(roc, scores)),
        precision_recall=charts.png(charts.precision_recall(precision_recall, scores)),
        calibration=charts.png(charts.calibration(calibration, scores)),
        body_parts=charts.png(charts.body_parts(scores, measured.body_parts)),
        learning_curves=charts.png(charts.learning_curves(epochs, measured.trained.best_epoch)),
    )


def evaluation_page(measured: Measured, figures: Figures) -> str:
    """Write the page for radiologists and reviewers: the result first, then what it rests on.

    Returns:
        HTML that needs no other file.
    """
    facts, params, test, studies = measured.facts, measured.params, measured.facts.scores.test, measured.test
    missed, alarms = metrics.confident_errors(studies, facts.scores.threshold, MOST_ERRORS)
    return render(
        TEMPLATE,
        METRIC_TITLES=METRIC_TITLES,
        LABEL_NAMES=LABEL_NAMES,
        title=title(facts.candidate, facts.architecture),
        facts=facts,
        trained=measured.trained,
        scores=facts.scores,
        test=test,
        tuning=facts.scores.tuning,
        accuracy=metrics.rate("accuracy", test.confusion),
        body_parts=measured.body_parts,
        opinion=facts.second_opinion,
        relabelled=_relabelled(studies, measured.opinions)[:MOST_RELABELLED],
        missed=missed,
        alarms=alarms,
        attribution=measured.attribution,
        predictive=[
            (share, *metrics.predictive_values(test.sensitivity.value, test.specificity.value, share))
            for share in PREVALENCES
        ],
        calibration_error=curves.calibration_curve(studies.abnormal, studies.probability).expected_error,
        calibration_bins=curves.CALIBRATION_BINS,
        mean_probability=float(studies.probability.mean()),
        rule=RULES[params.operating_point].format(target=params.target),
        rule_is_chosen=params.operating_point != "fixed",
        draws=params.bootstrap_draws,
        seed=measured.seed,
        roc=picture(figures.roc, "ROC curve of the test studies with the operating point"),
        precision_recall=picture(figures.precision_recall, "Precision-recall curve of the test studies"),
        calibration=picture(figures.calibration, "Calibration of the test studies over a histogram of predictions"),
        forest=picture(figures.body_parts, "AUROC and Cohen's kappa by body part with 95 % intervals"),
        learning_curves=picture(figures.learning_curves, "Loss, tuning AUROC and learning rate by epoch"),
    )


def _relabelled(test: Studies, opinions: pd.DataFrame) -> list[Relabelled]:
    """Test studies with a second opinion, the surest predictions first: they change the metrics most."""
    found = []
    for study, official, probability in zip(
        test.study.tolist(), test.abnormal.tolist(), test.probability.tolist(), strict=True
    ):
        if study in opinions.index:
            label, source, reason = opinions.loc[study, ["overlay", "overlay_source", "overlay_reason"]]
            found.append(Relabelled(study, official, int(label), probability, source, reason))
    return sorted(found, key=lambda each: (-abs(each.probability - 0.5), each.study))
