"""Where the largest or the smallest element of an axis is; the first of equal ones.

inputs      x float32, int32, int16 or int8
outputs     y int32, without the axis
attributes  dtype, function; outer, size, inner: the axes before, the axis and those after it
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools.floats import constant, of_dtype, of_shape, result_shape
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported

OPERATORS = ("ARG_MAX", "ARG_MIN")
SUFFIXES = {"float32": "f32", "int32": "s32", "int16": "s16", "int8": "s8"}


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x = of_dtype(subgraph, operator.inputs[0], "the input", *SUFFIXES)
    axis = int(constant(subgraph, operator.inputs[1], "the axis", "int32").reshape(-1)[0])
    if subgraph.tensors[operator.outputs[0]].dtype != "int32":
        dtype = subgraph.tensors[operator.outputs[0]].dtype
        raise Unsupported(f"the output is {dtype}, not int32", "tf.argmax(…, output_type=tf.int32) makes int32")
    if not -len(x.shape) <= axis < len(x.shape) or x.shape[axis] == 0:
        raise Unsupported(f"axis {axis} is not one of {list(x.shape)}")
    axis %= len(x.shape)
    of_shape(subgraph, operator, (*x.shape[:axis], *x.shape[axis + 1 :]))
    attributes = {
        "dtype": x.dtype,
        "function": operator.op.lower(),
        "shape": result_shape(subgraph, operator),
        "outer": math.prod(x.shape[:axis]),
        "size": x.shape[axis],
        "inner": math.prod(x.shape[axis + 1 :]),
    }
    return Call("arg_max", operator.inputs[:1], operator.outputs, {}, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    x = inputs[0].reshape(call.attributes["outer"], call.attributes["size"], -1)
    y = (np.argmax if call.attributes["function"] == "arg_max" else np.argmin)(x, axis=1)
    return (y.astype(np.int32).reshape(call.attributes["shape"]),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_{call.attributes['function']}_{SUFFIXES[call.attributes['dtype']]}"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    sizes = ", ".join(str(call.attributes[name]) for name in ("outer", "size", "inner"))
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {sizes});"
