"""Arrange the manifest so that each expectation needs one column.

Great Expectations tests a column row by row and skips missing values. A column about studies has the study's value in
its first row and is missing in the other rows, so that numbers of tested and unexpected values are numbers of studies.
Values that do not belong to images, studies or patients have tables of their own.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pandas.api.types import is_integer_dtype, union_categoricals

from components.archive import member_paths, mura_v1_1
from components.artifacts.manifest import BODY_PARTS, LABEL_NAMES, TABLE, TEST, TRAIN, Manifest
from components.params.validate import ValidateParams
from components.validate import drift, duplicates
from components.validate.pieces import pieces, words_on_disk

RECORDED = ["study", "patient", "body_part", "view", "source_split", "split", "directory_label"]
RECORDED += ["bytes", "sha256", "width", "height", "mode", "channel_difference", "pixels_sha256", "mean", "std"]
RECORDED += ["low", "median", "high", "black", "white", "frame", "rim", "centre", "phash"]
SPECTRUM = "spectrum"
# Columns with few different words.
WORDS = ("body_part", "source_split", "split", "mode", "problem")
# Columns that name offenders. Everything else is compared by numbers.
NAMES = ("image", "study", "patient")
# Copies that the first of several equal pictures names.
TWINS = 3
# Grey levels, 0 to 255. The standard deviation of MURA's test images together is 46.
BLANK_STD = 2.0
LABELS = dict(enumerate(LABEL_NAMES))
SIZES = {"longer side": "pixels", "shorter side": "pixels"}
GREY_LEVELS = {"mean": "grey levels", "std": "grey levels", "contrast": "grey levels"}


def arranged(
    manifest: Manifest, pairs: pd.DataFrame, params: ValidateParams, reference: Manifest | None, folder: Path
) -> dict[str, pd.DataFrame]:
    """The tables of the expectations, by name.

    Args:
        manifest: what is validated.
        pairs: of copies, as `duplicates.find` gives them.
        params: which archives count as the published one, and limits for contrast and frame.
        reference: another manifest.
        folder: where temporary files may be.

    Returns:
        `images`; `near`, pairs of copies that are not equal; `groups` and `shifts`; `counts` if the archive counts as
        the published one, and `patients` if it is there as a whole: patients are not published by body part;
        `reference` and `drifts` if there is a reference.
    """
    parts = manifest.facts.body_parts
    near = pairs[pairs["kind"] == duplicates.NEAR]
    table = images(manifest.path / TABLE, params, folder)
    for name, column in _near(table, near).items():
        table[name] = column
    judged = {"images": table, "near": near, "groups": groups(table), "shifts": shifts(table)}
    if params.published == "mura-v1.1" or (params.published == "auto" and is_published(table, parts)):
        judged |= {"counts": counts(table, parts)} | ({} if parts else {"patients": patients(table)})
    if reference is not None:
        before = images(reference.path / TABLE, params, folder)
        judged |= {"reference": before, "drifts": drifts(table, before)}
    return judged


def images(path: Path, params: ValidateParams, folder: Path) -> pd.DataFrame:
    """The rows of a manifest with the columns that expectations and reports need.

    Several values that should be one are joined by ` and `. Each fault of a picture is reported once: the contrast of a
    blank picture is not judged, nor the border of a picture without contrast, and so on.

    Words that are repeated are categories, names lie on disk, and digests are left out: a row takes 120 bytes of
    memory, not 1,000.

    Args:
        path: the table of the manifest.
        params: limits for contrast and border.
        folder: where temporary files may be.
    """
    table = _arranged(path, params, folder)
    split, abnormal = table["split"], table["abnormal"]
    # study1_positive and study1_negative are one study with two labels.
    table["study number"] = study = _codes(table.pop("study hash"))
    table["patient number"] = patient = _codes(table.pop("patient hash"))
    table["directory number"] = _codes(table.pop("directory hash"))
    has_training = bool((split == TRAIN).any())
    repeated, place_hash = table.pop("image hash"), table.pop("place hash")
    table["image number"] = _numbered(repeated, table["image"].notna(), lambda rows: table["image"][rows])
    again = table["image number"].duplicated(keep=False)
    # `image_once` finds repeated rows. They are no second image at the same place.
    placed = place_hash.notna() & ~again
    table["place number"] = _numbered(place_hash, placed, lambda rows: _place(table.loc[rows]))
    twice = table["place number"].duplicated(keep=False) & table["place number"].notna()
    table["place"] = _place(table.loc[twice]).astype("category")
    table["label of the study"] = _together(abnormal, study)
    table["patient of the study"] = _together(table["patient"], study, patient)
    table["body part of the study"] = _together(table["body_part"], study)
    table["views of the study"] = _firsts(study).map(study.value_counts()).astype("Int32")
    table["splits of the patient"] = _together(split, patient)
    # Without training images at all, `splits_present` says it.
    table["splits of the body part"] = _together(split, table["body_part"]) if has_training else pd.NA
    table["labels of the split"] = _together(abnormal, split)
    _keep_repeated(table, path)
    for name, column in _twins(table).items():
        table[name] = column
    return table


def _arranged(path: Path, params: ValidateParams, folder: Path) -> pd.DataFrame:
    """Columns that follow from a row alone, of all rows."""
    blocks = []
    with ExitStack() as stack:
        names = {name: stack.enter_context(words_on_disk(folder)) for name in NAMES}
        for piece in pieces(path, [name for name in pq.read_schema(path).names if name != SPECTRUM]):
            blocks.append(_block(piece, params))
            for name, words in names.items():
                words.add(piece[name])
        columns = {name: words.column() for name, words in names.items()}
    columns |= {name: _joined([block.pop(name) for block in blocks]) for name in list(blocks[0])}
    return pd.DataFrame(columns, copy=False)


def _block(table: pd.DataFrame, params: ValidateParams) -> dict[str, pd.Series]:
    """Columns of some rows that follow from the row alone."""
    image, split = table["image"], table["split"]
    tail = table["study"].str.rsplit("/", n=1).str[-1]
    # Other gates find images that are missing, damaged or misnamed.
    fault = image.map(member_paths.fault).astype("str")
    sound = table["found"] & table["problem"].isna() & fault.isna()
    sides = table[["width", "height"]]
    shorter, longer = sides.min(axis=1), sides.max(axis=1)
    contrast = (table["high"] - table["low"]).mask((table["std"] < BLANK_STD).fillna(value=True))
    plain = contrast.isna() | (contrast < params.min_contrast)
    inversion = (table["rim"] - table["centre"]).round(1)
    place = _place(table.assign(study=tail))
    return {
        "image hash": _hashed(image),
        **{name: table[name].astype("category") for name in WORDS},
        "directory hash": _hashed(table["study"]),
        "study hash": _hashed(table["study"].str.replace(r"_[a-z]+$", "", regex=True)),
        "patient hash": _hashed(table["patient"]),
        "view": _small(table["view"]),
        "found": table["found"],
        "listed": table["listed"],
        "abnormal": _small(table["abnormal"]),
        "directory_label": _small(table["directory_label"]),
        "channel_difference": _small(table["channel_difference"]),
        "mean": table["mean"],
        "std": table["std"],
        "pixels hash": _hashed(table["pixels_sha256"]),
        "place hash": _hashed(place),
        "not recorded": _absent(table.loc[sound, RECORDED]).reindex(table.index).astype("category"),
        "published and actual split": (table["source_split"] + " " + split).astype("category"),
        "fault of the path": fault.astype("category"),
        "label": table["abnormal"].map(LABELS).astype("str").astype("category"),
        "shorter side": _small(shorter),
        "longer side": _small(longer),
        "aspect": (longer / shorter).round(2),
        "contrast": _small(contrast),
        "border": table["frame"].mask(plain),
        "rim above centre": inversion.mask(plain | (table["frame"] > params.max_frame)),
    }


def _small(numbers: pd.Series) -> pd.Series:
    """Whole numbers in as few bytes as they need."""
    return pd.to_numeric(numbers, downcast="integer") if is_integer_dtype(numbers.dtype) else numbers


def _joined(blocks: list[pd.Series]) -> pd.Series:
    """Blocks of a column, one after the other. Categories are in ascending order."""
    if isinstance(blocks[0].dtype, pd.CategoricalDtype):
        return pd.Series(union_categoricals([each.array for each in blocks], sort_categories=True))
    return pd.concat(blocks, ignore_index=True)


def _hashed(words: pd.Series) -> pd.Series:
    """A number for each word; missing for a missing one. Other words seldom have the same."""
    numbers = pd.util.hash_array(words.fillna("").to_numpy(dtype=object), categorize=False).view(np.int64)
    return pd.Series(pd.arrays.IntegerArray(numbers, words.isna().to_numpy()), words.index)


def _numbered(hashed: pd.Series, valid: pd.Series, words: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """The row of each word, of a repeated word its first row: as unique as the words, and smaller.

    Args:
        hashed: of the words.
        valid: rows that have a word.
        words: gives the words of some rows.
    """
    number = np.arange(len(hashed))
    alike = valid & hashed.where(valid).duplicated(keep=False)
    found = words(alike)
    number[alike.to_numpy()] = found.index.to_series().groupby(found.to_numpy(dtype=object)).transform("min")
    return pd.Series(pd.arrays.IntegerArray(number, ~valid.to_numpy(dtype=bool)), hashed.index)


def _place(rows: pd.DataFrame) -> pd.Series:
    """`train wrist patient00001 study1_positive view 2`: what may be there once."""
    study = rows["study"].astype("str").str.rsplit("/", n=1).str[-1] + " view " + rows["view"].astype("str")
    words = [rows[name].astype("str") for name in ("split", "body_part", "patient")]
    return words[0] + " " + words[1] + " " + words[2] + " " + study


def _keep_repeated(table: pd.DataFrame, path: Path) -> None:
    """Give the table `pixels_sha256` where it is there more than once."""
    hashed = table.pop("pixels hash")
    again = (hashed.notna() & hashed.duplicated(keep=False)).to_numpy()
    digests = [piece.loc[again[piece.index], "pixels_sha256"] for piece in pieces(path, ["pixels_sha256"])]
    table["pixels_sha256"] = pd.concat(digests).astype("category").reindex(table.index)


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
    keys = [_filled(table["source_split"], "no split"), _filled(table["body_part"], "no body part")]
    cells = table["directory number"].groupby([*keys, _filled(table["label"], "no label")], observed=True)
    found: dict[str, dict[Any, int]] = {"images": cells.size().to_dict(), "studies": cells.nunique().to_dict()}
    stated = {
        (split, part, LABELS[int(abnormal)]): size
        for split, cells in mura_v1_1.CELLS.items()
        for (part, abnormal), size in cells.items()
        if parts is None or part in parts
    }
    every = sorted(set(stated) | set(found["images"]))
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


def _filled(words: pd.Series, missing: str) -> pd.Series:
    """Categories, with a word for what is missing."""
    return words.cat.set_categories([*words.cat.categories.drop(missing, errors="ignore"), missing]).fillna(missing)


def patients(table: pd.DataFrame) -> pd.DataFrame:
    """Patients by published split, beside the published numbers."""
    found = table.groupby("source_split")["patient number"].nunique()
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
    seen = {*now["body_part"].dropna(), *before["body_part"].dropna()}
    for part in sorted({*BODY_PARTS, *map(str, seen)}):
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


def _codes(hashed: pd.Series) -> pd.Series:
    """A small number for each word, by its hash."""
    codes = hashed.factorize()[0].astype(np.int32)
    return pd.Series(pd.arrays.IntegerArray(codes, codes < 0), hashed.index)


def _first_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The first row of every study."""
    return table.loc[_firsts(table["study number"]).index, ["split", "body_part", "abnormal"]]


