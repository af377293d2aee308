"""Run the expectations with Great Expectations, and convert the results to plain types."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from components.params.validate import ValidateParams
from components.validate.great_expectations import FailureSeverity, ProgressBarsConfig, gx
from components.validate.outcome import Offender, Outcome

# Rows of a table that is tested as a whole.
MANY = 200_000


def run(tables: Mapping[str, pd.DataFrame], expected: Iterable[Any]) -> Any:
    """Evaluate expectations. Nothing is stored.

    Args:
        tables: by name. Each expectation names its table in `meta`.
        expected: the expectations.

    Returns:
        Great Expectations' result, in the order of `expected`.
    """
    expected = list(expected)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("archive")
    result: Any = None
    for name, table in tables.items():
        for number, (ours, batch_table) in enumerate(_narrow([e for e in expected if e.meta["table"] == name], table)):
            asset = source.add_dataframe_asset(f"{name} {number}")
            batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": batch_table})
            came = batch.validate(
                gx.ExpectationSuite(name="MURA manifest", expectations=ours),
                # `unexpected_index_column_names` is not set: with it, every offending row is read cell by cell.
                result_format={"result_format": "COMPLETE"},
            )
            if result is None:
                result = came
            else:
                result.results += came.results
            source.delete_asset(f"{name} {number}")
    order = [one.meta["name"] for one in expected]
    result.results.sort(key=lambda one: order.index(one.expectation_config.meta["name"]))
    return result


def _narrow(expected: list[Any], table: pd.DataFrame) -> Iterator[tuple[list[Any], pd.DataFrame]]:
    """Expectations with the table that they need: of a large one the columns of one expectation at a time.

    Great Expectations copies the rows that an expectation tests, with all columns.
    """
    if len(table) <= MANY:
        if expected:
            yield expected, table
        return
    for one in expected:
        columns = {getattr(one, key) for key in ("column", "column_A", "column_B") if hasattr(one, key)}
        yield [one], table[[name for name in table.columns if name in columns | {"found", "listed"}]]


def outcomes(tables: Mapping[str, pd.DataFrame], result: Any, params: ValidateParams) -> list[Outcome]:
    """The outcomes of all expectations about these tables."""
    return [_outcome(tables[one.expectation_config.meta["table"]], one, params) for one in result.results]


def _outcome(table: pd.DataFrame, one: Any, params: ValidateParams) -> Outcome:
    config, result = one.expectation_config, one.result
    judgement = params.judgement(config.meta["name"])
    elements = result.get("element_count")
    tested = None if elements is None else int(elements) - int(result.get("missing_count") or 0)
    unexpected = None if elements is None else int(result["unexpected_count"])
    error = _error(one.exception_info)
    tolerated = error is None and unexpected is not None and judgement.allows(unexpected, tested or 0)
    return Outcome(
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


def _tuples(rows: pd.DataFrame, columns: list[str]) -> Iterable[tuple[Any, ...]]:
    return zip(*(rows[column] for column in columns), strict=True) if columns else iter([()] * len(rows))


def _error(info: dict[str, Any]) -> str | None:
    """The first error of a failed evaluation. Great Expectations sometimes nests errors by metric."""
    for entry in [info] if "raised_exception" in info else info.values():
        if entry["raised_exception"]:
            return str(entry["exception_message"])
    return None


def _plain(value: Any) -> Any:
    """Convert scalars of numpy and pandas to Python's."""
    if value is None or value is pd.NA or value != value:  # only NaN is not itself
        return None
    return value.item() if hasattr(value, "item") else value
