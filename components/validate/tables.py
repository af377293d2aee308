"""The manifest, arranged so that each expectation finds what it judges in one column.

Great Expectations looks at columns, row by row, and passes over missing values. So a column about studies has the
study's value in the study's first row and is missing in the others: then numbers tested and numbers unexpected are
numbers of studies. What is not about images, studies or patients has a table of its own.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from components.archive import mura_v1_1
from components.artifacts.manifest import BODY_PARTS, TEST
from components.params.validate import ValidateParams
from components.validate import drift, duplicates

PATH = r"^(?:.*/)?(?:train|valid)/XR_[A-Z]+/patient\d+/study\d+_(?:positive|negative)/image\d+\.png\Z"
RECORDED = ["study", "patient", "body_part", "view", "source_split", "split", "directory_label"]
RECORDED += ["bytes", "sha256", "width", "height", "mode", "channel_difference", "pixels_sha256", "mean", "std"]
RECORDED += ["low", "median", "high", "black", "white", "frame", "rim", "centre", "phash"]
# Others that the first of several equal pictures names.
TWINS = 3
# Grey levels, 0 to 255. MURA's test images have 46 together.
BLANK_STD = 2.0
LABELS = {0: "normal", 1: "abnormal"}
SIZES = {"longer side": "pixels", "shorter side": "pixels"}
GREY_LEVELS = {"mean": "grey levels", "std": "grey levels", "contrast": "grey levels"}


def arranged(
    table: pd.DataFrame, pairs: pd.DataFrame, params: ValidateParams, reference: pd.DataFrame | None
) -> dict[str, pd.DataFrame]:
    """The tables that expectations are about, by name.

    Args:
        table: as `Manifest` promises.
        pairs: of copies, as `duplicates.find` gives them.
        params: what is taken for published, and which pictures are mostly frame.
        reference: the same of another manifest.

    Returns:
        `images`; `near`, the pairs of copies that are not equal; `groups` and `shifts`; `counts` and `patients` if the
        archive is taken for the published one; `reference` and `drifts` if there is a reference.
    """
    near = pairs[pairs["kind"] == duplicates.NEAR]
    judged = {"images": images(table, params).assign(**_near(table, near)), "near": near}
    judged |= {"groups": groups(table), "shifts": shifts(table)}
    if params.published == "mura-v1.1" or (params.published == "auto" and is_published(table)):
        judged |= {"counts": counts(table), "patients": patients(table)}
    if reference is not None:
        before = images(reference, params)
        judged |= {"reference": before, "drifts": drifts(judged["images"], before)}
    return judged


def images(table: pd.DataFrame, params: ValidateParams) -> pd.DataFrame:
    """The manifest with the columns that expectations need beside its own.

    Where several values come together that should be one, they are joined by ` and `. What is wrong with a picture is
    said once: contrast is not judged where it is blank, nor its border where it has no contrast, and so on.

    Args:
        table: as `Manifest` promises.
        params: what is too little contrast, and what is too much border.

    Returns:
        The same rows.
    """
    image, split, abnormal = table["image"], table["split"], table["abnormal"]
    study = _study(table)
    place = table["study"].str.rsplit("/", n=1).str[-1] + " view " + table["view"].astype("str")
    place = split + " " + table["body_part"] + " " + table["patient"] + " " + place
    # What is missing, does not decode or is misnamed has gates of its own.
    sound = table["found"] & table["problem"].isna() & image.str.contains(PATH)
    sides = table[["width", "height"]]
    shorter, longer = sides.min(axis=1), sides.max(axis=1)
    contrast = (table["high"] - table["low"]).mask((table["std"] < BLANK_STD).fillna(value=True))
    plain = contrast.isna() | (contrast < params.min_contrast)
    inversion = (table["rim"] - table["centre"]).round(1)
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
            "shorter side": shorter,
            "longer side": longer,
            "aspect": (longer / shorter).round(2),
            "contrast": contrast,
            "border": table["frame"].mask(plain),
            "rim above centre": inversion.mask(plain | (table["frame"] > params.max_frame)),
        },
        **_twins(table),
    )


def groups(table: pd.DataFrame) -> pd.DataFrame:
    """Studies by split and body part: `studies`, `abnormal share`."""
    first = _first_rows(table)
    shares = first.groupby(["split", "body_part"])["abnormal"].agg(["size", "mean"]).reset_index()
    shares["abnormal share"] = shares.pop("mean").astype("Float64").round(4)
    return shares.rename(columns={"size": "studies"})


def shifts(table: pd.DataFrame) -> pd.DataFrame:
    """Of every body part, the share of abnormal studies for training and for testing, and whether it shifted.

    `shift` is Cohen's h, or 0 where chance may explain it. A threshold or a calibration from the one side is biased on
    the other then.
    """
    first = _first_rows(table)
    rows = []
    for part, studies in first.groupby("body_part", sort=True):
        test = studies["split"] == TEST
        before, now = _abnormal(studies[~test]), _abnormal(studies[test])
        difference = drift.shares(before, now)
        rows.append(
            {
                "body_part": part,
                "abnormal in training": _share(before),
                "abnormal in test": _share(now),
                "shift": round(difference.beyond_chance, 3),
            }
        )
    return pd.DataFrame(rows, columns=["body_part", "abnormal in training", "abnormal in test", "shift"])


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Images and studies by published split, body part and label, beside the published numbers; by split, patients."""
    label = table["abnormal"].map(LABELS).astype("str").fillna("no label")
    keys = [table["source_split"].fillna("no split"), table["body_part"].fillna("no body part"), label]
    found = {
        "images": table.groupby(keys).size(),
        "studies": table["study"].groupby(keys).nunique(),
    }
    stated = {
        (split, part, LABELS[int(abnormal)]): size
        for split, cells in mura_v1_1.CELLS.items()
        for (part, abnormal), size in cells.items()
    }
    every = sorted(set(stated) | set(found["images"].index))
    none = mura_v1_1.Size(0, 0)
    rows = [
        {
            "split": split,
            "body_part": part,
            "label": label,
            "images": int(found["images"].get((split, part, label), 0)),
            "published images": stated.get((split, part, label), none).images,
            "studies": int(found["studies"].get((split, part, label), 0)),
            "published studies": stated.get((split, part, label), none).studies,
        }
        for split, part, label in every
    ]
    return pd.DataFrame(rows)


