"""Fully connected, float32: y = W x (+ bias) for each row of x, then the fused activation.

inputs      x float32[…, k]; weights float32[n, k] where the graph computes them
outputs     y float32[…, n]; not x
constants   weights float32[n, k], where the file stores them; bias float32[n], optional
attributes  n, k; rows of x; limits of the activation

Products are added first to last, by `fully_connected`'s kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools.floats import (
    activation,
    bias_of,
    clamp,
    literals,
    of_dtype,
    result_shape,
    sorted_out,
    together,
)
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported

OPERATORS = ("FULLY_CONNECTED",)
USES = ("fully_connected",)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x = of_dtype(subgraph, operator.inputs[0], "the input", "float32")
    weights = of_dtype(subgraph, operator.inputs[1], "the weights", "float32")
    check_shapes(operator, subgraph)
    n, k = weights.shape
    inputs, constants = sorted_out(subgraph, {"x": x.index, "weights": weights.index})
    constants |= bias_of(subgraph, operator.inputs, n)
    attributes = {
        "n": n,
        "k": k,
        "rows": math.prod(x.shape) // k,
        "shape": result_shape(subgraph, operator),
        "limits": activation(operator),
    }
    return Call("fully_connected_float", inputs, operator.outputs, constants, attributes)


def check_shapes(operator: Operator, subgraph: Subgraph) -> None:
    """Weights are a plain matrix whose columns divide the input."""
    shapes = [subgraph.tensors[index].shape for index in operator.inputs[:2]]
    if operator.options.get("weights_format", 0) != 0:
        raise Unsupported("the weights are shuffled", "convert the model without shuffled weights")
    if len(shapes[1]) != 2 or 0 in shapes[1] or math.prod(shapes[0]) % shapes[1][1]:
        raise Unsupported(f"weights {list(shapes[1])} do not fit an input {list(shapes[0])}")
    out = of_dtype(subgraph, operator.outputs[0], "the output", "float32").shape
    if math.prod(out) != math.prod(shapes[0]) // shapes[1][1] * shapes[1][0]:
        raise Unsupported(f"weights {list(shapes[1])} do not make an output {list(out)}")


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    x, weights = together(("x", "weights"), call.constants, inputs)
    x, total = x.reshape(-1, call.attributes["k"]), np.zeros(1, np.float32)
    with np.errstate(all="ignore"):
        for k in range(call.attributes["k"]):
            total = total + x[:, k, None] * weights[:, k]
        total = total + call.constants["bias"] if "bias" in call.constants else total
    return (clamp(total, call.attributes["limits"]).reshape(call.attributes["shape"]),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_fully_connected_f32"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a = call.attributes
    computed = [c[f"in{i}"] for i in range(len(call.inputs))]
    x, weights = together(("x", "weights"), {name: c[name] for name in call.constants}, computed)
    arguments = [x, c["out0"], weights, c.get("bias", "NULL"), str(a["n"]), str(a["k"]), str(a["rows"])]
    return f"{kernel(call, features)}({', '.join(arguments)});{clamping(call, c)}"


def clamping(call: Call, c: Mapping[str, str]) -> str:
    """The statement of the activation, where there is one."""
    if math.isinf(call.attributes["limits"][0]):
        return ""
    return f" edge_clamp_f32({c['out0']}, {c['out0_count']}, {literals(*call.attributes['limits'])});"
