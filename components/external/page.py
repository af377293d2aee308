"""The page of an external validation."""

from pathlib import Path

from components.artifacts.evaluation import FEWEST_PATIENTS, METRIC_TITLES
from components.artifacts.external_validation import ExternalFacts
from components.pages.render import picture, render
from components.pages.subgroups import draw_subgroups, subgroups
from components.params.train import title
from components.scores import calibration_charts, charts, curves, metrics
from components.scores.studies import Studies

TEMPLATE = Path(__file__).with_name("external.html")
MOST_ERRORS = 10
MOST_REASONS = 20


def external_page(facts: ExternalFacts, raw: Studies, studies: Studies) -> str:
    """Write the page: the result first, then what had no answer, then what it rests on.

    Args:
        facts: what was measured.
        raw: the studies with the mean probability of their views.
        studies: the same with their calibrated probabilities.

    Returns:
        HTML that needs no other file.
    """
    found, version = facts.scores, facts.version
    missed, alarms = metrics.confident_errors(studies, version.scores.threshold, MOST_ERRORS)
    roc = curves.roc_curve(studies.abnormal, studies.probability)
    precision_recall = curves.precision_recall_curve(studies.abnormal, studies.probability)
    reliability = calibration_charts.reliability(
        curves.calibration_curve(raw.abnormal, raw.probability),
        curves.calibration_curve(studies.abnormal, studies.probability),
        facts.reliability,
    )
    drawn = {
        "roc_chart": (charts.roc(roc, found), "ROC curve with the operating point"),
        "precision_recall_chart": (charts.precision_recall(precision_recall, found), "Precision-recall curve"),
        "reliability_chart": (reliability, "Calibration of the studies, raw and calibrated"),
    }
    return render(
        TEMPLATE,
        METRIC_TITLES=METRIC_TITLES,
        title=title(version.candidate, version.architecture),
        facts=facts,
        version=version,
        found=found,
        home=version.scores.test,
        counts=facts.counts,
        answered=facts.counts.images - sum(each.images for each in facts.counts.refused),
        unanswered=facts.counts.unanswered_normal + facts.counts.unanswered_abnormal,
        reasons=facts.counts.refused[:MOST_REASONS],
        other_reasons=facts.counts.refused[MOST_REASONS:],
        missed=missed,
        alarms=alarms,
        split="external",
        subgroups=subgroups(facts.slices, draw_subgroups(found, facts.slices)),
        fewest_patients=FEWEST_PATIENTS,
        **{name: picture(charts.png(figure), said) for name, (figure, said) in drawn.items()},
    )
