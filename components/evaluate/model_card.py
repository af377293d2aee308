"""The model card: what a model is for, what it is not for, and how good it is. It has test numbers.

The headings are those of Mitchell et al. (Model Cards for Model Reporting, 2019, arXiv:1810.03993), with Hugging Face's
names for what these lack. What is said of a number or a group is in card_numbers.py.
"""

from collections.abc import Sequence
from pathlib import Path

from components.archive import mura_v1_1
from components.artifacts.evaluation import FEWEST_PATIENTS, METRIC_TITLES, TEST_REPORT, SplitScores
from components.artifacts.manifest import TRAIN, ManifestFacts
from components.artifacts.shards import SplitFacts
from components.artifacts.trained_model import TrainedModelFacts
from components.base.words import count, in_words
from components.evaluate import card_numbers
from components.evaluate.calibration_page import rule
from components.evaluate.page import Figures, Measured, Split, unseen
from components.pages.prose import Block, Bullets, Code, Heading, Note, Paragraph, Strong, Table, Text, html
from components.pages.render import render
from components.params.train import title
from components.scores import intervals
from components.scores.slices import SLICES

TEMPLATE = Path(__file__).with_name("model_card.html")
MURA = "MURA (Rajpurkar et al. 2017, arXiv:1712.06957)"
PHANTOM = "phantom"
"""What the name of a drawn archive holds. Nothing else tells it from MURA, whose layout it has."""


def model_card(measured: Measured, test: Split, figures: Figures) -> list[Block]:
    """Write the card.

    Args:
        measured: the model, and what it was measured on.
        test: the test split.
        figures: its charts.
    """
    facts = measured.facts
    return [
        Heading(f"Model card: {title(facts.candidate, facts.architecture)}", 1),
        *_lead(measured, test.scores),
        *_details(measured),
        *_use(measured),
        *_factors(measured),
        *_metrics(measured),
        *_data(measured),
        *_training(measured),
        *card_numbers.analyses(measured, test, figures),
        *_ethics(measured),
        *card_numbers.caveats(measured, test),
        *_citation(measured),
    ]


def card_page(blocks: Sequence[Block], measured: Measured) -> str:
    """The card as HTML that needs no other file."""
    facts = measured.facts
    return render(TEMPLATE, title=title(facts.candidate, facts.architecture), body=html(blocks))


def is_drawn(manifest: ManifestFacts) -> bool:
    """Whether the archive is the phantom, by its name."""
    return PHANTOM in manifest.archive.lower()


def _lead(measured: Measured, test: SplitScores) -> list[Block]:
    facts, manifest = measured.facts, measured.manifest
    parts = sorted(measured.shards.train_images)
    drawn = is_drawn(manifest)
    bones = "drawn bones" if drawn else "bones"
    what = f"A network that says how probable it is that an X-ray study of {bones} is abnormal ({in_words(parts)})."
    found = (
        f" On {count(test.n_studies, 'test study')} of {count(test.n_patients, 'patient')} that it had not seen "
        f"before, its AUROC is {test.auroc} and its Cohen's kappa {test.cohen_kappa}, each with a 95 % interval. "
        f"A study has one or more views, and one answer. The operating point is a probability of at least "
        f"{facts.scores.threshold:.4f}."
    )
    note: list[str] = [
        Strong("Research only. Not a medical device."),
        " Not for diagnosis, triage or any decision about a patient.",
    ]
    if drawn:
        note += [" ", Strong("The images are drawn."), " They show no patient: all numbers are about drawings."]
    return [Paragraph([what, found]), Note(note)]


