"""A function of one 8-bit number, as a table of its 256 values: activations, and QUANTIZE from 8 bits to 8 bits.

    inputs      x int8 or uint8, of any shape
    outputs     y int8 or uint8 of that shape; may be x
    constants   table int8[256]: y for the bytes 0 … 255 of x (uint8 results as the bytes they are)
    attributes  shape, dtype (of y)

How the values come about is LiteRT's: RELU and its kin, LEAKY_RELU and QUANTIZE scale by integers and round twice,
HARD_SWISH computes in 16 bits, LOGISTIC and TANH round the float function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from firmware_tools.fixed_point import shifted_right
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.quantized import per_tensor
from firmware_tools.requantize import half_away, quantize_multiplier, scale_twice_rounded

IN_PLACE = ((0, 0),)
RELUS = {"RELU": (0.0, math.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, y = operator.inputs[0], operator.outputs[0]
    types = ("int8", "uint8") if operator.op == "QUANTIZE" else ("int8",)
    scale, zero_point = per_tensor(subgraph, x, "the input", *types)
    out_scale, out_zero_point = per_tensor(subgraph, y, "the output", *types)
    dtype, out_dtype = (subgraph.tensors[i].dtype for i in (x, y))
    stored = np.arange(256).astype(np.uint8).view(dtype).astype(np.int64)
    values = FUNCTIONS[operator.op](stored - zero_point, np.float32(scale), np.float32(out_scale), operator)
    limits = np.iinfo(out_dtype)
    table = np.clip(np.asarray(values).astype(np.int64) + out_zero_point, limits.min, limits.max).astype(out_dtype)
    attributes = {"shape": subgraph.tensors[y].shape, "dtype": out_dtype}
    return Call("table_int8", (x,), (y,), {"table": table.view(np.int8)}, attributes)


def _relu(x: Array, scale: np.float32, out_scale: np.float32, operator: Operator) -> Array:
    low, high = RELUS[operator.op]
    y = scale_twice_rounded(x, *quantize_multiplier(float(scale / out_scale)))
    return np.clip(y, half_away(np.float32(low) / out_scale), half_away(np.float32(high) / out_scale))


def _leaky_relu(x: Array, scale: np.float32, out_scale: np.float32, operator: Operator) -> Array:
    alpha: Any = operator.options["alpha"]
    factor = float(scale * np.float32(alpha) / out_scale)
    below = scale_twice_rounded(x, *quantize_multiplier(abs(factor)))
    above = scale_twice_rounded(x, *quantize_multiplier(float(scale / out_scale)))
    return np.where(x >= 0, above, below if factor >= 0 else -below)


def _quantize(x: Array, scale: np.float32, out_scale: np.float32, operator: Operator) -> Array:
    return scale_twice_rounded(x, *quantize_multiplier(float(scale) / float(out_scale)))


def _hard_swish(x: Array, scale: np.float32, out_scale: np.float32, operator: Operator) -> Array:
    """In 16 bits: x on the output's scale, times a relu of x + 3 between 0 and 1."""
    fine = np.float32(1 / 128) * scale
    multiplier, exponent = _int16_multiplier(fine / out_scale)
    relu_multiplier, relu_exponent = _int16_multiplier(fine / np.float32(3 / 32768))
    if exponent > 0:
        raise Unsupported("its output's scale is too small beside its input's")
    wide = x * 128
    relu = _int16(wide << max(relu_exponent - 1, 0))
    relu = (relu * relu_multiplier + (1 << 14)) >> 15
    relu = _int16(relu << 1) if relu_exponent > 0 else shifted_right(relu, -relu_exponent)
    product = ((relu + (1 << 15)) >> 1) * ((wide * multiplier + (1 << 14)) >> 15)
    return shifted_right(np.sign(product) * (np.abs(product) >> 15), -exponent)


def _int16_multiplier(factor: Any) -> tuple[int, int]:
    multiplier, exponent = quantize_multiplier(float(factor))
    return min((multiplier + (1 << 15)) >> 16, (1 << 15) - 1), exponent


def _int16(x: Array) -> Array:
    return np.clip(x, -(1 << 15), (1 << 15) - 1)


def _of_floats(function: Callable[[Array], Array]) -> Callable[[Array, np.float32, np.float32, Operator], Array]:
    """What a float function of the real number gives, rounded."""

    def values(x: Array, scale: np.float32, out_scale: np.float32, operator: Operator) -> Array:
        real = function(scale * x.astype(np.float32)).astype(np.float32)
        rounded: Array = np.clip(half_away(real * (np.float32(1) / out_scale)), -(1 << 20), 1 << 20)
        return rounded

    return values


def _exp(x: Array) -> Array:
    powers: Array = np.exp(np.minimum(x.astype(np.float64), 88.8)).astype(np.float32)
    return powers


FUNCTIONS: Mapping[str, Callable[[Array, np.float32, np.float32, Operator], Array]] = {
    **dict.fromkeys(RELUS, _relu),
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": _of_floats(lambda x: np.float32(1) / (np.float32(1) + _exp(-x))),
    "QUANTIZE": _quantize,
    "TANH": _of_floats(lambda x: np.tanh(x.astype(np.float64))),
}
OPERATORS = tuple(FUNCTIONS)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    y = call.constants["table"][np.ascontiguousarray(inputs[0]).view(np.uint8)]
    return (y.view(call.attributes["dtype"]).reshape(call.attributes["shape"]),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_table_int8"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['table']}, {math.prod(call.attributes['shape'])});"
