"""The gate keeps worse models out, and the champion near the reference: a small form of `benchmarks.gate`."""

import pytest

from benchmarks import gate

MURA = gate.SIZES[0]


def test_the_gate_lets_equal_models_pass_and_worse_ones_not() -> None:
    equal, worse = (gate.decisions(MURA, loss, 60) for loss in (0.0, 0.05))
    # At MURA's size the veto lets three of four equal models pass; of 60, between 55 and 93 % with a chance of 0.999.
    assert 0.55 < equal["passes the veto"] < 0.93
    assert equal["promoted"] < equal["passes the veto"]
    assert equal["would pass with kappa"] < 0.35
    assert worse["promoted"] == 0


@pytest.mark.long
def test_many_promotions_in_a_row_do_not_lose_more_than_the_margin() -> None:
    found = gate.histories(MURA, gate.DRIFTS[-1], 20)
    assert found["within the margin"] >= 0.85
    assert gate.reached({"MURA": {"histories": {"worse": {"within the margin": 0.95}}}})
    assert not gate.reached({"MURA": {"histories": {"worse": {"within the margin": 0.949}}}})
