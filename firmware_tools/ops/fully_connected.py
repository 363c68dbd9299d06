"""Fully connected: y = W x (+ bias), one dot product for each row of W.

    inputs      x float32[k]
    outputs     y float32[n]; not x
    constants   weights int8 or float32 [n, k]; scales float32 [n] where weights are int8; bias float32 [n], optional

int8 weights: x is quantized to int8 as it comes, with one scale, as TFLite's hybrid kernel does; the integers' dot
product is exact, and y = dot * (x's scale * the row's scale) (+ bias), each step one float32 operation. packed.py tells
how weights lie in flash and what SMLAD makes of that. float32 weights: products are added first to last.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.errors import UserError
from firmware_tools.ops import Array, Call, Run, fastest
from firmware_tools.packed import LANES, laid_bytes, lay, padded, quantize, sequential_sum

TILE, TILE_COLUMNS = 3, 256  # tokens that share what SMLAD needs of the weights, in rows whose sums fit 32 bits
MOST_COLUMNS = 65536  # of int8 weights: a stored byte is at most 255, an integer of x 127, a sum below 2^31


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    x, weights = inputs[0], call.constants["weights"]
    if "scales" in call.constants:
        values, scale = quantize(x)
        dots = weights.astype(np.int32) @ values
        y = dots.astype(np.float32) * (scale * call.constants["scales"])
    else:
        y = sequential_sum(weights * x)
    return (y + call.constants["bias"] if "bias" in call.constants else y,)


def kernel(call: Call, features: frozenset[str]) -> str:
    if "scales" not in call.constants:
        return f"edge_fully_connected_f32{fastest(features, 'mve')}"
    ending = fastest(features, "mve", "dsp")
    return f"edge_fully_connected_s8{ending}{'_long' if ending == '_dsp' and not _tiles(call, features, TILE) else ''}"


def _tiles(call: Call, features: frozenset[str], rows: int) -> bool:
    """Does the core compute so many tokens by tiles?"""
    by_smlad = fastest(features, "mve", "dsp") == "_dsp"
    return by_smlad and rows >= TILE and call.constants["weights"].shape[1] <= TILE_COLUMNS


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    weights = call.constants["weights"]
    if "scales" in call.constants and weights.shape[1] > MOST_COLUMNS:
        raise UserError(f"a matrix has {weights.shape[1]} columns; int8 kernels take {MOST_COLUMNS}")
    return {**call.constants, "weights": lay(weights, features)}


def weight_bytes(call: Call, features: frozenset[str]) -> int:
    """All of them, counted without laying them out."""
    others = sum(array.nbytes for name, array in call.constants.items() if name != "weights")
    return others + laid_bytes(call.constants["weights"], features)


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    n, k = call.constants["weights"].shape
    arguments = [c["in0"], c["out0"], c["weights"]]
    if "scales" in call.constants:
        arguments.append(c["scales"])
    arguments += [c["bias"] if "bias" in call.constants else "NULL", str(n), str(k), c["count"]]
    if "scales" in call.constants:
        arguments.append(c["workspace"])
    return f"{kernel(call, features)}({', '.join(arguments)});"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """The quantized row; with SMLAD 2 bytes a column, and all rows of a tile; with Helium whole vectors of two rows."""
    columns = call.constants["weights"].shape[1]
    if "scales" not in call.constants:
        return 0
    at_once = TILE if _tiles(call, features, rows) else 1
    return int(max(at_once * 2 * padded(columns), 2 * -(-columns // LANES) * LANES))


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    n, k = call.constants["weights"].shape
    blocks, groups, vectors = padded(k) // 4, padded(n) // 4, -(-k // LANES)
    return {
        "call": 1,
        "column": k,
        "row": n,
        "group": groups,
        "block": groups * blocks,
        "chunk": groups * (blocks > 64),
        "vector": groups * vectors,
        "short": groups * (vectors < 4),
        "long": groups * (vectors > 4),
    }
