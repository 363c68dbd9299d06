"""Comparisons and logic of two tensors, element by element, with broadcasting: y = a < b and the like.

inputs      a, b float32, int32, int8 or bool, one of them may be a constant
outputs     y bool
constants   a or b, where the file stores it
attributes  function, dtype; loops: how each operand moves (floats.broadcast)

int8 tensors are compared as stored: both must have the same scale and zero point.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.floats import as_stored, broadcast, broadcast_literal, of_dtype, result_shape, sorted_out, together
from firmware_tools.graph import Operator, Subgraph, Tensor
from firmware_tools.ops import Array, Call, Run, Unsupported

FUNCTIONS = {
    "LESS": ("less", np.less),
    "LESS_EQUAL": ("less_equal", np.less_equal),
    "GREATER": ("greater", np.greater),
    "GREATER_EQUAL": ("greater_equal", np.greater_equal),
    "EQUAL": ("equal", np.equal),
    "NOT_EQUAL": ("not_equal", np.not_equal),
    "LOGICAL_AND": ("and", np.logical_and),
    "LOGICAL_OR": ("or", np.logical_or),
    "LOGICAL_NOT": ("equal", np.equal),  # to false
}
TWINS = dict(FUNCTIONS.values())
SUFFIXES = {"float32": "f32", "int32": "s32", "int8": "s8", "bool": "b8"}
OF_BOOL = ("EQUAL", "NOT_EQUAL", "LOGICAL_AND", "LOGICAL_OR")
OPERATORS = tuple(FUNCTIONS)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    if operator.op == "LOGICAL_NOT":
        x = of_dtype(subgraph, operator.inputs[0], "the operand", "bool")
        of_dtype(subgraph, operator.outputs[0], "the output", "bool")
        loops = broadcast(result_shape(subgraph, operator), x.shape, ())
        attributes = {"function": "equal", "dtype": "bool", "loops": loops}
        return Call("compare", operator.inputs[:1], operator.outputs, {"b": np.zeros((), np.bool_)}, attributes)
    dtypes: tuple[str, ...] = ("bool",) if operator.op.startswith("LOGICAL") else ("float32", "int32", "int8")
    dtypes += ("bool",) if operator.op in OF_BOOL[:2] else ()
    a, b = (of_dtype(subgraph, index, "an operand", *dtypes) for index in operator.inputs[:2])
    if a.dtype != b.dtype or not same_quantization(a, b):
        raise Unsupported(f"the operands are {a.dtype} and {b.dtype}, or have different scales")
    of_dtype(subgraph, operator.outputs[0], "the output", "bool")
    inputs, constants = sorted_out(subgraph, {"a": a.index, "b": b.index})
    loops = broadcast(result_shape(subgraph, operator), a.shape, b.shape)
    attributes = {"function": FUNCTIONS[operator.op][0], "dtype": a.dtype, "loops": loops}
    return Call("compare", inputs, operator.outputs, constants, attributes)


def same_quantization(a: Tensor, b: Tensor) -> bool:
    """Whether equal stored numbers mean equal numbers."""
    p, q = a.quantization, b.quantization
    if p is None or q is None:
        return p is q
    return np.array_equal(p.scale, q.scale) and np.array_equal(p.zero_point, q.zero_point)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    a, b = together("ab", call.constants, inputs)
    return (TWINS[call.attributes["function"]](*np.broadcast_arrays(a, b)),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_compare_{call.attributes['function']}_{SUFFIXES[call.attributes['dtype']]}"


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    return as_stored(call.constants)


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    computed = [c[f"in{i}"] for i in range(len(call.inputs))]
    a, b = together("ab", {name: c[name] for name in call.constants}, computed)
    return f"{kernel(call, features)}({a}, {b}, {c['out0']}, {broadcast_literal(call.attributes['loops'])});"
