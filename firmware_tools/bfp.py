"""Block floating point: rows of integers that share one exponent, for cores without FPU; the twin of `runtime/bfp.h`.

A row of n numbers is int32[n + 1]: the exponent e, then mantissas m, each standing for m * 2^e. Mantissas are less than
2^30, and before RoPE, which makes them larger by the root of 2, than 2^29. Every op narrows them as far as it must, so
that no product leaves 32 bits: Armv6-M multiplies 32 by 32 bits to the lower 32. Shifts to the right round down.
Constants become integers of 16 bits, all of an array with one exponent.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

FULL = 15  # bits that a factor may have: the product of two fits
LEVELS = 127  # of a quantized number on each side of 0
BASE = -24  # the exponent of a scale code's exponent 0
RECIPROCALS = tuple((1 << 18) // (8 + m) for m in range(8))  # of the mantissas of scale codes, in 2^-18


def split(row: NDArray[np.int32]) -> tuple[int, Integers]:
    """Exponent and mantissas of a row."""
    return int(row[0]), row[1:].astype(np.int64)


def join(exponent: int, mantissas: Integers) -> NDArray[np.int32]:
    """The row of an exponent and mantissas; they must be as small as rows promise."""
    if mantissas.size and np.abs(mantissas).max() >= 1 << 30:
        raise OverflowError("a mantissa has more than 30 bits")
    return np.concatenate([[exponent], mantissas.reshape(-1)]).astype(np.int32)


def bits(m: Integers) -> int:
    """The least w such that every m is in [-2^w, 2^w)."""
    return int(np.bitwise_or.reduce(m ^ (m >> 63), axis=None)).bit_length() if m.size else 0


def scaled(m: Integers, shift: int) -> Integers:
    """m * 2^-shift, rounded down."""
    return m >> min(shift, 31) if shift >= 0 else m << min(-shift, 31)


def narrowed(m: Integers, width: int = FULL) -> tuple[Integers, int]:
    """m in so many bits (and a sign), and the shift that did it; zeros are left as they are."""
    shift = bits(m) - width if bits(m) else 0
    return scaled(m, shift), shift


def inverse(x: int) -> int:
    """2^30 / x for x in [2^15, 2^16), rounded down."""
    return (1 << 30) // x


def constant(values: NDArray[np.floating[Any]], width: int) -> tuple[Integers, int]:
    """Floats as integers of at most so many bits, and their common exponent; the largest has as many."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        return np.zeros(values.shape, np.int64), 0
    exponent = math.frexp(largest)[1] - width
    limit = (1 << width) - 1
    integers = np.rint(np.ldexp(values.astype(np.float64), -exponent))
    return np.clip(integers, -limit, limit).astype(np.int64), exponent


def add(a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.int32]:
    """The sum of two rows."""
    (ea, ma), (eb, mb) = split(a), split(b)
    tops = [e + bits(m) for e, m in ((ea, ma), (eb, mb)) if m.any()]  # zeros have no say
    exponent = max(tops, default=28) - 28
    return join(exponent, scaled(ma, exponent - ea) + scaled(mb, exponent - eb))


def quantize(row: NDArray[np.int32]) -> tuple[Integers, int, int]:
    """A row of an even or odd count as q, factor, exponent: it is about q * factor * 2^exponent, and |q| at most 127.

    Neighbours (0, 1), (2, 3) … add up to at most 128 in magnitude, so that two products with bytes of at most 255 fit
    16 bits with their sign.
    """
    exponent, m = split(row)
    pairs = np.append(m, np.zeros(m.size % 2, np.int64)).reshape(-1, 2).sum(axis=1)
    top = int(max(np.abs(m).max(initial=0), np.abs(pairs).max(initial=0)))
    if top == 0:
        return m, 0, 0
    shift = top.bit_length() - FULL
    largest = int(scaled(np.int64(top), shift))  # type: ignore[arg-type]
    reciprocal = (inverse(2 * largest) * LEVELS) >> 6
    q = (scaled(m, shift) * reciprocal + (1 << 22)) >> 23
    return q, (largest * 33026) >> 15, exponent + shift - 7  # 33026 / 2^15 is 128 / 127


def code(m: Integers, exponent: int) -> tuple[Integers, int]:
    """m * 2^exponent as int8 and a scale code c: about q * (8 + c % 8) * 2^(c / 8 + BASE).

    The scale is rounded up, and held at the ends of what a byte can say.
    """
    top = int(np.abs(m).max(initial=0))
    if top == 0:
        return np.zeros_like(m), 0
    shift = top.bit_length() - FULL
    mantissa = ((int(scaled(np.int64(top), shift)) + 2032) * 33026) >> 26  # type: ignore[arg-type]  # / 2032, 127 * 2^4
    power = 4
    if mantissa > 15:
        mantissa, power = (mantissa + 1) >> 1, 5
    place = power + exponent + shift - BASE
    down = min(18 + power + max(-place, 0), 31)
    q = (scaled(m, shift) * RECIPROCALS[mantissa - 8] + (1 << (down - 1))) >> down
    return q, (min(max(place, 0), 31) << 3) + mantissa - 8


def code_factors(codes: Integers, top: int, width: int) -> Integers:
    """Scales by their codes in units that give the code `top`, the largest, at most 15 * 2^width."""
    return ((8 + (codes & 7)) << width) >> ((top >> 3) - (codes >> 3))
