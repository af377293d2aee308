"""The outcomes for programs: validation.json and offenders.parquet. They contain no time and no place.

validation.json is an object:

    format          1; the number changes when a key changes its meaning or disappears
    verdict         accepted or refused
    counts          expectations; held; failed_gates; failed_warnings; tolerated (they hold despite some offenders)
    manifest        digest, archive, body_parts (null for all), images, studies, patients
    reference       digest and archive of the manifest that the data were compared with, or null
    splits          of train, tuning, test: images, studies, patients, abnormal_studies
    expectations    a list, gates first, of
        name, says, why
        severity    gate or warn
        tolerance   below 1 a share of the tested values, from 1 on a number of them
        success     whether it holds within the tolerance
        tested, unexpected
                    numbers of images, studies or patients, or null for an expectation about the whole table
        observed    the observed value of the whole table, or null
        members     the first 20 offenders: `member`, then the offending values by column
        error       why it could not be evaluated, or null
    skipped         names of expectations that were not evaluated, with the reason

offenders.parquet has every offender: expectation, severity, holds, unit (image, study, patient or null), key (the
image, study or patient), member (its name), told (its name with the offending values).
"""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from components.artifacts.manifest import SPLITS, Manifest
from components.validate.outcome import Outcome, Validation

FORMAT = 1
# Offenders of an expectation in validation.json.
MEMBERS = 20


def summary(validation: Validation) -> str:
    """validation.json."""
    reference, outcomes, images = validation.reference, validation.outcomes, validation.tables["images"]
    counted = images[["directory number", "patient number", "split", "abnormal"]]
    document = {
        "format": FORMAT,
        "verdict": verdict(outcomes),
        "counts": counts(outcomes),
        "manifest": manifest_facts(validation.manifest),
        "reference": None if reference is None else {"digest": reference.digest, "archive": reference.facts.archive},
        "splits": {split: _split(counted[counted["split"] == split]) for split in SPLITS},
        "expectations": [_entry(outcome) for outcome in outcomes],
        "skipped": dict(validation.skipped),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def offenders(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """offenders.parquet."""
    rows = [
        (outcome.name, outcome.severity, outcome.success, each.unit, each.key, each.name, str(each))
        for outcome in outcomes
        for each in outcome.offenders
    ]
    columns = ["expectation", "severity", "holds", "unit", "key", "member", "told"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns, "str") | {"holds": "bool"})


def verdict(outcomes: Sequence[Outcome]) -> str:
    """`refused` if a gate does not hold."""
    return "refused" if any(outcome.gate and not outcome.success for outcome in outcomes) else "accepted"


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Numbers of expectations that hold or fail."""
    failed = [outcome.gate for outcome in outcomes if not outcome.success]
    return {
        "expectations": len(outcomes),
        "held": len(outcomes) - len(failed),
        "tolerated": sum(outcome.tolerated for outcome in outcomes),
        "failed_gates": sum(failed),
        "failed_warnings": len(failed) - sum(failed),
    }


def manifest_facts(manifest: Manifest) -> dict[str, Any]:
    """The identity of the data."""
    facts = manifest.facts
    return {
        "digest": manifest.digest,
        "archive": facts.archive,
        "body_parts": None if facts.body_parts is None else list(facts.body_parts),
        "images": facts.images,
        "studies": facts.studies,
        "patients": facts.patients,
    }


def _split(images: pd.DataFrame) -> dict[str, int]:
    studies = images.drop_duplicates("directory number")
    return {
        "images": len(images),
        "studies": len(studies),
        "patients": images["patient number"].nunique(),
        "abnormal_studies": int((studies["abnormal"] == 1).sum()),
    }


def _entry(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "severity": outcome.severity,
        "tolerance": outcome.tolerance,
        "says": outcome.says,
        "why": outcome.why,
        "success": outcome.success,
        "tested": outcome.tested,
        "unexpected": outcome.unexpected,
        "observed": outcome.observed,
        "members": [{"member": each.name, **each.shows} for each in outcome.offenders[:MEMBERS]],
        "error": outcome.error,
    }
