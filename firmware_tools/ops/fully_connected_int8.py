"""Fully connected, int8: y = W x + bias for each row of x, all integers.

    inputs      x int8[batches, k], of any rank
    outputs     y int8[batches, n]; not x
    constants   weights int8[n, k]; bias int32[n]; factors float64[n] or [1]: input scale * weights' scale / output's
    attributes  batches; zero_points (input, output); range (least, most) of y

y = clamp(zero point + (bias + sum of weights * (x - zero point)) * factor), rounded once, in double precision: what
LiteRT's reference kernel does (reference_integer_ops FullyConnected that takes scales). The kernels have no double
precision and give the same: requantize.py finds multipliers whose steps are where the rounding's are.

On a core with SMLAD products.py tells how weights lie. Layers of few rows or weights widen x as they go, others
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from firmware_tools import products
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.quantized import bias_of, check_scaling, largest_sum, optional, per_tensor, stored_range, weights_of
from firmware_tools.requantize import scale_once_rounded, step_function

OPERATORS = ("FULLY_CONNECTED",)
FEW_ROWS = 8  # so many rows or fewer, or so few weights, and x is widened again for each 4 rows
FEW_WEIGHTS = 256
FEWEST_WEIGHTS = 24  # for which it pays to set up products
BLOCK_CODE_BYTES = 68  # of a block of edge_product_of_bytes, a quarter of its loop
SHIFTS = (25, 46)  # of multipliers whose scaling fits 32 bits
OFFSET_UNIT = 1 << 24  # of offsets that SMMLA adds


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, w = operator.inputs[:2]
    if operator.options.get("weights_format", 0) != 0:
        raise Unsupported("the weights are shuffled (weights_format), as only old converters wrote them")
    scale, zero_point = per_tensor(subgraph, x, "the input")
    out_scale, out_zero_point = per_tensor(subgraph, operator.outputs[0], "the output")
    weights, scales = weights_of(subgraph, w, "the weights", 0)
    size = int(np.prod(subgraph.tensors[x].shape))
    attributes = {
        "batches": size // weights.shape[1],
        "zero_points": (zero_point, out_zero_point),
        "range": stored_range(operator.options, out_scale, out_zero_point),
        "shape": subgraph.tensors[operator.outputs[0]].shape,
    }
    constants = {
        "weights": weights,
        "bias": bias_of(subgraph, optional(operator.inputs, 2), weights.shape[0]),
        "factors": scale * scales / out_scale,
    }
    call = Call("fully_connected_int8", (x,), operator.outputs, constants, attributes)
    check_scaling(largest_sum(weights, constants["bias"]), 0)
    if _scaling(call) is None:
        raise Unsupported("its scales are too far from what int8 layers have")
    return call


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    weights, (zero_point, out_zero_point) = call.constants["weights"], call.attributes["zero_points"]
    x = inputs[0].reshape(-1, weights.shape[1]).astype(np.float64) - zero_point
    total = (x @ weights.T.astype(np.float64)).astype(np.int64) + call.constants["bias"]
    scaled = scale_once_rounded(total, call.constants["factors"]) + out_zero_point
    return (np.clip(scaled, *call.attributes["range"]).astype(np.int8).reshape(call.attributes["shape"]),)


def _scaling(call: Call, unit: int = 1) -> tuple[tuple[int, int, int], ...] | None:
    """(multiplier, offset, shift) of each factor, as step_function finds them; None where it finds none."""
    zero_point = call.attributes["zero_points"][1]
    low, high = (limit - zero_point for limit in call.attributes["range"])
    return _steps(tuple(call.constants["factors"].tolist()), low, high, unit)


@lru_cache(maxsize=64)
def _steps(factors: tuple[float, ...], low: int, high: int, unit: int) -> tuple[tuple[int, int, int], ...] | None:
    found = [step_function(factor, low, high, unit) for factor in factors]
    return None if None in found else tuple(steps for steps in found if steps is not None)


def kernel(call: Call, features: frozenset[str]) -> str:
    weights, name = call.constants["weights"], "edge_fully_connected_int8"
    if "dsp" not in features or not products.words_fit(weights):
        return name
    bias = products.folded(weights, call.constants["bias"], call.attributes["zero_points"][0])
    scaling = _scaling(call, OFFSET_UNIT)
    shifts = [shift for _, _, shift in scaling or ()]
    if products.fits(weights, bias) and shifts and SHIFTS[0] <= min(shifts) and max(shifts) <= SHIFTS[1]:
        if len(weights) > FEW_ROWS and weights.size > FEW_WEIGHTS:
            return f"{name}_dsp"
        if weights.size < FEWEST_WEIGHTS and len(weights) % products.SIDE:
            return name
        a, alike = call.attributes, len(call.constants["factors"]) == 1
        fours = a["batches"] == 1 and alike and len(weights) % products.SIDE == 0 and a["range"] == (-128, 127)
        return f"{name}_fours_dsp" if fours else f"{name}_few_dsp"
    return f"{name}_wide_dsp"


def _scaling_of_products(call: Call) -> list[tuple[int, int, int]]:
    """(multiplier, offset, shift) for sums of 256 a, as products.py has them; one, or one each row of whole fours."""
    zero_point = call.attributes["zero_points"][1]
    steps = _scaling(call, OFFSET_UNIT) or ()
    table = [(m, (offset >> 24) + (zero_point << (shift - 24)), shift - 24) for m, offset, shift in steps]
    return table + [(0, 0, 1)] * (-len(table) % products.SIDE if len(table) > 1 else 0)


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    weights, (zero_point, _), name = (
        call.constants["weights"],
        call.attributes["zero_points"],
        kernel(call, features),
    )
    bias = products.folded(weights, call.constants["bias"], zero_point)
    if name.endswith(("int8_dsp", "few_dsp", "fours_dsp")):
        laid_out: dict[str, Array] = {"weights": products.pack(weights, 4), "bias": products.starts(weights, bias, 4)}
        if not name.endswith("fours_dsp"):  # there it is part of the statement
            laid_out["scaling"] = np.array(_scaling_of_products(call), np.int32)
        return laid_out
    halves = [(m, shift, np.uint32(o & 0xFFFFFFFF).astype(np.int32), o >> 32) for m, o, shift in _scaling(call) or ()]
    constants = {"weights": weights, "bias": bias.astype(np.int32), "scaling": np.array(halves, np.int32)}
    if name.endswith("wide_dsp"):
        constants["weights"] = products.pack(weights, 4)
        constants["bias"] = np.concatenate([constants["bias"], products.chunk_starts(weights, 4)])
    return constants


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a, (rows, columns) = call.attributes, call.constants["weights"].shape
    name = kernel(call, features)
    if name.endswith("fours_dsp"):
        return f"{name}(&(edge_product_1){{{_product(call, c)}}});"
    numbers = {
        "batches": a["batches"],
        "rows": rows,
        "columns": columns,
        "scalings": len(call.constants["factors"]),
        "zero_point": a["zero_points"][1],
        "least": a["range"][0],
        "most": a["range"][1],
    }
    fields = ", ".join(f".{key} = {number}" for key, number in numbers.items())
    arguments = [
        c["in0"],
        c["out0"],
        c["weights"],
        c["bias"],
        c["scaling"],
        f"&(edge_fully_connected_shape){{{fields}}}",
    ]
    return f"{name}({', '.join([*arguments, *([c['workspace']] if name.endswith('8_dsp') else [])])});"


def _product(call: Call, c: Mapping[str, str]) -> str:
    """The initializer of edge_product_1, for the whole layer."""
    rows, columns = call.constants["weights"].shape
    blocks = products.padded(columns) // products.SIDE
    fields = {
        "x": c["in0"],
        "constant": "EDGE_WORD_SIGNS",
        "blocks": blocks,
        "start": c["bias"],
        "entry": -blocks % 4 * BLOCK_CODE_BYTES,
        "scaling.alike": "{" + ", ".join(map(str, _scaling_of_products(call)[0])) + "}",
        "y": c["out0"],
        "end": f"{c['out0']} + {rows}",
        "weights": c["weights"],
    }
    return ", ".join(f".{name} = {value}" for name, value in fields.items())


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """x, widened for SMLAD."""
    wide = kernel(call, features) == "edge_fully_connected_int8_dsp"
    return 2 * products.padded(call.constants["weights"].shape[1]) if wide else 0