def _details(measured: Measured) -> list[Block]:
    facts, trained = measured.facts, measured.trained
    line = facts.calibration
    started = {"imagenet": "Keras' weights, pretrained on ImageNet", "none": "random weights"}
    rows: list[tuple[Text, Text]] = [
        ("Candidate", Code(facts.candidate)),
        ("Architecture", f"{title(facts.architecture, facts.architecture)}, {trained.parameters:,} weights"),
        ("Input", f"the views of a study, grey, {trained.image_size} x {trained.image_size} pixels, 0 to 255"),
        ("Output", "one logit for each view"),
        (
            "Probability of a study",
            f"sigmoid({line.intercept:.4f} + {line.slope:.4f} z - o), with z the logit of the mean probability of its "
            "views, and o the offset of its body part (see Training data)",
        ),
        ("Threshold", f"{facts.scores.threshold:.6f}: {rule(measured.protocol.operating_point, measured.protocol)}"),
    ]
    if (weights := trained.params.get("weights")) is not None:
        rows.append(("Training began with", started.get(str(weights), str(weights))))
    rows += [
        ("Model digest", Code(facts.model_digest)),
        ("Data digest", Code(facts.data_digest)),
        ("Protocol digest", Code(facts.protocol_digest)),
        ("Code revision, training", Code(trained.code_revision)),
        ("Code revision, evaluation", Code(facts.code_revision)),
        ("Licence of the weights", "unknown: whoever publishes them must choose one that the data allow"),
        ("Contact", "whoever registered the version; an evaluation does not know who that is"),
    ]
    return [
        Heading("Model details"),
        Paragraph(
            "A card of a model has no date: the same data, parameters and code make the same model again. "
            "Digests and revisions say which one it is."
        ),
        Table(("What", "Value"), rows, "What the model is."),
    ]


def _use(measured: Measured) -> list[Block]:
    parts = in_words(sorted(measured.shards.train_images))
    source = "the drawn archive" if is_drawn(measured.manifest) else "the archive"
    return [
        Heading("Intended use"),
        Bullets(
            [
                [Strong("Primary use."), " Research: to study how such networks are trained, measured and compared."],
                [Strong("Also."), " Studies of decision support, with readers who know that it may be wrong, on images"
                 " that nobody is treated by."],
                [Strong("Users."), " Researchers and engineers. Not patients, and not clinicians at work."],
            ]
        ),
        Heading("Out-of-scope use", 3),
        Bullets(
            [
                "Diagnosis, triage, work lists, or any other decision about a patient.",
                f"Other body parts than {parts}.",
                _groups_out_of_scope(measured),
                "CT, MR, ultrasound, fluoroscopy, photographs of films or screens.",
                f"X-ray devices, hospitals and ways of storing pictures other than those of {source}: nothing was "
                "measured there.",
                "Saying where a finding is, or which one it is. The model gives one number for a study.",
            ]
        ),
    ]  # fmt: skip


def _groups_out_of_scope(measured: Measured) -> str:
    """What is said of groups by age and sex, by what the archive tells of its patients."""
    kept = measured.manifest.kept
    if missing := " or ".join(name for name in ("age", "sex") if name not in kept):
        group = "Children, and any other group" if "age" not in kept else "Any group"
        return f"{group} by {missing}: the data do not tell {missing}, so nothing is known about them."
    if _by_person(measured):
        return "Children, and any other group by age or sex that the tables of subgroups do not show, or show few of."
    return "Children, and any other group by age or sex: nothing was measured by them."


def _by_person(measured: Measured) -> list[str]:
    """The slices by which people were measured apart."""
    return [name for name in ("age", "sex") if name in measured.manifest.kept and name in measured.protocol.slices]


def _factors(measured: Measured) -> list[Block]:
    names = [SLICES[name].title for name in measured.protocol.slices]
    told = f"Measured apart, on the same studies at the same threshold: {'; '.join(names)}." if names else (
        "Nothing was measured apart: the protocol names no slice."
    )  # fmt: skip
    left = [SLICES[name].title for name in measured.manifest.kept if name not in measured.protocol.slices]
    return [
        Heading("Factors"),
        Paragraph(told),
        *([Paragraph(f"In the data, and not measured apart: {'; '.join(left)}.")] if left else []),
        Paragraph(
            f"Not in the data, so not measured: {in_words(unseen(measured.manifest))}. Differences between such groups "
            "may be large, and nobody can see them here."
        ),
    ]


