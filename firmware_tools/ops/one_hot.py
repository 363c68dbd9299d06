"""One hot: along a new axis, `on` where its index is the given one and `off` elsewhere.

inputs      indices int32
outputs     y float32, int32, int8 or bool
constants   values [2] of the output's type: off, on
attributes  outer, depth, inner: the axes before, the new one and those after it; itemsize
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools.floats import as_stored, constant, of_dtype, result_shape
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported

OPERATORS = ("ONE_HOT",)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    indices = of_dtype(subgraph, operator.inputs[0], "the indices", "int32")
    depth = int(constant(subgraph, operator.inputs[1], "the depth", "int32").reshape(-1)[0])
    dtype = of_dtype(subgraph, operator.outputs[0], "the output", "float32", "int32", "int8", "bool").dtype
    on, off = (constant(subgraph, i, "the value", dtype).reshape(-1)[0] for i in operator.inputs[2:4])
    axis = int(str(operator.options.get("axis", -1)))
    axis = len(indices.shape) if axis == -1 else axis
    shape = result_shape(subgraph, operator)
    if not 0 <= axis <= len(indices.shape) or shape != (*indices.shape[:axis], depth, *indices.shape[axis:]):
        raise Unsupported(f"axis {axis} of depth {depth} does not make {list(shape)}")
    attributes = {
        "outer": math.prod(indices.shape[:axis]),
        "depth": depth,
        "inner": math.prod(indices.shape[axis:]),
        "axis": axis,
        "itemsize": np.dtype(dtype).itemsize,
    }
    return Call("one_hot", (indices.index,), operator.outputs, {"values": np.array([off, on], dtype)}, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    hot = np.expand_dims(inputs[0], call.attributes["axis"])
    shape = [1] * hot.ndim
    shape[call.attributes["axis"]] = call.attributes["depth"]
    off, on = call.constants["values"]
    return (np.where(hot == np.arange(call.attributes["depth"]).reshape(shape), on, off),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_one_hot"


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    return as_stored(call.constants)


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    sizes = ", ".join(str(call.attributes[name]) for name in ("itemsize", "outer", "depth", "inner"))
    return f"edge_one_hot({c['in0']}, {c['out0']}, {c['values']}, {sizes});"
