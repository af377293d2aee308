"""An interval says what it is: a range, too few patients, or not defined."""

import pytest
from pydantic import ValidationError

from components.artifacts.evaluation import Interval

NEITHER = {"low": None, "high": None}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"value": 0.9, "low": 0.8, "high": 0.95}, "0.900 (0.800 to 0.950)"),
        ({"value": 1.0, "low": 0.8, "high": 1.0}, "1.000 (0.800 to 1.000)"),
        ({"value": 0.9, **NEITHER}, "0.900 (too few)"),
        ({"value": None, **NEITHER}, "n/a"),
    ],
)
def test_an_interval_has_three_states(fields, text):
    interval = Interval(**fields)
    assert str(interval) == text
    assert interval.too_few == ("too few" in text)


@pytest.mark.parametrize("value", [0.9, None])
def test_json_tells_too_few_from_not_defined(value):
    interval = Interval(value=value, **NEITHER)
    assert interval.model_dump() == {"value": value, **NEITHER, "too_few": value is not None}
    assert Interval.model_validate_json(interval.model_dump_json()) == interval


@pytest.mark.parametrize(
    "fields",
    [
        {"value": 0.9, "low": 0.9, "high": 0.9},
        {"value": 0.9, "low": 0.5, "high": 0.8},
        {"value": 0.9, "low": 0.95, "high": 1.0},
        {"value": 0.9, "low": 0.8, "high": None},
        {"value": None, "low": 0.8, "high": 1.0},
        {"value": 0.9, "low": 0.8, "high": 1.0, "too_few": True},
        {"value": 0.9, **NEITHER, "too_few": False},
        {"value": None, **NEITHER, "too_few": True},
        {"value": float("nan"), "low": 0.8, "high": 1.0},
    ],
)
def test_what_is_none_of_the_three_is_refused(fields):
    with pytest.raises(ValidationError, match="expected"):
        Interval(**fields)
