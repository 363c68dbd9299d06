"""Sums, means, products and extremes along axes: y = the reduction of x over them.

inputs      x float32
outputs     y float32, without the axes or with them as 1
attributes  function; kept, reduced: (sizes, steps) of up to two loops each; count of elements that become one

Elements are taken in the order of memory, first to last; a mean is their sum divided by their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from firmware_tools.floats import STATIC, constant, initializer, of_dtype, result_shape
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.packed import sequential_sum

FUNCTIONS = {"SUM": "sum", "MEAN": "mean", "REDUCE_MAX": "max", "REDUCE_MIN": "min", "REDUCE_PROD": "product"}
OPERATORS = tuple(FUNCTIONS)
Loops = tuple[tuple[int, ...], tuple[int, ...]]


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x = of_dtype(subgraph, operator.inputs[0], "the input", "float32")
    given = constant(subgraph, operator.inputs[1], "the axes", "int32").reshape(-1).tolist()
    rank = len(x.shape)
    if not all(-rank <= axis < rank for axis in given):
        raise Unsupported(f"axes {given} are not those of {list(x.shape)}")
    axes = tuple(sorted({axis % rank for axis in given}))
    if math.prod(x.shape) == 0:
        raise Unsupported("the input has no elements", STATIC)
    kept, reduced = loops(x.shape, axes)
    of_dtype(subgraph, operator.outputs[0], "the output", "float32")
    if math.prod(result_shape(subgraph, operator)) != math.prod(kept[0]):
        raise Unsupported(f"axes {list(axes)} of {list(x.shape)} do not reduce to the output's shape", STATIC)
    attributes = {
        "function": FUNCTIONS[operator.op],
        "axes": axes,
        "shape": result_shape(subgraph, operator),
        "count": math.prod(x.shape[axis] for axis in axes),
        "kept": kept,
        "reduced": reduced,
    }
    return Call("reduce_float", operator.inputs[:1], operator.outputs, {}, attributes)


def loops(shape: Sequence[int], axes: Sequence[int]) -> tuple[Loops, Loops]:
    """The loops over what is kept and over what is reduced, two of each; neighbours of one kind are one."""
    found: list[tuple[bool, int, int]] = []  # is reduced, size, step
    step = math.prod(shape)
    for axis, size in enumerate(shape):
        step //= size
        if size == 1:
            continue
        is_reduced = axis in axes
        if found and found[-1][0] == is_reduced:
            found[-1] = (is_reduced, found[-1][1] * size, step)
        else:
            found.append((is_reduced, size, step))
    sides: list[Loops] = []
    for is_reduced in (False, True):
        side = [(size, step) for kind, size, step in found if kind == is_reduced]
        if len(side) > 2:
            raise Unsupported(f"axes {list(axes)} of {list(shape)} lie in more than two parts")
        side = [(1, 0)] * (2 - len(side)) + side
        sides.append((tuple(size for size, _ in side), tuple(step for _, step in side)))
    return sides[0], sides[1]


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    function, axes = call.attributes["function"], call.attributes["axes"]
    x = np.moveaxis(inputs[0], axes, range(-len(axes), 0)) if axes else inputs[0][..., None]
    x = x.reshape(*x.shape[: x.ndim - max(len(axes), 1)], -1)
    y: Any
    with np.errstate(all="ignore"):
        if function in ("max", "min"):
            y = x.max(axis=-1) if function == "max" else x.min(axis=-1)
        elif function == "product":
            y = np.multiply.accumulate(x, axis=-1, dtype=np.float32)[..., -1]
        else:
            y = sequential_sum(x)
            y = y / np.float32(call.attributes["count"]) if function == "mean" else y
    return (np.asarray(y, np.float32).reshape(call.attributes["shape"]),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_reduce_{call.attributes['function']}"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    kept, reduced = call.attributes["kept"], call.attributes["reduced"]
    fields = {"kept": kept[0], "kept_step": kept[1], "reduced": reduced[0], "reduced_step": reduced[1]}
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, &(const edge_float_reduction){initializer(fields)});"
