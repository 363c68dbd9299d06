"""Int8 rows and matrices: how the device quantizes them and how they lie in its memory; the twin of `runtime/packed.h`.

A row of floats becomes integers in [-127, 127] and one scale, amax / 127, found anew for each row. A matrix lies in
blocks of 4 rows by 4 columns, 16 bytes, row after row; 4 rows make a group, the blocks of a group follow each other.
So one pointer runs through memory once, whatever core reads it, and a row can still be read alone (the embedding
does). The even columns are stored with 128 added, as unsigned bytes: a Cortex-M with SMLAD then needs no more than

    word = b3 b2 b1 b0 of one row    SMLAD(word, (x1, x3))                           256 (b1 x1 + b3 x3) + b0 x1 + b2 x3
    UXTB16(word) = (b0, b2)          SMLAD(UXTB16(word), (256 x0 - x1, 256 x2 - x3)) 256 (b0 x0 + b2 x2) - b0 x1 - b2 x3

three instructions for four products: the sum of both lines is 256 times the dot product of the stored bytes, from which
128 times the sum of the even x is taken off at the end. It fits 32 bits for 345 columns; packed_dsp.h goes by 256.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 4  # rows and columns of a block
LIMIT = np.float32(127.0)
TINIEST = np.float32(2.0**-100)  # a row no larger than this is zero: 127 / amax must be finite
LARGEST_HALF = np.float32(65504.0)


def padded(count: int) -> int:
    """The least multiple of 4 that is not below count."""
    return -(-count // SIDE) * SIDE


def quantize(x: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Quantizes float32 rows [..., n] to int8 values (as int32) of that shape and scales [...]: x ≈ values * scale."""
    largest = np.max(np.abs(x), axis=-1)
    nonzero = largest > TINIEST
    scale = np.where(nonzero, largest / LIMIT, np.float32(0))
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(nonzero, LIMIT / largest, np.float32(0))
    return np.rint(x * inverse[..., None]).astype(np.int32), scale


def half(scale: NDArray[np.float32]) -> NDArray[np.float16]:
    """Scales as the KV cache keeps them: IEEE half precision, rounded to nearest even, at most 65504."""
    return np.minimum(scale, LARGEST_HALF).astype(np.float16)


def fixed(x: NDArray[np.float32]) -> NDArray[np.int64]:
    """float32 as integers in 2^-16, towards zero, kept inside 32 bits as VCVT does it."""
    with np.errstate(over="ignore"):
        return np.clip(x.astype(np.float64) * 65536, -(2.0**31), 2.0**31 - 1).astype(np.int64)


def pack(matrix: NDArray[np.int8]) -> NDArray[np.int8]:
    """An int8 matrix [rows, columns] as it lies in memory: flat, both sides padded with zeros to multiples of 4."""
    rows, columns = matrix.shape
    stored = np.zeros((padded(rows), padded(columns)), np.int8)
    stored[:rows, :columns] = matrix
    stored[:, ::2] ^= -128
    blocks = stored.reshape(-1, SIDE, stored.shape[1] // SIDE, SIDE).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(blocks).reshape(-1)


def sequential_sum(terms: NDArray[Any], axis: int = -1) -> NDArray[np.float32]:
    """The float32 sum along one axis, first to last, as a C loop that starts at 0 computes it."""
    sums: NDArray[np.float32] = np.add.accumulate(terms, axis=axis, dtype=np.float32)
    last: NDArray[np.float32] = np.take(sums, -1, axis=axis) + np.float32(0)  # a loop that starts at 0 never ends at -0
    return last
