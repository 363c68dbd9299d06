"""Arithmetic of two tensors of float32 or of int32, element by element, with broadcasting: y = f(a, b).

inputs      a, b float32 or int32, one of them may be a constant
outputs     y of that type, its shape what both broadcast to; may be the first input where that has as many elements
constants   a or b, where the file stores it
attributes  function, dtype; loops: how each operand moves (floats.broadcast); limits of a fused activation

Float32 results are those of one IEEE operation, but for POW (elementary.power). int32 wraps around, as TFLite's does on
every machine that it runs on; MUL, ADD and SUB of it take no fused activation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from firmware_tools import elementary
from firmware_tools.floats import (
    activation,
    broadcast,
    broadcast_literal,
    clamp,
    literals,
    of_dtype,
    result_shape,
    sorted_out,
    together,
)
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported

IN_PLACE = ((0, 0),)  # (output, input) that may share memory

Function = Callable[[Array, Array], Array]
FUNCTIONS: Mapping[str, tuple[str, Function]] = {
    "ADD": ("add", np.add),
    "SUB": ("sub", np.subtract),
    "MUL": ("mul", np.multiply),
    "MAXIMUM": ("maximum", lambda a, b: np.where(a > b, a, b)),
    "MINIMUM": ("minimum", lambda a, b: np.where(a < b, a, b)),
    "DIV": ("div", np.divide),
    "SQUARED_DIFFERENCE": ("squared_difference", lambda a, b: (a - b) * (a - b)),
    "POW": ("pow", elementary.power),
    "PRELU": ("prelu", lambda a, b: np.where(a >= 0, a, a * b)),
    "FLOOR_DIV": ("floor_div", lambda a, b: np.floor(a / b)),
}
TWINS = dict(FUNCTIONS.values())
OF_INTEGERS = ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")
OPERATORS = tuple(FUNCTIONS)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    dtypes = ("float32", "int32") if operator.op in OF_INTEGERS else ("float32",)
    a, b = (of_dtype(subgraph, index, "an operand", *dtypes) for index in operator.inputs[:2])
    if a.dtype != b.dtype or a.quantization is not None and a.dtype == "int32":
        raise Unsupported(f"the operands are {a.dtype} and {b.dtype}, or int32 with a scale")
    of_dtype(subgraph, operator.outputs[0], "the output", a.dtype)
    limits = activation(operator)
    if a.dtype == "int32" and operator.options.get("fused_activation_function", "NONE") != "NONE":
        raise Unsupported("int32 takes no fused activation", "make it an operator of its own")
    inputs, constants = sorted_out(subgraph, {"a": a.index, "b": b.index})
    loops = broadcast(result_shape(subgraph, operator), a.shape, b.shape)
    attributes = {"function": FUNCTIONS[operator.op][0], "dtype": a.dtype, "loops": loops, "limits": limits}
    return Call("binary", inputs, operator.outputs, constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    a, b = together("ab", call.constants, inputs)
    with np.errstate(all="ignore"):
        y = TWINS[call.attributes["function"]](*np.broadcast_arrays(a, b))
    return (y if call.attributes["dtype"] == "int32" else clamp(y, call.attributes["limits"]),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_binary_{call.attributes['function']}_{'s32' if call.attributes['dtype'] == 'int32' else 'f32'}"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    computed = [c[f"in{i}"] for i in range(len(call.inputs))]
    a, b = together("ab", {name: c[name] for name in call.constants}, computed)
    arguments = [a, b, c["out0"], broadcast_literal(call.attributes["loops"])]
    if call.attributes["dtype"] == "float32":
        arguments.append(literals(*call.attributes["limits"]))
    return f"{kernel(call, features)}({', '.join(arguments)});"