def _firsts(unit: pd.Series) -> pd.Series:
    """Each unit in its first row only."""
    return unit[unit.notna() & ~unit.duplicated()]


def _together(values: pd.Series, unit: pd.Series, codes: pd.Series | None = None) -> pd.Series:
    """The distinct values of every unit, joined by ` and `, in its first row.

    Args:
        values: by row.
        unit: by row.
        codes: a number for each value, where there are too many for categories.
    """
    number = values.astype("category").cat.codes if codes is None else codes.fillna(-1)
    rows = pd.DataFrame({"unit": unit.factorize()[0], "word": number.to_numpy(dtype=np.int32)})
    rows = rows[rows["unit"] >= 0]
    firsts = rows["unit"].drop_duplicates()
    first = np.empty(len(firsts), np.int64)
    first[firsts] = firsts.index
    pairs = rows[rows["word"] >= 0].drop_duplicates()
    again = pairs["unit"].duplicated(keep=False)
    found = values.iloc[pairs.index[~again]].astype("str").set_axis(first[pairs["unit"][~again]])
    # Few units have several values.
    several: dict[int, list[str]] = defaultdict(list)
    words = values.iloc[pairs.index[again]].astype("str").tolist()
    for number_of_unit, word in zip(pairs["unit"][again].tolist(), words, strict=True):
        several[int(first[number_of_unit])].append(word)
    joined = pd.Series({row: " and ".join(sorted(some)) for row, some in several.items()}, dtype="str")
    found = pd.concat([found, joined]) if several else found
    return (found.astype("category") if codes is None else found).reindex(values.index)


