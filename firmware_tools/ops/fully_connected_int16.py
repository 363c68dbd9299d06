"""Fully connected layer of int16 activations and int8 weights of one scale.

    inputs      x int16[batches, columns], of any rank
    outputs     y int16[batches, rows]; not x
    constants   weights int8[rows, columns]; bias int64[rows]
    attributes  batches, shape (of y), factor (high, low, shift), range (least, most) of y

All tensors are symmetric. y = clamp(round((bias + weights x) * factor)), halves away from zero. LiteRT's reference
kernel multiplies in double precision; the device by (high + low / 2^24) / 2^shift, 55 bits of the same factor, and so
differs only where a product of some 40 bits is that near to a half. On a core with SMLALD two rows take four columns at
a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.ops.conv_2d_int16 import bias_int64, in_twos, symmetric
from firmware_tools.quantized import optional, stored_range, weights_of
from firmware_tools.requantize_int16 import wide_bias

OPERATORS = ("FULLY_CONNECTED",)
SHIFTS = (15, 46)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, w, y = (*operator.inputs[:2], operator.outputs[0])
    scale, out_scale = symmetric(subgraph, x, "the input"), symmetric(subgraph, y, "the output")
    weights, scales = weights_of(subgraph, w, "the weights", 0)
    if weights.ndim != 2 or scales.size != 1:
        raise Unsupported("its weights have a scale for each row, which int16 layers here have not")
    rows, columns = weights.shape
    image, out = math.prod(subgraph.tensors[x].shape), math.prod(subgraph.tensors[y].shape)
    if columns == 0 or image % columns or image // columns * rows != out:
        raise Unsupported(f"weights {rows} by {columns} do not take {image} elements to {out}")
    mantissa, exponent = math.frexp(scale * float(scales[0]) / out_scale)
    high, low = divmod(math.floor(mantissa * (1 << 55) + 0.5), 1 << 24)
    if high == 1 << 31:
        high, exponent = high // 2, exponent + 1
    if not SHIFTS[0] <= 31 - exponent <= SHIFTS[1]:
        raise Unsupported("its scales are too far from what 16-bit layers have")
    attributes = {
        "batches": image // columns,
        "shape": subgraph.tensors[y].shape,
        "factor": (high, low, 31 - exponent),
        "range": stored_range(operator.options, out_scale, 0, "int16"),
    }
    constants = {"weights": weights, "bias": bias_int64(subgraph, optional(operator.inputs, 2), rows)}
    return Call("fully_connected_int16", (x,), (y,), constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    weights, (high, low, shift) = call.constants["weights"], call.attributes["factor"]
    x = inputs[0].reshape(-1, weights.shape[1]).astype(np.float64)
    total = (x @ weights.T.astype(np.float64)).astype(np.int64) + call.constants["bias"]
    size = np.minimum(np.abs(total), 1 << (shift - 14))
    scaled = (size * high + (size * low >> 24) + (1 << (shift - 1))) >> shift
    y = np.clip(np.sign(total) * scaled, *call.attributes["range"])
    return (y.astype(np.int16).reshape(call.attributes["shape"]),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_fully_connected_s16{'_dsp' if _is_fast(call, features) else ''}"


def _is_fast(call: Call, features: frozenset[str]) -> bool:
    rows, columns = call.constants["weights"].shape
    return "dsp" in features and rows % 2 == 0 and columns % 4 == 0


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    weights = call.constants["weights"]
    if _is_fast(call, features):
        weights = in_twos(weights)
    return {"weights": weights, "bias": wide_bias(call.constants["bias"])}


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a, (rows, columns) = call.attributes, call.constants["weights"].shape
    numbers = {
        "batches": a["batches"],
        "rows": rows,
        "columns": columns,
        "high": a["factor"][0],
        "low": a["factor"][1],
        "shift": a["factor"][2],
        "least": a["range"][0],
        "most": a["range"][1],
    }
    fields = ", ".join(f".{name} = {number}" for name, number in numbers.items())
    shape = f"&(edge_fully_connected_int16){{{fields}}}"
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['weights']}, {c['bias']}, {shape});"
