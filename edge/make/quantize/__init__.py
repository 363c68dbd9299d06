"""Weights in fewer bits: integers times a scale for each row, or for each block of a row (symmetric, zero point 0).

int8 has a float32 scale a row (per channel). int4 has that too, or with a block size a float16 scale for each block of
a row; a matrix whose rows no whole number of blocks fills has a scale a row. Embedding and head stay int8 with int4.

This is round to nearest, which is enough for int8. int4 needs better, and int8 can have it: rounding.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import UserError

BLOCKS = {"int4": 0, "int4-32": 32, "int4-64": 64, "int4-128": 128}  # columns of a block; 0: the whole row
GRID = "int4-grid"  # the 4-bit blocks of the source, kept as they are: grid.py; what has none is int8
MIXED = "mixed"  # int8 and blocks of 32 of int4, chosen for each matrix of the layers: mixed.py
STATIC = ("int8-static", "int8-static+int16", "int16x8")  # activations are integers too: activations.py
SCHEMES = ("int8", "float32", "float16", *BLOCKS, GRID, MIXED, *STATIC)
LEVELS = 127  # -128 is not used: kernels rely on |w| <= 127
LEVELS_4 = 7
SMALLEST_SCALE = np.float32(1e-30)  # kernels refuse 0 and subnormal scales, which rows of zeros would get
BLOCK_SIZE = 1 << 18  # weights quantized at once
SMALLEST_HALF, LARGEST_HALF = np.float32(2.0**-14), np.float32(65504.0)


@dataclass(frozen=True)
class Matrix:
    """A weight matrix [rows, columns]: float32 or float16 with scales None, or integers in int8.

    scales are float32 [rows], or float16 [rows, blocks]; bits is 4 where the integers are from -8 to 7. offsets,
    float16 [rows, blocks], are added to every weight of a block.
    """

    values: NDArray[Any]
    scales: NDArray[Any] | None = None
    bits: int = 8
    offsets: NDArray[Any] | None = None

    def dequantized(self) -> NDArray[np.float32]:
        """The float32 matrix that the kernels compute with."""
        if self.scales is None:
            return np.asarray(self.values, np.float32)
        scales = self.scales.reshape(len(self.scales), -1).astype(np.float32)
        block = self.values.shape[1] // scales.shape[1]
        weights = np.asarray(self.values * np.repeat(scales, block, axis=1), np.float32)
        return weights if self.offsets is None else weights + np.repeat(self.offsets.astype(np.float32), block, axis=1)


def quantize(weights: NDArray[np.float32], scheme: str, coarse: bool = True) -> Matrix:
    """A float32 matrix [rows, columns] in one of SCHEMES; coarse: int4 where the scheme has that, else int8."""
    if scheme == "float32":
        return Matrix(np.ascontiguousarray(weights, np.float32))
    if scheme == "float16":
        return halves(weights)
    if scheme in BLOCKS and coarse:
        block = BLOCKS[scheme]
        return per_block_int4(weights, block) if block and weights.shape[1] % block == 0 else per_row(weights, 4)
    return per_row(weights, 8)


def halves(weights: NDArray[np.float32]) -> Matrix:
    """Round to nearest; UserError where a weight is beyond what float16 holds."""
    largest = float(np.abs(weights).max(initial=0))
    if largest > LARGEST_HALF:
        raise UserError(f"a weight of {largest:g} does not fit float16", "take --quantize float32 or int8")
    return Matrix(weights.astype(np.float16))


def per_row(weights: NDArray[np.float32], bits: int) -> Matrix:
    """Round to nearest, with the largest magnitude of a row at 127 or 7."""
    levels = LEVELS if bits == 8 else LEVELS_4
    values, scales = np.empty(weights.shape, np.int8), np.empty(len(weights), np.float32)
    at = 0
    for rows in row_blocks(weights):
        these = slice(at, at := at + len(rows))
        scales[these] = np.maximum(np.abs(rows).max(axis=1) / np.float32(levels), SMALLEST_SCALE)
        values[these] = np.clip(np.rint(rows / scales[these, None]), -levels, levels)
    return Matrix(values, scales, bits)


def row_blocks(weights: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """A matrix by blocks of rows, so that what is computed of each stays small."""
    step = max(1, BLOCK_SIZE // max(1, weights[0].size))
    return (weights[start : start + step] for start in range(0, len(weights), step))


def per_block_int4(weights: NDArray[np.float32], block: int) -> Matrix:
    """Round to nearest, with the largest magnitude of a block at 7; the scale is rounded to float16 first."""
    parts = weights.reshape(len(weights), -1, block)
    largest = np.abs(parts).max(axis=2)
    scales = half_scales(largest / np.float32(LEVELS_4))
    values = np.clip(np.rint(parts / scales[..., None].astype(np.float32)), -LEVELS_4, LEVELS_4).astype(np.int8)
    return Matrix(values.reshape(weights.shape), scales, 4)


def half_scales(scales: NDArray[Any]) -> NDArray[np.float16]:
    """Scales of blocks as a file has them: float16, neither zero nor subnormal nor infinite."""
    return np.asarray(np.clip(scales, SMALLEST_HALF, LARGEST_HALF), np.float16)
