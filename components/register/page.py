"""The page that compares the candidates on both splits, and its charts."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup

from components.artifacts.evaluation import FEWEST_PATIENTS, METRIC_TITLES, Interval, SplitScores
from components.artifacts.manifest import TEST
from components.artifacts.registration import Difference, RegistrationFacts
from components.base.words import size
from components.pages.render import picture, render
from components.params.protocol import ProtocolParams
from components.register.comparison import Contrast, Entry, by_part
from components.scores import bands, charts, comparison_charts, curves, paired, side_by_side
from components.scores.comparison_charts import Change, Curve, Dots, Epochs
from components.scores.side_by_side import Candidate
from components.tracking.version_comparison import METRICS, SPLITS

TEMPLATE = Path(__file__).with_name("report.html")
METRICS_OF_PARTS = ("auroc", "cohen_kappa")


class Compared(NamedTuple):
    """All that the page shows."""

    facts: RegistrationFacts
    protocol: ProtocolParams
    entries: list[Entry]
    """The candidates, best first."""
    aliases: dict[int, tuple[str, ...]]
    """Of the registered model, by version."""
    contrasts: list[Contrast]
    """With the first candidate, then with the versions that hold an alias."""
    parts: dict[str, dict[str, list[SplitScores]]]
    """By split and body part, of each candidate; none where the protocol has no such slice."""

    @classmethod
    def of(
        cls,
        facts: RegistrationFacts,
        entries: list[Entry],
        aliases: dict[int, tuple[str, ...]],
        contrasts: list[Contrast],
    ) -> "Compared":
        """Add what follows from the candidates."""
        protocol = ProtocolParams.model_validate(facts.versions[0].protocol)
        parts = {split: by_part(entries, split) for split in SPLITS}
        return cls(facts, protocol, entries, aliases, contrasts, parts)


class OfSplit(NamedTuple):
    """The charts of a split, PNG."""

    roc: bytes
    precision_recall: bytes
    calibration: bytes
    body_parts: bytes | None
    """None where the protocol has no such slice."""
    banded: bool
    """Whether the first curves have bands: there are enough patients."""


class Figures(NamedTuple):
    """The charts of the page, PNG."""

    forest: bytes
    """AUROC and kappa of each candidate."""
    differences: list[bytes | None]
    """Of each contrast; None where there is no difference."""
    learning_curves: bytes | None
    """None if no candidate has any."""
    tuning: OfSplit
    test: OfSplit

    def of(self, split: str) -> OfSplit:
        """Those of a split."""
        return self.test if split == TEST else self.tuning


class Cost(NamedTuple):
    """What a candidate took to train and takes to keep; None of what its card does not say."""

    label: str
    parameters: int | None
    weights: str | None
    epochs: int | None
    kept: int | None
    seconds: float | None
    device: str
    precision: str


def draw(compared: Compared) -> Figures:
    """Draw the charts."""
    entries = compared.entries
    learned = [(number, epochs) for number, entry in enumerate(entries) if (epochs := _epochs(entry)) is not None]
    forest = side_by_side.forest([Candidate(entry.label, entry.version.scores) for entry in entries], TEST)
    return Figures(
        forest=charts.png(forest),
        differences=[_draw_contrast(contrast) for contrast in compared.contrasts],
        learning_curves=charts.png(comparison_charts.learning_curves(learned)) if learned else None,
        tuning=_draw_split(compared, SPLITS[0]),
        test=_draw_split(compared, SPLITS[1]),
    )


def registration_page(compared: Compared, figures: Figures) -> str:
    """Write the comparison: the ranking first, then how sure it is, then what it rests on.

    Args:
        compared: what was measured.
        figures: the charts.

    Returns:
        HTML that needs no other file.
    """
    entries = compared.entries
    metric = METRIC_TITLES[compared.protocol.primary_metric]
    best = [entry.version.tuning(compared.protocol.primary_metric).value for entry in entries[:2]]
    return render(
        TEMPLATE,
        METRIC_TITLES=METRIC_TITLES,
        METRICS=METRICS,
        METRICS_OF_PARTS=METRICS_OF_PARTS,
        SPLITS=SPLITS,
        fewest_patients=FEWEST_PATIENTS,
        entries=entries,
        first=entries[0],
        tied=len(best) > 1 and best[0] is not None and best[0] == best[1],
        metric=metric,
        aliases=compared.aliases,
        opened=compared.facts.opened,
        protocol=compared.protocol,
        contrasts=list(zip(compared.contrasts, _contrast_pictures(compared, figures), strict=True)),
        n_intervals=sum(_n_intervals(contrast) for contrast in compared.contrasts),
        paired_method=paired.METHOD,
        band_method=bands.METHOD.format(draws=bands.DRAWS),
        bins=curves.CALIBRATION_BINS,
        parts=compared.parts,
        costs=[_cost(entry) for entry in entries],
        unlearned=[entry.label for entry in entries if _epochs(entry) is None],
        forest=picture(figures.forest, f"Test AUROC and Cohen's kappa of {_all(entries)} with 95 % intervals"),
        learning_curves=figures.learning_curves
        and picture(figures.learning_curves, f"AUROC on tuning by epoch of {_all(entries)}"),
        charts={split: _pictures(entries, split, figures.of(split)) for split in SPLITS},
    )


def _draw_contrast(contrast: Contrast) -> bytes | None:
    rows = [Change(row.label, _by_metric(row.tuning), _by_metric(row.test)) for row in contrast.rows]
    if all(row.tuning is None and row.test is None for row in rows):
        return None
    return charts.png(comparison_charts.differences(rows, METRICS))


def _by_metric(found: Difference | None) -> dict[str, Interval] | None:
    return None if found is None else {name: getattr(found, name) for name in METRICS}


def _draw_split(compared: Compared, split: str) -> OfSplit:
    entries = compared.entries
    found = bands.bands(entries[0].studies(split), entries[0].evaluation.seed)
    roc, precision_recall, dots = [], [], []
    for entry in entries:
        studies, scores = entry.studies(split), entry.version.scores.of(split)
        mine = found if entry is entries[0] else None
        line = curves.roc_curve(studies.abnormal, studies.probability)
        sensitivity, specificity = scores.sensitivity.value, scores.specificity.value
        point = (None if specificity is None else 1 - specificity, sensitivity)
        roc.append(
            Curve(f"{entry.label}: {scores.auroc}", line.false_positive_rate, line.sensitivity, point,
                  mine and mine.roc)
        )  # fmt: skip
        steps = curves.precision_recall_curve(studies.abnormal, studies.probability)
        precision_recall.append(
            Curve(f"{entry.label}: {scores.average_precision}", steps.sensitivity, steps.ppv,
                  (sensitivity, scores.ppv.value), mine and mine.precision_recall)
        )  # fmt: skip
        calibration = curves.calibration_curve(studies.abnormal, studies.probability)
        dots.append(Dots(entry.label, calibration, entry.evaluation.reliability.of(split).calibrated))
    whole = entries[0].version.scores.of(split)
    parts = {
        f"{part} ({scores[0].n_studies:,})": [(each.auroc, each.cohen_kappa) for each in scores]
        for part, scores in compared.parts[split].items()
    }
    labels = [entry.label for entry in entries]
    return OfSplit(
        roc=charts.png(comparison_charts.roc_curves(roc)),
        precision_recall=charts.png(
            comparison_charts.precision_recall_curves(precision_recall, whole.n_abnormal / whole.n_studies)
        ),
        calibration=charts.png(comparison_charts.reliabilities(dots)),
        body_parts=charts.png(comparison_charts.body_parts(parts, labels)) if parts else None,
        banded=found is not None,
    )


def _contrast_pictures(compared: Compared, figures: Figures) -> list[Markup | None]:
    titles = ", ".join(METRIC_TITLES[name] for name in METRICS)
    return [
        None
        if png is None
        else picture(png, f"Differences in {titles} to {contrast.reference} on tuning and test with 95 % intervals")
        for contrast, png in zip(compared.contrasts, figures.differences, strict=True)
    ]


def _pictures(entries: Sequence[Entry], split: str, figures: OfSplit) -> dict[str, Markup | bool | None]:
    said = {
        "roc": f"ROC curves of {_all(entries)} on the {split} studies",
        "precision_recall": f"Precision-recall curves of {_all(entries)} on the {split} studies",
        "calibration": f"Calibration of {_all(entries)} on the {split} studies",
        "body_parts": f"AUROC and Cohen's kappa of {_all(entries)} by body part on the {split} studies",
    }
    drawn = {name: png and picture(png, said[name]) for name, png in figures._asdict().items() if name in said}
    return drawn | {"banded": figures.banded}


def _n_intervals(contrast: Contrast) -> int:
    values = [getattr(found, name) for row in contrast.rows for found in row[1:] if found for name in METRICS]
    return sum(value.low is not None for value in values)


def _epochs(entry: Entry) -> Epochs | None:
    """The learning curves; None of a model that has none."""
    if not entry.model.curves.is_file():
        return None
    table = pd.read_csv(entry.model.curves)
    if "tuning_auroc" not in table or table["tuning_auroc"].isna().all():
        return None
    return Epochs(entry.label, table, entry.model.facts.best_epoch)


def _cost(entry: Entry) -> Cost:
    facts, weights = entry.model.facts, entry.model.weights
    return Cost(
        label=entry.label,
        parameters=facts.parameters or None,
        weights=size(weights.stat().st_size) if weights.is_file() else None,
        epochs=facts.epochs or None,
        kept=facts.best_epoch or None,
        seconds=facts.seconds or None,
        device=facts.device,
        precision=facts.precision,
    )


def _all(entries: Sequence[Entry]) -> str:
    return ", ".join(entry.label for entry in entries)
