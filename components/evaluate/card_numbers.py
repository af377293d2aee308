"""What the model card says of the test split: its numbers, and the limits that they show."""

from components.artifacts.evaluation import (
    METRIC_TITLES,
    EvaluationFacts,
    Floor,
    Groups,
    Interval,
    SecondOpinion,
    SplitScores,
)
from components.artifacts.manifest import ValidManifestFacts
from components.base.words import count, in_words
from components.evaluate.calibration_page import rule
from components.evaluate.page import Figures, Measured, Split
from components.pages.prose import Block, Bullets, Chart, Code, Heading, Paragraph, Strong, Table, Text
from components.pages.render import picture
from components.scores import familiarity
from components.scores.slices import SLICES

GROUP_METRICS = ("auroc", "cohen_kappa", "sensitivity", "specificity")
OFFICIAL = ' By the official labels: where the second opinion is right, a good model looks bad in the group "changed".'


def analyses(measured: Measured, test: Split, figures: Figures) -> list[Block]:
    """The section of numbers, with those of tuning beside them.

    Args:
        measured: the model, and what it was measured on.
        test: the test split.
        figures: its charts.
    """
    facts, scores = measured.facts, test.scores
    tuning = facts.scores.tuning
    rows = [(name, str(getattr(scores, key)), str(getattr(tuning, key))) for key, name in METRIC_TITLES.items()]
    wrong = scores.confusion
    return [
        Heading("Quantitative analyses"),
        Table(
            ("Metric", "Test", "Tuning"),
            rows,
            f"Value and 95 % interval. The test column is the result: {count(scores.n_studies, 'study')} of "
            f"{count(scores.n_patients, 'patient')}, {scores.n_abnormal:,} of them abnormal. Choices were made on "
            "tuning, so that column is a little too good.",
        ),
        Paragraph(
            f"Of the {scores.n_abnormal:,} abnormal test studies {wrong.false_negative:,} were missed; of the "
            f"{scores.n_studies - scores.n_abnormal:,} normal ones {wrong.false_positive:,} were false alarms."
        ),
        Chart(picture(figures.roc, "ROC curve of the test studies with the operating point"), "ROC curve, test."),
        *_points(measured),
        *_calibration(measured),
        *_floor(facts.floor, scores),
        *_unlike(facts),
        *_subgroups(test, figures),
        *_opinion(facts.second_opinion, scores),
    ]


def caveats(measured: Measured, test: Split) -> list[Block]:
    """The section of limits and known failure modes: what these data show, and what holds of every such model.

    Args:
        measured: the model, and what it was measured on.
        test: the test split.
    """
    side = measured.trained.image_size
    known: list[Text] = [
        *_shown(measured, test),
        f"The network sees {side} x {side} pixels. What is smaller than a few of these cannot be seen.",
        "Maps of what the network used are no localisation: a finding may be without colour, and colour may lie beside "
        "it or where there is none.",
        "One training of each network was measured, with one seed. Others differ, and the intervals do not cover that.",
        [
            "A test split is used up by looking at it. The page of ",
            Code("mura register"),
            " says how many models were measured on these studies: the best of many is too good.",
        ],
        "A picture that is unlike the training data is not always told: a bone of another body part, or the film of "
        "another device, may look alike to the network.",
        "Before any use elsewhere: measure it there, calibrate it anew, and choose the threshold for that place.",
    ]
    return [
        Heading("Caveats and recommendations"),
        Paragraph("Limits and failure modes that are known."),
        Bullets(known),
    ]


def _points(measured: Measured) -> list[Block]:
    protocol, points = measured.protocol, measured.facts.operating_points
    rows: list[list[Text]] = []
    for name, point in points.items():
        said = rule(name, protocol)
        found = (str(getattr(point.test, key)) for key in ("sensitivity", "specificity", "ppv", "npv"))
        decides = name == protocol.operating_point
        rows.append([[Strong(said), " (decides)"] if decides else said, f"{point.threshold:.4f}", *found])
    head = ("Rule", "Threshold", "Sensitivity", "Specificity", "PPV", "NPV")
    said = "Operating points, measured on test. Predictive values hold for this share of abnormal studies only."
    return [Heading("Calibration and operating points", 3), Table(head, rows, said)]


