"""16-bit fixed-point tanh and logistic function by gemmlowp, as TFLite's int8 LSTM has them; the numpy twin of
`runtime/fixed_point_16.h`.

Numbers are int16 raw values (held wider) with some integer bits: raw = real * 2^(15 - integer bits). exp of a negative
number is a Taylor polynomial around -1/8 on the last quarter, times constants for the bits above it; (1 - e) / (1 + e)
and 1 / (1 + e) come from three Newton steps. (B. Jacob, gemmlowp, "fixedpoint.h".)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Raw = NDArray[Any]
LEAST, MOST = -32768, 32767
EXP_EIGHTH, THIRD = 28918, 10923  # e^(-1/8) and 1/3, no integer bits
SQUEEZE = ((-2, 25520), (-1, 19875), (0, 12055), (1, 4435), (2, 600), (3, 11), (4, 0))  # k, e^(-2^k)
DIVISOR_START, DIVISOR_SLOPE = 23130, -15420  # 48/17 and -32/17, two integer bits
ONE_OF_TWO_BITS = 1 << 13


def saturated(x: Raw) -> Raw:
    clipped: Raw = np.clip(x, LEAST, MOST)
    return clipped


def wrapped(x: Raw) -> Raw:
    """As an int16 that overflowed."""
    return x.astype(np.int16).astype(np.int64)


def rounding_shift(x: Raw, shift: int) -> Raw:
    """x / 2^shift, to nearest, halves away from zero."""
    mask = (1 << shift) - 1
    above: Raw = (x >> shift) + ((x & mask) > (mask >> 1) + (x < 0))
    return above


def high_mul(a: Raw, b: Raw | int) -> Raw:
    """a b / 2^15, to nearest, saturated."""
    product = a * b
    nudged: Raw = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    towards_zero: Raw = np.where(nudged >= 0, nudged >> 15, -((-nudged) >> 15))
    return saturated(towards_zero)


def left(x: Raw, shift: int) -> Raw:
    """x 2^shift, saturated."""
    return saturated(x << shift)


def _exp_of_last_quarter(a: Raw) -> Raw:
    x = a + (1 << 12)
    x2 = high_mul(x, x)
    x3, x4 = high_mul(x2, x), high_mul(x2, x2)
    rest = rounding_shift(wrapped(high_mul(wrapped(rounding_shift(x4, 2) + x3), THIRD) + x2), 1)
    return saturated(EXP_EIGHTH + high_mul(np.asarray(wrapped(x + rest)), EXP_EIGHTH))


def exp_of_negative(a: Raw, integer_bits: int) -> Raw:
    """e^a for a <= 0, no integer bits."""
    fraction = 15 - integer_bits
    quarter = 1 << (fraction - 2)
    part = (a & (quarter - 1)) - quarter
    result = _exp_of_last_quarter(left(part, integer_bits))
    remainder = wrapped(part - a)
    for exponent, factor in SQUEEZE:
        if integer_bits > exponent:
            result = np.where(remainder & (1 << (fraction + exponent)), high_mul(result, factor), result)
    if integer_bits > 5:
        result = np.where(a < -(1 << (20 - integer_bits)), 0, result)
    return np.where(a == 0, MOST, result)


def _newton(a: Raw) -> tuple[Raw, Raw]:
    """(half of 1 + a, 2 / (1 + a) with two integer bits), a in 0 … 1 with none."""
    half = (a + MOST + 1) >> 1
    x = DIVISOR_START + high_mul(half, DIVISOR_SLOPE)
    for _ in range(3):
        x = wrapped(x + left(high_mul(x, wrapped(ONE_OF_TWO_BITS - high_mul(half, x))), 2))
    return half, x


def tanh(a: Raw, integer_bits: int) -> Raw:
    """tanh of a, no integer bits; a has at most 6."""
    a = np.asarray(a, np.int64)
    negative = np.where(a < 0, a, wrapped(-a))
    _, x = _newton(exp_of_negative(negative, integer_bits + 1))
    t = left(wrapped(x - ONE_OF_TWO_BITS), 2)
    return np.where(a == 0, 0, np.where(a < 0, -t, t))


def logistic(a: Raw) -> Raw:
    """1 / (1 + e^-a), no integer bits; a has 3."""
    a = np.asarray(a, np.int64)
    negative = np.where(a > 0, -a, a)
    _, x = _newton(exp_of_negative(negative, 3))
    y = left(x, 1)
    return np.where(a == 0, 16384, np.where(a > 0, y, MOST - y))
