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

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.ops.softmax import call_of, shares
from firmware_tools.quantized import per_tensor

OPERATORS = ("SOFTMAX",)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    out_scale, out_zero_point = per_tensor(subgraph, operator.outputs[0], "the output", "int16")
    if out_zero_point != -32768 or abs(out_scale * 65536 - 1) > 0.001:
        raise Unsupported("its output has another scale than 2^-16, or another zero point than -32768")
    return call_of("softmax_int16", operator, subgraph)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    y = np.clip(shares(call, inputs[0], 16) - 32768, -32768, 32767)
    return (y.astype(np.int16).reshape(inputs[0].shape),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_softmax_s8_s16"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    sizes = f"{call.attributes['rows']}, {call.attributes['depth']}, {call.constants['table'].size}"
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['table']}, {sizes});"
