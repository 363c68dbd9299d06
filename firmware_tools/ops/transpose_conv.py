"""Transposed convolution, int8: each pixel of the image adds a filter's worth to the output.

    inputs      x int8[batches, height, width, channels]
    outputs     y int8[batches, out_height, out_width, out_channels]; not x
    constants   weights int8[out_channels, kernel_height, kernel_width, channels]; bias, multiplier, exponent
                int32[out_channels]
    attributes  sizes (SIZES), zero_points (input, output), range (least, most) of y

Output (i, j) is the sum over all taps (k, l) for which an input pixel lies at ((i + pad_top - k) / stride_height, …);
as in conv_2d.py from there on. TFLite's reference TransposeConv.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.quantized import (
    bias_of,
    check_scaling,
    largest_sum,
    number,
    optional,
    per_tensor,
    stored_range,
    weights_of,
)
from firmware_tools.requantize import quantize_multipliers, scale_twice_rounded
from firmware_tools.window import VALID

OPERATORS = ("TRANSPOSE_CONV",)
SIZES = (
    *("batches", "height", "width", "channels", "out_height", "out_width", "out_channels"),
    *("kernel_height", "kernel_width", "stride_height", "stride_width", "pad_top", "pad_left"),
)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    _, w, x = operator.inputs[:3]
    y = operator.outputs[0]
    scale, zero_point = per_tensor(subgraph, x, "the input")
    out_scale, out_zero_point = per_tensor(subgraph, y, "the output")
    weights, scales = weights_of(subgraph, w, "the filters", 0)
    image, out = subgraph.tensors[x].shape, subgraph.tensors[y].shape
    if len(image) != 4 or weights.shape[3] != image[3] or out[3] != weights.shape[0]:
        raise Unsupported(f"filters of shape {list(weights.shape)} do not fit an image of shape {list(image)}")
    bias = bias_of(subgraph, optional(operator.inputs, 3), out[3])
    multiplier, exponent = quantize_multipliers(np.broadcast_to(scale * scales / out_scale, (out[3],)))
    check_scaling(largest_sum(weights.reshape(out[3], -1), bias), exponent)
    strides = (number(operator.options, "stride_h"), number(operator.options, "stride_w"))
    pads = [0, 0]
    if operator.options["padding"] != VALID:
        for i in (0, 1):
            reach = (image[1 + i] - 1) * strides[i] + weights.shape[1 + i]
            pads[i] = max(0, reach - out[1 + i]) // 2
    attributes = {
        "sizes": (*image, *out[1:], *weights.shape[1:3], *strides, *pads),
        "zero_points": (zero_point, out_zero_point),
        "range": stored_range(operator.options, out_scale, out_zero_point),
    }
    constants = {"weights": weights, "bias": bias, "multiplier": multiplier, "exponent": exponent}
    return Call("transpose_conv", (x,), (y,), constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    s = dict(zip(SIZES, call.attributes["sizes"], strict=True))
    (zero_point, out_zero_point), weights = call.attributes["zero_points"], call.constants["weights"].astype(np.int64)
    x = inputs[0].astype(np.int64) - zero_point
    tall = (s["height"] - 1) * s["stride_height"] + s["kernel_height"] + s["out_height"]
    wide = (s["width"] - 1) * s["stride_width"] + s["kernel_width"] + s["out_width"]
    sums = np.zeros((s["batches"], tall, wide, s["out_channels"]), np.int64)  # with what lies outside the output
    for k in range(s["kernel_height"]):
        for j in range(s["kernel_width"]):
            rows = slice(k, k + s["height"] * s["stride_height"], s["stride_height"])
            columns = slice(j, j + s["width"] * s["stride_width"], s["stride_width"])
            sums[:, rows, columns] += x @ weights[:, k, j].T
    sums = sums[:, s["pad_top"] :, s["pad_left"] :][:, : s["out_height"], : s["out_width"]] + call.constants["bias"]
    scaled = scale_twice_rounded(sums, call.constants["multiplier"], call.constants["exponent"])
    return (np.clip(scaled + out_zero_point, *call.attributes["range"]).astype(np.int8),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_transpose_conv_s8"


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    constants = call.constants
    scaling = np.stack([constants["multiplier"], constants["exponent"]], axis=1)
    return {"weights": constants["weights"], "bias": constants["bias"], "scaling": scaling}


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a = call.attributes
    numbers = dict(zip(SIZES, a["sizes"], strict=True))
    numbers |= {"zero_point": a["zero_points"][0], "out_zero_point": a["zero_points"][1]}
    numbers |= {"least": a["range"][0], "most": a["range"][1]}
    shape = f"&(edge_transpose_conv){{{', '.join(f'.{key} = {value}' for key, value in numbers.items())}}}"
    return (
        f"{kernel(call, features)}({', '.join(c[k] for k in ('in0', 'out0', 'weights', 'bias', 'scaling'))}, {shape});"
    )
