"""`--quantize int4-grid`: a source that is in blocks of 4 bits already keeps them; nothing is rounded twice.

A block of a source's row is w = scale * value + offset. Its values and scales are what a blockwise int4 matrix of
TFLite holds, and what the offsets add is a second, small product: that of the block sums of the input with the offsets.

XNNPACK computes with scales of 8 significant bits (bfloat16), whatever a file says. They are rounded here, so that
every kernel computes with the same, and the offsets take up what that moves the mean of a block by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.make.checkpoints import Grid
from edge.make.quantize import GRID, LARGEST_HALF, SMALLEST_HALF, Matrix
from firmware_tools.errors import BadFile, UserError


def check(grids: Mapping[str, Grid]) -> None:
    """UserError where no matrix of a source's layers has blocks to keep."""
    if not any("." in name for name in grids):
        raise UserError(
            f"{GRID} keeps the 4-bit blocks that a source is made of, and this one has none",
            "give a GGUF in Q4_0 or Q4_1, or choose int8 or int4-32",
        )


def on_grid(parts: Sequence[Grid]) -> Matrix:
    """Matrices of equal columns and blocks, one below the other; BadFile where numbers are not finite or too large."""
    values = np.concatenate([part.values for part in parts])
    scales = np.concatenate([part.scales for part in parts])
    offsets = np.concatenate([part.offsets for part in parts])
    if not (np.isfinite(scales).all() and np.isfinite(offsets).all()):
        raise BadFile("the scales of a matrix's blocks are not all finite", "the file is damaged: download it again")
    values, scales, offsets = _positive(values, scales, offsets)
    kept = np.maximum(_bfloat16(scales), SMALLEST_HALF)
    theirs = values.reshape(*scales.shape, -1)
    ours = theirs
    tiny = scales < SMALLEST_HALF
    if tiny.any():  # kernels refuse such a scale: the values move to the smallest that they take
        ours = np.where(tiny[..., None], np.rint(theirs * (scales / kept)[..., None]), theirs).astype(np.int8)
    offsets = offsets + scales * theirs.mean(axis=2, dtype=np.float32) - kept * ours.mean(axis=2, dtype=np.float32)
    if max(float(kept.max()), float(np.abs(offsets).max())) > LARGEST_HALF:
        raise BadFile("the blocks of a matrix have weights beyond what float16 holds", "choose --quantize int8")
    return Matrix(ours.reshape(values.shape), kept.astype(np.float16), 4, offsets.astype(np.float16))


def _positive(
    values: NDArray[np.int8], scales: NDArray[np.float32], offsets: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    """The same weights without negative scales: s * v + o = -s * (-1 - v) + (o - s)."""
    negative = scales < 0
    turned = np.repeat(negative, values.shape[1] // scales.shape[1], axis=1)
    return np.where(turned, -1 - values, values), np.abs(scales), np.where(negative, offsets - scales, offsets)


def _bfloat16(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounded to the nearest of 8 significant bits, of two the even one."""
    bits = np.ascontiguousarray(scales, np.float32).view(np.uint32)
    rounded: NDArray[np.uint32] = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)