def _calibration(measured: Measured) -> list[Block]:
    found = measured.facts.reliability.test
    rows = [
        (name, str(getattr(found.raw, key)), str(getattr(found.calibrated, key)))
        for name, key in (("Brier score", "brier"), ("Slope", "slope"), ("Intercept", "intercept"))
    ]
    said = "Test studies before and after calibration. A slope of 1 and an intercept of 0 are best."
    return [Table(("Calibration", "Raw", "Calibrated"), rows, said)]


def _floor(floor: Floor, scores: SplitScores) -> list[Block]:
    test = floor.test
    rows = [
        ("AUROC", str(scores.auroc), str(test.auroc), str(test.auroc_gain)),
        ("Cohen's kappa", str(scores.cohen_kappa), str(test.cohen_kappa), str(test.cohen_kappa_gain)),
    ]
    return [
        Heading("What can be known without looking at the bones", 3),
        Table(
            ("Metric", "The model", "The floor", "Difference"),
            rows,
            "Test studies. The floor is a logistic regression on body part, number of views and picture size, fitted "
            "on the training studies. The difference is taken on the same patients.",
        ),
    ]


def _unlike(facts: EvaluationFacts) -> list[Block]:
    found, stated = facts.false_alarms, f"{100 * facts.params['false_alarms']:g} %"
    heading = Heading("Pictures that are unlike the training data", 3)
    if found is None:
        fewest = familiarity.fewest_studies(facts.params["false_alarms"])
        return [
            heading,
            Paragraph(
                "The model cannot tell them, and answers about any picture: there are fewer than the "
                f"{count(fewest, 'tuning study')} that are needed to choose a distance with {stated} of false alarms."
            ),
        ]
    return [
        heading,
        Paragraph(
            f"Each view is compared with {count(found.pictures, 'training picture')}, in what the network sees at "
            f'several depths. A study with a view farther than {found.threshold:.3f} is answered with "unlike" and '
            f"without a probability. Tuning chose that distance for a share of {stated} false alarms; of the test "
            f"studies, which are like the training data, {found.test} are called unlike. The other numbers of this "
            "card are of all test studies, also of these."
        ),
    ]


def _subgroups(test: Split, figures: Figures) -> list[Block]:
    blocks: list[Block] = [Heading("Subgroups", 3)] if test.slices else []
    if test.slices:
        blocks.append(
            Paragraph(
                "Of 100 intervals about five do not hold the true value, by chance alone, and nothing is corrected for "
                "their number: one row that lies off is a question, and no finding."
            )
        )
    for name, groups in test.slices.items():
        known = SLICES[name]
        if len(groups) > 1:
            said = OFFICIAL if name == "second_opinion" else ""
            blocks.append(_group_table(known.title, groups, said))
            image = picture(figures.subgroups[name], f"AUROC and Cohen's kappa, {known.title}, with 95 % intervals")
            blocks.append(Chart(image, f"{known.title}, test. The number of studies in brackets."))
        elif groups:
            blocks.append(Paragraph(f"{known.title}: all test studies are of one group, {next(iter(groups))}."))
        else:
            blocks.append(
                Paragraph([f"{known.title}: the data do not know it, they have no column ", Code(known.column), "."])
            )
    return blocks


def _group_table(title: str, groups: Groups, said: str) -> Table:
    rows: list[list[Text]] = [
        [
            group,
            f"{found.n_studies:,}",
            f"{found.n_abnormal:,} ({100 * found.n_abnormal / found.n_studies:.0f} %)",
            *(str(getattr(found, key)) for key in GROUP_METRICS),
        ]
        for group, found in groups.items()
    ]
    head = (title, "Studies", "Abnormal", *(METRIC_TITLES[key] for key in GROUP_METRICS))
    named = title[0].lower() + title[1:] if title[1].islower() else title
    return Table(head, rows, f"Test studies by {named}.{said}")


