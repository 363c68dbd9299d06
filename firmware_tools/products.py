"""Int8 matrix products through SMLAD: how weights lie in flash; the twin of `runtime/products_dsp.h`.

Four columns w0 … w3 of a row are one word of two halfwords, 256 w1 + w0 and 256 w3 + w2. The four x that meet them
are two words, (x1, x3) and (256 x0 - x1 + 127, 256 x2 - x3 + 127), low half first. So a word takes two SMLAD and one
SXTB16, which several x share:

    SMLAD(word, (x1, x3))                                     256 (w1 x1 + w3 x3) + w0 x1 + w2 x3
    SMLAD(SXTB16(word), (256 x0 - x1 + 127, …))               256 (w0 x0 + w2 x2) - w0 x1 - w2 x3 + 127 (w0 + w2)

The sum of both lines is 256 times the dot product, and 127 times the even weights' sum, which is known beforehand: a
row's sum starts at 256 * bias - 127 * that. (256 x0 - x1 + 127 just fits 16 bits for all int8; its bytes are x0 and
x1 ^ 0x7F.) Sums may wrap on the way; what counts is that 256 times the result fits 32 bits, which `fits` checks.
A halfword needs w1 >= -127 where w0 is negative.

Rows lie in groups of 2 or 4, word by word: word 0 of each row, word 1 of each … Both sides are padded with zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SIDE = 4  # columns in a word
MOST = (1 << 23) - 1  # of an accumulator: 256 times it fits 32 bits
CHUNK = 480  # columns whose sum, times 256, fits 32 bits
EXPONENTS = (-15, 6)  # of multipliers whose scaling fits 32 bits


def padded(count: int, side: int = SIDE) -> int:
    """The least multiple of side that is not below count."""
    return -(-count // side) * side


def folded(matrix: Array, bias: Array, zero_point: int) -> NDArray[np.int64]:
    """The bias that makes W x + bias of W (x - zero point) + bias."""
    sums: NDArray[np.int64] = bias.astype(np.int64) - zero_point * matrix.astype(np.int64).sum(axis=1)
    return sums


def fits(matrix: Array, bias: Array) -> bool:
    """Whether every word and every result for int8 x is in range; bias as `folded`."""
    wide = matrix.astype(np.int64)
    high = bias + np.where(wide > 0, wide * 127, wide * -128).sum(axis=1)
    low = bias + np.where(wide > 0, wide * -128, wide * 127).sum(axis=1)
    return words_fit(matrix) and bool((high <= MOST).all()) and bool((low >= -MOST).all())


def words_fit(matrix: Array) -> bool:
    """Whether every word is in range; results of CHUNK columns then are, whatever the weights."""
    even, odd = matrix[:, ::2], matrix[:, 1::2]
    return not bool(((even[:, : odd.shape[1]] < 0) & (odd < -127)).any())


def exponents_fit(exponent: Array, away: bool) -> bool:
    """Whether twice_rounded can be told for these; away: results below the zero point are not all clamped."""
    return bool((exponent >= EXPONENTS[0]).all() and (exponent <= (-1 if away else EXPONENTS[1])).all())


def pack(matrix: Array, group: int) -> NDArray[np.int8]:
    """int8 [rows, columns] as it lies in flash, flat; group: rows that lie together."""
    rows, columns = matrix.shape
    wide = np.zeros((padded(rows, group), padded(columns)), np.int16)
    wide[:rows, :columns] = matrix
    halves = (256 * wide[:, 1::2] + wide[:, ::2]).astype("<i2")
    words = halves.reshape(-1, group, halves.shape[1] // 2, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(words).reshape(-1).view(np.int8)


def starts(matrix: Array, bias: Array, group: int) -> NDArray[np.int32]:
    """What the sum of each row starts at; rows padded to whole groups."""
    sums = np.zeros(padded(len(matrix), group), np.int64)
    sums[: len(matrix)] = 256 * bias - 127 * matrix[:, ::2].astype(np.int64).sum(axis=1)
    return ((sums + (1 << 31)) % (1 << 32) - (1 << 31)).astype(np.int32)


def chunk_starts(matrix: Array, group: int) -> NDArray[np.int32]:
    """What the sums of each CHUNK of columns start at: all rows of the first, then of the second …"""
    nothing = np.zeros(len(matrix), np.int64)
    parts = [starts(matrix[:, k : k + CHUNK], nothing, group) for k in range(0, matrix.shape[1], CHUNK)]
    return np.concatenate(parts)


def twice_rounded(multiplier: Array, exponent: Array, zero_point: int, group: int) -> NDArray[np.int32]:
    """(multiplier, offset, shift) of each row: with a sum of 256 a,

        clamp(((sum * multiplier >> 32) + offset - 128 * (a < 0)) >> shift)

    is zero point + scale_twice_rounded(a), for exponents in EXPONENTS. The 128, of halves that go away from zero, does
    not matter where results below the zero point are clamped; without a second rounding, exponent >= 0, it is wrong.
    """
    rows = padded(len(multiplier), group)
    table = np.zeros((rows, 3), np.int64)
    table[:, 2] = 7
    for i, (m, e) in enumerate(zip(multiplier.tolist(), exponent.tolist(), strict=True)):
        shift = 7 - e
        offset = (1 << (6 - e if e > 0 else 6)) + ((1 << (shift - 1)) if e < 0 else 0) + (zero_point << shift)
        table[i] = m, offset, shift
    return table.astype(np.int32)
