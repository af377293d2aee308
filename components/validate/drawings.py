"""Distributions as line drawings in a page. SVG uses the page's colours and prints sharply."""

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

BINS = 40
WIDTH, HEIGHT = 300, 110
# Height for the numbers below the drawing.
FOOT = 18


def histogram(title: str, samples: Mapping[str, NDArray[np.float64]], whole: bool = False) -> Markup:
    """Histograms of several samples on one axis, as steps.

    Args:
        title: what is measured, with its unit.
        samples: by the CSS class of the line (train, tuning, test, reference); float64 [N] each.
        whole: one bin for each number, for values that are counts.

    Returns:
        An `<svg>`. The axis goes from the smallest value to the largest.
    """
    given = {name: sample for name, sample in samples.items() if len(sample)}
    every = np.concatenate(list(given.values())) if given else np.zeros(1)
    low, high = float(every.min()), float(every.max())
    few = whole and high - low < BINS
    edges = np.arange(low - 0.5, high + 1) if few else np.linspace(low, max(high, low + 1), BINS + 1)
    shares = {name: np.histogram(sample, edges)[0] / len(sample) for name, sample in given.items()}
    top = max((float(share.max()) for share in shares.values()), default=1.0) or 1.0
    lines = Markup("").join(
        Markup('<path class="{}" d="{}"/>').format(name, _steps(share / top)) for name, share in shares.items()
    )
    words = f"{title}: " + "; ".join(
        f"{name} from {sample.min():,.4g} to {sample.max():,.4g}, median {np.median(sample):,.4g}"
        for name, sample in given.items()
    )
    return Markup(
        '<svg class="drawing" viewBox="0 0 {w} {h}" role="img" aria-label="{words}"><title>{words}</title>'
        '<line x1="0" y1="{base}" x2="{w}" y2="{base}"/>{lines}'
        '<text x="0" y="{foot}">{low}</text><text x="{mid}" y="{foot}" text-anchor="middle">{middle}</text>'
        '<text x="{w}" y="{foot}" text-anchor="end">{high}</text></svg>'
    ).format(
        w=WIDTH,
        h=HEIGHT + FOOT,
        base=HEIGHT,
        foot=HEIGHT + FOOT - 4,
        mid=WIDTH // 2,
        words=words,
        lines=lines,
        low=f"{low:,.4g}",
        middle=f"{(low + high) / 2:,.4g}",
        high=f"{high:,.4g}",
    )


def _steps(shares: NDArray[np.float64]) -> str:
    """The outline of bars of heights 0 to 1."""
    step = WIDTH / len(shares)
    points = [f"M0 {HEIGHT}"]
    for place, share in enumerate(shares):
        points.append(f"V{HEIGHT - share * (HEIGHT - 4):.1f}H{(place + 1) * step:.1f}")
    return "".join([*points, f"V{HEIGHT}"])
