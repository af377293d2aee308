"""What the data must be, in Great Expectations' words, and why.

Severity and tolerance are choices: components/params/validate.py has the defaults, params.yaml what differs.
"""

from collections.abc import Mapping
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.row_conditions import Column

from components.archive import mura_v1_1
from components.artifacts.manifest import BODY_PARTS, SPLITS, TEST, TRAIN, TUNING, ManifestFacts
from components.params.validate import ValidateParams
from components.validate.tables import BLANK_STD, PATH

# Cells of the published counts are called by these.
CELL = ("split", "body_part", "label")


def expectations(facts: ManifestFacts, params: ValidateParams, tables: Mapping[str, pd.DataFrame]) -> list[Any]:
    """Every expectation that is not skipped and whose table is there, in the order in which failures should be read.

    Each carries in `meta` its name, its table and what its offenders are called by; what it says in `description`,
    why it is there in `notes`, and `severity` critical for a gate.
    """
    every = [
        *_completeness(facts),
        *_labels(params),
        *_splits(),
        *_duplicates(),
        *_pictures(params),
        *(_published() if "counts" in tables else ()),
        *_drift(params),
    ]
    wanted = [one for one in every if one.meta["table"] in tables]
    wanted = [one for one in wanted if params.judgement(one.meta["name"]).severity != "skip"]
    for one in wanted:
        one.severity = "critical" if params.judgement(one.meta["name"]).severity == "gate" else "warning"
    # Gates before warnings.
    return sorted(wanted, key=lambda one: one.severity)


def _completeness(facts: ManifestFacts) -> list[Any]:
    only_found = Column("found") == True  # noqa: E712, a condition is built here
    return [
        _expect(
            gxe.ExpectTableRowCountToBeBetween,
            "not_empty",
            "There are images",
            "Every expectation about values holds for a table without rows.",
            min_value=1,
        ),
        _expect(
            gxe.ExpectTableRowCountToEqual,
            "complete",
            "There are as many rows as ingestion counted images",
            "A table cut short would otherwise pass as a smaller data set.",
            value=facts.images,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeInSet,
            "found",
            "Every listed image is in the archive",
            "A CSV that names files which are not there means a transfer or an unpacking lost some.",
            column="found",
            value_set=[True],
        ),
        _expect(
            gxe.ExpectColumnValuesToBeInSet,
            "listed",
            "Every image in the archive is listed",
            "An image that no CSV names has no published label; it would be lost, or labelled by guess.",
            column="listed",
            value_set=[True],
        ),
        _expect(
            gxe.ExpectColumnValuesToBeUnique,
            "image_once",
            "Every image has one row",
            "A repeated row counts an image twice in every metric.",
            column="image",
        ),
        _expect(
            gxe.ExpectColumnValuesToMatchRegex,
            "path",
            "Every path is .../{train,valid}/XR_<PART>/patient<ID>/study<N>_{positive,negative}/image<N>.png",
            "Split, body part, patient, study and label of MURA are read from the path.",
            column="image",
            regex=PATH,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeInSet,
            "body_part",
            f"The body part is one of {', '.join(BODY_PARTS)}",
            "The loss is weighted and results are reported by body part.",
            column="body_part",
            value_set=list(BODY_PARTS),
        ),
        _expect(
            gxe.ExpectColumnValuesToBeUnique,
            "place_once",
            "Every place, by split, body part, patient, study and view, has one image",
            "Two files for one view, as image1.png and image01.png, count it twice.",
            column="place",
        ),
        _expect(
            gxe.ExpectColumnValuesToBeNull,
            "decodes",
            "Every image in the archive decodes",
            "Truncated or damaged files stop a training hours later, or become noise.",
            column="problem",
            row_condition=only_found,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeNull,
            "recorded",
            "Of every image that decodes, place, size, digest, mode and grey levels are recorded",
            "The expectations about a value pass over rows that have none.",
            column="not recorded",
        ),
    ]


