"""Weights in fewer bits: integers times a scale for each row, or for each block of a row (symmetric, zero point 0).

int8 has a float32 scale a row (per channel). int4 has that too, or with a block size a float16 scale for each block of
a row; a matrix whose rows no whole number of blocks fills has a scale a row. Embedding and head stay int8 with int4.

Round to nearest is all there is: on stories260K a search for the scales of least squared error moves the KL divergence
of int8 from .0014 to .0012 or .0013, depending on the grid, which is within what the choice of text moves it. int4
needs better than that, and is what it is until it has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCKS = {"int4": 0, "int4-32": 32, "int4-64": 64, "int4-128": 128}  # columns of a block; 0: the whole row
SCHEMES = ("int8", "float32", *BLOCKS)
LEVELS = 127  # -128 is not used: kernels rely on |w| <= 127
LEVELS_4 = 7
SMALLEST_SCALE = np.float32(1e-30)  # kernels refuse 0 and subnormal scales, which rows of zeros would get
SMALLEST_HALF, LARGEST_HALF = np.float32(2.0**-14), np.float32(65504.0)


@dataclass(frozen=True)
class Matrix:
    """A weight matrix [rows, columns]: float32 with scales None, or integers in int8.

    scales are float32 [rows], or float16 [rows, blocks]; bits is 4 where the integers are from -7 to 7.
    """

    values: NDArray[Any]
    scales: NDArray[Any] | None = None
    bits: int = 8

    def dequantized(self) -> NDArray[np.float32]:
        """The float32 matrix that the kernels compute with."""
        if self.scales is None:
            return np.asarray(self.values, np.float32)
        scales = self.scales.reshape(len(self.scales), -1).astype(np.float32)
        return np.asarray(self.values * np.repeat(scales, self.values.shape[1] // scales.shape[1], axis=1), np.float32)


def quantize(weights: NDArray[np.float32], scheme: str, coarse: bool = True) -> Matrix:
    """A float32 matrix [rows, columns] in one of SCHEMES; coarse: int4 where the scheme has that, else int8."""
    if scheme == "float32":
        return Matrix(np.ascontiguousarray(weights, np.float32))
    if scheme in BLOCKS and coarse:
        block = BLOCKS[scheme]
        return per_block_int4(weights, block) if block and weights.shape[1] % block == 0 else per_row(weights, 4)
    return per_row(weights, 8)


def per_row(weights: NDArray[np.float32], bits: int) -> Matrix:
    """Round to nearest, with the largest magnitude of a row at 127 or 7."""
    levels = LEVELS if bits == 8 else LEVELS_4
    largest = np.abs(weights).max(axis=1).astype(np.float32)
    scales = np.maximum(largest / np.float32(levels), SMALLEST_SCALE)
    values = np.clip(np.rint(weights / scales[:, None]), -levels, levels).astype(np.int8)
    return Matrix(values, scales, bits)


def per_block_int4(weights: NDArray[np.float32], block: int) -> Matrix:
    """Round to nearest, with the largest magnitude of a block at 7; the scale is rounded to float16 first."""
    parts = weights.reshape(len(weights), -1, block)
    largest = np.abs(parts).max(axis=2)
    scales = np.clip(largest / np.float32(LEVELS_4), SMALLEST_HALF, LARGEST_HALF).astype(np.float16)
    values = np.clip(np.rint(parts / scales[..., None].astype(np.float32)), -LEVELS_4, LEVELS_4).astype(np.int8)
    return Matrix(values.reshape(weights.shape), scales, 4)
