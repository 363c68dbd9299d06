"""Convolutions in two dimensions, int8 filters and float32 activations: each image is quantized as it comes.

inputs      x float32[batches, height, width, channels]
outputs     y float32[batches, out_height, out_width, filters]; not x
constants   weights int8[filters, kernel_height, kernel_width, depth]; scales float32[filters]; bias float32[filters],
            optional
attributes  as of conv_2d_float; asymmetric: images have a zero point (hybrid.py)

Dot products are exact; y = dot * the filter's scale * the image's scale + bias. As in TFLite, images have a zero point
where every filter has a scale of its own, and none where one scale is all filters'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from firmware_tools import hybrid
from firmware_tools.floats import clamp, constant, of_dtype, scales_of
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run
from firmware_tools.ops.conv_2d_float import convolution, grouped, shape_literal
from firmware_tools.window import taps

OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    of_dtype(subgraph, operator.inputs[0], "the input", "float32")
    weights = constant(subgraph, operator.inputs[1], "the filters", "int8")
    tensor = subgraph.tensors[operator.inputs[1]]
    axis = 3 if operator.op == "DEPTHWISE_CONV_2D" else 0
    scales = scales_of(tensor, "the filters", axis, weights.shape[axis])
    is_asymmetric = axis == 3 or tensor.quantization is not None and tensor.quantization.scale.size > 1
    return convolution("conv_2d_hybrid", operator, subgraph, weights, {"scales": scales}, asymmetric=is_asymmetric)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    return (clamp(np.concatenate([_image(call, x[None]) for x in inputs[0]]), call.attributes["limits"]),)


def _image(call: Call, image: Array) -> Any:
    values, scale, zero_point = hybrid.quantize(image, call.attributes["asymmetric"])
    x, filters = grouped(call, (values - zero_point).astype(np.float64))  # exact: sums stay below 2^53
    dots: Any = sum(
        np.einsum("bhwgc,gnc->bhwgn", seen, filters[:, :, i, j].astype(np.float64))
        for i, j, seen in taps(call.attributes["window"], x, 0)
    )
    y = dots.reshape(*dots.shape[:3], -1).astype(np.float32) * call.constants["scales"] * scale
    return y + call.constants["bias"] if "bias" in call.constants else y


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_conv_2d_hybrid"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    arguments = [c["in0"], c["out0"], c["weights"], c["scales"], c.get("bias", "NULL"), shape_literal(call)]
    return f"{kernel(call, features)}({', '.join(arguments)}, {int(call.attributes['asymmetric'])}, {c['workspace']});"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """One image as int8."""
    height, width = call.attributes["window"][:2]
    return int(height * width * call.attributes["channels"])
