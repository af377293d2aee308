"""Arrange the manifest so that each expectation needs one column.

Great Expectations tests a column row by row and skips missing values. A column about studies has the study's value in
its first row and is missing in the other rows, so that numbers of tested and unexpected values are numbers of studies.
Values that do not belong to images, studies or patients have tables of their own.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from components.archive import member_paths, mura_v1_1
from components.archive.member_paths import PATH
from components.artifacts.manifest import BODY_PARTS, LABEL_NAMES, TEST, TRAIN, Manifest
from components.params.validate import ValidateParams
from components.validate import drift, duplicates

RECORDED = ["study", "patient", "body_part", "view", "source_split", "split", "directory_label"]
RECORDED += ["bytes", "sha256", "width", "height", "mode", "channel_difference", "pixels_sha256", "mean", "std"]
RECORDED += ["low", "median", "high", "black", "white", "frame", "rim", "centre", "phash"]
# Copies that the first of several equal pictures names.
TWINS = 3
# Grey levels, 0 to 255. The standard deviation of MURA's test images together is 46.
BLANK_STD = 2.0
LABELS = dict(enumerate(LABEL_NAMES))
SIZES = {"longer side": "pixels", "shorter side": "pixels"}
GREY_LEVELS = {"mean": "grey levels", "std": "grey levels", "contrast": "grey levels"}


def arranged(
    manifest: Manifest, pairs: pd.DataFrame, params: ValidateParams, reference: pd.DataFrame | None
) -> dict[str, pd.DataFrame]:
    """The tables of the expectations, by name.

    Args:
        manifest: what is validated.
        pairs: of copies, as `duplicates.find` gives them.
        params: which archives count as the published one, and limits for contrast and frame.
        reference: the table of another manifest.

    Returns:
        `images`; `near`, pairs of copies that are not equal; `groups` and `shifts`; `counts` if the archive counts as
        the published one, and `patients` if it is there as a whole: patients are not published by body part;
        `reference` and `drifts` if there is a reference.
    """
    table, parts = manifest.table, manifest.facts.body_parts
    near = pairs[pairs["kind"] == duplicates.NEAR]
    judged = {"images": images(table, params).assign(**_near(table, near)), "near": near}
    judged |= {"groups": groups(table), "shifts": shifts(table)}
    if params.published == "mura-v1.1" or (params.published == "auto" and is_published(table, parts)):
        judged |= {"counts": counts(table, parts)} | ({} if parts else {"patients": patients(table)})
    if reference is not None:
        before = images(reference, params)
        judged |= {"reference": before, "drifts": drifts(judged["images"], before)}
    return judged


def images(table: pd.DataFrame, params: ValidateParams) -> pd.DataFrame:
    """The manifest with additional columns for expectations.

    Several values that should be one are joined by ` and `. Each fault of a picture is reported once: the contrast of a
    blank picture is not judged, nor the border of a picture without contrast, and so on.

    Args:
        table: the manifest's.
        params: limits for contrast and border.

    Returns:
        The same rows.
    """
    image, split, abnormal = table["image"], table["split"], table["abnormal"]
    study = _study(table)
    place = table["study"].str.rsplit("/", n=1).str[-1] + " view " + table["view"].astype("str")
    place = split + " " + table["body_part"] + " " + table["patient"] + " " + place
    # Other gates find images that are missing, damaged or misnamed.
    sound = table["found"] & table["problem"].isna() & image.str.contains(PATH)
    sides = table[["width", "height"]]
    shorter, longer = sides.min(axis=1), sides.max(axis=1)
    contrast = (table["high"] - table["low"]).mask((table["std"] < BLANK_STD).fillna(value=True))
    plain = contrast.isna() | (contrast < params.min_contrast)
    inversion = (table["rim"] - table["centre"]).round(1)
    has_training = pd.Series(bool((split == TRAIN).any()), table.index)
    return table.assign(
        **{
            # `image_once` finds repeated rows. They are no second image at the same place.
            "place": place.mask(image.duplicated(keep=False)),
            "not recorded": _absent(table.loc[sound, RECORDED]),
            "label of the study": _together(abnormal, study),
            "patient of the study": _together(table["patient"], study),
            "body part of the study": _together(table["body_part"], study),
            "views of the study": _firsts(study).map(study.value_counts()).astype("Int64"),
            "published and actual split": table["source_split"] + " " + split,
            "fault of the path": image.map(member_paths.fault).astype("str"),
            "splits of the patient": _together(split, table["patient"]),
            # Without training images at all, `splits_present` says it.
            "splits of the body part": _together(split, table["body_part"].where(has_training)),
            "labels of the split": _together(abnormal, split),
            "label": abnormal.map(LABELS).astype("str"),
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
    """For every body part, the shares of abnormal studies in training and test, and their difference.

    `shift` is Cohen's h, or 0 if chance may explain it. With a shift, a threshold or calibration from one side is
    biased on the other.
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


def counts(table: pd.DataFrame, parts: Sequence[str] | None = None) -> pd.DataFrame:
    """Images and studies by published split, body part and label, beside the published numbers.

    Args:
        table: the manifest's.
        parts: the body parts that were chosen; None for all.
    """
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
        if parts is None or part in parts
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


