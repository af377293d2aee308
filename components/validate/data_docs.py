"""Great Expectations' page of its results ("Data Docs"), as one file that needs no network."""

import html
import itertools
from pathlib import Path
from typing import Any

from components.validate.great_expectations import DefaultJinjaPageView, ValidationResultsPageRenderer
from components.validate.outcome import Outcome, Validation
from components.validate.results import counts, manifest_facts, verdict

TEMPLATE = "data_docs.html.j2"
# Offenders of a failed expectation at the top of the page. Its section has more.
NAMED_MEMBERS = 3
# Offenders of an expectation in its section.
MEMBERS = 20


def page(validation: Validation, result: Any) -> str:
    """The Data Docs page.

    Great Expectations renders the blocks. The frame around them is ours: the original one loads styles, scripts and
    pictures from seven hosts.

    Args:
        validation: with one outcome for each result.
        result: Great Expectations' suite validation result. It is changed for display.
    """
    outcomes = validation.outcomes
    for one, outcome in zip(result.results, outcomes, strict=True):
        _make_presentable(one, outcome)
    document = ValidationResultsPageRenderer().render(result)
    view = DefaultJinjaPageView(custom_views_directory=str(Path(__file__).parent))
    # With random ids, every page would be different.
    numbers = itertools.count(1)
    view.env.filters["generate_html_element_uuid"] = lambda prefix="": f"{prefix}{next(numbers)}"
    text: str = view.render(
        document,
        template=TEMPLATE,
        verdict=verdict(outcomes),
        counts=counts(outcomes),
        manifest=manifest_facts(validation.manifest),
        what=validation.manifest.facts.what,
        failures=[
            _failure(one, outcome) for one, outcome in zip(result.results, outcomes, strict=True) if not outcome.success
        ],
    )
    return text


def _failure(one: Any, outcome: Outcome) -> dict[str, str]:
    """A failed expectation for the top of the page, with the name of its section."""
    section = one.expectation_config.kwargs.get("column", "Table-Level Expectations")
    return {
        "severity": "gate" if outcome.gate else "warning",
        "says": outcome.says,
        "line": outcome.line(NAMED_MEMBERS),
        "section": section,
    }


def _make_presentable(one: Any, outcome: Outcome) -> None:
    """Put an outcome where Great Expectations' renderers look.

    Unchanged, they would show traces with local paths, compare numbers of studies with numbers of rows, and not escape
    HTML in the names of members.
    """
    mark = "" if outcome.gate else ' <span class="badge badge-warning">warning</span>'
    sentence, why = (html.escape(text).replace("$", "$$") for text in (outcome.says, outcome.why))
    # Notes are shown for suites but not for results, so they are added to the description, which may contain HTML.
    one.expectation_config.description = f"{sentence}{mark} <small>{why}</small>"
    one.exception_info = {
        "raised_exception": outcome.error is not None,
        "exception_message": outcome.error,
        "exception_traceback": "",
    }
    # With its tolerance.
    one.success = outcome.success
    if outcome.error is not None:
        return
    tested, unexpected = outcome.tested or 0, outcome.unexpected or 0
    one.result = {
        "element_count": tested,
        "unexpected_count": unexpected,
        "unexpected_percent": 100 * unexpected / tested if tested else None,
        "partial_unexpected_list": [html.escape(str(offender)) for offender in outcome.offenders[:MEMBERS]],
        "observed_value": outcome.observed,
    }
