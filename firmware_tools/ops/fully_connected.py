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
from firmware_tools.ops import Array, Call, Run
from firmware_tools.packed import pack, padded, quantize, sequential_sum

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
        return "edge_fully_connected_f32"
    return f"edge_fully_connected_s8{'_dsp' if 'dsp' in features else ''}"


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    constants = dict(call.constants)
    if "scales" in constants:
        if constants["weights"].shape[1] > MOST_COLUMNS:
            raise UserError(f"a matrix has {constants['weights'].shape[1]} columns; int8 kernels take {MOST_COLUMNS}")
        constants["weights"] = pack(constants["weights"])
    return constants


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
    """The quantized row; with SMLAD 2 bytes a column."""
    return 2 * padded(call.constants["weights"].shape[1]) if "scales" in call.constants else 0


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    n, k = call.constants["weights"].shape
    blocks, groups = padded(k) // 4, padded(n) // 4
    return {
        "call": 1,
        "column": k,
        "row": n,
        "group": groups,
        "block": groups * blocks,
        "chunk": groups * (blocks > 64),
    }