def is_published(table: pd.DataFrame, parts: Sequence[str] | None = None) -> bool:
    """Whether the counts of every split, chosen body part and label are those of MURA v1.1."""
    found = counts(table, parts)
    return bool((found["images"] == found["published images"]).all())


def drifts(table: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Differences to a reference, one row per property.

    Args:
        table: as `images` gives it.
        reference: the same for the reference.

    Returns:
        `property`; `measure`; `effect`; `p`; and in one column per subject (`body parts`, `labels`, `modes`, `sizes`,
        `grey levels`) the effect, or 0 if chance may explain it.
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
    """Number of abnormal studies, number of labelled studies."""
    labels = studies["abnormal"].dropna()
    return int((labels == 1).sum()), len(labels)


def _share(some: tuple[int, int]) -> float | None:
    return round(some[0] / some[1], 4) if some[1] else None


def _study(table: pd.DataFrame) -> pd.Series:
    """The study's path without its label: study1_positive and study1_negative are one study with two labels."""
    return table["study"].str.replace(r"_[a-z]+$", "", regex=True)


def _first_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The first row of every study."""
    return table.loc[_firsts(_study(table)).index]


def _firsts(unit: pd.Series) -> pd.Series:
    """Each unit in its first row only."""
    return unit[unit.notna() & ~unit.duplicated()]


def _together(values: pd.Series, unit: pd.Series) -> pd.Series:
    """The distinct values of every unit, joined by ` and `, in its first row."""
    pairs = pd.DataFrame({"unit": unit, "value": values.astype("str")}).dropna().drop_duplicates().sort_values("value")
    return _firsts(unit).map(pairs.groupby("unit")["value"].agg(" and ".join))


def _absent(recorded: pd.DataFrame) -> pd.Series:
    """Names of a row's empty columns; missing if there are none."""
    rows = recorded[recorded.isna().any(axis=1)]
    return pd.Series([", ".join(recorded.columns[row.isna()]) for _, row in rows.iterrows()], rows.index, dtype="str")


def _twins(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Names of equal pictures, in the row of the first one, each with what it has otherwise.

    They stand in the column that matters most: in another split, with another label, of another patient, or again.
    """
    pictures = table.drop_duplicates("image")
    again = pictures[pictures["pixels_sha256"].notna() & pictures["pixels_sha256"].duplicated(keep=False)]
    # Blank pictures are all equal. Another expectation finds them.
    again = again[(again["std"] >= BLANK_STD).fillna(value=False)]
    same = again.groupby("pixels_sha256")
    # What differs from the first of the equal pictures. What is missing differs from none.
    elsewhere, otherwise, others = (
        again[column].notna() & (again[column] != same[column].transform("first")).fillna(value=False)
        for column in ("split", "abnormal", "patient")
    )
    digest = again["pixels_sha256"]
    important, foreign = digest.isin(digest[elsewhere | otherwise]), digest.isin(digest[others])
    first = _firsts(digest)
    return {
        name: first.map(named[chosen].groupby(digest).agg(_some))
        for name, named, chosen in (
            ("same picture in another split", _in_split(again), elsewhere),
            ("same picture with another label", _labelled(again), otherwise),
            ("same picture of another patient", again["image"], others & ~important),
            ("same picture again", again["image"], digest.duplicated() & ~important & ~foreign),
        )
    }


def _near(table: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, pd.Series]:
    """Names of near copies, in the row of the first one and the column that matters most."""
    elsewhere, otherwise = pairs["splits"].astype(bool), pairs["labels"].astype(bool)
    second = table.drop_duplicates("image").set_index("image").loc[pairs["second"]].reset_index().set_index(pairs.index)
    alike = " with similarity " + pairs["similarity"].map(similarity_in_words).astype("str")
    first = _firsts(table["image"])
    return {
        f"near picture {name}": first.map((named + alike)[chosen].groupby(pairs["first"]).agg(_some))
        for name, named, chosen in (
            ("in another split", _in_split(second), elsewhere),
            ("with another label", _labelled(second), otherwise),
            ("of another patient", second["image"], ~elsewhere & ~otherwise),
        )
    }


def _in_split(rows: pd.DataFrame) -> pd.Series:
    """`image1.png in tuning`: the path has the published split, and tuning is a part of the published train."""
    return rows["image"] + " in " + rows["split"].fillna("no split")


def _labelled(rows: pd.DataFrame) -> pd.Series:
    """`image1.png, abnormal`: the path may have another label than the CSV."""
    return rows["image"] + ", " + rows["abnormal"].map(LABELS).astype("str").fillna("no label")


def similarity_in_words(similarity: float) -> str:
    """Three digits of a near copy's similarity, never rounded up to 1: pictures that are equal are no near copies."""
    return f"{min(math.floor(similarity * 1000 + 1e-6) / 1000, 0.999):.3f}"


def _some(names: Iterable[str]) -> str:
    """The first TWINS names: one picture may be in an archive thousands of times."""
    names = list(names)
    return " and ".join(names[:TWINS] + ([f"{len(names) - TWINS:,} more"] if len(names) > TWINS else []))
