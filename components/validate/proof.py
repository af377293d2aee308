"""Prove a manifest, or refuse it."""

import hashlib
import logging
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

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
from components.base.errors import DataRefused
from components.base.files import json_sha256, write_text
from components.params.validate import DEFAULTS, ValidateParams

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    import pandas

    from components.validate.finding import Finding

# The line of a refusal names so many offenders of so many gates; the reports name more.
NAMED_MEMBERS = 3
NAMED_GATES = 3
# Images that are read to see that archive and manifest belong together.
SAMPLE = 3

logger = logging.getLogger(__name__)


def run(
    archive: Archive, manifest: Manifest, params: ValidateParams, out: Path, reference: Manifest | None = None
) -> ValidManifest:
    """Do what `components.validate.validate` says."""
    suite, expectations, data_docs = _great_expectations()
    from components.validate import report, tables
    from components.validate.page import page

    table = manifest.table
    _see_that_it_is_the_same(archive, table)
    try:
        pairs = _copies(archive, table, params)
        judged = tables.arranged(table, pairs, params, None if reference is None else reference.table)
        expected = expectations.expectations(manifest.facts, params, judged)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataRefused(
            f"{manifest.path / TABLE}: not the table that a Manifest promises ({type(error).__name__}: {error}). "
            "Run `mura ingest` again."
        ) from error
    result = suite.run(judged, expected)
    findings = suite.findings(judged, result, params)
    skipped = _skipped(params, findings)
    write_text(out / SUMMARY, report.summary(manifest, reference, judged, findings, skipped))
    report.offenders(findings).to_parquet(out / OFFENDERS, index=False)
    pairs.to_parquet(out / DUPLICATES, index=False)
    write_text(out / REPORT, page(manifest, archive, judged, findings, skipped, params, reference))
    write_text(out / DATA_DOCS, data_docs.page(manifest, findings, result))

    if any(finding.gate and not finding.success for finding in findings):
        raise DataRefused(refusal(manifest.facts.archive, findings), keep=out)

    warned = tuple(finding.name for finding in findings if not finding.success)
    shutil.copyfile(manifest.path / TABLE, out / TABLE)
    facts = ValidManifestFacts(
        **manifest.facts.model_dump(),
        manifest_digest=manifest.digest,
        data_digest=data_digest(table),
        expectations=len(findings),
        warnings=warned,
    )
    valid = ValidManifest.seal(out, facts)
    logger.info(
        "validate: %s images, %s expectations: %s",
        f"{facts.images:,}",
        facts.expectations,
        f"gates hold, warnings: {', '.join(warned)}" if warned else "all hold",
    )
    return valid


def _copies(archive: Archive, table: "pandas.DataFrame", params: ValidateParams) -> "pandas.DataFrame":
    """Pairs of pictures that are one, as `duplicates.find` gives them; none if nobody asks."""
    from components.validate import duplicates

    if all(params.judgement(name).severity == "skip" for name in DEFAULTS if name.startswith("near_")):
        table = table.head(0)
    return duplicates.find(archive, table)


def _skipped(params: ValidateParams, findings: "Iterable[Finding]") -> dict[str, str]:
    """Why an expectation was not looked at."""
    looked_at = {finding.name for finding in findings}
    return {
        name: "skipped by params.yaml"
        if params.judgement(name).severity == "skip"
        else "no --reference given"
        if name.startswith("drift_")
        else "not the published MURA v1.1"
        for name in DEFAULTS
        if name not in looked_at
    }


def _see_that_it_is_the_same(archive: Archive, table: "pandas.DataFrame") -> None:
    """Read a few images, spread over the table, and compare their digests."""
    read = table[table["sha256"].notna()] if "sha256" in table else table.head(0)
    with archive:
        for place in sorted({len(read) * step // SAMPLE for step in range(SAMPLE)} if len(read) else ()):
            image, expected = read["image"].iloc[place], read["sha256"].iloc[place]
            try:
                found = hashlib.sha256(archive.bytes_of(image)).hexdigest()
            except KeyError:
                found = "no such file"
            if found != expected:
                raise DataRefused(
                    f"{archive.place}: not the archive that the manifest describes: {image} should have sha256 "
                    f"{expected[:12]}, found {found[:12]}. Name the other one, or run `mura ingest` again."
                )


def data_digest(table: "pandas.DataFrame") -> str:
    """The data set's identity: which pictures, which labels, which split, in whatever order.

    Args:
        table: rows with `image`, `sha256`, `abnormal`, `split`; nothing missing.

    Returns:
        sha256 over the ascending list of [image, sha256, abnormal, split], hex.
    """
    rows = table[["image", "sha256", "abnormal", "split"]].sort_values("image")
    return json_sha256(rows.astype({"abnormal": int}).to_numpy(dtype=object).tolist())


def refusal(archive: str, findings: "list[Finding]") -> str:
    """One line that names the broken gates and their first members."""
    gates = [finding for finding in findings if finding.gate]
    broken = [finding for finding in gates if not finding.success]
    parts = [finding.line(NAMED_MEMBERS) for finding in broken[:NAMED_GATES]]
    if len(broken) > NAMED_GATES:
        parts.append(f"also {', '.join(finding.name for finding in broken[NAMED_GATES:])}")
    return f"{archive}: {len(broken)} of {len(gates)} gates do not hold: {'; '.join(parts)}."


def _great_expectations() -> "tuple[ModuleType, ModuleType, ModuleType]":
    """The modules that speak with Great Expectations, imported without its asides."""
    # It reads this when it is imported. Data that may not be shared is not reported on either.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    # At INFO it tells of its own documentation.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # It uses modules that Python is to drop, and tries Google's client, which misses a package nobody needs.
        warnings.filterwarnings("ignore", r"module 'sre_\w+' is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", "Please install grpcio-status", ImportWarning)
        from components.validate import data_docs, expectations, suite
    # This one module sets its own level when it is imported.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    return suite, expectations, data_docs
