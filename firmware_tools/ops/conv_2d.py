"""Convolution in two dimensions, int8: each output is the dot product of a filter with a window of the image.

    inputs      x int8[batches, height, width, in_channels]
    outputs     y int8[batches, out_height, out_width, out_channels]; not x
    constants   weights int8[out_channels, kernel_height, kernel_width, in_channels / groups]; bias int32[out_channels];
                multiplier, exponent int32[out_channels]: input scale * filter's scale / output scale (requantize.py)
    attributes  window (window.py), zero_points (input, output), range (least, most) of y

y = clamp(zero point + (bias + sum of weights * (x - zero point)) * factor), rounded twice; outside the image x is its
zero point. With several groups, group g's outputs see group g's channels alone. TFLite's reference ConvPerChannel.

On a core with SMLAD it is a matrix product: `products.py` tells how weights lie and what is computed of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools import products
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.quantized import (
    bias_of,
    check_scaling,
    largest_sum,
    optional,
    per_tensor,
    settle,
    stored_range,
    weights_of,
)
from firmware_tools.requantize import quantize_multipliers, scale_twice_rounded
from firmware_tools.window import FIELDS, c_initializer, taps, window

OPERATORS = ("CONV_2D",)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, w = operator.inputs[:2]
    scale, zero_point = per_tensor(subgraph, x, "the input")
    out_scale, out_zero_point = per_tensor(subgraph, operator.outputs[0], "the output")
    weights, scales = weights_of(subgraph, w, "the filters", 0)
    return convolution(
        (x, operator.outputs[0]),
        (subgraph.tensors[x].shape, subgraph.tensors[operator.outputs[0]].shape),
        weights,
        bias_of(subgraph, optional(operator.inputs, 2), weights.shape[0]),
        scale * scales / out_scale,
        operator.options,
        (zero_point, out_zero_point),
        stored_range(operator.options, out_scale, out_zero_point),
    )


def convolution(
    tensors: tuple[int, int],
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    weights: Array,
    bias: Array,
    factors: Array,
    options: Mapping[str, object],
    zero_points: tuple[int, int],
    limits: tuple[int, int],
) -> Call:
    """The call from (input, output) tensors and their shapes; factors: one for all filters, or one each."""
    count, kernel_height, kernel_width, depth = weights.shape
    channels = shapes[0][3]
    if depth == 0 or channels % depth or count % (channels // depth):
        raise Unsupported(f"{count} filters of {depth} channels do not divide an image of {channels}")
    multiplier, exponent = quantize_multipliers(np.broadcast_to(factors, (count,)))
    check_scaling(largest_sum(weights.reshape(count, -1), bias), exponent)
    constants = {"bias": bias, "multiplier": multiplier, "exponent": exponent}
    settled = settle(constants, weights.reshape(count, -1), zero_points, limits)
    constants["weights"] = np.where(settled[:, None, None, None], 0, weights).astype(np.int8)
    attributes = {
        "window": window(shapes[0][1:3], (kernel_height, kernel_width), shapes[1][1:3], options),
        "batches": shapes[0][0],
        "channels": channels,
        "zero_points": zero_points,
        "range": limits,
    }
    return Call("conv_2d", tensors[:1], tensors[1:], constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    weights, (zero_point, out_zero_point) = call.constants["weights"], call.attributes["zero_points"]
    groups = call.attributes["channels"] // weights.shape[3]
    filters = weights.reshape(groups, -1, *weights.shape[1:]).astype(np.float64)
    x = inputs[0].astype(np.float64) - zero_point
    x = x.reshape(*x.shape[:3], groups, -1)
    sums = sum(
        np.einsum("bhwgc,gnc->bhwgn", seen, filters[:, :, i, j]) for i, j, seen in taps(call.attributes["window"], x, 0)
    )
    total = np.asarray(sums).astype(np.int64).reshape(*np.shape(sums)[:3], -1) + call.constants["bias"]
    scaled = scale_twice_rounded(total, call.constants["multiplier"], call.constants["exponent"])
    return (np.clip(scaled + out_zero_point, *call.attributes["range"]).astype(np.int8),)


def _depth(call: Call) -> int:
    """Columns of the matrix of filters."""
    return int(np.prod(call.constants["weights"].shape[1:]))


def kernel(call: Call, features: frozenset[str]) -> str:
    if call.attributes["channels"] != call.constants["weights"].shape[3]:
        return "edge_conv_2d_s8_groups"
    return f"edge_conv_2d_s8{'_dsp' if _is_product(call, features) else ''}"


def _is_product(call: Call, features: frozenset[str]) -> bool:
    weights, bias = call.constants["weights"], call.constants["bias"]
    if "dsp" not in features or call.attributes["channels"] != weights.shape[3]:
        return False
    matrix = weights.reshape(len(weights), -1)
    away = call.attributes["range"][0] < call.attributes["zero_points"][1]
    return products.fits(matrix, products.folded(matrix, bias, call.attributes["zero_points"][0])) and (
        products.exponents_fit(call.constants["exponent"], away)
    )


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    constants, name = call.constants, kernel(call, features)
    zero_point, out_zero_point = call.attributes["zero_points"]
    matrix = constants["weights"].reshape(len(constants["weights"]), -1)
    bias = constants["bias"] if name.endswith("groups") else products.folded(matrix, constants["bias"], zero_point)
    if not name.endswith("dsp"):
        scaling = np.stack([constants["multiplier"], constants["exponent"]], axis=1)
        return {"weights": constants["weights"], "bias": bias.astype(np.int32), "scaling": scaling}
    return {
        "weights": products.pack(matrix, 2),
        "bias": products.starts(matrix, bias, 2),
        "scaling": products.twice_rounded(constants["multiplier"], constants["exponent"], out_zero_point, 2),
    }


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a, weights = call.attributes, call.constants["weights"]
    numbers = {
        "batches": a["batches"],
        "in_channels": a["channels"],
        "out_channels": weights.shape[0],
        "filter_channels": weights.shape[3],
        "zero_point": a["zero_points"][0],
        "out_zero_point": a["zero_points"][1],
        "least": a["range"][0],
        "most": a["range"][1],
    }
    fields = ", ".join(f".{name} = {number}" for name, number in numbers.items())
    shape = f"&(edge_conv_2d){{.window = {c_initializer(a['window'])}, {fields}}}"
    arguments = [c["in0"], c["out0"], c["weights"], c["bias"], c["scaling"], shape]
    if not kernel(call, features).endswith("groups"):
        arguments.append(c["workspace"])
    return f"{kernel(call, features)}({', '.join(arguments)});"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """A window as it is gathered, and three of them widened for SMLAD."""
    name, depth = kernel(call, features), products.padded(_depth(call))
    if name.endswith("groups"):
        return 0
    w = dict(zip(FIELDS, call.attributes["window"], strict=True))
    is_pixel = w["kernel_height"] * w["kernel_width"] == 1
    if name.endswith("dsp"):
        return 6 * depth + (0 if is_pixel and call.attributes["channels"] % 4 == 0 else depth)
    return 0 if is_pixel else depth
