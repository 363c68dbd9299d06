"""Exponential and reciprocal in fixed point, bit for bit as gemmlowp computes them for TFLite's reference kernels.

Numbers are int32 (as int64 here) of so many integer bits: Q0 has 31 fractional bits, Q5 has 26. `runtime/fixed_point.h`
has what the device needs of it; exponentials it takes from tables.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
MOST, LEAST = (1 << 31) - 1, -(1 << 31)
EXP_OF_MINUS_EIGHTH, THIRD = 1895147668, 715827883
# e^-(2^k) for k = -2 … 4, in Q0
EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
DIFFERENCE_BITS = 5  # integer bits of softmax's differences
SUM_BITS = 12  # and of its sum


def high_product(a: Any, b: Any) -> Ints:
    """The high half of twice a product, rounded: Qm times Qn is Q(m + n)."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    high: Ints = np.minimum((product + (1 << 30)) >> 31, MOST)
    return high


def shifted_right(x: Any, count: int) -> Ints:
    """x / 2^count, halves away from zero."""
    x = np.asarray(x, np.int64)
    rounded: Ints = (x + ((1 << count) >> 1) - ((x < 0) & (count > 0))) >> count
    return rounded


def shifted_left(x: Any, count: int) -> Ints:
    """x * 2^count, saturated."""
    saturated: Ints = np.clip(np.asarray(x, np.int64) << count, LEAST, MOST)
    return saturated


def exp_of_negative(x: Any) -> Ints:
    """e^x in Q0, of x <= 0 in Q5."""
    x = np.asarray(x, np.int64)
    quarter = 1 << (29 - DIFFERENCE_BITS)
    part = (x & (quarter - 1)) - quarter  # in [-1/4, 0)
    result = _exp_of_quarter(shifted_left(part, DIFFERENCE_BITS))
    rest = part - x
    for i, factor in enumerate(EXP_OF_POWERS):
        result = np.where(rest & (quarter << i), high_product(result, factor), result)
    return np.where(x == 0, MOST, result)


def _exp_of_quarter(a: Ints) -> Ints:
    """e^a, a in [-1/4, 0): a polynomial around -1/8."""
    x = a + (1 << 28)
    x2 = high_product(x, x)
    x3, x4 = high_product(x2, x), high_product(x2, x2)
    terms = shifted_right(high_product(shifted_right(x4, 2) + x3, THIRD) + x2, 1)
    return EXP_OF_MINUS_EIGHTH + high_product(EXP_OF_MINUS_EIGHTH, x + terms)


def reciprocal(x: int) -> int:
    """1 / (1 + x) in Q0, of x in [0, 1) in Q0: three steps of Newton's."""
    half = (x + MOST + 1) >> 1
    y = 1515870810 + int(high_product(half, -1010580540))  # 48/17 - 32/17 * half, in Q2
    for _ in range(3):
        rest = (1 << 29) - int(high_product(half, y))
        y += int(shifted_left(high_product(y, rest), 2))
    return int(shifted_left(y, 1))


def softmax_scaling(scale: float, beta: float) -> tuple[int, int, int]:
    """(multiplier, left shift) that bring differences of a softmax to Q5, and the least difference that counts."""
    factor = min(beta * scale * (1 << (31 - DIFFERENCE_BITS)), MOST * 1.0)
    mantissa, exponent = math.frexp(factor)
    multiplier = math.floor(mantissa * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, exponent = multiplier // 2, exponent + 1
    radius = math.floor(((1 << DIFFERENCE_BITS) - 1) * (1 << (31 - DIFFERENCE_BITS)) / (1 << exponent))
    return multiplier, exponent, -radius