def _metrics(measured: Measured) -> list[Block]:
    protocol = measured.protocol
    by_method: dict[str, list[str]] = {}
    for name, method in intervals.METHODS.items():
        by_method.setdefault(f"{method.words} ({method.source})", []).append(METRIC_TITLES[name])
    label = (
        "The label says whether a finding was drawn."
        if is_drawn(measured.manifest)
        else 'The label is what was reported when the study was read: "normal" excludes no disease, "abnormal" is any '
        "finding."
    )
    listed = [[Strong(in_words(names)), f": {method}."] for method, names in by_method.items()]
    return [
        Heading("Metrics"),
        Paragraph(f"All metrics are of studies, not of images. Positive means abnormal. {label}"),
        Paragraph(
            f"Thresholds were chosen on the tuning split and then frozen; {METRIC_TITLES[protocol.primary_metric]} on "
            "the tuning split ranks candidates. The test split ranks nothing."
        ),
        Paragraph(
            "Each estimate has a 95 % interval in brackets, with patients as clusters. It covers other patients like "
            "these. It does not cover another training, another hospital or wrong labels. "
            f'"Too few" stands where fewer than {FEWEST_PATIENTS} patients have a study of the kind that the metric '
            "looks at. The methods:"
        ),
        Bullets(listed),
    ]


def _data(measured: Measured) -> list[Block]:
    manifest, shards = measured.manifest, measured.shards
    rows = [_split_row(name, split) for name, split in shards.splits.items()]
    head = ("Split", "Patients", "Studies", "Images", "Abnormal studies", "Digest")
    name: list[str] = ["The archive is called ", Code(manifest.archive)]
    name += [", of md5 ", Code(manifest.archive_md5), ". "] if manifest.archive_md5 else [". "]
    chosen = manifest.body_parts
    blocks: list[Block] = [
        Heading("Evaluation data"),
        Paragraph([*name, _origin(manifest)]),
        Table(head, rows, "No patient is in two splits. A digest covers studies, labels and pictures of a split."),
        Paragraph(
            "Tuning is a part of the published train, and was used to choose the epoch, the calibration and the "
            "thresholds. Test is the published valid, and was used for the numbers of this card."
        ),
    ]
    if chosen:
        blocks.append(Paragraph(f"Only studies of {in_words(chosen)} were chosen of the archive."))
    return blocks


def _split_row(name: str, split: SplitFacts) -> list[Text]:
    share = f" ({100 * split.abnormal_studies / split.studies:.0f} %)" if split.studies else ""
    counts = [f"{each:,}" for each in (split.patients, split.studies, split.images)]
    return [name, *counts, f"{split.abnormal_studies:,}{share}", Code(split.digest[:12])]


def _origin(manifest: ManifestFacts) -> str:
    """What is known of where the pictures come from."""
    if is_drawn(manifest):
        return (
            "It is the phantom: a program drew bones, findings and labels in the layout of MURA v1.1. There is no "
            "patient, and no radiologist read anything."
        )
    images = manifest.images + manifest.left_out_images
    studies = manifest.studies + sum(manifest.left_out_studies.values())
    held = f"It holds {count(images, 'image')} of {count(studies, 'study')}"
    if manifest.archive_parts:
        return (
            "`mura import` made it of somebody's own files, without names, numbers and dates of patients. "
            f"{held}. What is known of MURA need not hold here."
        )
    if (images, studies) != (mura_v1_1.IMAGES, mura_v1_1.STUDIES):
        return (
            f"It has the layout of {mura_v1_1.NAME}, and not its size. {held}; {mura_v1_1.NAME} as published has "
            f"{mura_v1_1.IMAGES:,} images of {mura_v1_1.STUDIES:,} studies. What is known of MURA need not hold here."
        )
    return (
        f"{held}, as {mura_v1_1.NAME} as published. {MURA} was collected at Stanford Hospital; board-certified "
        "radiologists called the studies normal or abnormal in their daily work from 2001 to 2012. MURA's own test "
        "set is not public, so its public valid is the test split here."
    )


