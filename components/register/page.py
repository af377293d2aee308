"""The page of the test split: what all candidates reach on it, and how often it was opened."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from components.artifacts.evaluation import METRIC_TITLES, TEST_METRICS, Evaluation
from components.artifacts.manifest import TEST
from components.artifacts.registration import RegisteredModel, RegistrationFacts, ranked
from components.base.errors import DataRefused, first_line
from components.pages.render import picture, render
from components.params.protocol import ProtocolParams
from components.params.train import title
from components.scores import charts, side_by_side
from components.scores.side_by_side import Candidate

Curve = tuple[list[float], list[float]]
"""False-positive rates and sensitivities."""
TEMPLATE = Path(__file__).with_name("report.html")


class Figures(NamedTuple):
    """The charts of the page, PNG."""

    forest: bytes
    """AUROC and kappa of each candidate."""
    roc: bytes


def curve_of(evaluation: Evaluation) -> Curve:
    """The ROC curve of the test split, as `mura evaluate` wrote it.

    Raises:
        DataRefused: it is not there, or is no such curve.
    """
    file = evaluation.path / TEST_METRICS
    try:
        roc = json.loads(file.read_text(encoding="utf-8"))["roc"]
        x, y = ([float(each) for each in roc[name]] for name in ("false_positive_rate", "sensitivity"))
        if len(x) != len(y) or not all(0 <= each <= 1 for each in (*x, *y)):
            raise ValueError("expected as many rates as sensitivities, from 0 to 1")
    except FileNotFoundError:
        raise DataRefused(f"{file}: no such file. Evaluate the model again.") from None
    except (ValueError, KeyError, TypeError) as error:
        says = f"{type(error).__name__}: {first_line(error)}"
        raise DataRefused(f"{file}: no ROC curve of the test split ({says}). Evaluate the model again.") from error
    return x, y


def draw(facts: RegistrationFacts, curves: Mapping[int, Curve]) -> Figures:
    """Draw the candidates, best first.

    Args:
        facts: the receipt.
        curves: the ROC curve of each version, by its number.
    """
    shown = _shown(facts)
    named = {f"{_label(model)}: AUROC {model.scores.test.auroc}": curves[model.version] for model in shown}
    forest = side_by_side.forest([Candidate(_label(model), model.scores) for model in shown], TEST)
    return Figures(forest=charts.png(forest), roc=charts.png(charts.roc_curves(named)))


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
