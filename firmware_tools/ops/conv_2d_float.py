"""Convolutions in two dimensions, float32: each output is a filter's products with a window of the image, added up.

inputs      x float32[batches, height, width, channels]
outputs     y float32[batches, out_height, out_width, filters]; not x
constants   weights float32[filters, kernel_height, kernel_width, depth]; bias float32[filters], optional
attributes  window (window.py); batches, channels; limits of the activation

Filters that see `depth` of the channels form groups: all of DEPTHWISE_CONV_2D's see one. Products are added row by row
of the window, channels innermost; what lies outside the image is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from firmware_tools.floats import activation, bias_of, clamp, constant, initializer, of_dtype
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.window import c_initializer, taps, window

OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    of_dtype(subgraph, operator.inputs[0], "the input", "float32")
    weights = constant(subgraph, operator.inputs[1], "the filters", "float32")
    return convolution("conv_2d_float", operator, subgraph, weights, {})


def convolution(
    op: str, operator: Operator, subgraph: Subgraph, weights: Array, constants: Mapping[str, Array], **more: Any
) -> Call:
    """The call of an operator whose filters are `weights`, in its own order of axes."""
    x = subgraph.tensors[operator.inputs[0]].shape
    out = of_dtype(subgraph, operator.outputs[0], "the output", "float32").shape
    if weights.ndim != 4 or len(x) != 4 or len(out) != 4:
        raise Unsupported(f"the filters {list(weights.shape)} and the input {list(x)} do not have four axes")
    if operator.op == "DEPTHWISE_CONV_2D":
        weights = np.ascontiguousarray(weights.transpose(3, 1, 2, 0))
    count, height, width, depth = weights.shape
    if depth == 0 or x[3] % depth or count % (x[3] // depth) or out[3] != count or out[0] != x[0]:
        raise Unsupported(f"{count} filters of {depth} channels do not fit an image of {x[3]}")
    attributes = {
        "window": window(x[1:3], (height, width), out[1:3], operator.options),
        "batches": x[0],
        "channels": x[3],
        "limits": activation(operator),
        **more,
    }
    stored = {"weights": weights} | dict(constants) | bias_of(subgraph, operator.inputs, count)
    return Call(op, operator.inputs[:1], operator.outputs, stored, attributes)


def grouped(call: Call, x: Array) -> tuple[Array, Array]:
    """x [batches, height, width, groups, depth] and weights [groups, filters, height, width, depth]."""
    weights = call.constants["weights"]
    groups = call.attributes["channels"] // weights.shape[3]
    return x.reshape(*x.shape[:3], groups, -1), weights.reshape(groups, -1, *weights.shape[1:])


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    x, filters = grouped(call, inputs[0])
    total: Any = np.float32(0)
    with np.errstate(all="ignore"):
        for i, j, seen in taps(call.attributes["window"], x, 0):
            for c in range(filters.shape[4]):
                total = total + seen[..., c, None] * filters[:, :, i, j, c]
        total = total.reshape(*total.shape[:3], -1)
        total = total + call.constants["bias"] if "bias" in call.constants else total
    return (clamp(total, call.attributes["limits"]),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_conv_2d_f32"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    arguments = [c["in0"], c["out0"], c["weights"], c.get("bias", "NULL"), shape_literal(call)]
    return f"{kernel(call, features)}({', '.join(arguments)});"


def shape_literal(call: Call) -> str:
    """The C expression of an edge_float_conv."""
    a, weights = call.attributes, call.constants["weights"]
    numbers = initializer(
        {
            "batches": a["batches"],
            "channels": a["channels"],
            "filters": weights.shape[0],
            "depth": weights.shape[3],
            "least": float(a["limits"][0]),
            "most": float(a["limits"][1]),
        }
    )
    return f"&(const edge_float_conv){{.window = {c_initializer(a['window'])}, {numbers[1:]}"
