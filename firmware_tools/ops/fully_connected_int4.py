"""Fully connected with 4-bit weights: y = W x (+ bias), in half the flash that int8 weights take.

    inputs      x float32[k]
    outputs     y float32[n]; not x
    constants   weights int8 [n, k] of integers from -8 to 7; scales float32 [n], or block_scales float16
                [n, k / block]; bias float32 [n], optional

x is quantized to int8 as fully_connected does it. With a scale a row, y = dot * (x's scale * the row's scale) (+ bias).
With a scale for each block of columns, y = (sum of dot * the block's scale, first block to last) * x's scale (+ bias).
Dots are of integers, and exact; every other step is one float32 operation. packed4.py tells how weights lie in flash.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.ops import Array, Call, Run, fastest
from firmware_tools.packed import padded, quantize, sequential_sum
from firmware_tools.packed4 import COLUMNS, pack4, pack4_vectors, pack_scales

MOST_COLUMNS = 1 << 14  # products of 8 and 127, whose sum stays below 2^24: chunks are added as floats, exactly
CHUNK = 512  # columns whose sums fit 32 bits, whatever the weights are


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    weights = call.constants["weights"].astype(np.int32)
    values, scale = quantize(inputs[0])
    if "scales" in call.constants:
        y = (weights @ values).astype(np.float32) * (scale * call.constants["scales"])
    else:
        block_scales = call.constants["block_scales"].astype(np.float32)
        products = (weights * values).reshape(*block_scales.shape, -1).sum(axis=2)
        y = sequential_sum(products.astype(np.float32) * block_scales) * scale
    return (y + call.constants["bias"] if "bias" in call.constants else y,)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_fully_connected_int4{_way(call, features)}"


def _way(call: Call, features: frozenset[str]) -> str:
    """Helium reads 32 columns at once, which then must have one scale."""
    in_vectors = block_size(call) % COLUMNS == 0
    return fastest(features, *(("mve", "dsp") if in_vectors else ("dsp",)))


def block_size(call: Call) -> int:
    """Columns that share a scale; 0 where all do."""
    k = call.constants["weights"].shape[1]
    return int(k // call.constants["block_scales"].shape[1]) if "block_scales" in call.constants else 0


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    constants = dict(call.constants)
    constants["weights"] = (pack4_vectors if _way(call, features) == "_mve" else pack4)(constants["weights"])
    if "block_scales" in constants:
        constants["block_scales"] = pack_scales(constants["block_scales"])
    return constants


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    n, k = call.constants["weights"].shape
    scales = [c[name] if name in call.constants else "NULL" for name in ("scales", "block_scales", "bias")]
    arguments = [
        c["in0"],
        c["out0"],
        c["weights"],
        *scales,
        str(n),
        str(k),
        str(block_size(call)),
        c["count"],
        c["workspace"],
    ]
    return f"{kernel(call, features)}({', '.join(arguments)});"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """The quantized row, with SMLAD 2 bytes a column, and what the sums of its blocks start from; whole vectors."""
    k = call.constants["weights"].shape[1]
    chunks = call.constants["block_scales"].shape[1] if "block_scales" in call.constants else -(-k // CHUNK)
    return max(2 * padded(int(k)) + 12 * int(chunks), -(-int(k) // COLUMNS) * COLUMNS)


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    n, k = call.constants["weights"].shape
    blocks, groups = padded(k) // 4, padded(n) // 4
    scaled = call.constants["block_scales"].shape[1] if "block_scales" in call.constants else 0
    parts = {"call": 1, "column": k, "row": n, "group": groups, "block": groups * blocks}
    return {**parts, "scaled": groups * scaled, "scaled_column": scaled}
