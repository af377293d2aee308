"""The findings for programs; nothing in them tells when or where they were made.

validation.json is an object:

    format          1; another number means that a key has changed its meaning or is gone
    verdict         accepted or refused
    counts          expectations; held; failed_gates; failed_warnings; tolerated, those that hold although some offend
    manifest        digest, archive, images, studies, patients
    reference       digest and archive of what the data were compared with, or null
    splits          of train, tuning, test: images, studies, patients, abnormal_studies
    expectations    a list, gates first, of
        name, says, why
        severity    gate or warn
        tolerance   below 1 a share of those tested, from 1 on a number of them
        success     whether it holds, within the tolerance
        tested, unexpected
                    numbers of images, studies, patients..., or null if it is about the table as a whole
        observed    what the table as a whole shows, or null
        members     the first 20 offenders: `member`, then by column the values that offend
        error       why it could not be evaluated, or null
    skipped         by name, why an expectation was not looked at

offenders.parquet has every offender: expectation, severity, holds, unit (image, study, patient or null), key (the
image, study or patient), member (what it is called), told (it with the values that offend).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from components.artifacts.manifest import SPLITS, Manifest
from components.validate.finding import Finding

FORMAT = 1
# Offenders of an expectation in validation.json.
MEMBERS = 20


def summary(
    manifest: Manifest,
    reference: Manifest | None,
    tables: Mapping[str, pd.DataFrame],
    findings: Sequence[Finding],
    skipped: Mapping[str, str],
) -> str:
    """validation.json."""
    document = {
        "format": FORMAT,
        "verdict": verdict(findings),
        "counts": counts(findings),
        "manifest": manifest_facts(manifest),
        "reference": None if reference is None else {"digest": reference.digest, "archive": reference.facts.archive},
        "splits": {split: _split(rows) for split in SPLITS for rows in [_of(tables["images"], split)]},
        "expectations": [_entry(finding) for finding in findings],
        "skipped": dict(skipped),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def offenders(findings: Sequence[Finding]) -> pd.DataFrame:
    """offenders.parquet."""
    rows = [
        (finding.name, finding.severity, finding.success, each.unit, each.key, each.name, str(each))
        for finding in findings
        for each in finding.offenders
    ]
    columns = ["expectation", "severity", "holds", "unit", "key", "member", "told"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns, "str") | {"holds": "bool"})


def verdict(findings: Sequence[Finding]) -> str:
    """`refused` if a gate does not hold."""
    return "refused" if any(finding.gate and not finding.success for finding in findings) else "accepted"


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """How many expectations hold, and what kind does not."""
    failed = [finding.gate for finding in findings if not finding.success]
    return {
        "expectations": len(findings),
        "held": len(findings) - len(failed),
        "tolerated": sum(finding.tolerated for finding in findings),
        "failed_gates": sum(failed),
        "failed_warnings": len(failed) - sum(failed),
    }


def manifest_facts(manifest: Manifest) -> dict[str, Any]:
    """Which data these are."""
    facts = manifest.facts
    return {
        "digest": manifest.digest,
        "archive": facts.archive,
        "images": facts.images,
        "studies": facts.studies,
        "patients": facts.patients,
    }


def _of(images: pd.DataFrame, split: str) -> pd.DataFrame:
    return images[images["split"] == split]


def _split(images: pd.DataFrame) -> dict[str, int]:
    studies = images.drop_duplicates("study")
    return {
        "images": len(images),
        "studies": len(studies),
        "patients": images["patient"].nunique(),
        "abnormal_studies": int((studies["abnormal"] == 1).sum()),
    }


def _entry(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "severity": finding.severity,
        "tolerance": finding.tolerance,
        "says": finding.says,
        "why": finding.why,
        "success": finding.success,
        "tested": finding.tested,
        "unexpected": finding.unexpected,
        "observed": finding.observed,
        "members": [{"member": each.name, **each.shows} for each in finding.offenders[:MEMBERS]],
        "error": finding.error,
    }
