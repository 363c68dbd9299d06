"""Resize to the nearest neighbour: each output pixel is a copy of one of the image's, of any type.

    inputs      x [batches, height, width, channels]
    outputs     y of that type [batches, out_height, out_width, channels]; not x
    constants   rows uint16[out_height], columns uint16[out_width]: where each output row and column comes from
    attributes  batches, height, width, pixel_bytes, out_shape

TFLite's reference ResizeNearestNeighbor, with align_corners and half_pixel_centers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.requantize import half_away

OPERATORS = ("RESIZE_NEAREST_NEIGHBOR",)
ITEM_BYTES = {"int8": 1, "uint8": 1, "int16": 2, "float32": 4}


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, y = subgraph.tensors[operator.inputs[0]], subgraph.tensors[operator.outputs[0]]
    if x.dtype not in ITEM_BYTES:
        raise Unsupported(f"{x.dtype} is not supported")
    if len(x.shape) != 4 or max(x.shape[1:3]) > 1 << 16:
        raise Unsupported("its image has not four axes, or over 65,536 rows or columns")
    corners, centres = bool(operator.options["align_corners"]), bool(operator.options["half_pixel_centers"])
    constants = {
        "rows": _sources(x.shape[1], y.shape[1], corners, centres),
        "columns": _sources(x.shape[2], y.shape[2], corners, centres),
    }
    attributes = {
        "batches": x.shape[0],
        "height": x.shape[1],
        "width": x.shape[2],
        "pixel_bytes": x.shape[3] * ITEM_BYTES[x.dtype],
    }
    return Call("resize_nearest_neighbor", (x.index,), (y.index,), constants, attributes)


def _sources(size: int, out_size: int, corners: bool, centres: bool) -> Array:
    """The pixel that each output pixel takes, in one direction."""
    between = (size - 1, out_size - 1) if corners and out_size > 1 else (size, out_size)
    scale = np.float32(between[0]) / np.float32(between[1])
    at = (np.arange(out_size, dtype=np.float32) + np.float32(0.5 if centres else 0)) * scale
    whole = (half_away(at) if corners else np.floor(at)).astype(np.int64)
    inside: Array = np.clip(whole, 0, size - 1).astype(np.uint16)
    return inside


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    return (inputs[0][:, call.constants["rows"]][:, :, call.constants["columns"]],)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_resize_nearest_neighbor"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a = call.attributes
    sizes = [a["batches"], a["height"], a["width"], a["pixel_bytes"]]
    sizes += [call.constants["rows"].size, call.constants["columns"].size]
    arguments = [c["in0"], c["out0"], c["rows"], c["columns"], *map(str, sizes)]
    return f"{kernel(call, features)}({', '.join(arguments)});"
