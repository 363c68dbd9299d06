"""How hybrid ops quantize floats to int8 as they come, as TFLite's kernels do; the numpy twin of `runtime/hybrid.h`.

    symmetric     scale = largest magnitude / 127, zero point 0
    asymmetric    scale = (largest - least, 0 among both) / 255, zero point where 0 falls; found in double precision

Both round to nearest, halves away from zero. The int8 numbers and the zero point are those of TFLite, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

F = np.float32


def half_away(x: NDArray[Any]) -> NDArray[Any]:
    """Rounds to the nearest integer, halves away from zero, as C's round does."""
    whole = np.trunc(x)
    rounded: NDArray[Any] = np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(x.dtype.type(1), x), whole)
    return rounded


def symmetric(x: NDArray[np.float32]) -> tuple[NDArray[np.int32], np.float32, int]:
    """(values of x's shape, scale, 0) of all of x: x ≈ values * scale."""
    largest = F(np.max(np.abs(x), initial=0))
    if largest == 0:
        return np.zeros(x.shape, np.int32), F(1), 0
    values = half_away(x * (F(127) / largest))
    return np.clip(values, -127, 127).astype(np.int32), largest / F(127), 0


def asymmetric(x: NDArray[np.float32]) -> tuple[NDArray[np.int32], np.float32, int]:
    """(values of x's shape, scale, zero point) of all of x: x ≈ (values - zero point) * scale."""
    least, most = np.float64(np.min(x, initial=0)), np.float64(np.max(x, initial=0))
    if least == most:
        return np.zeros(x.shape, np.int32), F(1), 0
    wide = (most - least) / 255.0
    below, above = least / wide, most / wide
    zero_point = -128.0 - below if 128.0 + np.abs(below) < 127.0 + np.abs(above) else 127.0 - above
    offset = int(half_away(np.asarray(np.clip(zero_point, -128.0, 127.0))))
    scale = F(wide)
    values = half_away(F(offset) + x * (F(1) / scale))
    return np.clip(values, -128, 127).astype(np.int32), scale, offset


def quantize(x: NDArray[np.float32], is_asymmetric: bool) -> tuple[NDArray[np.int32], np.float32, int]:
    with np.errstate(all="ignore"):
        return asymmetric(x) if is_asymmetric else symmetric(x)
