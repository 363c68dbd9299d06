"""Softmax, int8: e^(beta x) of each element over the sum of its row's, in fixed point.

    inputs      x int8[rows, depth], of any rank
    outputs     y int8 of that shape, scale 1/256 and zero point -128; may be x
    constants   table int32[n]: e^(-beta * scale * i) in Q0 for differences i that count
    attributes  rows, depth

For each row: i = largest x - x; sum = sum of table[i] in Q12; y = table[i] / sum in units of 1/256, rounded. What is
past the table counts as 0. TFLite's reference Softmax (gemmlowp's fixed point; fixed_point.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from firmware_tools.quantized import per_tensor

OPERATORS = ("SOFTMAX",)
IN_PLACE = ((0, 0),)
MOST_DEPTH = 4095  # a sum must fit Q12


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    out_scale, out_zero_point = per_tensor(subgraph, operator.outputs[0], "the output")
    if out_zero_point != -128 or abs(out_scale * 256 - 1) > 0.001:
        raise Unsupported("its output has another scale than 1/256, or another zero point than -128")
    return call_of("softmax", operator, subgraph)


def call_of(op: str, operator: Operator, subgraph: Subgraph) -> Call:
    """The call of an int8 input, whatever its results are."""
    scale, _ = per_tensor(subgraph, operator.inputs[0], "the input")
    shape = subgraph.tensors[operator.inputs[0]].shape
    if not shape or not 0 < shape[-1] <= MOST_DEPTH:
        raise Unsupported(f"its rows have {shape[-1] if shape else 0} elements; 1 to {MOST_DEPTH} are supported")
    beta: Any = operator.options["beta"]
    multiplier, shift, least = softmax_scaling(scale, float(beta))
    differences = -np.arange(min(256, 1 - least), dtype=np.int64)
    table = exp_of_negative(high_product(differences << shift, multiplier)).astype(np.int32)
    attributes = {"rows": int(np.prod(shape[:-1])), "depth": shape[-1]}
    return Call(op, operator.inputs, operator.outputs, {"table": table}, attributes)


def shares(call: Call, x: Array, bits: int) -> Array:
    """Each element's share of its row, int64 [rows, depth] in units of 2^-bits."""
    table = np.zeros(256, np.int64)
    table[: call.constants["table"].size] = call.constants["table"]
    x = x.reshape(call.attributes["rows"], -1).astype(np.int64)
    y = np.empty_like(x)
    for row, out in zip(x, y, strict=True):
        powers = table[row.max() - row]
        total = int(shifted_right(powers, SUM_BITS).sum())
        headroom = 32 - total.bit_length()
        scale = reciprocal((total << headroom) - (1 << 31))
        exponent = min(SUM_BITS - headroom + 31 - bits, 31)
        out[:] = shifted_right(high_product(scale, powers), exponent)
    return y


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    y = np.clip(shares(call, inputs[0], 8) - 128, -128, 127)
    return (y.astype(np.int8).reshape(inputs[0].shape),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_softmax_s8"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    sizes = f"{call.attributes['rows']}, {call.attributes['depth']}, {call.constants['table'].size}"
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['table']}, {sizes});"
