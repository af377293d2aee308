"""`mura validate --explain`: what is known about one image, and what the last validation found."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from components.artifacts.manifest import DUPLICATES, LABEL_NAMES, OFFENDERS, SUMMARY, Manifest
from components.base import documents
from components.base.errors import UsageError, printable
from components.base.words import count
from components.validate.tables import similarity_in_words

# Names that an error suggests, and copies that are listed.
NAMED = 3
COPIES = 8


def explain(asked: str, manifest: Manifest, out: Path) -> str:
    """Describe an image.

    Args:
        asked: its name, or a part of the name that no other image has.
        manifest: with the image.
        out: the directory of the ValidManifest. After a refusal, the reports are read from the directory beside it.

    Raises:
        UsageError: no image has that name, or more than one.
    """
    table = manifest.table
    member = _member(asked, table["image"].drop_duplicates().tolist())
    lines = [printable(member)]
    for what, told in (*_known(member, table), *_found(member, table, manifest, out)):
        lines.append(f"  {what:16}{printable(told)}")
    return "\n".join(lines)


def _member(asked: str, members: list[str]) -> str:
    if asked in members:
        return asked
    matching = [member for member in members if asked.lower() in member.lower()]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise UsageError(
            f"--explain: {count(len(matching), 'image')} have {printable(asked)!r} in their names, such as "
            f"{', '.join(map(printable, matching[:NAMED]))}. Say more of the name."
        )
    # Rare words count more: the number of a patient, not the word `image`.
    rarity = Counter(word for member in members for word in set(_words(member)))
    words = set(_words(asked))
    near = sorted(members, key=lambda member: -sum(1 / rarity[word] for word in words & set(_words(member))))[:NAMED]
    raise UsageError(
        f"--explain: no image of the manifest is called {printable(asked)!r}; nearest: "
        f"{', '.join(map(printable, near)) or 'none, the manifest is empty'}."
    )


def _words(name: str) -> list[str]:
    """Parts of a name: directories, letters, numbers, and all groups of four digits, because a digit may be missing."""
    digits = [number[start : start + 4] for number in re.findall(r"\d{4,}", name) for start in range(len(number) - 3)]
    return [*name.lower().split("/"), *re.findall(r"[a-z]+|\d+", name.lower()), *digits]


def _known(member: str, table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Lines about the manifest's row."""
    rows = table[table["image"] == member]
    row = rows.iloc[0]
    study, patient = table[table["study"] == row["study"]], table[table["patient"] == row["patient"]]
    yield "split", f"{_or(row['split'])}, published as {_or(row['source_split'])}"
    yield "body part", f"{_or(row['body_part'])}, view {_or(row['view'])}; images of the study: {len(study):,}"
    yield "patient", f"{_or(row['patient'])}; studies: {patient['study'].nunique():,}, images: {len(patient):,}"
    yield "label", f"{_label(row['abnormal'])} by the CSV, {_label(row['directory_label'])} by the directory"
    if "overlay" in table and not _missing(row["overlay"]):
        yield (
            "2nd opinion",
            f"{_label(row['overlay'])} ({_or(row['overlay_source'])}: {_or(row['overlay_reason'])})",
        )
    if len(rows) > 1:
        yield "rows", f"{len(rows)} of the manifest"
    yield "in the CSV", "yes" if row["listed"] else "no"
    yield "in the archive", "yes" if row["found"] else "no"
    if not _missing(row["problem"]):
        yield "problem", str(row["problem"])
    if not _missing(row["sha256"]):
        yield "file", f"{row['bytes']:,} bytes, sha256 {row['sha256']}"
    if not _missing(row["pixels_sha256"]):
        yield "picture", f"{row['width']} x {row['height']} pixels, {row['mode']}"
        yield (
            "grey levels",
            f"mean {row['mean']:.1f}, std {row['std']:.1f}, 1 % to 99 %: {row['low']} to {row['high']}",
        )
        yield "border", f"{row['frame']:.0%} of the area; rim {row['rim']:.0f}, centre {row['centre']:.0f}"
        same = table[(table["pixels_sha256"] == row["pixels_sha256"]) & (table["image"] != member)].head(COPIES)
        yield from (("same pixels", f"{name} in {_or(split)}") for name, split in same[["image", "split"]].to_numpy())


def _found(member: str, table: pd.DataFrame, manifest: Manifest, out: Path) -> Iterator[tuple[str, str]]:
    """Lines about the last validation."""
    # The next success removes the reports of a refusal. If they exist, they are the newest.
    refused = out.with_name(f"{out.name}.refused")
    reports = refused if (refused / SUMMARY).is_file() else out
    if not (reports / SUMMARY).is_file():
        yield "validation", f"none in {out} yet: run `mura validate`"
        return
    summary = documents.json_of(documents.content(reports / SUMMARY))
    stale = "" if summary["manifest"]["digest"] == manifest.digest else ", of another manifest: validate again"
    yield "validation", f"{summary['verdict']}, {reports}{stale}"
    pairs = pd.read_parquet(reports / DUPLICATES)
    splits = table.dropna(subset=["split"]).drop_duplicates("image").set_index("image")["split"]
    for pair in pairs[(pairs["first"] == member) | (pairs["second"] == member)].head(COPIES).to_dict("records"):
        if pair["kind"] == "near":
            other = pair["second"] if pair["first"] == member else pair["first"]
            mirrored = ", mirrored" if pair["mirrored"] else ""
            told = f"{other} in {splits.get(other, 'no split')}"
            yield "near copy", f"{told} with similarity {similarity_in_words(pair['similarity'])}{mirrored}"
    rows = table[table["image"] == member]
    offenders = pd.read_parquet(reports / OFFENDERS)
    keys = {unit: set(rows[unit].dropna()) for unit in ("image", "study", "patient")}
    mine = [
        offender
        for offender in offenders[offenders["unit"].isin(list(keys))].to_dict("records")
        if offender["key"] in keys[offender["unit"]]
    ]
    for offender in mine:
        holds = ", tolerated" if offender["holds"] else ""
        yield "offends", f"{offender['expectation']} ({offender['severity']}{holds}){_more(offender['told'], member)}"
    if not mine:
        yield "offends", "nothing"


def _more(told: str, member: str) -> str:
    """The description of an offender without the image's own name."""
    more = told.removeprefix(printable(member))
    if more.startswith(" ("):
        more = more[2:].removesuffix(")")
    return f": {more.removeprefix(': ')}" if more else ""


def _label(value: Any) -> str:
    if _missing(value):
        return "no label"
    return LABEL_NAMES[int(value)] if value in (0, 1) else f"{value}, which is no label"


def _or(value: Any) -> str:
    return "unknown" if _missing(value) else str(value)


def _missing(value: Any) -> bool:
    return bool(pd.isna(value))
