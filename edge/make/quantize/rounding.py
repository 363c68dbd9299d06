"""Rounding that makes good what it spoils: each weight is rounded in view of the errors made before it.

Round to nearest asks that a weight be near; what matters is that a matrix's outputs are. So integers and scales are
chosen for the least squared error of the outputs over calibration texts, whose inputs x enter as their second moments
H = mean(x x^T):

1. the scale of each row or block is the best of some fractions of its largest weight, errors weighted by 1 / (H^-1)_jj;
2. columns are rounded one by one, and each error is spread over the columns that are still to come (GPTQ: Frantar et
   al., 2022);
3. scales are fitted to the integers by least squares, and integers that are better elsewhere then move.

Sums of BLAS decide which way the closest calls fall: the same machine gives the same integers, another one may differ
in a few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make.quantize import LEVELS, LEVELS_4, SMALLEST_SCALE, Matrix, half_scales

DAMPING = 0.01  # of the mean of H's diagonal, added to it: columns that the texts hardly used keep their weights
FRACTIONS = np.linspace(0.55, 1.05, 26)  # of the scale that reaches the largest weight
COLUMNS = 128  # rounded between two products with the whole matrix
SWEEPS = 4  # over the columns at most, when integers move to where they are better

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Form:
    """How a matrix is stored: 4 or 8 bits, and the columns that share a scale (0: all of a row)."""

    bits: int
    block: int = 0


def int4_form(columns: int, block: int) -> Form:
    """4 bits in blocks, or with a scale a row where block is 0 or rows hold no whole number of blocks."""
    return Form(4, block if block and columns % block == 0 else 0)


def size_bytes(size: tuple[int, ...], form: Form) -> int:
    """Of the weights [rows, columns] and their scales."""
    rows, columns = size
    scales_bytes = rows * (columns // form.block) * 2 if form.block else rows * 4
    return -(-rows * columns * form.bits // 8) + scales_bytes


def compensated(weights: Array, moments: NDArray[Any], form: Form) -> Matrix:
    """weights [rows, columns] rounded for the least error of their outputs; moments [columns, columns] are H."""
    damped = damp(moments)
    inverse = np.asarray(np.linalg.inv(damped), np.float64)
    scales = _searched(weights, 1 / np.diag(inverse), form)
    values = _rounded(weights, inverse, scales, form)
    hessian = damped.astype(np.float32)
    scales = _fitted(weights, hessian, values, scales, form)
    values = _moved(weights, hessian, values, scales, form)
    kept = scales.astype(np.float16) if form.block else scales[:, 0]
    return Matrix(values.astype(np.int8), kept, form.bits)


def damp(moments: NDArray[Any]) -> NDArray[np.float64]:
    """H with DAMPING on its diagonal, so that it has an inverse."""
    h = np.asarray(moments, np.float64)
    return h + np.eye(len(h)) * max(DAMPING * float(np.trace(h)) / len(h), 1e-12)


def error(weights: Array, moments: NDArray[Any], matrix: Matrix) -> float:
    """Mean over the texts of the squared error of the outputs."""
    wrong = weights - matrix.dequantized()
    return float(((wrong @ moments) * wrong).sum())


def _levels(form: Form) -> int:
    return LEVELS if form.bits == 8 else LEVELS_4


def _legal(scales: Array, form: Form) -> Array:
    """Scales as the file stores them: float16 of blocks, float32 of rows."""
    return half_scales(scales).astype(np.float32) if form.block else np.maximum(scales, SMALLEST_SCALE)


def _spread(scales: Array, columns: int) -> Array:
    """Scales [rows, blocks] as [rows, columns]."""
    return np.repeat(scales, columns // scales.shape[1], axis=1)


def _searched(weights: Array, importance: NDArray[np.float64], form: Form) -> Array:
    """The best scale [rows, blocks] among FRACTIONS of the one that reaches the largest weight."""
    levels, block = np.float32(_levels(form)), form.block or weights.shape[1]
    parts = weights.reshape(len(weights), -1, block)
    weight = importance.astype(np.float32).reshape(-1, block)
    reach = np.abs(parts).max(axis=2) / levels
    best, least = _legal(reach, form), np.full(reach.shape, np.inf, np.float32)
    for fraction in FRACTIONS if form.bits == 4 else (1.0,):
        scales = _legal(reach * np.float32(fraction), form)
        wrong = parts - np.clip(np.rint(parts / scales[..., None]), -levels, levels) * scales[..., None]
        loss = np.einsum("rbc,rbc,bc->rb", wrong, wrong, weight)
        best, least = np.where(loss < least, scales, best), np.minimum(loss, least)
    return best


def _rounded(weights: Array, inverse: NDArray[np.float64], scales: Array, form: Form) -> Array:
    """Integers [rows, columns]: the most used columns first, errors spread over those to come."""
    levels, columns = _levels(form), weights.shape[1]
    order = np.argsort(np.diag(inverse), kind="stable")
    spread = np.linalg.cholesky(inverse[np.ix_(order, order)]).T.astype(np.float32)
    left = np.ascontiguousarray(weights.T[order])  # columns as rows, which numpy is faster with
    steps = np.ascontiguousarray(_spread(scales, columns).T[order])
    values = np.empty_like(left)
    for start in range(0, columns, COLUMNS):
        stop = min(start + COLUMNS, columns)
        wrong = np.empty_like(left[start:stop])
        for j in range(start, stop):
            values[j] = np.clip(np.rint(left[j] / steps[j]), -levels, levels)
            wrong[j - start] = (left[j] - values[j] * steps[j]) / spread[j, j]
            left[j + 1 : stop] -= np.outer(spread[j, j + 1 : stop], wrong[j - start])
        left[stop:] -= spread[start:stop, stop:].T @ wrong
    result = np.empty_like(values)
    result[order] = values
    return np.ascontiguousarray(result.T)


def _fitted(weights: Array, hessian: Array, values: Array, scales: Array, form: Form) -> Array:
    """Scales of least error for these integers, block by block."""
    columns, scales = weights.shape[1], scales.copy()
    block = columns // scales.shape[1]
    wrong = weights - values * _spread(scales, columns)
    for index in range(scales.shape[1]):
        part = slice(index * block, (index + 1) * block)
        integers = values[:, part]
        slope = (integers * (wrong @ hessian[:, part])).sum(axis=1)
        curve = ((integers @ hessian[part, part]) * integers).sum(axis=1)
        better = scales[:, index] + np.where(curve > 0, slope / np.maximum(curve, np.float32(1e-30)), 0)
        better = np.where(better > scales[:, index] / 2, better, scales[:, index])  # a scale stays positive
        better = _legal(better, form)
        wrong[:, part] -= (better - scales[:, index])[:, None] * integers
        scales[:, index] = better
    return scales


def _moved(weights: Array, hessian: Array, values: Array, scales: Array, form: Form) -> Array:
    """Integers each moved to where the error is least while all others stay, until none moves."""
    levels, columns = _levels(form), weights.shape[1]
    steps = np.ascontiguousarray(_spread(scales, columns).T)
    integers, wrong = np.ascontiguousarray(values.T), np.ascontiguousarray(weights.T)
    wrong = wrong - integers * steps
    for _ in range(SWEEPS):
        moves = 0
        for start in range(0, columns, COLUMNS):
            stop = min(start + COLUMNS, columns)
            slope = hessian[start:stop] @ wrong
            for j in range(start, stop):
                aim = integers[j] + slope[j - start] / (hessian[j, j] * steps[j])
                new = np.clip(np.rint(aim), -levels, levels)
                change = (new - integers[j]) * steps[j]
                moves += int(np.count_nonzero(change))
                slope -= np.outer(hessian[start:stop, j], change)
                wrong[j] -= change
                integers[j] = new
        if not moves:
            break
    return np.ascontiguousarray(integers.T)
