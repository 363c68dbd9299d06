"""Matrices of 4-bit integers as they lie in a device's memory; the twin of `runtime/packed4.h`.

A matrix lies in groups of 4 rows; a group in blocks of 4 columns, 8 bytes. A column of a group is a halfword

    r3 << 12 | (r2 + 8) << 8 | (r1 + 8) << 4 | (r0 + 8)        r0 … r3: the group's rows, -8 to 7

of which a block has four: columns 0, 2, 1, 3, so that a word holds columns 0 and 2, the next one 1 and 3, as the
quantized row does. A Cortex-M with SMLAD needs seven instructions for eight products then: with the whole word it gets
4096 R3 + 256 R2 + 16 R1 + R0, with its low bytes 16 R1 + R0, with the nibbles of rows 2 and 0 these alone; subtracting
one from the other leaves the rest, exactly for up to 512 columns. The eights are taken off before, as 8 times the
sum of the row.

Helium has signed bytes and a shift for each: 32 columns of a row are a vector of 16 bytes, column j and 16 + j in the
lower and the upper half of byte j, as they are. The vectors of 4 rows alternate. Both halves are taken out 16 times too
large.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.packed import SIDE, padded

COLUMNS = 32  # of a vector for Helium


def pack4(matrix: NDArray[np.int8]) -> NDArray[np.uint16]:
    """A matrix [rows, columns] of integers from -8 to 7 as it lies in memory: flat, padded to multiples of 4."""
    rows, columns = matrix.shape
    stored = np.zeros((padded(rows), padded(columns)), np.int32)
    stored[:rows, :columns] = matrix
    groups = stored.reshape(-1, SIDE, stored.shape[1] // SIDE, SIDE)  # group, row, block, column
    r0, r1, r2, r3 = (groups[:, row] for row in range(SIDE))
    halfwords = (r3 & 15) << 12 | (r2 + 8) << 8 | (r1 + 8) << 4 | (r0 + 8)
    return np.ascontiguousarray(halfwords[..., [0, 2, 1, 3]]).astype(np.uint16).reshape(-1)


def pack4_vectors(matrix: NDArray[np.int8]) -> NDArray[np.uint16]:
    """The same matrix as Helium reads it: flat, rows padded with zeros to groups, columns to vectors of 32."""
    rows, columns = matrix.shape
    stored = np.zeros((padded(rows), -(-columns // COLUMNS) * COLUMNS), np.uint8)
    stored[:rows, :columns] = matrix.view(np.uint8) & 15
    halves = stored.reshape(-1, SIDE, stored.shape[1] // COLUMNS, 2, COLUMNS // 2)  # group, row, vector, half, byte
    vectors = (halves[..., 0, :] | halves[..., 1, :] << 4).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(vectors).reshape(-1).view(np.uint16)


def pack_scales(scales: NDArray[Any]) -> NDArray[np.uint16]:
    """Scales of blocks, float16 [rows, blocks], as bits [groups, blocks, 4]; those of rows that are not there are 0."""
    stored = np.zeros((padded(scales.shape[0]), scales.shape[1]), np.float16)
    stored[: scales.shape[0]] = scales
    return (
        np.ascontiguousarray(stored.reshape(-1, SIDE, scales.shape[1]).transpose(0, 2, 1)).view(np.uint16).reshape(-1)
    )
