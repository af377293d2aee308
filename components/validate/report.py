"""The findings for programs and for people; nothing in either tells when or where they were made."""

import html
import itertools
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

from components.artifacts.manifest import Manifest
from components.validate.finding import Finding, member_text

TEMPLATE = "data_docs.html.j2"
# Offenders of a failed expectation in the head of the page; its section has more.
NAMED_MEMBERS = 3


def summary(manifest: Manifest, findings: list[Finding]) -> str:
    """The verdict, the counts, and every expectation, as JSON."""
    verdict = {
        "verdict": _verdict(findings),
        "counts": _counts(findings),
        "manifest": _manifest(manifest),
        "expectations": [_entry(finding) for finding in findings],
    }
    return json.dumps(verdict, indent=1, ensure_ascii=False) + "\n"


def page(manifest: Manifest, findings: list[Finding], result: Any) -> str:
    """Great Expectations' Data Docs page as one file that needs no network.

    The blocks are rendered by Great Expectations. The frame around them is ours: its own loads styles,
    scripts and pictures from seven hosts.

    Args:
        manifest: whose findings these are.
        findings: one for each of the results.
        result: Great Expectations' suite validation result; changed for display.
    """
    for one, finding in zip(result.results, findings, strict=True):
        _make_presentable(one, finding)
    document = ValidationResultsPageRenderer().render(result)
    view = DefaultJinjaPageView(custom_views_directory=str(Path(__file__).parent))
    # Random ids would make every page a new one.
    numbers = itertools.count(1)
    view.env.filters["generate_html_element_uuid"] = lambda prefix="": f"{prefix}{next(numbers)}"
    text: str = view.render(
        document,
        template=TEMPLATE,
        verdict=_verdict(findings),
        counts=_counts(findings),
        manifest=_manifest(manifest),
        failures=[
            _failure(one, finding) for one, finding in zip(result.results, findings, strict=True) if not finding.success
        ],
    )
    return text


def _verdict(findings: list[Finding]) -> str:
    return "refused" if any(finding.gate and not finding.success for finding in findings) else "accepted"


def _counts(findings: list[Finding]) -> dict[str, int]:
    failed = Counter(finding.gate for finding in findings if not finding.success)
    return {
        "expectations": len(findings),
        "held": sum(finding.success for finding in findings),
        "failed_gates": failed[True],
        "failed_warnings": failed[False],
    }


def _manifest(manifest: Manifest) -> dict[str, Any]:
    facts = manifest.facts
    return {
        "digest": manifest.digest,
        "archive": facts.archive,
        "images": facts.images,
        "studies": facts.studies,
        "patients": facts.patients,
    }


def _entry(finding: Finding) -> dict[str, Any]:
    fields = asdict(finding)
    return {"name": fields.pop("name"), "severity": "gate" if fields.pop("gate") else "warn", **fields}


def _failure(one: Any, finding: Finding) -> dict[str, str]:
    """A failed expectation for the head of the page, and the section that tells more of it."""
    section = one.expectation_config.kwargs.get("column", "Table-Level Expectations")
    return {
        "severity": "gate" if finding.gate else "warning",
        "says": finding.says,
        "line": finding.line(NAMED_MEMBERS),
        "section": section,
    }


def _make_presentable(one: Any, finding: Finding) -> None:
    """Put a finding where Great Expectations' renderers look.

    Left alone they show traces with local paths, count units against rows, and pass text through as HTML,
    while members of an archive may be called anything.
    """
    mark = "" if finding.gate else ' <span class="badge badge-warning">warning</span>'
    sentence, why = (html.escape(text).replace("$", "$$") for text in (finding.says, finding.why))
    # Notes are shown for suites, not for results, so they go with the description, which is taken for HTML.
    one.expectation_config.description = f"{sentence}{mark} <small>{why}</small>"
    one.exception_info = {
        "raised_exception": finding.error is not None,
        "exception_message": finding.error,
        "exception_traceback": "",
    }
    if finding.error is not None:
        return
    tested, unexpected = finding.tested or 0, finding.unexpected or 0
    one.result = {
        "element_count": tested,
        "unexpected_count": unexpected,
        "unexpected_percent": 100 * unexpected / tested if tested else None,
        "partial_unexpected_list": [html.escape(member_text(member)) for member in finding.members],
        "observed_value": finding.observed,
    }
