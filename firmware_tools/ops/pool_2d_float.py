"""Pooling in two dimensions, float32: the mean or the largest of each window of the image, channel by channel.

inputs      x float32[batches, height, width, channels]
outputs     y float32[batches, out_height, out_width, channels]; not x
attributes  window (window.py); batches, channels; function; limits of the activation

A mean is of those elements of the window that lie in the image, added row by row and divided by their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from firmware_tools.floats import activation, clamp, literals, of_dtype
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.window import c_initializer, taps, window

NOTHING: Any = -np.inf  # the largest of nothing
OPERATORS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x = of_dtype(subgraph, operator.inputs[0], "the input", "float32").shape
    out = of_dtype(subgraph, operator.outputs[0], "the output", "float32").shape
    kernel_size = (int(str(operator.options["filter_height"])), int(str(operator.options["filter_width"])))
    if len(x) != 4 or len(out) != 4 or (out[0], out[3]) != (x[0], x[3]) or min(kernel_size) < 1:
        raise Unsupported(f"the input {list(x)} does not pool to {list(out)}")
    attributes = {
        "window": window(x[1:3], kernel_size, out[1:3], operator.options),
        "batches": x[0],
        "channels": x[3],
        "function": "average" if operator.op == "AVERAGE_POOL_2D" else "max",
        "limits": activation(operator),
    }
    return Call("pool_2d_float", operator.inputs, operator.outputs, {}, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    window_of, x = call.attributes["window"], inputs[0]
    y: Any
    with np.errstate(all="ignore"):
        if call.attributes["function"] == "max":
            y = np.max([seen for _, _, seen in taps(window_of, x, NOTHING)], axis=0)
        else:
            total, count = np.zeros(1, np.float32), np.zeros(1, np.float32)
            ones = np.ones(x.shape[:3] + (1,), np.float32)
            for (_, _, seen), (_, _, inside) in zip(taps(window_of, x, 0), taps(window_of, ones, 0), strict=True):
                total, count = total + seen, count + inside
            y = total / count
    return (clamp(y, call.attributes["limits"]),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_{call.attributes['function']}_pool_2d_f32"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a = call.attributes
    where = f"&(const edge_window){c_initializer(a['window'])}"
    sizes = f"{a['batches']}, {a['channels']}, {literals(*a['limits'])}"
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {where}, {sizes});"
