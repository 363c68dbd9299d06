"""From int32 accumulators back to int8, as TFLite's kernels round it; `runtime/requantize.h` computes the same in C.

A real factor becomes an int32 multiplier in [2^30, 2^31) and an exponent: factor ≈ multiplier * 2^(exponent - 31).
Two ways of rounding are in use (reference kernels of LiteRT 2.x, found by test):

    twice   convolutions, element-wise ops: the high part of the doubled product is rounded (ties up), and what is then
            shifted right is rounded again (ties away from zero): gemmlowp's arithmetic
    once    FULLY_CONNECTED: round(accumulator * factor) in double precision, ties away from zero

The device has no double precision. `step_function` finds integers whose floor((accumulator * multiplier + offset) /
2^shift) takes every step of the second kind at the same accumulator, and so is equal to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[Any]
ONE = 1 << 31
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "int32": (-(1 << 31), (1 << 31) - 1)}
ACTIVATIONS: Mapping[str, tuple[float, float]] = {
    "NONE": (-math.inf, math.inf),
    "RELU": (0.0, math.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}


def half_away(x: Any) -> Any:
    """Rounds to the nearest integer, halves away from zero, as C's round does."""
    whole = np.trunc(x)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(np.float32(1), x), whole)


def quantize_multiplier(factor: float) -> tuple[int, int]:
    """(multiplier, exponent) of a factor that is not negative."""
    if factor == 0.0:
        return 0, 0
    mantissa, exponent = math.frexp(factor)
    multiplier = math.floor(mantissa * ONE + 0.5)
    if multiplier == ONE:
        multiplier, exponent = multiplier // 2, exponent + 1
    return (0, 0) if exponent < -31 else (multiplier, exponent)


def quantize_multipliers(factors: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """quantize_multiplier of each."""
    pairs = [quantize_multiplier(float(factor)) for factor in factors.reshape(-1)]
    return np.array([m for m, _ in pairs], np.int32), np.array([e for _, e in pairs], np.int32)


def scale_twice_rounded(x: Ints, multiplier: Any, exponent: Any) -> Ints:
    """x * multiplier * 2^(exponent - 31), int32 as int64, rounded twice."""
    exponent = np.asarray(exponent, np.int64)
    left, right = np.maximum(exponent, 0), np.maximum(-exponent, 0)
    product = (x.astype(np.int64) << left) * np.asarray(multiplier, np.int64)
    high = (product + (1 << 30)) >> 31
    half = (np.int64(1) << right) >> 1
    away: Ints = (high + half - ((high < 0) & (right > 0))) >> right
    return away


def scale_once_rounded(x: Ints, factor: Any) -> Ints:
    """x * factor in double precision, rounded once."""
    rounded: Ints = half_away(x.astype(np.float64) * np.asarray(factor, np.float64)).astype(np.int64)
    return rounded


def activation_range(activation: str, scale: float, zero_point: int, dtype: str) -> tuple[int, int]:
    """The least and the largest stored value that a fused activation lets through."""
    low, high = ACTIVATIONS[activation]
    least, most = LIMITS[dtype]

    def stored(real: float) -> int:
        return zero_point + int(half_away(np.float32(real) / np.float32(scale)))

    return (
        least if math.isinf(low) else max(least, stored(low)),
        most if math.isinf(high) else min(most, stored(high)),
    )


def thresholds(factor: float, low: int, high: int) -> Ints:
    """For each v of low … high-1 the least accumulator that scale_once_rounded makes larger than v."""
    v = np.arange(low, high, dtype=np.float64)
    first = np.ceil((v + 0.5) / factor).astype(np.int64)
    candidates = first[:, None] + np.arange(-2, 3)
    larger = scale_once_rounded(candidates, factor) > v[:, None]
    least: Ints = candidates[np.arange(len(v)), np.argmax(larger, axis=1)]
    return least


def step_function(factor: float, low: int, high: int, unit: int = 1) -> tuple[int, int, int] | None:
    """(multiplier, offset, shift) that round once between low and high: all steps where scale_once_rounded has them.

    The offset is a multiple of unit. None where no multiplier near the factor's has one.
    """
    nearest, exponent = quantize_multiplier(factor)
    shift = 31 - exponent
    if nearest == 0 or not 0 < shift < 62:
        return None
    steps = thresholds(factor, low, high).astype(object)
    goals = np.array([(v + 1) << shift for v in range(low, high)], object)
    for multiplier in (nearest, nearest + 1, nearest - 1, nearest + 2, nearest - 2):
        if not 0 < multiplier < ONE:
            continue
        least = max(goals - steps * multiplier, default=0)
        most = min(goals - (steps - 1) * multiplier, default=1) - 1
        for offset in (1 << (shift - 1), -(-least // unit) * unit):
            if least <= offset <= most and offset % unit == 0:
                return multiplier, int(offset), shift
    return None