def patients(table: pd.DataFrame) -> pd.DataFrame:
    """Patients by published split, beside the published numbers."""
    found = table.groupby("source_split")["patient"].nunique()
    return pd.DataFrame(
        [
            {"split": split, "patients": int(found.get(split, 0)), "published patients": number}
            for split, number in mura_v1_1.PATIENTS.items()
        ]
    )


def is_published(table: pd.DataFrame) -> bool:
    """Whether the counts are, in every split, body part and label, those of the published MURA v1.1."""
    if len(table) != mura_v1_1.IMAGES:
        return False
    found = counts(table)
    return bool((found["images"] == found["published images"]).all())


def drifts(table: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """What has moved since a reference, one row per property.

    Args:
        table: as `images` gives it.
        reference: the same of the reference.

    Returns:
        `property`; `measure`; `effect`; `p`; and in one column per subject (`body parts`, `labels`, `modes`, `sizes`,
        `grey levels`) the effect, or 0 where chance may explain it.
    """
    now, before = _first_rows(table), _first_rows(reference)
    rows = [
        _drift("body parts", "body part", "PSI", _categories(before["body_part"], now["body_part"])),
        _drift("labels", "abnormal share", "Cohen's h", drift.shares(_abnormal(before), _abnormal(now))),
    ]
    for part in BODY_PARTS:
        sides = [_abnormal(studies[studies["body_part"] == part]) for studies in (before, now)]
        rows.append(_drift("labels", f"abnormal share, {part}", "Cohen's h", drift.shares(*sides)))
    rows.append(_drift("modes", "mode", "PSI", _categories(reference["mode"], table["mode"])))
    rows += [
        _drift(subject, name, "KS distance", drift.values(_numbers(reference, name), _numbers(table, name)))
        for subject, properties in (("sizes", SIZES), ("grey levels", GREY_LEVELS))
        for name in properties
    ]
    return pd.DataFrame(rows)


def _drift(subject: str, name: str, measure: str, difference: drift.Difference) -> dict[str, object]:
    shown = {"effect": round(difference.effect, 4), "p": float(f"{difference.p:.3g}")}
    return {"property": name, "measure": measure, **shown, subject: round(difference.beyond_chance, 4)}


def _numbers(table: pd.DataFrame, name: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return table[name].dropna().to_numpy(dtype=np.float64)


def _categories(old: pd.Series, new: pd.Series) -> drift.Difference:
    before, now = old.value_counts(), new.value_counts()
    every = sorted(set(before.index) | set(now.index))
    return drift.categories([int(before.get(c, 0)) for c in every], [int(now.get(c, 0)) for c in every])


def _abnormal(studies: pd.DataFrame) -> tuple[int, int]:
    """Abnormal studies of how many that have a label."""
    labels = studies["abnormal"].dropna()
    return int((labels == 1).sum()), len(labels)


def _share(some: tuple[int, int]) -> float | None:
    return round(some[0] / some[1], 4) if some[1] else None


def _study(table: pd.DataFrame) -> pd.Series:
    """The study without its label: study1_positive beside study1_negative is one study with two labels."""
    return table["study"].str.replace(r"_[a-z]+$", "", regex=True)


def _first_rows(table: pd.DataFrame) -> pd.DataFrame:
    """A row of every study."""
    return table.loc[_firsts(_study(table)).index]


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
    """For the first image of every picture that is there again, pixel for pixel, the others.

    Said where it matters most: in another split, with another label, of another patient, or only again.
    """
    pictures = table.drop_duplicates("image")
    again = pictures[pictures["pixels_sha256"].notna() & pictures["pixels_sha256"].duplicated(keep=False)]
    # Blank pictures are all equal, and have an expectation of their own.
    again = again[(again["std"] >= BLANK_STD).fillna(value=False)]
    same = again.groupby("pixels_sha256")
    variety = same[["split", "abnormal", "patient"]].nunique()
    elsewhere, otherwise, others = (variety[column] > 1 for column in ("split", "abnormal", "patient"))
    named = same["image"].agg(lambda names: _some(list(names)[1:]))
    first = _firsts(again["pixels_sha256"])
    return {
        name: first.map(named[chosen])
        for name, chosen in (
            ("same picture in another split", elsewhere),
            ("same picture with another label", otherwise),
            ("same picture of another patient", others & ~elsewhere & ~otherwise),
            ("same picture again", ~others & ~elsewhere & ~otherwise),
        )
    }


def _near(table: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, pd.Series]:
    """For the first image of pairs that are copies but not equal, the others; said where it matters most."""
    elsewhere, otherwise = pairs["splits"].astype(bool), pairs["labels"].astype(bool)
    told = pairs["second"] + " (similarity " + pairs["similarity"].map("{:.2f}".format).astype("str") + ")"
    first = _firsts(table["image"])
    return {
        f"near picture {name}": first.map(told[chosen].groupby(pairs["first"]).agg(_some))
        for name, chosen in (
            ("in another split", elsewhere),
            ("with another label", otherwise),
            ("of another patient", ~elsewhere & ~otherwise),
        )
    }


def _some(names: Iterable[str]) -> str:
    """A few of many: an archive of one picture would otherwise name itself as often as it has images."""
    names = list(names)
    return " and ".join(names[:TWINS] + ([f"{len(names) - TWINS:,} more"] if len(names) > TWINS else []))
