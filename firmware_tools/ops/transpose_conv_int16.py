"""Transposed convolution of int16 images with int8 filters: each pixel of x adds a filter, scaled, to a window of y.

    inputs      x int16[batches, out_height, out_width, channels]
    outputs     y int16[batches, height, width, filters]; not x
    constants   weights int8[filters, kernel_height, kernel_width, channels]; bias int64[filters]; scaling
                int32[filters, 2] (requantize_int16.py)
    attributes  window (window.py) of the convolution that takes y's image to x's, batches, range (least, most) of y

All tensors are symmetric. Computed the other way round: a pixel of y is the sum over those of x whose windows it is in;
sums have 64 bits and are rounded once. TFLite's reference_integer_ops TransposeConv with int64 biases. The file's shape
tensor is not read: the output's shape must be in the file.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.ops.conv_2d_int16 import bias_int64, in_twos, scaling_of, symmetric
from firmware_tools.quantized import optional, stored_range, weights_of
from firmware_tools.requantize_int16 import scale_reduced, wide_bias
from firmware_tools.window import FIELDS, c_initializer, window

OPERATORS = ("TRANSPOSE_CONV",)
WEIGHTS, IMAGE, BIAS = 1, 2, 3  # places among the operator's inputs


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, y = operator.inputs[IMAGE], operator.outputs[0]
    scale, out_scale = symmetric(subgraph, x, "the input"), symmetric(subgraph, y, "the output")
    weights, scales = weights_of(subgraph, operator.inputs[WEIGHTS], "the filters", 0)
    image, out = subgraph.tensors[x].shape, subgraph.tensors[y].shape
    count, height, width, depth = weights.shape
    if len(image) != 4 or len(out) != 4 or (image[0], image[3], out[3]) != (out[0], depth, count):
        raise Unsupported(f"filters {list(weights.shape)} do not take {list(image)} to {list(out)}")
    constants = {
        "weights": weights,
        "bias": bias_int64(subgraph, optional(operator.inputs, BIAS), count),
        "scaling": scaling_of(scale * scales / out_scale, count),
    }
    attributes = {
        "window": window(out[1:3], (height, width), image[1:3], operator.options),
        "batches": image[0],
        "range": stored_range(operator.options, out_scale, 0, "int16"),
    }
    return Call("transpose_conv_int16", (x,), (y,), constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    weights, a = call.constants["weights"].astype(np.float64), call.attributes
    w = dict(zip(FIELDS, a["window"], strict=True))
    x = inputs[0].astype(np.float64)
    tall = (w["out_height"] - 1) * w["stride_height"] + w["kernel_height"]
    wide = (w["out_width"] - 1) * w["stride_width"] + w["kernel_width"]
    # what falls outside y is cut off afterwards
    whole = np.zeros(
        (len(x), max(tall, w["pad_top"] + w["height"]), max(wide, w["pad_left"] + w["width"]), len(weights))
    )
    for i in range(w["kernel_height"]):
        for j in range(w["kernel_width"]):
            rows = slice(i, i + (w["out_height"] - 1) * w["stride_height"] + 1, w["stride_height"])
            columns = slice(j, j + (w["out_width"] - 1) * w["stride_width"] + 1, w["stride_width"])
            whole[:, rows, columns] += x @ weights[:, i, j].T
    seen = whole[:, w["pad_top"] :, w["pad_left"] :][:, : w["height"], : w["width"]]
    total = seen.astype(np.int64) + call.constants["bias"]
    scaled = scale_reduced(total, call.constants["scaling"])
    return (np.clip(scaled, *a["range"]).astype(np.int16),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_transpose_conv_s16{'_dsp' if _is_fast(call, features) else ''}"


def _is_fast(call: Call, features: frozenset[str]) -> bool:
    count, _, _, depth = call.constants["weights"].shape
    return "dsp" in features and depth % 4 == 0 and count % 2 == 0


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    weights = call.constants["weights"]
    if _is_fast(call, features):
        weights = in_twos(weights.reshape(len(weights), -1))
    return {**call.constants, "weights": weights, "bias": wide_bias(call.constants["bias"])}


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a, weights = call.attributes, call.constants["weights"]
    numbers = {
        "batches": a["batches"],
        "in_channels": weights.shape[3],
        "out_channels": weights.shape[0],
        "least": a["range"][0],
        "most": a["range"][1],
    }
    fields = ", ".join(f".{name} = {number}" for name, number in numbers.items())
    shape = f"&(edge_transpose_conv_int16){{.window = {c_initializer(a['window'])}, {fields}}}"
    arguments = [c["in0"], c["out0"], c["weights"], c["bias"], c["scaling"], shape]
    return f"{kernel(call, features)}({', '.join(arguments)});"
