"""Memory by the number of images, in small; `python -m benchmarks.scale` measures it for millions."""

import pytest

from benchmarks import scale

FEW, MANY = 1_000, 25_000


@pytest.fixture(scope="module")
def runs() -> list[dict[str, dict[str, float]]]:
    return [scale.measure(count, list(scale.STEPS)) for count in (FEW, MANY)]


@pytest.mark.parametrize("step", scale.STEPS)
def test_an_image_takes_little_memory(runs: list[dict[str, dict[str, float]]], step: str) -> None:
    few, many = (run[step]["peak_bytes"] for run in runs)
    # A row as a dictionary takes 2,500 bytes, all at once 60 MB.
    assert many - few < 2_000 * (MANY - FEW)
    assert many < scale.LIMIT / 2
