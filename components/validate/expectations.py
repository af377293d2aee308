"""What the data must be, as expectations of Great Expectations, each with its reason.

Severity and tolerance are choices: components/params/validate.py has the defaults, params.yaml the changes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from components.archive import mura_v1_1
from components.archive.member_paths import LAYOUT
from components.artifacts.manifest import SPLITS, TEST, TRAIN, TUNING, ManifestFacts
from components.params.validate import ValidateParams
from components.validate.great_expectations import Column, gxe
from components.validate.tables import BLANK_STD

# What duplicates.py does not promise to find.
LIMITS = "Crops of 8 % and more at one side, drawn frames and magnified parts may be missed."
# A picture that was a colour JPEG once has differences of a few levels, from the rounding of its colours: on real
# radiographs 8 at most. Drawn marks differ by a hundred and more.
MAX_COLOUR = 10
# Columns that name a cell of the published counts.
CELL = ("split", "body_part", "label")


class About(NamedTuple):
    """What an expectation is about."""

    table: str = "images"
    by: tuple[str, ...] = ("image",)
    """Columns that name an offender."""
    shown: tuple[str, ...] | None = None
    """Columns that are shown of an offender; the expectation's own if None."""


IMAGES = About()


def expectations(facts: ManifestFacts, params: ValidateParams, tables: Mapping[str, pd.DataFrame]) -> list[Any]:
    """All expectations that are not skipped and whose table exists, in the order in which failures should be read.

    Each has its sentence in `description`, its reason in `notes`, and its name, its table and the columns that name and
    describe offenders in `meta`. `severity` is critical for a gate.
    """
    every = [
        *_completeness(facts),
        *_records(facts),
        *_labels(),
        *_prevalence(params),
        *_splits(),
        *_duplicates(),
        *_sizes(params),
        *_grey_levels(params),
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
    return [
        _expect(
            "not_empty",
            "There are images",
            "All expectations about values hold for an empty table.",
            gxe.ExpectTableRowCountToBeBetween(min_value=1),
        ),
        _expect(
            "complete",
            "There are as many rows as `mura ingest` counted images",
            "A truncated table would otherwise pass as a smaller data set.",
            gxe.ExpectTableRowCountToEqual(value=facts.images),
        ),
        _expect(
            "found",
            "Every listed image is in the archive",
            "If a CSV names missing files, a transfer or an unpacking has lost some.",
            gxe.ExpectColumnValuesToBeInSet(column="found", value_set=[True]),
        ),
        _expect(
            "listed",
            "Every image in the archive is listed",
            "An image that no CSV names has no published label. It would be lost, or its label guessed.",
            gxe.ExpectColumnValuesToBeInSet(column="listed", value_set=[True]),
        ),
        _expect(
            "image_once",
            "Every image has one row",
            "A repeated row counts an image twice in every metric.",
            gxe.ExpectColumnValuesToBeUnique(column="image number"),
            About(shown=()),
        ),
    ]


def _records(facts: ManifestFacts) -> list[Any]:
    parts = facts.known_parts
    only_found = Column("found") == True  # noqa: E712, a condition is built here
    return [
        _expect(
            "path",
            f"Every path is .../{LAYOUT}",
            "Split, body part, patient, study and label of MURA are read from the path. Upper and lower case count.",
            gxe.ExpectColumnValuesToBeNull(column="fault of the path"),
        ),
        _expect(
            "body_part",
            f"The body part is one of {', '.join(parts)}",
            "The loss is weighted and results are reported by body part.",
            gxe.ExpectColumnValuesToBeInSet(column="body_part", value_set=list(parts)),
        ),
        _expect(
            "place_once",
            "Every place, by split, body part, patient, study and view, has one image",
            "Two files for one view, such as image1.png and image01.png, count the view twice.",
            gxe.ExpectColumnValuesToBeUnique(column="place number"),
            About(shown=("place",)),
        ),
        _expect(
            "decodes",
            "Every image in the archive decodes",
            "A truncated or damaged file stops a training hours later, or becomes noise.",
            gxe.ExpectColumnValuesToBeNull(column="problem", row_condition=only_found),
        ),
        _expect(
            "recorded",
            "Place, size, digest, mode and grey levels of every image that decodes are recorded",
            "Expectations about a value skip rows without it.",
            gxe.ExpectColumnValuesToBeNull(column="not recorded"),
        ),
    ]


def _labels() -> list[Any]:
    only_listed = Column("listed") == True  # noqa: E712, a condition is built here
    return [
        _expect(
            "labelled",
            "Every listed image belongs to a study with a label",
            "The CSV of images and the CSV of studies must contain the same studies.",
            gxe.ExpectColumnValuesToNotBeNull(column="abnormal", row_condition=only_listed),
        ),
        _expect(
            "label",
            "The label is 0, normal, or 1, abnormal",
            "The networks have one output, and the loss needs a label of 0 or 1.",
            gxe.ExpectColumnValuesToBeInSet(column="abnormal", value_set=[0, 1]),
        ),
        _expect(
            "label_agrees",
            "The label in the CSV is the label in the directory's name",
            "In MURA v1.1 the two always agree. If they differ, somebody has edited one of them.",
            gxe.ExpectColumnPairValuesToBeEqual(
                column_A="abnormal", column_B="directory_label", ignore_row_if="either_value_is_missing"
            ),
        ),
        *(
            _expect(
                f"study_has_one_{what}",
                f"A study has one {what.replace('_', ' ')}",
                why,
                gxe.ExpectColumnValuesToNotMatchRegex(column=f"{what.replace('_', ' ')} of the study", regex=" and "),
                About(by=("study",)),
            )
            for what, why in (
                ("label", "Probabilities are averaged over a study and compared with its label."),
                ("patient", "Splits and confidence intervals go by patient."),
                ("body_part", "Results are reported by body part."),
            )
        ),
    ]


def _prevalence(params: ValidateParams) -> list[Any]:
    low, high = params.abnormal_share
    return [
        _expect(
            "abnormal_share",
            f"{low:.0%} to {high:.0%} of the studies of every split and body part are abnormal",
            "A share far from MURA's 26% to 52% indicates swapped labels or a biased selection.",
            gxe.ExpectColumnValuesToBeBetween(column="abnormal share", min_value=low, max_value=high),
            About(table="groups", by=("split", "body_part")),
        ),
        _expect(
            "label_shift",
            "Abnormal studies of every body part are as frequent in test as in training: Cohen's h is at most "
            f"{params.max_label_shift:g}, or chance may explain it",
            "A threshold or calibration learned with one prevalence is biased with another. MURA's own hands, "
            "fingers and forearms shift by 0.28 to 0.32.",
            gxe.ExpectColumnValuesToBeBetween(column="shift", max_value=params.max_label_shift),
            About(table="shifts", by=("body_part",), shown=("abnormal in training", "abnormal in test")),
        ),
    ]


def _splits() -> list[Any]:
    return [
        _expect(
            "patient_in_one_split",
            "No patient is in two splits",
            "A network may recognise bones or hardware of a patient that it was trained with. "
            "The test result would be too good.",
            gxe.ExpectColumnValuesToNotMatchRegex(column="splits of the patient", regex=" and "),
            About(by=("patient",)),
        ),
        _expect(
            "split_agrees",
            "The published train is split into train and tuning, the published valid is test",
            "The published `valid` is used once, for the final test, and never for training.",
            gxe.ExpectColumnValuesToBeInSet(
                column="published and actual split", value_set=[f"train {TRAIN}", f"train {TUNING}", f"valid {TEST}"]
            ),
        ),
        _expect(
            "splits_present",
            f"There are images in {', '.join(SPLITS)}",
            "Training, tuning and testing need one split each.",
            gxe.ExpectColumnDistinctValuesToContainSet(column="split", value_set=list(SPLITS)),
        ),
        _expect(
            "split_has_both_labels",
            "Every split has normal and abnormal studies",
            "AUROC, kappa and thresholds are undefined without both labels.",
            gxe.ExpectColumnValuesToMatchRegex(column="labels of the split", regex=" and "),
            About(by=("split",)),
        ),
        _expect(
            "body_part_is_trained",
            f"Every body part has images in {TRAIN}",
            "The loss is weighted by body part, and a network is not tested on what it was never shown. A smaller "
            "ingest.tuning_fraction leaves more for training, ingest.body_parts leaves a part out.",
            gxe.ExpectColumnValuesToMatchRegex(column="splits of the body part", regex=rf"\b{TRAIN}\b"),
            About(by=("body_part",)),
        ),
    ]


def _duplicates() -> list[Any]:
    seen = "Training would have seen pictures of the test."
    mislabelled = "One of the two labels is wrong."
    return [
        *(
            _expect(
                f"picture_{name}",
                f"No picture, compared pixel by pixel, is {says}",
                why,
                gxe.ExpectColumnValuesToBeNull(column=f"same picture {column}"),
                About(shown=(*beside, f"same picture {column}")),
            )
            for name, says, why, column, beside in (
                ("in_one_split", "in two splits", seen, "in another split", ("split",)),
                ("has_one_label", "both normal and abnormal", mislabelled, "with another label", ("label",)),
                (
                    "of_one_patient",
                    "of two patients",
                    "One of the two patients is wrong, and may be in another split.",
                    "of another patient",
                    (),
                ),
                ("once", "there twice for the same patient", "It counts twice.", "again", ()),
            )
        ),
        *(
            _expect(
                f"near_picture_{name}",
                f"No picture is {says}, cropped by 5 %, mirrored, turned by 2 degrees, recompressed or brightened",
                f"{why} {LIMITS}",
                gxe.ExpectColumnValuesToBeNull(column=f"near picture {column}"),
                About(shown=(*beside, f"near picture {column}")),
            )
            for name, says, why, column, beside in (
                ("in_one_split", "in two splits", seen, "in another split", ("split",)),
                ("has_one_label", "both normal and abnormal", mislabelled, "with another label", ("label",)),
                (
                    "of_one_patient",
                    "of two patients",
                    "One of the two patients is wrong: splits by patient may separate the copies.",
                    "of another patient",
                    (),
                ),
            )
        ),
    ]


def _sizes(params: ValidateParams) -> list[Any]:
    return [
        _expect(
            "mode",
            f"The pixel mode is one of {', '.join(params.modes)}",
            "There is no single right way to make transparency, palettes or 16 bits grey.",
            gxe.ExpectColumnValuesToBeInSet(column="mode", value_set=list(params.modes)),
        ),
        _expect(
            "min_side",
            f"The shorter side has at least {params.min_side} pixels",
            "A smaller picture is an icon or a strip, not a radiograph.",
            gxe.ExpectColumnValuesToBeBetween(column="shorter side", min_value=params.min_side),
        ),
        _expect(
            "max_side",
            f"The longer side has at most {params.max_side} pixels",
            "MURA's longest side is 512. A much larger picture comes from another source.",
            gxe.ExpectColumnValuesToBeBetween(column="longer side", max_value=params.max_side),
        ),
        _expect(
            "views",
            f"A study has at most {params.max_views} views",
            "More views mean that several studies were merged.",
            gxe.ExpectColumnValuesToBeBetween(column="views of the study", max_value=params.max_views),
            About(by=("study",)),
        ),
        _expect(
            "aspect",
            f"The longer side is at most {params.max_aspect:g} times the shorter",
            "In the square that networks see, a strip has a height of a few pixels.",
            gxe.ExpectColumnValuesToBeBetween(column="aspect", max_value=params.max_aspect),
        ),
    ]


def _grey_levels(params: ValidateParams) -> list[Any]:
    return [
        _expect(
            "not_blank",
            f"Grey levels vary with a standard deviation of at least {BLANK_STD:g}",
            "An almost constant picture shows no bone, but has a label.",
            gxe.ExpectColumnValuesToBeBetween(column="std", min_value=BLANK_STD),
        ),
        _expect(
            "contrast",
            f"The darkest and the brightest 1% of a picture differ by at least {params.min_contrast} grey levels",
            "Without contrast, neither people nor networks see anything in a picture.",
            gxe.ExpectColumnValuesToBeBetween(column="contrast", min_value=params.min_contrast),
        ),
        _expect(
            "not_mostly_frame",
            f"At most {params.max_frame:.0%} of a picture's area is empty border",
            "After fitting into the square, the bones would be very small.",
            gxe.ExpectColumnValuesToBeBetween(column="border", max_value=params.max_frame),
        ),
        _expect(
            "not_inverted",
            f"The rim is at most {params.max_inversion:g} grey levels brighter than the centre",
            "Air is black on a radiograph. A bright rim and a dark centre indicate a negative, with black bones.",
            gxe.ExpectColumnValuesToBeBetween(column="rim above centre", max_value=params.max_inversion),
        ),
        _expect(
            "channels_agree",
            f"Red, green and blue of a pixel differ by at most {MAX_COLOUR} grey levels",
            "A radiograph has no colours: somebody has drawn marks, or it is another picture. Colours become grey.",
            gxe.ExpectColumnValuesToBeBetween(column="channel_difference", max_value=MAX_COLOUR),
        ),
    ]


def _published() -> list[Any]:
    why = f"The archive counts as {mura_v1_1.NAME}, whose counts are published. A difference is a loss or an addition."
    views = [count for split in mura_v1_1.VIEWS.values() for count in split]
    return [
        *(
            _expect(
                f"published_{what}",
                f"The number of {what} of every {by} is the published one",
                why,
                gxe.ExpectColumnPairValuesToBeEqual(column_A=what, column_B=f"published {what}"),
                About(table=table, by=called),
            )
            for what, by, called, table in (
                ("images", "split, body part and label", CELL, "counts"),
                ("studies", "split, body part and label", CELL, "counts"),
                ("patients", "split", ("split",), "patients"),
            )
        ),
        _expect(
            "published_views",
            f"A study has {min(views)} to {max(views)} views",
            f"{mura_v1_1.NAME} has no study with more or fewer.",
            gxe.ExpectColumnValuesToBeBetween(column="views of the study", min_value=min(views), max_value=max(views)),
            About(by=("study",)),
        ),
        _expect(
            "published_longest_side",
            f"The longer side has {mura_v1_1.LONGEST_SIDE} pixels",
            f"All pictures of {mura_v1_1.NAME} have this longer side. Others were made again.",
            gxe.ExpectColumnValuesToBeBetween(
                column="longer side", min_value=mura_v1_1.LONGEST_SIDE, max_value=mura_v1_1.LONGEST_SIDE
            ),
        ),
    ]


def _drift(params: ValidateParams) -> list[Any]:
    return [
        _expect(
            f"drift_{subject.replace(' ', '_')}",
            f"{subject.capitalize()} are distributed as in the reference: {measure} is at most {limit:g}, "
            "or chance may explain it",
            "A network's results are valid for data like those that it was tested with.",
            gxe.ExpectColumnValuesToBeBetween(column=subject, max_value=limit),
            About(table="drifts", by=("property",), shown=("measure", "effect", "p")),
        )
        for subject, measure, limit in (
            ("body parts", "population stability index", params.max_psi),
            ("labels", "Cohen's h", params.max_label_shift),
            ("modes", "population stability index", params.max_psi),
            ("sizes", "Kolmogorov and Smirnov's distance", params.max_ks),
            ("grey levels", "Kolmogorov and Smirnov's distance", params.max_ks),
        )
    ]


def _expect(name: str, says: str, why: str, expectation: Any, about: About = IMAGES) -> Any:
    """Describe an expectation of Great Expectations."""
    columns = [getattr(expectation, key) for key in ("column", "column_A", "column_B") if hasattr(expectation, key)]
    # For `found` and `listed`, the name of the expectation says what the value is.
    shown = tuple(column for column in columns if column not in (*about.by, "found", "listed"))
    expectation.meta = {
        "name": name,
        "table": about.table,
        "by": list(about.by),
        "shown": list(shown if about.shown is None else about.shown),
    }
    expectation.description, expectation.notes = says, [why]
    return expectation
