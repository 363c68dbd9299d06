"""From block floating point to float32: what leaves a model on a core without FPU.

inputs      x int32[n + 1], a row of bfp.py
outputs     y float32[n]; may begin where x begins

Numbers keep 23 bits of the row's largest. Exponents are held where every y is zero or a normal number.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools import bfp
from firmware_tools.ops import Array, Call, Run

IN_PLACE = ((0, 0),)  # (output, input) that may share memory
BITS = 23  # one less than a float's significand has: rounded down, the largest may be 2^23 itself


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    exponent, m = bfp.split(inputs[0])
    shift = max(bfp.bits(m) - BITS, 0)
    y = np.ldexp((m >> shift).astype(np.float32), min(max(exponent + shift, -126), 103))
    return (y.astype(np.float32),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_bfp_to_float"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['out0_count']}, {c['count']});"


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    return {"call": 1, "element": sizes["out0"]}
