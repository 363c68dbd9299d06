"""Pooling in two dimensions, int8 or int16: the mean or the largest of each window, channel by channel.

    inputs      x int8 or int16[batches, height, width, channels]
    outputs     y of that type [batches, out_height, out_width, channels], same scale and zero point; not x
    attributes  window (window.py), batches, channels, dtype, average (0: the largest), range (least, most) of y

Only what lies inside the image counts. A mean is sum / count, halves away from zero, of the stored numbers. TFLite's
reference AveragePool and MaxPool for integers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.quantized import number, per_tensor, stored_range
from firmware_tools.window import FIELDS, c_initializer, taps, window

OPERATORS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")
SUFFIXES = {"int8": "s8", "int16": "s16"}
MOST_TAPS = 256  # of a window whose sums fit 16 bits


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, y = operator.inputs[0], operator.outputs[0]
    dtype, shapes = subgraph.tensors[x].dtype, (subgraph.tensors[x].shape, subgraph.tensors[y].shape)
    quantization = per_tensor(subgraph, x, "the input", *SUFFIXES)
    if quantization != per_tensor(subgraph, y, "the output", dtype):
        raise Unsupported("its input and output have different scales or zero points")
    options = operator.options
    kernel_size = (number(options, "filter_height"), number(options, "filter_width"))
    attributes = {
        "window": window(shapes[0][1:3], kernel_size, shapes[1][1:3], options),
        "batches": shapes[0][0],
        "channels": shapes[0][3],
        "dtype": dtype,
        "average": int(operator.op == "AVERAGE_POOL_2D"),
        "range": stored_range(options, *quantization, dtype),
    }
    return Call("pool_2d", (x,), (y,), {}, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    x, a = inputs[0].astype(np.int64), call.attributes
    if a["average"]:
        total = np.asarray(sum(seen for _, _, seen in taps(a["window"], x, 0)))
        count = np.asarray(sum(seen for _, _, seen in taps(a["window"], np.ones_like(x), 0)))
        y = np.sign(total) * ((np.abs(total) + count // 2) // count)
    else:
        y = np.max([seen for _, _, seen in taps(a["window"], x, -(1 << 15))], axis=0)
    return (np.clip(y, *a["range"]).astype(a["dtype"]),)


def kernel(call: Call, features: frozenset[str]) -> str:
    w = dict(zip(FIELDS, call.attributes["window"], strict=True))
    name = f"edge_{'average' if call.attributes['average'] else 'max'}_pool_2d_{SUFFIXES[call.attributes['dtype']]}"
    small = w["kernel_height"] * w["kernel_width"] <= MOST_TAPS and call.attributes["channels"] % 4 == 0
    return f"{name}_dsp" if "dsp" in features and name.endswith("average_pool_2d_s8") and small else name


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a = call.attributes
    numbers = {"batches": a["batches"], "channels": a["channels"], "least": a["range"][0], "most": a["range"][1]}
    fields = ", ".join(f".{name} = {number}" for name, number in numbers.items())
    shape = f"&(edge_pool_2d){{.window = {c_initializer(a['window'])}, {fields}}}"
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {shape});"
