"""The reports of an evaluation, one of each split: their charts and their pages."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup

from components.artifacts.evaluation import (
    FEWEST_PATIENTS,
    METRIC_TITLES,
    TEST_REPORT,
    EvaluationFacts,
    Groups,
    SplitScores,
)
from components.artifacts.manifest import LABEL_NAMES, TEST, ManifestFacts, ValidManifestFacts
from components.artifacts.shards import ShardsFacts
from components.artifacts.trained_model import TrainedModelFacts
from components.evaluate import flow
from components.evaluate.attribution import Attribution
from components.evaluate.calibration_page import CalibrationFigures, calibration_section, draw_calibration, rule
from components.pages.render import picture, render
from components.pages.subgroups import draw_subgroups, subgroups
from components.params.protocol import ProtocolParams
from components.params.train import title
from components.scores import charts, curves, familiarity, intervals, metrics
from components.scores.studies import Studies

TEMPLATE = Path(__file__).with_name("report.html")
PREVALENCES = (0.05, 0.10, 0.25, 0.45)
MOST_ERRORS = 10
MOST_RELABELLED = 40


class Measured(NamedTuple):
    """A model, what it was measured on and how, and both splits' scores."""

    facts: EvaluationFacts
    trained: TrainedModelFacts
    manifest: ValidManifestFacts
    shards: ShardsFacts
    protocol: ProtocolParams
    studies: pd.DataFrame
    """The table of both splits' studies."""
    opinions: pd.DataFrame
    """Second opinions by study: `overlay`, `overlay_source`, `overlay_reason`."""


class Split(NamedTuple):
    """One split, which a page is about."""

    name: str
    """`tuning` or `test`."""
    studies: Studies
    scores: SplitScores
    slices: dict[str, Groups]
    """By slice, in the order to show."""
    attribution: Attribution | None = None
    """What the network used."""


class Figures(NamedTuple):
    """The charts of the page, PNG."""

    roc: bytes
    precision_recall: bytes
    calibration: CalibrationFigures
    subgroups: dict[str, bytes]
    """By slice, where there are groups to compare."""
    learning_curves: bytes | None
    """None on the page of the test split."""


class Relabelled(NamedTuple):
    """A study that the overlay has a label for: 1 abnormal, 0 normal."""

    study: str
    official: int
    overlay: int
    probability: float
    source: str
    reason: str


def draw(measured: Measured, split: Split, epochs: pd.DataFrame | None = None) -> Figures:
    """Draw the charts of a page.

    Args:
        measured: what to show.
        split: the one that the page is about.
        epochs: the learning curves of the model, if the page shows them.
    """
    studies, scores = split.studies, split.scores
    roc = curves.roc_curve(studies.abnormal, studies.probability)
    precision_recall = curves.precision_recall_curve(studies.abnormal, studies.probability)
    best = measured.trained.best_epoch
    return Figures(
        roc=charts.png(charts.roc(roc, scores)),
        precision_recall=charts.png(charts.precision_recall(precision_recall, scores)),
        calibration=draw_calibration(measured.facts, measured.studies, split.name),
        subgroups=draw_subgroups(scores, split.slices),
        learning_curves=None if epochs is None else charts.png(charts.learning_curves(epochs, best)),
    )


def evaluation_page(measured: Measured, split: Split, figures: Figures) -> str:
    """Write the page of a split for radiologists and reviewers: the result first, then what it rests on.

    Nothing that was measured on the test split stands on the page of the tuning split.

    Returns:
        HTML that needs no other file.
    """
    facts, found, studies, protocol = measured.facts, split.scores, split.studies, measured.protocol
    missed, alarms = metrics.confident_errors(studies, facts.scores.threshold, MOST_ERRORS)
    on_test = split.name == TEST
    return render(
        TEMPLATE,
        METRIC_TITLES=METRIC_TITLES,
        LABEL_NAMES=LABEL_NAMES,
        TEST_REPORT=TEST_REPORT,
        title=title(facts.candidate, facts.architecture),
        candidate_title=title,
        facts=facts,
        trained=measured.trained,
        manifest=measured.manifest,
        unseen=unseen(measured.manifest),
        shards=measured.shards,
        scores=facts.scores,
        split=split.name,
        on_test=on_test,
        found=found,
        accuracy=metrics.rate("accuracy", found.confusion),
        subgroups=subgroups(split.slices, figures.subgroups),
        opinion=facts.second_opinion if on_test else None,
        relabelled=_relabelled(studies, measured.opinions)[:MOST_RELABELLED],
        missed=missed,
        alarms=alarms,
        attribution=split.attribution,
        predictive=[
            (share, *metrics.predictive_values(found.sensitivity.value, found.specificity.value, share))
            for share in PREVALENCES
        ],
        calibrated=calibration_section(facts, measured.trained.offsets, protocol, split.name, figures.calibration),
        protocol=protocol,
        rule=rule(protocol.operating_point, protocol),
        rule_is_chosen=protocol.operating_point != "half",
        interval_methods=intervals.METHODS,
        fewest_patients=FEWEST_PATIENTS,
        fewest_studies=familiarity.fewest_studies(facts.params["false_alarms"]),
        flow=flow.diagram(measured.manifest, measured.shards),
        **_pictures(split.name, figures),
    )


def unseen(manifest: ManifestFacts) -> list[str]:
    """What the data do not tell of patients and pictures, in words."""
    device = "the device beside its manufacturer" if "manufacturer" in manifest.kept else "scanner"
    people = [words for name, words in (("age", "age at examination"), ("sex", "sex")) if name not in manifest.kept]
    return [*people, "origin", "side of the body", device, "hospital", "why the image was taken"]


def _pictures(split: str, figures: Figures) -> dict[str, Markup | None]:
    said = {
        "roc": f"ROC curve of the {split} studies with the operating point",
        "precision_recall": f"Precision-recall curve of the {split} studies",
        "learning_curves": "Loss, tuning AUROC and learning rate by epoch",
    }
    drawn = {name: getattr(figures, name) for name in said}
    return {f"{name}_chart": png and picture(png, said[name]) for name, png in drawn.items()}


def _relabelled(studies: Studies, opinions: pd.DataFrame) -> list[Relabelled]:
    """Studies with a second opinion, the surest predictions first: they change the metrics most."""
    found = []
    for study, official, probability in zip(
        studies.study.tolist(), studies.abnormal.tolist(), studies.probability.tolist(), strict=True
    ):
        if study in opinions.index:
            label, source, reason = opinions.loc[study, ["overlay", "overlay_source", "overlay_reason"]]
            found.append(Relabelled(study, official, int(label), probability, source, reason))
    return sorted(found, key=lambda each: (-abs(each.probability - 0.5), each.study))
