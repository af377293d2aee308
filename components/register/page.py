"""The page of the test split: what all candidates reach on it, and how often it was opened."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from components.artifacts.evaluation import METRIC_TITLES, TEST_METRICS, Evaluation
from components.artifacts.manifest import TEST
from components.artifacts.registration import RegisteredModel, RegistrationFacts, ranked
from components.pages.render import picture, render
from components.params.protocol import ProtocolParams
from components.params.train import title
from components.scores import charts, side_by_side
from components.scores.side_by_side import Candidate

TEMPLATE = Path(__file__).with_name("report.html")


class Figures(NamedTuple):
    """The charts of the page, PNG."""

    forest: bytes
    """AUROC and kappa of each candidate."""
    roc: bytes


def draw(facts: RegistrationFacts, evaluated: Mapping[int, Evaluation]) -> Figures:
    """Draw the candidates, best first.

    Args:
        facts: the receipt.
        evaluated: the evaluation of each version, by its number.
    """
    shown = _shown(facts)
    curves = {}
    for model in shown:
        curve = json.loads((evaluated[model.version].path / TEST_METRICS).read_text(encoding="utf-8"))["roc"]
        label = f"{_label(model)}: AUROC {model.scores.test.auroc}"
        curves[label] = (curve["false_positive_rate"], curve["sensitivity"])
    forest = side_by_side.forest([Candidate(_label(model), model.scores) for model in shown], TEST)
    return Figures(forest=charts.png(forest), roc=charts.png(charts.roc_curves(curves)))


def registration_page(facts: RegistrationFacts, figures: Figures) -> str:
    """Write what the candidates reach on the test split.

    Args:
        facts: the receipt.
        figures: the charts.

    Returns:
        HTML that needs no other file.
    """
    shown = _shown(facts)
    return render(
        TEMPLATE,
        METRIC_TITLES=METRIC_TITLES,
        title=title,
        candidates=shown,
        first=shown[0],
        opened=facts.opened,
        protocol=_protocol(facts),
        forest=picture(figures.forest, "Test AUROC and Cohen's kappa of each candidate with 95 % intervals"),
        roc=picture(figures.roc, "ROC curves of the candidates on the test studies"),
    )


def _protocol(facts: RegistrationFacts) -> ProtocolParams:
    return ProtocolParams.model_validate(facts.versions[0].protocol)


def _shown(facts: RegistrationFacts) -> list[RegisteredModel]:
    return ranked(facts.versions, _protocol(facts).primary_metric)


def _label(model: RegisteredModel) -> str:
    return f"{title(model.candidate, model.architecture)} v{model.version}"
