"""Int8 rows and matrices: how the device quantizes them and how they lie in its memory; the twin of `runtime/packed.h`.

A row of floats becomes integers in [-127, 127] and one scale, amax / 127, found anew for each row. A matrix lies in
blocks of 4 rows by 4 columns, 16 bytes, row after row; 4 rows make a group, the blocks of a group follow each other.
So one pointer runs through memory once, whatever core reads it, and a row can still be read alone (the embedding
does). The even columns are stored with 128 added, as unsigned bytes: a Cortex-M with SMLAD then needs no more than

    word = b3 b2 b1 b0 of one row    SMLAD(word, (x1, x3))                           256 (b1 x1 + b3 x3) + b0 x1 + b2 x3
    UXTB16(word) = (b0, b2)          SMLAD(UXTB16(word), (256 x0 - x1, 256 x2 - x3)) 256 (b0 x0 + b2 x2) - b0 x1 - b2 x3

three instructions for four products: the sum of both lines is 256 times the dot product of the stored bytes, from which
128 times the sum of the even x is taken off at the end. It fits 32 bits for 345 columns; packed_dsp.h goes by 256.

A core with Helium adds 16 products in an instruction, signed bytes as they are. For it a row is cut into vectors of 16
columns, and the vectors of a group of 4 rows alternate: again one pointer runs through memory once. In float32 the
columns of a group follow each other: lanes are rows, whose sums all run first to last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 4  # rows and columns of a block
LANES = 16  # columns of a vector
LIMIT = np.float32(127.0)
TINIEST = np.float32(2.0**-100)  # a row no larger than this is zero: 127 / amax must be finite
LARGEST_HALF = np.float32(65504.0)
LEAST_BYTE, MOST_BYTE = 8, 215  # of scales: halves that are not subnormal, with 4 bits of exponent to spare
BYTE_BIAS = 848  # from a byte to the upper 12 bits of a float32: what 2^-21 and float32 add to the exponent, times 8


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


def quantize_coded(x: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Quantizes float32 rows [..., n] as the KV cache keeps them: values in [-127, 127] and a byte of scale a row.

    The byte stands for (1 + (byte & 7) / 8) * 2^((byte >> 3) - 21), the least such scale that is not below amax / 127.
    Where there is none, values still use all of int8.
    """
    largest = np.max(np.abs(x), axis=-1)
    upper = ((largest / LIMIT).view(np.int32) + 0xFFFFF) >> 20
    codes = np.clip(upper - BYTE_BIAS, LEAST_BYTE, MOST_BYTE).astype(np.uint8)
    scale = byte_scale(codes)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(largest > scale * LIMIT, LIMIT / largest, np.float32(1) / scale)
    return np.rint(x * inverse[..., None]).astype(np.int32), codes


def byte_scale(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The scales that bytes stand for."""
    return ((codes.astype(np.int32) + BYTE_BIAS) << 20).view(np.float32)


def half(x: NDArray[np.float32]) -> NDArray[np.float16]:
    """IEEE half precision, rounded to nearest even, within ±65504."""
    return np.clip(x, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)


def fixed(x: NDArray[np.float32], fraction_bits: int = 16, bits: int = 32) -> NDArray[np.int64]:
    """float32 as integers in 2^-fraction_bits, towards zero, kept inside so many bits as VCVT does it."""
    with np.errstate(over="ignore"):
        scaled = x.astype(np.float64) * 2.0**fraction_bits
    return np.clip(scaled, -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1).astype(np.int64)


def pack(matrix: NDArray[np.int8]) -> NDArray[np.int8]:
    """An int8 matrix [rows, columns] as it lies in memory: flat, both sides padded with zeros to multiples of 4."""
    rows, columns = matrix.shape
    stored = np.zeros((padded(rows), padded(columns)), np.int8)
    stored[:rows, :columns] = matrix
    stored[:, ::2] ^= -128
    blocks = stored.reshape(-1, SIDE, stored.shape[1] // SIDE, SIDE).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(blocks).reshape(-1)


def pack_vectors(matrix: NDArray[np.int8]) -> NDArray[np.int8]:
    """An int8 matrix [rows, columns] as Helium reads it: flat, padded with zeros to whole groups and whole vectors."""
    rows, columns = matrix.shape
    stored = np.zeros((padded(rows), -(-columns // LANES) * LANES), np.int8)
    stored[:rows, :columns] = matrix
    vectors = stored.reshape(-1, SIDE, stored.shape[1] // LANES, LANES).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(vectors).reshape(-1)


def interleave(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """A float32 matrix [rows, columns] as Helium reads it: flat, a column of 4 rows after another; zeros fill."""
    rows, columns = matrix.shape
    stored = np.zeros((padded(rows), columns), np.float32)
    stored[:rows] = matrix
    return np.ascontiguousarray(stored.reshape(-1, SIDE, columns).transpose(0, 2, 1)).reshape(-1)


def lay(matrix: NDArray[Any], features: frozenset[str]) -> NDArray[Any]:
    """An int8 or float32 matrix as the kernels of a core with these features read it."""
    if matrix.dtype == np.int8:
        return pack_vectors(matrix) if "mve" in features else pack(matrix)
    return interleave(matrix) if "mve" in features else matrix


def laid_bytes(matrix: NDArray[Any], features: frozenset[str]) -> int:
    """How many bytes `lay` gives, without laying it."""
    rows, columns = matrix.shape
    if matrix.dtype == np.int8:
        return padded(rows) * (-(-columns // LANES) * LANES if "mve" in features else padded(columns))
    return (padded(rows) if "mve" in features else int(rows)) * int(columns) * int(matrix.itemsize)


def sequential_sum(terms: NDArray[Any], axis: int = -1) -> NDArray[np.float32]:
    """The float32 sum along one axis, first to last, as a C loop that starts at 0 computes it."""
    sums: NDArray[np.float32] = np.add.accumulate(terms, axis=axis, dtype=np.float32)
    last: NDArray[np.float32] = np.take(sums, -1, axis=axis) + np.float32(0)  # a loop that starts at 0 never ends at -0
    return last