def _opinion(opinion: SecondOpinion | None, scores: SplitScores) -> list[Block]:
    if opinion is None or not opinion.studies:
        return []
    rows = [(METRIC_TITLES[key], str(getattr(scores, key)), str(getattr(opinion.test, key))) for key in GROUP_METRICS]
    said = (
        f"Second opinions give {count(opinion.studies, 'test study')} another label. The official column is the result."
    )
    return [
        Heading("If the second opinions on labels are right", 3),
        Table(("Metric, test", "Official labels", "Second opinions"), rows, said),
    ]


def _shown(measured: Measured, test: Split) -> list[Text]:
    """What the numbers of this model and this archive show."""
    facts, manifest = measured.facts, measured.manifest
    known: list[Text] = [_above(facts.floor.test.auroc_gain), *_lowest(test), *_labels(manifest, facts.second_opinion)]
    if facts.calibration.slope == 0:
        known.append(
            "The network ranks backwards on the tuning split, so its answers have no weight: the probability is what "
            "the body part alone says."
        )
    slope = facts.reliability.test.calibrated.slope
    if slope.low is not None and slope.high is not None and not slope.low <= 1 <= slope.high:
        extreme = "too extreme" if slope.high < 1 else "not extreme enough"
        known.append(f"The probabilities are {extreme} on test: the calibration slope is {slope}.")
    if parts := facts.calibration.pooled_parts:
        known.append(
            f"Training had no images of {in_words(parts)}, or images of one label only. Their probabilities are less "
            "certain."
        )
    return known


def _above(gain: Interval) -> str:
    if gain.low is None or gain.high is None:
        return "There are too few patients to say whether the model knows more than body part, views and picture size."
    if gain.low > 0:
        return f"The model knows more than body part, views and picture size: its AUROC is {gain} higher."
    return (
        "The model is not shown to know more than body part, views and picture size: the difference in AUROC is "
        f"{gain}."
    )


def _lowest(test: Split) -> list[Text]:
    """Where the model is worst, as far as anybody can say, and where nobody can."""
    known: list[Text] = []
    for name, groups in test.slices.items():
        if name == "second_opinion":
            # Its groups differ in their labels, not in their patients.
            continue
        slice_ = SLICES[name].title
        ranked = [(each.auroc.value, group, each) for group, each in groups.items() if each.auroc.low is not None]
        if len(ranked) > 1:
            _, group, found = min(ranked)[:3]
            known.append(
                f"{slice_}: the lowest AUROC is that of {group}, {found.auroc}. The lowest of {len(ranked)} is lower "
                "than it would be elsewhere, by chance."
            )
        few = [group for group, each in groups.items() if each.auroc.low is None]
        if len(groups) > 1 and few:
            known.append(f"{slice_}: too few patients to say how good the model is for {in_words(few)}.")
    return known


def _labels(manifest: ValidManifestFacts, opinion: SecondOpinion | None) -> list[Text]:
    known: list[Text] = []
    if manifest.warnings:
        listed: list[str] = []
        for warning in manifest.warnings:
            listed += [", ", Code(warning)]
        what = count(len(manifest.warnings), "warning")
        known.append([f"The data passed validation with {what}: ", *listed[1:], ". Its report says what each is."])
    if opinion is None:
        known.append("Nobody gave a second opinion on the labels, so their errors are not known.")
    else:
        known.append(
            f"Some labels are in doubt: second opinions would change those of {count(opinion.studies, 'test study')}. "
            f"By them the AUROC is {opinion.test.auroc}. They are often given where a model was wrong, so they are no "
            "independent reading."
        )
    return known
