"""Fully connected, int8 or int4 weights, float32 activations: rows of x are quantized as they come; y = W x (+ bias).

inputs      x float32[…, k]
outputs     y float32[…, n]; not x
constants   weights int8 [n, k]; scales float32 [n], or block_scales float16 [n, k / block] of int4; bias float32 [n],
            optional
attributes  n, k; rows of x; limits of the activation; op: whose kernel it is, "" for one of its own; asymmetric: x
            has a zero point (hybrid.py)

The usual, symmetric kind is `fully_connected`'s or `fully_connected_int4`'s: their layouts, kernels and arithmetic. It
differs from TFLite's where a product with the inverse scale lies half-way between two integers (to even here), by one
step of x. The asymmetric kind, and weights of -128, compute TFLite's integers, one product after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from firmware_tools import hybrid, ops
from firmware_tools.floats import activation, bias_of, clamp, constant, of_dtype, result_shape, scales_of
from firmware_tools.graph import Operator, Subgraph, Tensor
from firmware_tools.ops import Array, Call, Run, Unsupported, fully_connected_int4
from firmware_tools.ops.fully_connected_float import check_shapes, clamping

OPERATORS = ("FULLY_CONNECTED",)
USES = ("fully_connected", "fully_connected_int4", "fully_connected_float")


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x = of_dtype(subgraph, operator.inputs[0], "the input", "float32")
    weights = constant(subgraph, operator.inputs[1], "the weights", "int8", "int4")
    check_shapes(operator, subgraph)
    n, k = weights.shape
    is_asymmetric = bool(operator.options.get("asymmetric_quantize_inputs"))
    op = "fully_connected" if subgraph.tensors[operator.inputs[1]].dtype == "int8" else "fully_connected_int4"
    if k > ops.load(op).MOST_COLUMNS:
        raise Unsupported(f"the weights have {k} columns, more than {ops.load(op).MOST_COLUMNS}")
    scales = _scales(subgraph, subgraph.tensors[operator.inputs[1]])
    constants = {"weights": weights} | scales | bias_of(subgraph, operator.inputs, n)
    attributes = {
        "n": n,
        "k": k,
        "rows": math.prod(x.shape) // k,
        "shape": result_shape(subgraph, operator),
        "limits": activation(operator),
        "asymmetric": is_asymmetric,
        "op": "" if (is_asymmetric or int(weights.min()) < -127) and "scales" in scales else op,
    }
    return Call("fully_connected_hybrid", (x.index,), operator.outputs, constants, attributes)


def _scales(subgraph: Subgraph, weights: Tensor) -> dict[str, Array]:
    """scales of rows, or block_scales of int4 weights in blocks."""
    form, (rows, columns) = weights.quantization, weights.shape
    if weights.dtype == "int8" or form is None or not form.details:
        return {"scales": scales_of(weights, "the weights", 0, rows)}
    block, index = (int(str(form.details.get(name) or 0)) for name in ("block_size", "scales"))
    if block < 32 or block % 32 or columns % block or block > fully_connected_int4.CHUNK:
        raise Unsupported(f"the weights are {weights.dtype} in blocks of {block}, not of 32, 64, 128, 256 or 512")
    halves = constant(subgraph, index, "the blocks' scales", "float16")
    if halves.shape != (rows, columns // block) or form.details.get("zero_points") not in (-1, 0):
        raise Unsupported(f"the blocks' scales are {list(halves.shape)}, or they have zero points")
    return {"block_scales": halves}


def _rows(call: Call) -> Call:
    """The same as the op whose kernel it is knows it, of one row."""
    return replace(call, op=call.attributes["op"], attributes={})


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    rows, op = inputs[0].reshape(-1, call.attributes["k"]), call.attributes["op"]
    if op:
        y = np.array([ops.load(op).reference(_rows(call), (row,), run)[0] for row in rows])
    else:
        y = np.array([_own(call, row) for row in rows])
    return (clamp(y, call.attributes["limits"]).reshape(call.attributes["shape"]),)


def _own(call: Call, row: Array) -> Any:
    values, scale, zero_point = hybrid.quantize(row, call.attributes["asymmetric"])
    dots = (call.constants["weights"].astype(np.int32) @ (values - zero_point)).astype(np.float32)
    y = dots * (scale * call.constants["scales"])
    return y + call.constants["bias"] if "bias" in call.constants else y


def kernel(call: Call, features: frozenset[str]) -> str:
    op = call.attributes["op"]
    return str(ops.load(op).kernel(_rows(call), features)) if op else "edge_fully_connected_hybrid"


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    return ops.layout(_rows(call), features) if call.attributes["op"] else dict(call.constants)


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a = call.attributes
    if not a["op"]:
        sizes = f"{a['n']}, {a['k']}, {a['rows']}, {int(a['asymmetric'])}"
        arguments = [c["in0"], c["out0"], c["weights"], c["scales"], c.get("bias", "NULL"), sizes, c["workspace"]]
        return f"{kernel(call, features)}({', '.join(arguments)});{clamping(call, c)}"
    lengths = {"count": str(a["rows"]), "in0_count": str(a["k"]), "out0_count": str(a["n"])}
    return f"{ops.load(a['op']).statement(_rows(call), features, {**c, **lengths})}{clamping(call, c)}"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    a = call.attributes
    return ops.workspace_bytes(_rows(call), features, a["rows"]) if a["op"] else int(a["k"])
