"""Depthwise convolution, int8: each channel of the image has filters of its own.

    inputs      x int8[batches, height, width, channels]
    outputs     y int8[batches, out_height, out_width, channels * depth_multiplier]; not x
    constants   weights int8[kernel_height, kernel_width, outputs]; bias, multiplier, exponent int32[outputs]
    attributes  window (window.py), batches, channels, zero_points (input, output), range (least, most) of y

Output m of channel c has number c * depth_multiplier + m; arithmetic as in conv_2d.py. TFLite's reference
DepthwiseConvPerChannel. An image of one channel is a convolution, and is lowered to one.

On a core with SMLAD filters of 3 by 3 take four channels at a time: a column of the window becomes words of
neighbouring rows, 16 bits each, and meets weights times 256, so that sums are scaled as products.py tells. Other
filters go tap by tap, also four channels at a time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools import products
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.ops.conv_2d import convolution
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

OPERATORS = ("DEPTHWISE_CONV_2D",)
SIDE = 3  # of the filters that have a faster kernel
COLUMN_BYTES = 24  # a column of such a window, four channels


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, w = operator.inputs[:2]
    y = operator.outputs[0]
    scale, zero_point = per_tensor(subgraph, x, "the input")
    out_scale, out_zero_point = per_tensor(subgraph, y, "the output")
    weights, scales = weights_of(subgraph, w, "the filters", 3)
    shapes = (subgraph.tensors[x].shape, subgraph.tensors[y].shape)
    channels, outputs = shapes[0][3], weights.shape[3]
    if weights.shape[0] != 1 or channels == 0 or outputs % channels:
        raise Unsupported(f"filters of shape {list(weights.shape)} do not fit an image of {channels} channels")
    bias = bias_of(subgraph, optional(operator.inputs, 2), outputs)
    factors, zero_points = scale * scales / out_scale, (zero_point, out_zero_point)
    limits = stored_range(operator.options, out_scale, out_zero_point)
    if channels == 1:
        filters = np.ascontiguousarray(weights.transpose(3, 1, 2, 0))
        return convolution((x, y), shapes, filters, bias, factors, operator.options, zero_points, limits)
    multiplier, exponent = quantize_multipliers(np.broadcast_to(factors, (outputs,)))
    check_scaling(largest_sum(weights.reshape(-1, outputs).T, bias), exponent)
    constants = {"bias": bias, "multiplier": multiplier, "exponent": exponent}
    settled = settle(constants, weights.reshape(-1, outputs).T, zero_points, limits)
    constants["weights"] = np.where(settled, 0, weights[0]).astype(np.int8)
    attributes = {
        "window": window(shapes[0][1:3], weights.shape[1:3], shapes[1][1:3], operator.options),
        "batches": shapes[0][0],
        "channels": channels,
        "zero_points": zero_points,
        "range": limits,
    }
    return Call("depthwise_conv_2d", (x,), (y,), constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    weights, (zero_point, out_zero_point) = call.constants["weights"].astype(np.int64), call.attributes["zero_points"]
    x = np.repeat(inputs[0].astype(np.int64) - zero_point, weights.shape[2] // call.attributes["channels"], axis=3)
    total = sum(seen * weights[i, j] for i, j, seen in taps(call.attributes["window"], x, 0)) + call.constants["bias"]
    scaled = scale_twice_rounded(np.asarray(total), call.constants["multiplier"], call.constants["exponent"])
    return (np.clip(scaled + out_zero_point, *call.attributes["range"]).astype(np.int8),)


def kernel(call: Call, features: frozenset[str]) -> str:
    if not _is_fast(call, features):
        return "edge_depthwise_conv_2d_s8"
    return f"edge_depthwise_conv_2d_s8{'_dsp' if _is_three_by_three(call) else '_taps_dsp'}"


def _is_three_by_three(call: Call) -> bool:
    """Without dilation in width."""
    w = dict(zip(FIELDS, call.attributes["window"], strict=True))
    return (w["kernel_height"], w["kernel_width"], w["dilation_width"]) == (SIDE, SIDE, 1)


def _matrix(call: Call) -> Array:
    """A row for each output."""
    return call.constants["weights"].reshape(-1, call.constants["weights"].shape[2]).T


def _is_fast(call: Call, features: frozenset[str]) -> bool:
    weights, a = call.constants["weights"], call.attributes
    if "dsp" not in features or weights.shape[2] != a["channels"] or a["channels"] % 4:
        return False
    bias = products.folded(_matrix(call), call.constants["bias"], a["zero_points"][0])
    away = a["range"][0] < a["zero_points"][1]
    return products.fits(_matrix(call), bias) and products.exponents_fit(call.constants["exponent"], away)


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    constants = call.constants
    if not _is_fast(call, features):
        scaling = np.stack([constants["multiplier"], constants["exponent"]], axis=1)
        return {"weights": constants["weights"], "bias": constants["bias"], "scaling": scaling}
    zero_point, out_zero_point = call.attributes["zero_points"]
    bias = products.folded(_matrix(call), constants["bias"], zero_point if _is_three_by_three(call) else 0)
    fours = constants["weights"].reshape(_matrix(call).shape[1], -1, 4).transpose(1, 0, 2)
    return {
        "weights": np.ascontiguousarray(fours),
        "bias": (256 * bias).astype(np.int32),
        "scaling": products.twice_rounded(constants["multiplier"], constants["exponent"], out_zero_point, 4),
    }


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a = call.attributes
    numbers = {
        "batches": a["batches"],
        "channels": a["channels"],
        "outputs": call.constants["weights"].shape[2],
        "zero_point": a["zero_points"][0],
        "out_zero_point": a["zero_points"][1],
        "least": a["range"][0],
        "most": a["range"][1],
    }
    fields = ", ".join(f".{name} = {number}" for name, number in numbers.items())
    shape = f"&(edge_depthwise_conv_2d){{.window = {c_initializer(a['window'])}, {fields}}}"
    arguments = [c["in0"], c["out0"], c["weights"], c["bias"], c["scaling"], shape, c["workspace"]]
    return f"{kernel(call, features)}({', '.join(arguments)});"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """The columns of one row of windows, and of the weights, as words; or the weights alone; or a sum each output."""
    if not _is_fast(call, features):
        return 4 * int(call.constants["weights"].shape[2])
    if not _is_three_by_three(call):
        return 8 * int(_matrix(call).shape[1])
    w = dict(zip(FIELDS, call.attributes["window"], strict=True))
    reach = (w["out_width"] - 1) * w["stride_width"] + SIDE
    columns = SIDE + int(max(reach, w["pad_left"] + w["width"]))
    return COLUMN_BYTES * columns
