"""report.html: the outcomes for people. First the verdict, then the failures with pictures, then the data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from components.archive.archive import Archive
from components.artifacts.manifest import SPLITS, ManifestFacts
from components.base.errors import printable
from components.pages.render import render
from components.validate.drawings import histogram
from components.validate.outcome import Offender, Outcome, Validation
from components.validate.pictures import Pictures
from components.validate.tables import similarity_in_words

TEMPLATE = Path(__file__).with_name("report.html")
# Offenders of an expectation that are shown with pictures, and offenders that are only named.
PICTURED, NAMED = 12, 50
# Pictures of one offender: views of a study, images of a patient, a picture and its copies.
VIEWS = 3
PAIRS = 24
DRAWN = {
    "mean": "Mean grey level",
    "std": "Standard deviation of grey levels",
    "contrast": "Contrast, grey levels",
    "longer side": "Longer side, pixels",
    "shorter side": "Shorter side, pixels",
    "views of the study": "Views of a study",
}


class Shown(NamedTuple):
    """An offender with its pictures."""

    name: Markup
    shows: Mapping[str, Any]
    pictures: list[Markup]


class Pair(NamedTuple):
    """Two copies of one picture."""

    first: Mapping[Any, Any]
    second: Mapping[Any, Any]
    similarity: str
    mirrored: bool
    differ: str
    pictures: list[Markup]


def page(validation: Validation, archive: Archive) -> str:
    """The report, as HTML that needs no other file.

    Args:
        validation: the outcomes and their tables.
        archive: with the pictures.
    """
    manifest, params, tables, outcomes = (
        validation.manifest,
        validation.params,
        validation.tables,
        validation.outcomes,
    )
    images, pairs = tables["images"], tables["near"]
    counted = images[["directory number", "patient number", "split", "body_part", "abnormal"]]
    broken = [outcome for outcome in outcomes if not outcome.success]
    told = [*broken, *(outcome for outcome in outcomes if outcome.tolerated)]
    with Pictures(archive, params.pictures) as pictures:
        offenders = {outcome.name: _offenders(outcome, images, pairs, pictures) for outcome in told}
        near = _pairs(pairs, images, pictures)
    return render(
        TEMPLATE,
        facts=manifest.facts,
        digest=manifest.digest,
        gates=[outcome for outcome in broken if outcome.gate],
        warnings=[outcome for outcome in broken if not outcome.gate],
        tolerated=told[len(broken) :],
        told=told,
        outcomes=outcomes,
        n_gates=sum(outcome.gate for outcome in outcomes),
        skipped=validation.skipped,
        offenders=offenders,
        named=NAMED,
        pairs=near,
        n_pairs=len(pairs),
        pictures=params.pictures,
        left_out=pictures.left_out,
        splits=SPLITS,
        totals={split: _counted(counted[counted["split"] == split]) for split in SPLITS},
        parts={part: _by_split(counted[counted["body_part"] == part]) for part in _parts(images, manifest.facts)},
        shifts=tables["shifts"].set_index("body_part").to_dict("index"),
        modes=_modes(images),
        drawings=_drawings(images, tables.get("reference")),
        drifts=tables["drifts"].to_dict("records") if "drifts" in tables else [],
        drifted={outcome.name for outcome in broken if outcome.name.startswith("drift_")},
        reference=validation.reference,
        is_published="counts" in tables,
        params=params.model_dump(mode="json"),
    )


def _offenders(
    outcome: Outcome, images: pd.DataFrame, pairs: pd.DataFrame, pictures: Pictures
) -> tuple[list[Shown], list[str]]:
    """Offenders with pictures, and lines about the others."""
    shown: list[Shown] = []
    named: list[Offender] = []
    for offender in outcome.offenders[: PICTURED + NAMED]:
        members = _members(offender, images, pairs) if len(shown) < PICTURED else []
        found = [picture for member in members if (picture := pictures(member)) is not None]
        if found:
            shown.append(Shown(_breakable(offender.name), offender.shows, found))
        else:
            named.append(offender)
    return shown, [str(offender) for offender in named[:NAMED]]


def _breakable(member: str) -> Markup:
    """A path that may be broken after a slash, in narrow columns."""
    return Markup("/<wbr>").join(printable(member).split("/"))


def _members(offender: Offender, images: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    """Images to show of an offender: for a patient one of each split, for a picture also its copies."""
    if offender.unit is None or offender.key is None:
        return []
    mine = images[images[offender.unit] == offender.key]
    if offender.unit == "patient":
        mine = mine.drop_duplicates("split")
    members = mine["image"].drop_duplicates().tolist()
    if any(column.startswith("same picture") for column in offender.shows):
        copies = images[images["pixels_sha256"].isin(mine["pixels_sha256"].dropna())]
        members = list(dict.fromkeys([*members, *copies["image"]]))
    if any(column.startswith("near picture") for column in offender.shows):
        members += pairs.loc[pairs["first"] == offender.key, "second"].tolist()
    return members[:VIEWS]


def _pairs(pairs: pd.DataFrame, images: pd.DataFrame, pictures: Pictures) -> list[Pair]:
    wanted = images["image"].isin({*pairs["first"].head(PAIRS), *pairs["second"].head(PAIRS)})
    facts = images[wanted].drop_duplicates("image").set_index("image")[["split", "abnormal"]].to_dict("index")
    found = []
    for pair in pairs.head(PAIRS).to_dict("records"):
        members = pair["first"], pair["second"]
        first, second = ({"image": _breakable(member), **facts[member]} for member in members)
        differ = ", ".join(word for word in ("splits", "patients", "labels") if pair[word])
        shown = [picture for member in members if (picture := pictures(member)) is not None]
        found.append(Pair(first, second, similarity_in_words(pair["similarity"]), pair["mirrored"], differ, shown))
    return found


def _parts(images: pd.DataFrame, facts: ManifestFacts) -> list[str]:
    return sorted(set(images["body_part"].dropna()) | set(facts.known_parts))


def _by_split(images: pd.DataFrame) -> dict[str, dict[str, int | float | None]]:
    return {split: _counted(images[images["split"] == split]) for split in SPLITS}


def _counted(images: pd.DataFrame) -> dict[str, int | float | None]:
    studies = images.drop_duplicates("directory number")["abnormal"]
    share = studies.mean()
    return {
        "images": len(images),
        "studies": len(studies),
        "patients": images["patient number"].nunique(),
        "abnormal": None if pd.isna(share) else float(share),
    }


def _modes(images: pd.DataFrame) -> dict[str, dict[str, int]]:
    modes = images["mode"].astype("str").fillna("not decoded")
    return {
        str(mode): {split: int(((modes == mode) & (images["split"] == split)).sum()) for split in SPLITS}
        for mode in sorted(set(modes))
    }


def _drawings(images: pd.DataFrame, reference: pd.DataFrame | None) -> dict[str, Markup]:
    drawn = {}
    for column, title in DRAWN.items():
        samples = {} if reference is None else {"reference": _numbers(reference[column])}
        samples |= {split: _numbers(images.loc[images["split"] == split, column]) for split in SPLITS}
        drawn[title] = histogram(title, samples, whole=column.startswith("views"))
    return drawn


def _numbers(values: pd.Series) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return pd.to_numeric(values, errors="coerce").dropna().to_numpy(dtype=np.float64)
