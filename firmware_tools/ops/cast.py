"""Cast: each element as another type; y = (type)x.

inputs      x float32, int32, int16, int8, uint8 or bool
outputs     y of another of them
attributes  source, target: the types

To bool: whether x is not zero. Integers wrap around in narrower ones. Floats are cut towards zero; what the target does
not hold becomes its nearest number and NaN becomes 0 (in C and in TFLite this is undefined).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.floats import of_dtype, of_shape
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run

OPERATORS = ("CAST",)
SUFFIXES = {"float32": "f32", "int32": "s32", "int16": "s16", "int8": "s8", "uint8": "u8", "bool": "b8"}


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x = of_dtype(subgraph, operator.inputs[0], "the input", *SUFFIXES)
    target = of_dtype(subgraph, operator.outputs[0], "the output", *SUFFIXES).dtype
    of_shape(subgraph, operator, x.shape)
    return Call("cast", operator.inputs[:1], operator.outputs, {}, {"source": x.dtype, "target": target})


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    x, target = inputs[0], call.attributes["target"]
    if target == "bool":
        return (x != 0,)
    if x.dtype == np.float32 and target != "float32":
        limits = np.iinfo(target)
        x = np.clip(
            np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=2.0**40, neginf=-(2.0**40)), limits.min, limits.max
        )
        return (np.trunc(x).astype(target),)
    return (x.astype(target),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_cast_{SUFFIXES[call.attributes['source']]}_{SUFFIXES[call.attributes['target']]}"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['out0_count']});"
