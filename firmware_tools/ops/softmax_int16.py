"""Softmax of int8 numbers with int16 results: as softmax.py, in units of 2^-16.

    inputs      x int8[rows, depth], of any rank
    outputs     y int16 of that shape, scale 2^-16 and zero point -32768; not x
    constants   table int32[n]: e^(-beta * scale * i) in Q0 for differences i that count
    attributes  rows, depth

TFLite's reference Softmax<int8, int16>, which TFLite Micro's classifiers of sound end with.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.fixed_point import (
    SUM_BITS,
    exp_of_negative,
    high_product,
    reciprocal,
    shifted_right,
    softmax_scaling,
)
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.ops.softmax import MOST_DEPTH
from firmware_tools.quantized import per_tensor

OPERATORS = ("SOFTMAX",)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    scale, _ = per_tensor(subgraph, operator.inputs[0], "the input")
    out_scale, out_zero_point = per_tensor(subgraph, operator.outputs[0], "the output", "int16")
    shape = subgraph.tensors[operator.inputs[0]].shape
    if out_zero_point != -32768 or abs(out_scale * 65536 - 1) > 0.001:
        raise Unsupported("its output has another scale than 2^-16, or another zero point than -32768")
    if not shape or not 0 < shape[-1] <= MOST_DEPTH:
        raise Unsupported(f"its rows have {shape[-1] if shape else 0} elements; 1 to {MOST_DEPTH} are supported")
    multiplier, shift, least = softmax_scaling(scale, float(str(operator.options["beta"])))
    differences = -np.arange(min(256, 1 - least), dtype=np.int64)
    table = exp_of_negative(high_product(differences << shift, multiplier)).astype(np.int32)
    attributes = {"rows": int(np.prod(shape[:-1])), "depth": shape[-1]}
    return Call("softmax_int16", operator.inputs, operator.outputs, {"table": table}, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    table = np.zeros(256, np.int64)
    table[: call.constants["table"].size] = call.constants["table"]
    x = inputs[0].reshape(call.attributes["rows"], -1).astype(np.int64)
    y = np.empty_like(x)
    for row, out in zip(x, y, strict=True):
        powers = table[row.max() - row]
        total = int(shifted_right(powers, SUM_BITS).sum())
        headroom = 32 - total.bit_length()
        scale = reciprocal((total << headroom) - (1 << 31))
        out[:] = shifted_right(high_product(scale, powers), SUM_BITS - headroom + 31 - 16) - 32768
    return (np.clip(y, -32768, 32767).astype(np.int16).reshape(inputs[0].shape),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_softmax_s8_s16"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    sizes = f"{call.attributes['rows']}, {call.attributes['depth']}, {call.constants['table'].size}"
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['table']}, {sizes});"
