"""The expectations, run by Great Expectations, and what came of them in plain types."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import great_expectations as gx
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.metadata_types import FailureSeverity

from components.params.validate import ValidateParams
from components.validate.finding import Finding, Offender

if TYPE_CHECKING:
    from collections.abc import Iterable


def run(tables: Mapping[str, pd.DataFrame], expected: "Iterable[Any]") -> Any:
    """Great Expectations' result, in the order of what was expected; nothing is stored anywhere.

    Args:
        tables: by the name that an expectation has in its `meta`.
        expected: what to see.
    """
    expected = list(expected)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("archive")
    result: Any = None
    for name, table in tables.items():
        ours = [one for one in expected if one.meta["table"] == name]
        if not ours:
            continue
        batch = (
            source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table})
        )
        came = batch.validate(
            gx.ExpectationSuite(name="MURA manifest", expectations=ours),
            # With `unexpected_index_column_names` it reads every offending row cell by cell; without, it gives indices.
            result_format={"result_format": "COMPLETE"},
        )
        if result is None:
            result = came
        else:
            result.results += came.results
    order = [one.meta["name"] for one in expected]
    result.results.sort(key=lambda one: order.index(one.expectation_config.meta["name"]))
    return result


def findings(tables: Mapping[str, pd.DataFrame], result: Any, params: ValidateParams) -> list[Finding]:
    """What came of every expectation about these tables."""
    return [_finding(tables[one.expectation_config.meta["table"]], one, params) for one in result.results]


def _finding(table: pd.DataFrame, one: Any, params: ValidateParams) -> Finding:
    config, result = one.expectation_config, one.result
    judgement = params.judgement(config.meta["name"])
    elements = result.get("element_count")
    tested = None if elements is None else int(elements) - int(result.get("missing_count") or 0)
    unexpected = None if elements is None else int(result["unexpected_count"])
    error = _error(one.exception_info)
    tolerated = error is None and unexpected is not None and judgement.allows(unexpected, tested or 0)
    return Finding(
        name=config.meta["name"],
        says=config.description,
        why=" ".join(config.notes),
        gate=config.severity == FailureSeverity.CRITICAL,
        tolerance=judgement.tolerance,
        success=bool(one.success) or tolerated,
        tested=tested,
        unexpected=unexpected,
        observed=_plain(result.get("observed_value")),
        offenders=_offenders(table, config.meta, result),
        error=error,
    )


def _offenders(table: pd.DataFrame, meta: Mapping[str, Any], result: dict[str, Any]) -> tuple[Offender, ...]:
    by, shown = meta["by"], meta["shown"]
    rows = table.loc[list(dict.fromkeys(result.get("unexpected_index_list") or []))]
    names = [" ".join(map(str, name)) for name in zip(*(rows[column] for column in by), strict=True)]
    told = [{column: _plain(value) for column, value in zip(shown, row, strict=True)} for row in _tuples(rows, shown)]
    unit = by[0] if len(by) == 1 else None
    keys = rows[unit] if unit in ("image", "study", "patient") else [None] * len(rows)
    absent = sorted(str(value) for value in result.get("partial_missing_list") or [])
    return (
        *(
            Offender(name, shows, unit, None if key is None else str(key))
            for name, shows, key in zip(names, told, keys, strict=True)
        ),
        *(Offender(name, {}, None, None) for name in absent),
    )


def _tuples(rows: pd.DataFrame, columns: list[str]) -> "Iterable[tuple[Any, ...]]":
    return zip(*(rows[column] for column in columns), strict=True) if columns else iter([()] * len(rows))


def _error(info: dict[str, Any]) -> str | None:
    """The first error of a failed evaluation; Great Expectations nests them by metric, or does not."""
    for entry in [info] if "raised_exception" in info else info.values():
        if entry["raised_exception"]:
            return str(entry["exception_message"])
    return None


def _plain(value: Any) -> Any:
    """Of numpy's and pandas' scalars, Python's own."""
    if value is None or value is pd.NA or value != value:  # only NaN is not itself
        return None
    return value.item() if hasattr(value, "item") else value