def _training(measured: Measured) -> list[Block]:
    trained, split = measured.trained, measured.shards.splits.get(TRAIN)
    parts = measured.shards.train_images
    offset, others = trained.offsets.body_part, trained.offsets.pooled
    rows = [
        (part, f"{found.normal:,}", f"{found.abnormal:,}", f"{offset.get(part, others):+.4f}")
        for part, found in sorted(parts.items())
    ]
    said = (
        f"The training split: {count(split.studies, 'study')} of {count(split.patients, 'patient')}. " if split else ""
    )
    return [
        Heading("Training data"),
        Table(
            ("Body part", "Normal images", "Abnormal images", "Offset o"),
            rows,
            f"{said}The offset is what the weights of the loss added to the logits; for other body parts it is "
            f"{others:+.4f}.",
        ),
        Heading("Training procedure", 3),
        *_procedure(trained),
    ]


def _procedure(trained: TrainedModelFacts) -> list[Block]:
    """How the weights came about."""
    if not trained.members:
        choices = [(Code(name), Code(value)) for name, value in sorted(trained.params.items())]
        return [
            Table(
                ("Choice", "Value"),
                choices,
                f"Choices of the training, with seed {trained.seed} and {trained.precision} numbers. The weights that "
                "were best on the tuning split were kept.",
            )
        ]
    mirrored = " and over each image and its mirror image" if trained.params.get("flips") else ""
    rows = [
        (
            title(each.candidate, each.architecture),
            f"{each.intercept:.4f}",
            f"{each.slope:.4f}",
            f"{each.parameters:,}",
            Code(each.model_digest[:12]),
        )
        for each in trained.members
    ]
    return [
        Paragraph(
            f"An ensemble, which was not trained itself: its logit is the mean of a + b z over its networks{mirrored}, "
            "with a and b of each network's own calibration. Each network has a card with the choices of its training."
        ),
        Table(("Network", "a", "b", "Weights", "Model"), rows, "The networks of the ensemble."),
    ]


def _ethics(measured: Measured) -> list[Block]:
    known = "known as far as the tables of subgroups show it" if _by_person(measured) else "unknown"
    people = (
        "The pictures are drawn, so no person's data are in this model."
        if is_drawn(measured.manifest)
        else "The pictures are of people, unless the archive is a phantom by another name. The terms of the archive's "
        "use hold for the pictures, and may hold for weights that were trained on them. The reports show some pictures."
    )
    return [
        Heading("Ethical considerations"),
        Bullets(
            [
                people,
                "A missed finding can harm a patient, and so can a false alarm. The threshold weighs one against the "
                "other for a data set, not for a clinic.",
                "People trust a number too easily. Whoever is shown the answer should know how often it is wrong.",
                f"Whether the model is worse for some people than for others is {known}: see Factors.",
            ]
        ),
    ]


def _citation(measured: Measured) -> list[Block]:
    data = "The phantom copies the layout of" if is_drawn(measured.manifest) else "Where the data are MURA, cite"
    return [
        Heading("Citation"),
        Bullets(
            [
                f"{data} {MURA}: MURA: Large Dataset for Abnormality Detection in Musculoskeletal Radiographs.",
                [
                    "The model: by its digest and the code revision above. ",
                    Code(TEST_REPORT),
                    " beside this card has all numbers, errors and charts.",
                ],
                "The form of this card: Mitchell et al. 2019, Model Cards for Model Reporting (arXiv:1810.03993).",
            ]
        ),
    ]
