"""Intervals by resampling: what a figure would have been, had other blocks of text or other examples been drawn.

Units (blocks of tokens, or examples) are drawn with replacement and the figure is computed of each draw (B. Efron,
1979). Tokens that follow each other depend on each other, so that they are drawn in blocks (H. Kuensch, 1989). Of two
models on the same units the same draws serve both: what makes a text hard is hard for both and cancels, and a small
difference shows that two separate intervals would hide.

The quantiles taken lie somewhat further out than 2.5 and 97.5 %, as far as Student's t lies beyond the normal
distribution (T. Hesterberg, 2015): those of few units would be too narrow else. With fewer than SMALLEST units there
is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.shares import Z_95

RESAMPLES = 10_000
SEED = 0
SMALLEST = 8  # units, of which an interval is made
Array = NDArray[Any]
Statistic = Callable[[Array], Array]


def interval(units: Array, statistic: Statistic) -> tuple[float, float] | None:
    """The 95 % interval of statistic(sums over the units); None of fewer than SMALLEST units.

    units: [n, columns], what is summed; statistic: sums [..., columns] -> figure [...]. The same units give the same
    interval.
    """
    if len(units) < SMALLEST:
        return None
    # units that are equal are drawn together, which makes a thousand examples of a task two rows
    distinct, counts = np.unique(units, axis=0, return_counts=True)
    found = statistic(_draws(tuple(map(int, counts))) @ distinct)
    low, high = np.quantile(found, outward(len(units)))
    return float(low), float(high)


@lru_cache(maxsize=4)
def _draws(counts: tuple[int, ...]) -> Array:
    """How often each distinct row comes in each resample, float64 [RESAMPLES, rows]."""
    total = sum(counts)
    random = np.random.default_rng(SEED)
    return random.multinomial(total, np.array(counts) / total, size=RESAMPLES).astype(np.float64)


def outward(units: int) -> tuple[float, float]:
    """The two quantiles to take of a bootstrap of so many units."""
    reach = math.sqrt(units / (units - 1)) * student(units - 1)
    below = 0.5 * math.erfc(reach / math.sqrt(2))
    return below, 1 - below


def student(freedom: int) -> float:
    """The .975 quantile of Student's t, by its expansion around the normal one (within .001 from 7 degrees on)."""
    z = Z_95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
