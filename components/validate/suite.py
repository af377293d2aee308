"""What a manifest must be, in Great Expectations' words."""

from typing import TYPE_CHECKING, Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.row_conditions import Column

from components.artifacts.manifest import BODY_PARTS, SPLITS, TEST, TRAIN, TUNING, ManifestFacts
from components.params.validate import ValidateParams
from components.validate.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

# Offenders that a finding names.
MEMBERS = 20
# Others that the first of several equal pictures names.
TWINS = 3
PATH = r"^(?:.*/)?(?:train|valid)/XR_[A-Z]+/patient\d+/study\d+_(?:positive|negative)/image\d+\.png\Z"
# Grey levels, 0 to 255. MURA's test images have 46 together.
BLANK_STD = 2.0
RECORDED = ["study", "patient", "body_part", "view", "source_split", "split", "directory_label"]
RECORDED += ["bytes", "sha256", "width", "height", "mode", "mean", "std", "phash"]


def expectations(facts: ManifestFacts, params: ValidateParams) -> list[Any]:
    """Every expectation, gates before warnings, in the order in which a reader should learn of failures.

    Each carries its name and what its offenders are called by in `meta`, what it says in `description`, why it
    is there in `notes`, and `severity` critical for a gate.
    """
    low, high = params.abnormal_share
    only_found, only_listed = Column("found") == True, Column("listed") == True  # noqa: E712, a condition is built here
    return [
        _gate(
            gxe.ExpectTableRowCountToBeBetween,
            "not_empty",
            "There are images",
            "Every expectation about values holds for a table without rows.",
            min_value=1,
        ),
        _gate(
            gxe.ExpectTableRowCountToEqual,
            "complete",
            "There are as many rows as ingestion counted images",
            "A table cut short would otherwise pass as a smaller data set.",
            value=facts.images,
        ),
        _gate(
            gxe.ExpectColumnValuesToBeInSet,
            "found",
            "Every listed image is in the archive",
            "A CSV that names files which are not there means a transfer or an unpacking lost some.",
            column="found",
            value_set=[True],
        ),
        _gate(
            gxe.ExpectColumnValuesToBeInSet,
            "listed",
            "Every image in the archive is listed",
            "An image that no CSV names has no published label; it would be lost, or labelled by guess.",
            column="listed",
            value_set=[True],
        ),
        _gate(
            gxe.ExpectColumnValuesToBeUnique,
            "image_once",
            "Every image has one row",
            "A repeated row counts an image twice in every metric.",
            column="image",
        ),
        _gate(
            gxe.ExpectColumnValuesToMatchRegex,
            "path",
            "Every path is .../{train,valid}/XR_<PART>/patient<ID>/study<N>_{positive,negative}/image<N>.png",
            "Split, body part, patient, study and label of MURA are read from the path.",
            column="image",
            regex=PATH,
        ),
        _gate(
            gxe.ExpectColumnValuesToBeInSet,
            "body_part",
            f"The body part is one of {', '.join(BODY_PARTS)}",
            "The loss is weighted and results are reported by body part.",
            column="body_part",
            value_set=list(BODY_PARTS),
        ),
        _gate(
            gxe.ExpectColumnValuesToBeUnique,
            "place_once",
            "Every place, by split, body part, patient, study and view, has one image",
            "Two files for one view, as image1.png and image01.png, count it twice.",
            column="place",
        ),
        _gate(
            gxe.ExpectColumnValuesToBeNull,
            "decodes",
            "Every image in the archive decodes",
            "Truncated or damaged files stop a training hours later, or become noise.",
            column="problem",
            row_condition=only_found,
        ),
        _gate(
            gxe.ExpectColumnValuesToBeNull,
            "recorded",
            "Of every image that decodes, place, size, digest, mode and grey levels are recorded",
            "The expectations about a value pass over rows that have none.",
            column="not recorded",
        ),
        _gate(
            gxe.ExpectColumnValuesToNotBeNull,
            "labelled",
            "Every listed image belongs to a study with a label",
            "The CSV of images and the CSV of studies must tell of the same studies.",
            column="abnormal",
            row_condition=only_listed,
        ),
        _gate(
            gxe.ExpectColumnValuesToBeInSet,
            "label",
            "The label is 0, normal, or 1, abnormal",
            "The networks have one output, and the loss knows no third answer.",
            column="abnormal",
            value_set=[0, 1],
        ),
        _gate(
            gxe.ExpectColumnPairValuesToBeEqual,
            "label_agrees",
            "The label by the CSV is the label by the directory's name",
            "MURA v1.1 says it twice and never contradicts itself; who does has edited one of the two.",
            column_A="abnormal",
            column_B="directory_label",
            ignore_row_if="either_value_is_missing",
        ),
        *(
            _gate(
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
        _gate(
            gxe.ExpectColumnValuesToNotMatchRegex,
            "patient_in_one_split",
            "No patient is in two splits",
            "A network that has seen a patient's bones, hardware or another body part knows him again, "
            "and the test flatters it.",
            ("patient",),
            column="splits of the patient",
            regex=" and ",
        ),
        _gate(
            gxe.ExpectColumnValuesToBeInSet,
            "split_agrees",
            "The published train is split into train and tuning, the published valid is test",
            "What was published as validation is opened once, at the end, and never trained on.",
            # The expectation about pairs in a set goes row by row, 5 s for MURA.
            column="published and actual split",
            value_set=[f"train {TRAIN}", f"train {TUNING}", f"valid {TEST}"],
        ),
        _gate(
            gxe.ExpectColumnDistinctValuesToContainSet,
            "splits_present",
            f"There are images in {', '.join(SPLITS)}",
            "Training, choosing and testing need one each.",
            column="split",
            value_set=list(SPLITS),
        ),
        _gate(
            gxe.ExpectColumnValuesToMatchRegex,
            "split_has_both_labels",
            "Every split has normal and abnormal studies",
            "AUROC, kappa and thresholds are undefined where one label is absent.",
            ("split",),
            column="labels of the split",
            regex=" and ",
        ),
        _gate(
            gxe.ExpectColumnValuesToBeInSet,
            "mode",
            f"The pixel mode is one of {', '.join(params.modes)}",
            "Reducing transparency, palettes or 16 bits to grey would be a guess.",
            column="mode",
            value_set=list(params.modes),
        ),
        _gate(
            gxe.ExpectColumnValuesToBeBetween,
            "min_side",
            f"The shorter side has at least {params.min_side} pixels",
            "Less is an icon or a strip, not a radiograph.",
            column="shorter side",
            min_value=params.min_side,
        ),
        _gate(
            gxe.ExpectColumnValuesToBeBetween,
            "max_side",
            f"The longer side has at most {params.max_side} pixels",
            "MURA was published with a longest side of 512; much more is from another source.",
            column="longer side",
            max_value=params.max_side,
        ),
        _gate(
            gxe.ExpectColumnValuesToBeBetween,
            "views",
            f"A study has at most {params.max_views} views",
            "More means that studies ran together.",
            ("study",),
            column="views of the study",
            max_value=params.max_views,
        ),
        _warn(
            gxe.ExpectColumnValuesToBeNull,
            "picture_in_one_split",
            "No picture is, byte for byte, in two splits",
            "The test would ask what training has answered.",
            column="same picture in another split",
        ),
        _warn(
            gxe.ExpectColumnValuesToBeNull,
            "picture_has_one_label",
            "No picture is, byte for byte, both normal and abnormal",
            "One of the two labels is wrong.",
            column="same picture with another label",
        ),
        _warn(
            gxe.ExpectColumnValuesToBeNull,
            "picture_once",
            "No picture is, byte for byte, twice in a split",
            "It counts twice.",
            column="same picture again",
        ),
        _warn(
            gxe.ExpectColumnValuesToBeBetween,
            "abnormal_share",
            f"Of the studies of a split and body part, {low:.0%} to {high:.0%} are abnormal",
            "A share far from MURA's 26% to 52% points to labels turned round or to a biased selection.",
            ("split", "body_part"),
            column="abnormal share",
            min_value=low,
            max_value=high,
        ),
        _warn(
            gxe.ExpectColumnValuesToBeBetween,
            "not_blank",
            f"Grey levels vary with a standard deviation of at least {BLANK_STD:g}",
            "An almost constant picture shows no bone; the archive has a label for it all the same.",
            column="std",
            min_value=BLANK_STD,
        ),
    ]


def columns(table: pd.DataFrame) -> pd.DataFrame:
    """The manifest with the columns that expectations need beside its own.

    Great Expectations looks at columns, row by row, and passes over missing values. So a column about studies
    has the study's value in the study's first row and is missing in the others: then numbers tested and numbers
    unexpected are numbers of studies. Where several values come together that should be one, they are joined
    by ` and `.

    Args:
        table: as `Manifest` promises.

    Returns:
        The same rows.
    """
    image, split, abnormal = table["image"], table["split"], table["abnormal"]
    # Without its label: study1_positive beside study1_negative is one study with two labels.
    study = table["study"].str.replace(r"_[a-z]+$", "", regex=True)
    place = table["study"].str.rsplit("/", n=1).str[-1] + " view " + table["view"].astype("str")
    place = split + " " + table["body_part"] + " " + table["patient"] + " " + place
    # What is missing, does not decode or is misnamed has gates of its own.
    sound = table["found"] & table["problem"].isna() & image.str.contains(PATH)
    sides = table[["width", "height"]]
    group = split + " " + table["body_part"]
    share = abnormal[_firsts(study).index].groupby(group).mean()
    return table.assign(
        **{
            # A repeated row is `image_once`'s to tell, not a second image at its place.
            "place": place.mask(image.duplicated(keep=False)),
            "not recorded": _absent(table.loc[sound, RECORDED]),
            "label of the study": _together(abnormal, study),
            "patient of the study": _together(table["patient"], study),
            "body part of the study": _together(table["body_part"], study),
            "views of the study": _firsts(study).map(study.value_counts()).astype("Int64"),
            "published and actual split": table["source_split"] + " " + split,
            "splits of the patient": _together(split, table["patient"]),
            "labels of the split": _together(abnormal, split),
            "shorter side": sides.min(axis=1),
            "longer side": sides.max(axis=1),
            "abnormal share": _firsts(group).map(share.round(4)),
        },
        **_twins(table),
    )


def run(table: pd.DataFrame, expected: "Iterable[Any]") -> Any:
    """Great Expectations' result, in the order of what was expected; nothing is stored anywhere."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("archive").add_dataframe_asset("manifest")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table})
    suite = gx.ExpectationSuite(name="MURA manifest", expectations=list(expected))
    result = batch.validate(
        suite,
        # With `unexpected_index_column_names` it reads every offending row cell by cell; without, it gives the index.
        result_format={"result_format": "SUMMARY", "partial_unexpected_count": MEMBERS},
    )
    order = [expectation.meta["name"] for expectation in suite.expectations]
    result.results.sort(key=lambda one: order.index(one.expectation_config.meta["name"]))
    return result


def findings(table: pd.DataFrame, result: Any) -> list[Finding]:
    """What came of every expectation about that table, in plain types."""
    return [_finding(table, one) for one in result.results]


def _gate(kind: Any, name: str, says: str, why: str, by: tuple[str, ...] = ("image",), **kwargs: Any) -> Any:
    """An expectation that refuses the data; `by` are the columns that its offenders are called by."""
    meta = {"name": name, "by": list(by)}
    return kind(meta=meta, description=says, notes=[why], severity="critical", **kwargs)


def _warn(*args: Any, **kwargs: Any) -> Any:
    """An expectation that only warns."""
    expectation = _gate(*args, **kwargs)
    expectation.severity = "warning"
    return expectation


def _firsts(unit: pd.Series) -> pd.Series:
    """The units, each in its first row."""
    return unit[unit.notna() & ~unit.duplicated()]


def _together(values: pd.Series, unit: pd.Series) -> pd.Series:
    """In the first row of every unit, its distinct values joined by ` and `."""
    pairs = pd.DataFrame({"unit": unit, "value": values.astype("str")}).dropna().drop_duplicates().sort_values("value")
    return _firsts(unit).map(pairs.groupby("unit")["value"].agg(" and ".join))


def _absent(recorded: pd.DataFrame) -> pd.Series:
    """Names of the columns in which a row has nothing; missing if it has everything."""
    rows = recorded[recorded.isna().any(axis=1)]
    return pd.Series([", ".join(recorded.columns[row.isna()]) for _, row in rows.iterrows()], rows.index, dtype="str")


def _twins(table: pd.DataFrame) -> dict[str, pd.Series]:
    """For the first image of every picture that is there again, byte for byte, the others."""
    images = table.drop_duplicates("image")
    again = images[images["sha256"].notna() & images["sha256"].duplicated(keep=False)]
    pictures = again.groupby("sha256")
    variety = pictures[["split", "abnormal"]].nunique()
    elsewhere, otherwise = variety["split"] > 1, variety["abnormal"] > 1
    others = pictures["image"].agg(lambda names: _some(list(names)[1:]))
    first = _firsts(again["sha256"])
    return {
        name: first.map(others[chosen])
        for name, chosen in (
            ("same picture in another split", elsewhere),
            ("same picture with another label", otherwise),
            ("same picture again", ~elsewhere & ~otherwise),
        )
    }


def _some(names: list[str]) -> str:
    """A few of many: an archive of one picture would otherwise name itself as often as it has images."""
    return " and ".join(names[:TWINS] + ([f"{len(names) - TWINS:,} more"] if len(names) > TWINS else []))


def _finding(table: pd.DataFrame, one: Any) -> Finding:
    config, result = one.expectation_config, one.result
    tested = result.get("element_count")
    return Finding(
        name=config.meta["name"],
        says=config.description,
        why=" ".join(config.notes),
        gate=config.severity == FailureSeverity.CRITICAL,
        success=bool(one.success),
        tested=None if tested is None else int(tested) - int(result.get("missing_count") or 0),
        unexpected=None if tested is None else int(result["unexpected_count"]),
        observed=_plain(result.get("observed_value")),
        members=_members(table, config, result),
        error=_error(one.exception_info),
    )


def _members(table: pd.DataFrame, config: Any, result: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    by = config.meta["by"]
    domain = [config.kwargs[key] for key in ("column", "column_A", "column_B") if key in config.kwargs]
    # That an image that should be found was not found needs no saying.
    shown = [column for column in domain if column not in (*by, "found", "listed")]
    offenders = table.loc[result.get("partial_unexpected_index_list") or []]
    absent = result.get("partial_missing_list") or []
    return (
        *(
            {"member": " ".join(row[by].astype(str))} | {column: _plain(row[column]) for column in shown}
            for _, row in offenders.iterrows()
        ),
        *({"member": str(value)} for value in sorted(absent)),
    )


def _error(info: dict[str, Any]) -> str | None:
    """The first error of a failed evaluation; Great Expectations nests them by metric, or does not."""
    for entry in [info] if "raised_exception" in info else info.values():
        if entry["raised_exception"]:
            return str(entry["exception_message"])
    return None


def _plain(value: Any) -> Any:
    """Of numpy's and pandas' scalars, Python's own."""
    if value is None or value is pd.NA or value != value:  # only NaN is not itself
        return None
    return value.item() if hasattr(value, "item") else value