def _labels(params: ValidateParams) -> list[Any]:
    low, high = params.abnormal_share
    only_listed = Column("listed") == True  # noqa: E712, a condition is built here
    return [
        _expect(
            gxe.ExpectColumnValuesToNotBeNull,
            "labelled",
            "Every listed image belongs to a study with a label",
            "The CSV of images and the CSV of studies must tell of the same studies.",
            column="abnormal",
            row_condition=only_listed,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeInSet,
            "label",
            "The label is 0, normal, or 1, abnormal",
            "The networks have one output, and the loss knows no third answer.",
            column="abnormal",
            value_set=[0, 1],
        ),
        _expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "label_agrees",
            "The label by the CSV is the label by the directory's name",
            "MURA v1.1 says it twice and never contradicts itself; who does has edited one of the two.",
            column_A="abnormal",
            column_B="directory_label",
            ignore_row_if="either_value_is_missing",
        ),
        *(
            _expect(
                gxe.ExpectColumnValuesToNotMatchRegex,
                f"study_has_one_{what}",
                f"A study has one {what.replace('_', ' ')}",
                why,
                ("study",),
                column=f"{what.replace('_', ' ')} of the study",
                regex=" and ",
            )
            for what, why in (
                ("label", "Probabilities are averaged over a study and compared with its label."),
                ("patient", "Splits and confidence intervals go by patient."),
                ("body_part", "Results are reported by body part."),
            )
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "abnormal_share",
            f"Of the studies of a split and body part, {low:.0%} to {high:.0%} are abnormal",
            "A share far from MURA's 26% to 52% points to labels turned round or to a biased selection.",
            ("split", "body_part"),
            table="groups",
            column="abnormal share",
            min_value=low,
            max_value=high,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "label_shift",
            f"Of a body part, abnormal studies are as common in test as in training: Cohen's h at most "
            f"{params.max_label_shift:g}, or by chance",
            "A threshold or a calibration learned on the one prevalence is biased on the other. MURA's own hands, "
            "fingers and forearms shift by 0.28 to 0.32.",
            ("body_part",),
            table="shifts",
            shown=("abnormal in training", "abnormal in test"),
            column="shift",
            max_value=params.max_label_shift,
        ),
    ]


def _splits() -> list[Any]:
    return [
        _expect(
            gxe.ExpectColumnValuesToNotMatchRegex,
            "patient_in_one_split",
            "No patient is in two splits",
            "A network that has seen a patient's bones, hardware or another body part knows him again, "
            "and the test flatters it.",
            ("patient",),
            column="splits of the patient",
            regex=" and ",
        ),
        _expect(
            gxe.ExpectColumnValuesToBeInSet,
            "split_agrees",
            "The published train is split into train and tuning, the published valid is test",
            "What was published as validation is opened once, at the end, and never trained on.",
            # The expectation about pairs in a set goes row by row, 5 s for MURA.
            column="published and actual split",
            value_set=[f"train {TRAIN}", f"train {TUNING}", f"valid {TEST}"],
        ),
        _expect(
            gxe.ExpectColumnDistinctValuesToContainSet,
            "splits_present",
            f"There are images in {', '.join(SPLITS)}",
            "Training, choosing and testing need one each.",
            column="split",
            value_set=list(SPLITS),
        ),
        _expect(
            gxe.ExpectColumnValuesToMatchRegex,
            "split_has_both_labels",
            "Every split has normal and abnormal studies",
            "AUROC, kappa and thresholds are undefined where one label is absent.",
            ("split",),
            column="labels of the split",
            regex=" and ",
        ),
    ]


def _duplicates() -> list[Any]:
    return [
        _expect(
            gxe.ExpectColumnValuesToBeNull,
            f"picture_{name}",
            f"No picture is, pixel for pixel, {says}",
            why,
            column=f"same picture {column}",
        )
        for name, says, why, column in (
            (
                "in_one_split",
                "in two splits",
                "The test would ask what training has answered.",
                "in another split",
            ),
            (
                "has_one_label",
                "both normal and abnormal",
                "One of the two labels is wrong.",
                "with another label",
            ),
            (
                "of_one_patient",
                "of two patients",
                "One of the two is somebody else, and may be in another split.",
                "of another patient",
            ),
            ("once", "twice with the same patient", "It counts twice.", "again"),
        )
    ] + [
        _expect(
            gxe.ExpectColumnValuesToBeNull,
            f"near_picture_{name}",
            f"No picture is, cropped, mirrored, turned, recompressed or brightened, {says}",
            why,
            column=f"near picture {column}",
        )
        for name, says, why, column in (
            (
                "in_one_split",
                "in two splits",
                "The test would ask what training has seen.",
                "in another split",
            ),
            ("has_one_label", "both normal and abnormal", "One of the two labels is wrong.", "with another label"),
            (
                "of_one_patient",
                "of two patients",
                "One of the two is somebody else: splits by patient do not hold them together.",
                "of another patient",
            ),
        )
    ]


