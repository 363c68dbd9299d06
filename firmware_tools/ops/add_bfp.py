"""Add in block floating point: y = a + b, the residual connection on a core without FPU.

inputs      a, b int32[n + 1], rows of bfp.py
outputs     y int32[n + 1]; may be a or b

The sum's exponent is the least that leaves it two bits of the thirty.
"""

from __future__ import annotations

from collections.abc import Mapping

from firmware_tools import bfp
from firmware_tools.ops import Array, Call, Run

IN_PLACE = ((0, 0), (0, 1))  # (output, input) that may share memory


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    return (bfp.add(inputs[0], inputs[1]),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_add_bfp"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    arguments = (c["in0"], c["in1"], c["out0"], f"{c['out0_count']} - 1", c["count"])
    return f"{kernel(call, features)}({', '.join(arguments)});"


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    return {"call": 1, "element": sizes["out0"]}
