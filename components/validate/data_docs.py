"""Great Expectations' own page of its results, as one file that needs no network."""

import html
import itertools
from pathlib import Path
from typing import Any

from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

from components.artifacts.manifest import Manifest
from components.validate.finding import Finding
from components.validate.report import counts, manifest_facts, verdict

TEMPLATE = "data_docs.html.j2"
# Offenders of a failed expectation in the head of the page; its section has more.
NAMED_MEMBERS = 3
# Offenders of an expectation in its section.
MEMBERS = 20


def page(manifest: Manifest, findings: list[Finding], result: Any) -> str:
    """The Data Docs page.

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
        verdict=verdict(findings),
        counts=counts(findings),
        manifest=manifest_facts(manifest),
        failures=[
            _failure(one, finding) for one, finding in zip(result.results, findings, strict=True) if not finding.success
        ],
    )
    return text


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
    # Within its tolerance it holds.
    one.success = finding.success
    if finding.error is not None:
        return
    tested, unexpected = finding.tested or 0, finding.unexpected or 0
    one.result = {
        "element_count": tested,
        "unexpected_count": unexpected,
        "unexpected_percent": 100 * unexpected / tested if tested else None,
        "partial_unexpected_list": [html.escape(str(offender)) for offender in finding.offenders[:MEMBERS]],
        "observed_value": finding.observed,
    }