def _pictures(params: ValidateParams) -> list[Any]:
    return [
        _expect(
            gxe.ExpectColumnValuesToBeInSet,
            "mode",
            f"The pixel mode is one of {', '.join(params.modes)}",
            "Reducing transparency, palettes or 16 bits to grey would be a guess.",
            column="mode",
            value_set=list(params.modes),
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "min_side",
            f"The shorter side has at least {params.min_side} pixels",
            "Less is an icon or a strip, not a radiograph.",
            column="shorter side",
            min_value=params.min_side,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "max_side",
            f"The longer side has at most {params.max_side} pixels",
            "MURA was published with a longest side of 512; much more is from another source.",
            column="longer side",
            max_value=params.max_side,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "views",
            f"A study has at most {params.max_views} views",
            "More means that studies ran together.",
            ("study",),
            column="views of the study",
            max_value=params.max_views,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "aspect",
            f"The longer side is at most {params.max_aspect:g} times the shorter",
            "In the square that the networks see, a strip is a few pixels high.",
            column="aspect",
            max_value=params.max_aspect,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "not_blank",
            f"Grey levels vary with a standard deviation of at least {BLANK_STD:g}",
            "An almost constant picture shows no bone; the archive has a label for it all the same.",
            column="std",
            min_value=BLANK_STD,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "contrast",
            f"The darkest and brightest hundredth of a picture lie at least {params.min_contrast} grey levels apart",
            "An almost constant picture hides what it shows, from readers and from networks.",
            column="contrast",
            min_value=params.min_contrast,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "not_mostly_frame",
            f"At most {params.max_frame:.0%} of a picture's area is empty border",
            "After fitting into the square, the bones are a stamp.",
            column="border",
            max_value=params.max_frame,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "not_inverted",
            f"The rim is at most {params.max_inversion:g} grey levels brighter than the centre",
            "Air is black on a radiograph; a bright rim and a dark centre are its negative, with black bones.",
            column="rim above centre",
            max_value=params.max_inversion,
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "channels_agree",
            "Red, green and blue of a pixel are the same",
            "A radiograph has no colours: marks were drawn into it, or it is another picture. They are made grey.",
            column="channel_difference",
            max_value=0,
        ),
    ]


def _published() -> list[Any]:
    why = (
        f"The archive is taken for {mura_v1_1.NAME}, whose counts are published: a difference is a loss or an addition."
    )
    views = [count for split in mura_v1_1.VIEWS.values() for count in split]
    return [
        *(
            _expect(
                gxe.ExpectColumnPairValuesToBeEqual,
                f"published_{what}",
                f"The {what} of every {by} are as many as published",
                why,
                called,
                table=table,
                column_A=what,
                column_B=f"published {what}",
            )
            for what, by, called, table in (
                ("images", "split, body part and label", CELL, "counts"),
                ("studies", "split, body part and label", CELL, "counts"),
                ("patients", "split", ("split",), "patients"),
            )
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "published_views",
            f"A study has {min(views)} to {max(views)} views",
            f"{mura_v1_1.NAME} has no other.",
            ("study",),
            column="views of the study",
            min_value=min(views),
            max_value=max(views),
        ),
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            "published_longest_side",
            f"The longer side has {mura_v1_1.LONGEST_SIDE} pixels",
            f"So were the pictures of {mura_v1_1.NAME} made; others were made anew.",
            column="longer side",
            min_value=mura_v1_1.LONGEST_SIDE,
            max_value=mura_v1_1.LONGEST_SIDE,
        ),
    ]


def _drift(params: ValidateParams) -> list[Any]:
    return [
        _expect(
            gxe.ExpectColumnValuesToBeBetween,
            f"drift_{subject.replace(' ', '_')}",
            f"{subject.capitalize()} are distributed as in the reference: {measure} at most {limit:g}, or by chance",
            "A network is trusted on what is like the data it was measured on.",
            ("property",),
            table="drifts",
            shown=("measure", "effect", "p"),
            column=subject,
            max_value=limit,
        )
        for subject, measure, limit in (
            ("body parts", "population stability index", params.max_psi),
            ("labels", "Cohen's h", params.max_label_shift),
            ("modes", "population stability index", params.max_psi),
            ("sizes", "Kolmogorov and Smirnov's distance", params.max_ks),
            ("grey levels", "Kolmogorov and Smirnov's distance", params.max_ks),
        )
    ]


def _expect(
    kind: Any,
    name: str,
    says: str,
    why: str,
    by: tuple[str, ...] = ("image",),
    table: str = "images",
    shown: tuple[str, ...] | None = None,
    **kwargs: Any,
) -> Any:
    """An expectation about a table; its offenders are called by the columns `by`, and `shown` is told of them.

    Unless told, what offends is shown: the values of the columns that the expectation is about.
    """
    if shown is None:
        # That an image that should be found was not found needs no saying.
        domain = [kwargs[key] for key in ("column", "column_A", "column_B") if key in kwargs]
        shown = tuple(column for column in domain if column not in (*by, "found", "listed"))
    meta = {"name": name, "table": table, "by": list(by), "shown": list(shown)}
    return kind(meta=meta, description=says, notes=[why], **kwargs)
