"""Reduce int8: the mean, sum, largest or least along some axes.

    inputs      x int8, of any shape
    outputs     y int8; not x
    attributes  function (mean, sum, max or min), shape and axes (of x: those reduced), out_shape, zero_points (input,
                output), count (elements that become one), multiplier and exponent (of mean and sum)

mean, sum   (sum - count * zero point) * factor + zero point, rounded twice; a mean's count is part of the factor
max, min    of the stored numbers

TFLite's reference QuantizedMeanOrSum and reduce. LiteRT 2.3 has no SUM of integers that could be compared bit for bit:
its reference kernel overflows where a sum is negative, the other one rounds floats, and is at most one off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.quantized import check_scaling, constant, per_tensor
from firmware_tools.requantize import quantize_multiplier, scale_twice_rounded

FUNCTIONS = {"MEAN": "mean", "SUM": "sum", "REDUCE_MAX": "max", "REDUCE_MIN": "min"}
OPERATORS = tuple(FUNCTIONS)
MOST_RANK = 4  # axes of each kind, those that lie together joined


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, y = operator.inputs[0], operator.outputs[0]
    source, target = per_tensor(subgraph, x, "the input"), per_tensor(subgraph, y, "the output")
    shape, function = subgraph.tensors[x].shape, FUNCTIONS[operator.op]
    numbers = constant(subgraph, operator.inputs[1], "the list of axes").reshape(-1)
    axes = tuple(sorted({int(number) % max(len(shape), 1) for number in numbers}))
    count = math.prod(shape[i] for i in axes)
    if math.prod(shape) == 0:
        raise Unsupported("it reduces a tensor without elements")
    multiplier, exponent = quantize_multiplier(source[0] / target[0])
    if function == "mean":
        shift = min(count.bit_length() - 1, 32, 31 + exponent)
        multiplier, exponent = (multiplier << shift) // count, exponent - shift
    check_scaling(count * 255, exponent)
    attributes = {
        "function": function,
        "shape": shape,
        "axes": axes,
        "out_shape": subgraph.tensors[y].shape,
        "zero_points": (source[1], target[1]),
        "count": count,
        "multiplier": multiplier,
        "exponent": exponent,
    }
    return Call("reduce_int8", (x,), (y,), {}, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    a, x = call.attributes, inputs[0].astype(np.int64)
    if a["function"] in ("max", "min"):
        y = getattr(x, a["function"])(axis=a["axes"])
    else:
        total = x.sum(axis=a["axes"]) - a["count"] * a["zero_points"][0]
        scaled = scale_twice_rounded(np.asarray(total), a["multiplier"], a["exponent"])
        y = np.clip(scaled + a["zero_points"][1], -128, 127)
    return (np.asarray(y).astype(np.int8).reshape(a["out_shape"]),)


def _walk(shape: tuple[int, ...], kept: list[int]) -> list[tuple[int, int]]:
    """(count, step) of these axes, those that lie together joined; from the outer to the inner."""
    joined: list[tuple[int, int]] = []
    for i in kept:
        count, step = shape[i], math.prod(shape[i + 1 :])
        if count == 1:
            continue
        if joined and joined[-1][1] == count * step:
            joined[-1] = (joined[-1][0] * count, step)
        else:
            joined.append((count, step))
    if len(joined) > MOST_RANK:
        raise Unsupported(f"it walks {len(joined)} axes; {MOST_RANK} are supported")
    return [(1, 0)] * (MOST_RANK - len(joined)) + joined


def kernel(call: Call, features: frozenset[str]) -> str:
    a = call.attributes
    return f"edge_reduce_{'sum' if a['function'] in ('mean', 'sum') else a['function']}_int8"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a = call.attributes
    kept = [i for i in range(len(a["shape"])) if i not in a["axes"]]
    walks = {"kept": _walk(a["shape"], kept), "reduced": _walk(a["shape"], list(a["axes"]))}
    fields = [f".{k} = {{{', '.join(f'{{{n}, {s}}}' for n, s in walk)}}}" for k, walk in walks.items()]
    numbers = {
        "start": -a["count"] * a["zero_points"][0],
        "zero_point": a["zero_points"][1],
        "multiplier": a["multiplier"],
        "exponent": a["exponent"],
    }
    fields += [f".{key} = {number}" for key, number in numbers.items()]
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, &(edge_reduction){{{', '.join(fields)}}});"
