"""The benchmark of memory, in small; `python -m benchmarks.scale` measures up to millions of images."""

import pytest

from benchmarks import scale

pytestmark = pytest.mark.long

# Libraries take 300 to 500 MB. A hundred megabytes more are for pieces of a table, whose size is fixed.
MOST = 700e6


def test_every_step_runs_on_drawn_rows_in_little_memory() -> None:
    run = scale.measure(2_000, list(scale.STEPS))
    assert {step: run[step]["peak_bytes"] for step in scale.STEPS if run[step]["peak_bytes"] > MOST} == {}
