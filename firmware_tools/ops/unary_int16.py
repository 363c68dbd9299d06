"""RELU and its kin and LEAKY_RELU of int16 numbers.

    inputs      x int16, of any shape, symmetric
    outputs     y int16 of that shape, symmetric; may be x
    attributes  count; slopes: (multiplier, exponent, sign) of numbers from 0 on and of those below; range (least,
                most) of y

Numbers are scaled as requantize.py tells, rounded twice. TFLite's reference QuantizeLeakyRelu and ReluX.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.ops.conv_2d_int16 import symmetric
from firmware_tools.requantize import half_away, quantize_multiplier, scale_twice_rounded

IN_PLACE = ((0, 0),)
RELUS = {"RELU": (0.0, math.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}
OPERATORS = (*RELUS, "LEAKY_RELU")


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, y = operator.inputs[0], operator.outputs[0]
    scale, out_scale = symmetric(subgraph, x, "the input"), symmetric(subgraph, y, "the output")
    attributes = {"count": math.prod(subgraph.tensors[y].shape)}
    above = below = float(np.float32(scale) / np.float32(out_scale))
    limits = (-32768, 32767)
    if operator.op == "LEAKY_RELU":
        alpha: object = operator.options["alpha"]
        below = float(np.float32(scale) * np.float32(float(str(alpha))) / np.float32(out_scale))
    else:
        ends = [half_away(np.float32(end) / np.float32(out_scale)) for end in RELUS[operator.op]]
        limits = (max(limits[0], int(ends[0])), int(min(limits[1], ends[1])))
    slopes = tuple((*quantize_multiplier(abs(f)), -1 if f < 0 else 1) for f in (above, below))
    if max(exponent for _, exponent, _ in slopes) > 15:
        raise Unsupported("its output's scale is too small beside that of its input")
    return Call("unary_int16", (x,), (y,), {}, {**attributes, "slopes": slopes, "range": limits})


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    a, x = call.attributes, inputs[0].astype(np.int64)
    (m, e, sign), (m_below, e_below, sign_below) = a["slopes"]
    above, below = sign * scale_twice_rounded(x, m, e), sign_below * scale_twice_rounded(x, m_below, e_below)
    return (np.clip(np.where(x < 0, below, above), *a["range"]).astype(np.int16),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_slopes_int16"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a = call.attributes
    slopes = ", ".join("{" + ", ".join(map(str, slope)) + "}" for slope in a["slopes"])
    rest = [str(a["count"]), f"(const edge_slope[]){{{slopes}}}", *map(str, a["range"])]
    return f"{kernel(call, features)}({', '.join([c['in0'], c['out0'], *rest])});"
