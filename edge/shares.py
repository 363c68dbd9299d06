"""How sure a share is: so many of so many."""

from __future__ import annotations

import math

Z_95 = 1.959964  # the normal distribution's .975 quantile


def wilson(right: int, size: int) -> tuple[float, float]:
    """The 95 % score interval of a share (E. B. Wilson, 1927): honest near 0 and 1, where the usual one is not."""
    share, z2 = right / size, Z_95 * Z_95
    middle = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = Z_95 / (1 + z2 / size) * math.sqrt(share * (1 - share) / size + z2 / (4 * size * size))
    return max(middle - half, 0.0), min(middle + half, 1.0)
