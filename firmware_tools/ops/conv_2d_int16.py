"""Convolutions of int16 images with int8 filters: CONV_2D and DEPTHWISE_CONV_2D.

    inputs      x int16[batches, height, width, channels]
    outputs     y int16[batches, out_height, out_width, filters]; not x
    constants   weights int8[filters, kernel_height, kernel_width, channels / groups]; bias int64[filters];
                scaling int32[filters, 2] (requantize_int16.py)
    attributes  window (window.py), batches, channels, range (least, most) of y

All tensors are symmetric. y = clamp((bias + sum of weights * x) * factor), sums of 64 bits, rounded once with a factor
of 15 bits. Group g's filters see group g's channels alone; a depthwise convolution has as many groups as channels.
TFLite's reference 16x8 kernels (ConvPerChannel and DepthwiseConvPerChannel with int64 biases).

On a core with SMLALD two filters at a time take four channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.quantized import of_dtype, optional, per_tensor, stored_range, weights_of
from firmware_tools.requantize_int16 import reduced_multipliers, scale_reduced, wide_bias
from firmware_tools.window import FIELDS, c_initializer, taps, window

OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D")
MOST_SHIFT = 62


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, w, y = (*operator.inputs[:2], operator.outputs[0])
    scale = symmetric(subgraph, x, "the input")
    out_scale = symmetric(subgraph, y, "the output")
    axis = 3 if operator.op == "DEPTHWISE_CONV_2D" else 0
    weights, scales = weights_of(subgraph, w, "the filters", axis)
    image, out, options = subgraph.tensors[x].shape, subgraph.tensors[y].shape, operator.options
    if operator.op == "DEPTHWISE_CONV_2D":
        weights = np.ascontiguousarray(weights.transpose(3, 1, 2, 0))
    count, height, width, depth = weights.shape
    if depth == 0 or image[3] % depth or count % (image[3] // depth):
        raise Unsupported(f"{count} filters of {depth} channels do not divide an image of {image[3]}")
    constants = {
        "weights": weights,
        "bias": bias_int64(subgraph, optional(operator.inputs, 2), count),
        "scaling": scaling_of(scale * scales / out_scale, count),
    }
    attributes = {
        "window": window(image[1:3], (height, width), out[1:3], options),
        "batches": image[0],
        "channels": image[3],
        "range": stored_range(options, out_scale, 0, "int16"),
    }
    return Call("conv_2d_int16", (x,), (y,), constants, attributes)


def symmetric(subgraph: Subgraph, index: int, what: str) -> float:
    """The scale of an int16 tensor, whose zero point must be 0."""
    scale, zero_point = per_tensor(subgraph, index, what, "int16")
    if zero_point:
        raise Unsupported(f"{what} is int16 with the zero point {zero_point}, not 0")
    return scale


def bias_int64(subgraph: Subgraph, index: int, count: int) -> Array:
    """A stored bias of 64 bits, zeros where there is none (index -1)."""
    if index < 0:
        return np.zeros(count, np.int64)
    tensor = of_dtype(subgraph, index, "the bias", "int64")
    if tensor.data is None or tensor.data.size != count:
        raise Unsupported("the bias is computed by the graph, or of another size")
    bias: Array = tensor.data.reshape(-1).astype(np.int64)
    if bool((np.abs(bias) >= 1 << 46).any()):
        raise Unsupported("its bias is too far from what 16-bit layers have")
    return bias


def scaling_of(factors: Array, count: int) -> Array:
    """(multiplier, right shift) of each filter."""
    scaling = np.ascontiguousarray(np.broadcast_to(reduced_multipliers(np.asarray(factors, np.float64)), (count, 2)))
    if scaling[:, 1].min(initial=1) < 1 or scaling[:, 1].max(initial=1) > MOST_SHIFT:
        raise Unsupported("its scales are too far from what 16-bit layers have")
    return scaling


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    weights, a = call.constants["weights"], call.attributes
    w = dict(zip(FIELDS, a["window"], strict=True))
    groups = a["channels"] // weights.shape[3]
    filters = weights.reshape(groups, -1, *weights.shape[1:]).astype(np.float64)
    x = inputs[0].reshape(a["batches"], w["height"], w["width"], groups, -1).astype(np.float64)
    sums = sum(np.einsum("bhwgc,gnc->bhwgn", seen, filters[:, :, i, j]) for i, j, seen in taps(a["window"], x, 0))
    total = np.asarray(sums).astype(np.int64).reshape(*np.shape(sums)[:3], -1) + call.constants["bias"]
    scaled = scale_reduced(total, call.constants["scaling"])
    return (np.clip(scaled, *a["range"]).astype(np.int16),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_conv_2d_s16{'_dsp' if _is_fast(call, features) else ''}"


def _is_fast(call: Call, features: frozenset[str]) -> bool:
    count, _, _, depth = call.constants["weights"].shape
    w = dict(zip(FIELDS, call.attributes["window"], strict=True))
    whole = depth == call.attributes["channels"] and depth % 4 == 0 and count % 2 == 0
    return "dsp" in features and whole and w["dilation_width"] == 1


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    weights = call.constants["weights"]
    if _is_fast(call, features):
        weights = in_twos(weights.reshape(len(weights), -1))
    return {"weights": weights, "bias": wide_bias(call.constants["bias"]), "scaling": call.constants["scaling"]}


def in_twos(matrix: Array) -> Array:
    """An even number of rows as dots_int16_dsp.h has them: four of one and of the other, in the order 0, 2, 1, 3."""
    fours = matrix.reshape(len(matrix) // 2, 2, -1, 4).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(fours[..., [0, 2, 1, 3]])


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a, weights = call.attributes, call.constants["weights"]
    numbers = {
        "batches": a["batches"],
        "in_channels": a["channels"],
        "out_channels": weights.shape[0],
        "filter_channels": weights.shape[3],
        "least": a["range"][0],
        "most": a["range"][1],
    }
    fields = ", ".join(f".{name} = {number}" for name, number in numbers.items())
    shape = f"&(edge_conv_2d_int16){{.window = {c_initializer(a['window'])}, {fields}}}"
    arguments = [c["in0"], c["out0"], c["weights"], c["bias"], c["scaling"], shape]
    return f"{kernel(call, features)}({', '.join(arguments)});"
