"""`mura validate`: prove a manifest, or refuse it. The reports are written in both cases."""

import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from components.archive.archive import Archive
from components.artifacts.manifest import (
    DATA_DOCS,
    DUPLICATES,
    OFFENDERS,
    REPORT,
    SUMMARY,
    TABLE,
    Manifest,
    ValidManifest,
    ValidManifestFacts,
)
from components.base import freed_memory
from components.base.errors import DataRefused, first_line
from components.base.files import write_text
from components.base.words import count, in_words
from components.params.validate import DEFAULTS, ValidateParams
from components.validate import data_docs, duplicates, results, suite, tables
from components.validate.expectations import expectations
from components.validate.outcome import Outcome, Validation
from components.validate.page import page
from components.validate.pieces import pieces

# A refusal names so many offenders of so many gates. The reports name more.
NAMED_MEMBERS = 3
NAMED_GATES = 3
# Characters of a refusal, without the names of further gates and the place of the report.
LONGEST = 280
# Images that are read to check that archive and manifest belong together.
SAMPLE = 3

# Expectations about copies that are not equal.
NEAR = tuple(name for name in DEFAULTS if name.startswith("near_"))
# Columns that are a data set's identity.
IDENTITY = ["image", "sha256", "abnormal", "split"]

logger = logging.getLogger(__name__)


def run(
    archive: Archive, manifest: Manifest, params: ValidateParams, out: Path, reference: Manifest | None = None
) -> ValidManifest:
    """Do what `components.validate.validate` says."""
    _check_archive(archive, manifest.path / TABLE)
    try:
        pairs = _copies(archive, manifest.path / TABLE, params, out)
        judged = tables.arranged(manifest, pairs, params, reference, out)
        expected = expectations(manifest.facts, params, judged)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataRefused(
            f"{manifest.path / TABLE}: not the table that a Manifest promises ({type(error).__name__}: "
            f"{first_line(error)}). "
            "Run `mura ingest` again."
        ) from error
    # Great Expectations needs as much again as the tables take.
    freed_memory.give_back()
    result = suite.run(judged, expected)
    outcomes = suite.outcomes(judged, result, params)
    validation = Validation(manifest, reference, params, judged, outcomes, _skipped(params, outcomes, judged))
    pairs.to_parquet(out / DUPLICATES, index=False)
    _write_reports(validation, archive, result, out)
    if any(outcome.gate and not outcome.success for outcome in outcomes):
        raise DataRefused(refusal(manifest.facts.what, outcomes), keep=out)
    return _sealed(manifest, outcomes, out)


def _write_reports(validation: Validation, archive: Archive, result: Any, out: Path) -> None:
    write_text(out / SUMMARY, results.summary(validation))
    results.offenders(validation.outcomes).to_parquet(out / OFFENDERS, index=False)
    write_text(out / REPORT, page(validation, archive))
    write_text(out / DATA_DOCS, data_docs.page(validation, result))


def _sealed(manifest: Manifest, outcomes: Sequence[Outcome], out: Path) -> ValidManifest:
    warned = tuple(outcome.name for outcome in outcomes if not outcome.success)
    shutil.copyfile(manifest.path / TABLE, out / TABLE)
    facts = ValidManifestFacts(
        **manifest.facts.model_dump(),
        manifest_digest=manifest.digest,
        data_digest=_digest_of(out / TABLE),
        expectations=len(outcomes),
        warnings=warned,
    )
    valid = ValidManifest.seal(out, facts)
    logger.info(
        "validate: %s, %s: %s",
        count(facts.images, "image"),
        count(facts.expectations, "expectation"),
        f"gates hold, warnings: {', '.join(warned)}" if warned else "all hold",
    )
    return valid


def _copies(archive: Archive, path: Path, params: ValidateParams, out: Path) -> pd.DataFrame:
    """Pairs of copies, as `duplicates.find` gives them. None if all expectations about them are skipped."""
    if all(params.judgement(name).severity == "skip" for name in NEAR):
        return duplicates.find(archive, pq.read_schema(path).empty_table().to_pandas())
    return duplicates.find_in(archive, path, out)


