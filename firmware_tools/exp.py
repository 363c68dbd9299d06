"""exp() as the device computes it: the numpy twin of `runtime/exp.h`, equal bit for bit.

2^(x log2 e) is split into an integer power of two and a fraction in [-0.5, 0.5], whose power is a polynomial
of degree 5. Every step is one IEEE float32 operation, so that C and numpy cannot disagree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LOG2_E = np.float32(1.4426950408889634)
LOWEST = np.float32(-87.0)  # below it the result would be subnormal
HIGHEST = np.float32(88.0)
# 2^f on [-0.5, 0.5], exact at 0, relative error 9.2e-8 (minimax by Lawson's iteration); highest power first
POLYNOMIAL = tuple(
    np.float32(c) for c in (1.32647273e-3, 9.67151299e-3, 5.55073358e-2, 2.40222424e-1, 6.93147004e-1, 1.0)
)
# 2^-x in the middles of steps of 1 / 64 from 0 to 16, in 2^-16; the last stands for all that lies behind
TABLE = np.append(np.rint(2.0 ** (16 - (np.arange(1023) + 0.5) / 64)), 0).astype(np.int64)


def exp2_table(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """2^-((steps + 1 / 2) / 64) in 2^-16, steps not negative: within 2^-16 of the exact power; ops/exp2_table.h."""
    e: NDArray[np.int64] = TABLE[np.minimum(steps, 1023)]
    return e


def exp2_f32(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """2 to each element of power (float32 in [-125.5, 127], any shape); float32 of the same shape."""
    whole = np.rint(power)
    fraction = power - whole
    result = fraction * POLYNOMIAL[0]  # in place from here on: a vocabulary's logits are 200 KB, new memory each time
    for coefficient in POLYNOMIAL[1:-1]:
        result += coefficient
        result *= fraction
    result += POLYNOMIAL[-1]
    exponent = whole.astype(np.int32)
    exponent <<= 23
    exponent += result.view(np.int32)
    return exponent.view(np.float32)


def exp_f32(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """exp of each element of x (float32, any shape), clamped to [-87, 88] first; float32 of the same shape."""
    power = np.array(x, np.float32)
    np.maximum(power, LOWEST, out=power)
    np.minimum(power, HIGHEST, out=power)
    power *= LOG2_E
    return exp2_f32(power)
