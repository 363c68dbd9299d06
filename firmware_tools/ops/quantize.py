"""Quantize and dequantize: between float32 and integers of a scale and a zero point; int16 from and to 8 bits too.

    inputs      x float32, int8, uint8, int16, or int32 (to int8 or int16), of any shape
    outputs     y int8, uint8, int16 or int32, or float32, of that shape; not x
    attributes  shape, dtypes (of x, y), zero_points (of x, y), scale (float32: of y to quantize, of x to dequantize),
                and, for integers of both, multiplier and exponent

to integers     clamp(zero point + round(x / scale)), halves away from zero; what is past 2^23 steps is clamped
to floats       scale * (x - zero point)
both integers   clamp(zero point + (x - zero point of x) * factor), rounded twice

TFLite's reference AffineQuantize, Dequantize and Requantize; 8 bits to 8 bits is table_int8's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.quantized import check_scaling, per_tensor
from firmware_tools.requantize import half_away, quantize_multiplier, scale_twice_rounded

OPERATORS = ("QUANTIZE", "DEQUANTIZE")
SUFFIXES = {"int8": "s8", "uint8": "u8", "int16": "s16", "int32": "s32", "float32": "f32"}
FARTHEST = np.float32(1 << 23)  # steps from zero; floats have no halves beyond


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, y = (subgraph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
    if x.dtype == y.dtype == "float32" or {x.dtype, y.dtype} <= {"int8", "uint8"}:
        raise Unsupported(f"{x.dtype} to {y.dtype} is not for this op")
    sides = {}
    for name, tensor in (("input", x), ("output", y)):
        if tensor.dtype != "float32":
            sides[name] = per_tensor(subgraph, tensor.index, f"the {name}", "int8", "uint8", "int16", "int32")
    if x.dtype == "int32" and (y.dtype not in ("int8", "int16") or sides["input"][1]):
        raise Unsupported(f"int32 to {y.dtype}, or int32 with a zero point, is not supported")
    multiplier, exponent = 0, 0
    if len(sides) == 2:
        multiplier, exponent = quantize_multiplier(sides["input"][0] / sides["output"][0])
        if x.dtype != "int32":
            check_scaling(1 << 16, exponent)
        elif exponent >= 0:
            raise Unsupported("its scales are too near to each other for numbers of 32 bits")
    attributes = {
        "shape": y.shape,
        "dtypes": (x.dtype, y.dtype),
        "zero_points": (sides.get("input", (0, 0))[1], sides.get("output", (0, 0))[1]),
        "scale": float(np.float32(sides.get("output", sides.get("input", (0.0, 0)))[0])),
        "multiplier": multiplier,
        "exponent": exponent,
    }
    return Call("quantize", (x.index,), (y.index,), {}, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    a, x = call.attributes, inputs[0]
    (source, target), (zero_point, out_zero_point) = a["dtypes"], a["zero_points"]
    if target == "float32":
        return (np.float32(a["scale"]) * (x.astype(np.int64) - zero_point).astype(np.float32),)
    if source == "float32":
        with np.errstate(over="ignore"):
            steps = np.clip(x / np.float32(a["scale"]), -FARTHEST, FARTHEST)
        y = half_away(np.nan_to_num(steps, nan=0.0)).astype(np.int64)
    else:
        y = scale_twice_rounded(x.astype(np.int64) - zero_point, a["multiplier"], a["exponent"])
    limits = np.iinfo(target)
    return (np.clip(y + out_zero_point, limits.min, limits.max).astype(target),)


def kernel(call: Call, features: frozenset[str]) -> str:
    source, target = (SUFFIXES[dtype] for dtype in call.attributes["dtypes"])
    return f"edge_quantize_{source}_{target}" if target != "f32" else f"edge_dequantize_{source}"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a, count = call.attributes, math.prod(call.attributes["shape"])
    source, target = a["dtypes"]
    scale = float(a["scale"]).hex() + "f"
    if target == "float32":
        numbers = [a["zero_points"][0], scale]
    elif source == "float32":
        numbers = [a["zero_points"][1], scale]
    else:
        numbers = [*a["zero_points"], a["multiplier"], a["exponent"]]
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {count}, {', '.join(map(str, numbers))});"