def _skipped(params: ValidateParams, outcomes: Iterable[Outcome], judged: Mapping[str, Any]) -> dict[str, str]:
    """Expectations that were not evaluated, and why."""
    evaluated = {outcome.name for outcome in outcomes}
    return {
        name: "skipped by params.yaml"
        if params.judgement(name).severity == "skip"
        else "no --reference given"
        if name.startswith("drift_")
        else "patients are published for all body parts together"
        if name == "published_patients" and "counts" in judged
        else "not the published MURA v1.1"
        for name in DEFAULTS
        if name not in evaluated
    }


def _check_archive(archive: Archive, path: Path) -> None:
    """Compare the digests of a few images, spread over the table."""
    if not {"image", "sha256"} <= set(pq.read_schema(path).names):
        return
    read = np.flatnonzero(np.concatenate([piece["sha256"].notna() for piece in pieces(path, ["sha256"])]))
    rows = read[sorted({len(read) * step // SAMPLE for step in range(SAMPLE)} if len(read) else ())]
    sample = [piece.loc[piece.index.isin(rows)] for piece in pieces(path, ["image", "sha256"])]
    with archive:
        for image, expected in pd.concat(sample).itertuples(index=False, name=None):
            try:
                found = hashlib.sha256(archive.bytes_of(image)).hexdigest()
            except KeyError:
                found = "no such file"
            if found != expected:
                raise DataRefused(
                    f"{archive.place}: not the archive that the manifest describes: {image} should have sha256 "
                    f"{expected[:12]}, found {found[:12]}. Name the other one, or run `mura ingest` again."
                )


def data_digest(table: pd.DataFrame) -> str:
    """The identity of a data set: images, labels and splits, in any order.

    Args:
        table: rows with `image`, `sha256`, `abnormal`, `split`, none missing.

    Returns:
        sha256 (hex) of the ascending list of [image, sha256, abnormal, split].
    """
    rows = table[IDENTITY].sort_values("image").astype({"abnormal": int})
    return _digest(rows.itertuples(index=False, name=None))


def _digest_of(path: Path) -> str:
    """`data_digest` of a table, of which a part is in memory, if its rows are in order."""
    rows = (piece.astype({"abnormal": int}).itertuples(index=False, name=None) for piece in pieces(path, IDENTITY))
    try:
        return _digest(itertools.chain.from_iterable(rows))
    except _NotAscending:
        return data_digest(pd.read_parquet(path, columns=IDENTITY))


class _NotAscending(Exception):
    """Rows are not in the order of their images."""


def _digest(rows: Iterable[tuple[Any, ...]]) -> str:
    """`json_sha256` of a list of rows, without the list."""
    digest, before = hashlib.sha256(b"["), None
    for row in rows:
        if before is not None and not before < row[0]:
            raise _NotAscending
        text = json.dumps(row, separators=(",", ":"), ensure_ascii=True)
        digest.update(f"{'' if before is None else ','}{text}".encode())
        before = row[0]
    digest.update(b"]")
    return digest.hexdigest()


def refusal(what: str, outcomes: Sequence[Outcome]) -> str:
    """One line that names the broken gates and their first offenders.

    Args:
        what: the data, in a few words.
        outcomes: of all expectations.
    """
    gates = [outcome for outcome in outcomes if outcome.gate]
    # A misnamed path breaks other gates too.
    broken = sorted((outcome for outcome in gates if not outcome.success), key=lambda outcome: outcome.name != "path")
    verb = "does" if len(broken) == 1 else "do"
    line = f"{what}: {len(broken)} of {count(len(gates), 'gate')} {verb} not hold: "
    most = next((n for n in range(NAMED_MEMBERS, 1, -1) if len(line + broken[0].line(n)) <= LONGEST), 1)
    parts = [broken[0].line(most)]
    for outcome in [] if broken[0].name == "path" else broken[1:NAMED_GATES]:
        if len("; ".join([line, *parts, outcome.line(1)])) <= LONGEST:
            parts.append(outcome.line(1))
        else:
            break
    if others := [outcome.name for outcome in broken[len(parts) :]]:
        several = f"{', '.join(others[:NAMED_GATES])} and {len(others) - NAMED_GATES} more"
        parts.append(f"also broken: {several if len(others) > NAMED_GATES else in_words(others)}")
    return f"{line}{'; '.join(parts)}."
