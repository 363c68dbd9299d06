"""Choice of two tensors by a third, element by element, with broadcasting: y = condition ? a : b.

inputs      condition bool, a and b of one type, each may be a constant
outputs     y of the type of a and b
constants   condition, a, b, where the file stores them
attributes  itemsize: bytes of an element; loops: how each operand moves (floats.broadcast)

SELECT's condition may be a vector that chooses whole rows. int8 data must have the scale of the output.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.floats import as_stored, broadcast, broadcast_literal, of_dtype, result_shape, sorted_out, together
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.ops.compare import same_quantization

OPERATORS = ("SELECT", "SELECT_V2")
DTYPES = ("float32", "int32", "int16", "int8", "bool")


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    condition = of_dtype(subgraph, operator.inputs[0], "the condition", "bool")
    a, b = (of_dtype(subgraph, index, "an operand", *DTYPES) for index in operator.inputs[1:3])
    out = of_dtype(subgraph, operator.outputs[0], "the output", a.dtype)
    if a.dtype != b.dtype or not same_quantization(a, out) or not same_quantization(b, out):
        raise Unsupported(f"the operands are {a.dtype} and {b.dtype}, or have other scales than the output")
    inputs, constants = sorted_out(subgraph, {"condition": condition.index, "a": a.index, "b": b.index})
    shape = condition.shape
    if operator.op == "SELECT" and len(shape) == 1 and len(out.shape) > 1:
        shape += (1,) * (len(out.shape) - 1)
    loops = broadcast(result_shape(subgraph, operator), shape, a.shape, b.shape)
    attributes = {"itemsize": np.dtype(a.dtype).itemsize, "condition_shape": shape, "loops": loops}
    return Call("select", inputs, operator.outputs, constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    condition, a, b = together(("condition", "a", "b"), call.constants, inputs)
    return (np.where(condition.reshape(call.attributes["condition_shape"]), a, b).astype(a.dtype),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_select_{8 * call.attributes['itemsize']}"


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    return as_stored(call.constants)


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    computed = [c[f"in{i}"] for i in range(len(call.inputs))]
    operands = together(("condition", "a", "b"), {name: c[name] for name in call.constants}, computed)
    arguments = [*operands, c["out0"], broadcast_literal(call.attributes["loops"])]
    return f"{kernel(call, features)}({', '.join(arguments)});"
