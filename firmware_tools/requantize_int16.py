"""From int64 accumulators to int16, as TFLite's 16x8 kernels round them; `runtime/requantize_int16.h` does it in C.

The multiplier loses its lower 16 bits first, so that the product fits 64 bits; it is rounded once, ties up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.requantize import quantize_multiplier

Ints = NDArray[Any]


def reduced_multipliers(factors: NDArray[np.float64]) -> NDArray[np.int32]:
    """(multiplier of 15 bits, right shift) of each factor."""
    pairs = [quantize_multiplier(float(factor)) for factor in factors.reshape(-1)]
    reduced = [((m + (1 << 15)) >> 16 if m < 0x7FFF0000 else 0x7FFF, 15 - e) for m, e in pairs]
    return np.array(reduced, np.int32).reshape(-1, 2)


def scale_reduced(x: Ints, multipliers: NDArray[np.int32]) -> Ints:
    """x, int64, times each channel's factor; channels are the last axis. The result is an int32, which may wrap."""
    multiplier, shift = multipliers[:, 0].astype(np.int64), multipliers[:, 1].astype(np.int64)
    wide = (x * multiplier + (np.int64(1) << (shift - 1))) >> shift
    scaled: Ints = wide.astype(np.int32).astype(np.int64)
    return scaled


def wide_bias(bias: Ints) -> NDArray[np.int32]:
    """int64 numbers as pairs (low, high) of int32: what the flash holds."""
    return np.ascontiguousarray(bias.astype("<i8")).view("<i4").reshape(-1, 2).astype(np.int32)
