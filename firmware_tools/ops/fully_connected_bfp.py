"""Fully connected in block floating point: y = W x (+ bias) on a core without FPU.

    inputs      x int32[k + 1], a row of bfp.py
    outputs     y int32[n + 1]; not x
    constants   weights int8 [n, k]; scales uint16 [n]; bias int32 [n + 1], a row of bfp.py, optional
    attributes  exponent: of the scales

x is quantized to int8 as bfp.quantize does, the integers' dot product is exact, and y = dot * ((factor * scale) >> 16)
in 2^-8, or in 2^-16 of more than 256 columns, rounded down.

Armv6-M has one multiplication, of 32 bits, so it computes two products by one ("mid-product"): with

    X = x0 + x1 * 2^16      W = u1 + u0 * 2^16      u = w + 128, from 1 to 255

the upper half of X * W is x0 u0 + x1 u1, less 1 where x0 u1 is negative, that is where x0 is, whatever the weights.
Since no two neighbours of q add up to more than 128, the sum fits that half. So a pair costs a multiplication, a shift
and an addition, and the rest is one number for all rows: how many x0 are negative, less 128 times the sum of all x.
A block is 4 rows by 4 columns; of weights with 1 byte, a word holds columns 2i and 2i + 1 of two neighbouring rows as
bytes (u1 of the first, u1 of the second, u0, u0), which one mask and one shift make two W. With 2 bytes it is one W.
Instructions for each weight, and bytes read: 2.47 and 1; 1.72 and 2. Two cores (`pair`) take half each.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools import bfp
from firmware_tools.ops import Array, Call, Run
from firmware_tools.packed import padded

NARROW_COLUMNS = 256  # up to which dots have 8 bits cut off instead of 16


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    weights = call.constants["weights"]
    q, factor, exponent = bfp.quantize(inputs[0])
    down = drop(call)
    dots = weights.astype(np.int64) @ q
    factors = (factor * call.constants["scales"].astype(np.int64)) >> 16
    y = bfp.join(exponent + int(call.attributes["exponent"]) + 16 + down, (dots * factors) >> down)
    return (bfp.add(y, call.constants["bias"]) if "bias" in call.constants else y,)


def drop(call: Call) -> int:
    """Bits that products of dots and factors lose."""
    return 8 if call.constants["weights"].shape[1] <= NARROW_COLUMNS else 16


def form(features: frozenset[str]) -> str:
    """Which layout of weights a core's kernels take, as the end of their names."""
    if "v6m" not in features:
        return ""
    return "_wide_v6m" if "wide" in features else "_v6m"


def stored(call: Call, features: frozenset[str]) -> Array:
    """The weights as they lie in flash: row after row, or in Armv6-M's blocks."""
    weights: Array = call.constants["weights"]
    if "v6m" not in features:
        return weights
    n, k = weights.shape
    bytes_ = np.full((padded(n), padded(k)), 128, np.uint8)
    bytes_[:n, :k] = weights.astype(np.int16) + 128
    blocks = bytes_.reshape(padded(n) // 4, 4, padded(k) // 4, 2, 2).transpose(0, 2, 3, 1, 4)  # …, pair, row, u0 or u1
    if "wide" in features:
        return np.ascontiguousarray(blocks[..., ::-1]).astype(np.uint16).reshape(-1)
    words = blocks.reshape(*blocks.shape[:3], 2, 2, 2).transpose(0, 1, 2, 3, 5, 4)[..., ::-1, :]  # …, u1 or u0, row
    return np.ascontiguousarray(words).reshape(-1)


def stored_bytes(call: Call, features: frozenset[str]) -> int:
    n, k = call.constants["weights"].shape
    if "v6m" not in features:
        return int(call.constants["weights"].nbytes)
    return padded(n) * padded(k) * (2 if "wide" in features else 1)


def kernel(call: Call, features: frozenset[str]) -> str:
    together = "_pair" if {"v6m", "pair"} <= features else ""
    return f"edge_fully_connected_bfp{form(features)}{together}"


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    return {**call.constants, "weights": stored(call, features)}


def weight_bytes(call: Call, features: frozenset[str]) -> int:
    """All of them, counted without laying them out."""
    others = sum(array.nbytes for name, array in call.constants.items() if name != "weights")
    return others + stored_bytes(call, features)


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    n, k = call.constants["weights"].shape
    matrix = f".weights = {c['weights']}, .scales = {c['scales']}, .bias = {c.get('bias', 'NULL')}"
    shape = f".rows = {n}, .columns = {k}, .exponent = {int(call.attributes['exponent'])}, .drop = {drop(call)}"
    arguments = (c["in0"], c["out0"], f"&(edge_bfp_matrix){{{matrix}, {shape}}}", c["count"], c["workspace"])
    return f"{kernel(call, features)}({', '.join(arguments)});"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """One quantized row, of bytes or of words for two columns."""
    return padded(call.constants["weights"].shape[1]) * (2 if "v6m" in features else 1)


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    n, k = call.constants["weights"].shape
    groups = padded(n) // 4
    return {"call": 1, "column": k, "row": n, "group": groups, "block": groups * padded(k) // 4}