def _absent(recorded: pd.DataFrame) -> pd.Series:
    """Names of a row's empty columns; missing if there are none."""
    rows = recorded[recorded.isna().any(axis=1)]
    return pd.Series([", ".join(recorded.columns[row.isna()]) for _, row in rows.iterrows()], rows.index, dtype="str")


def _twins(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Names of equal pictures, in the row of the first one, each with what it has otherwise.

    They stand in the column that matters most: in another split, with another label, of another patient, or again.
    """
    again = table.loc[
        table["pixels_sha256"].notna(),
        ["image", "pixels_sha256", "std", "split", "abnormal", "patient"],
    ].drop_duplicates("image")
    words = ("pixels_sha256", "split", "patient")
    again = again.assign(**{name: again[name].astype("str") for name in words})
    again = again[again["pixels_sha256"].duplicated(keep=False)]
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
        name: _words(first.map(named[chosen].groupby(digest).agg(_some)), table)
        for name, named, chosen in (
            ("same picture in another split", _in_split(again), elsewhere),
            ("same picture with another label", _labelled(again), otherwise),
            ("same picture of another patient", again["image"], others & ~important),
            ("same picture again", again["image"], digest.duplicated() & ~important & ~foreign),
        )
    }


def _words(words: pd.Series, table: pd.DataFrame) -> pd.Series:
    """Words of some rows as a column of the table."""
    return words.astype("str").astype("category").reindex(table.index)


def _near(table: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, pd.Series]:
    """Names of near copies, in the row of the first one and the column that matters most."""
    elsewhere, otherwise = pairs["splits"].astype(bool), pairs["labels"].astype(bool)
    rows = table.loc[table["image"].isin(pairs["second"]), ["image", "split", "abnormal"]].drop_duplicates("image")
    rows = rows.assign(split=rows["split"].astype("str"))
    second = rows.set_index("image").loc[pairs["second"]].reset_index().set_index(pairs.index)
    alike = " with similarity " + pairs["similarity"].map(similarity_in_words).astype("str")
    first = _firsts(table.loc[table["image"].isin(pairs["first"]), "image"])
    return {
        f"near picture {name}": _words(first.map((named + alike)[chosen].groupby(pairs["first"]).agg(_some)), table)
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
