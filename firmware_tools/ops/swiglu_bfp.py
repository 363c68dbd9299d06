"""SwiGLU in block floating point: y = SiLU(gate) * up on a core without FPU; ops/swiglu.py's twin for int8 models.

inputs      gate_up int32[2 f + 1], a row of bfp.py: the gates, then what they let through
outputs     y int32[f + 1]; may begin where gate_up begins

The logistic function comes from swiglu's table, by the gate in steps of 1 / 32.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools import bfp
from firmware_tools.ops import Array, Call, Run
from firmware_tools.ops.swiglu import SIGMOID

IN_PLACE = ((0, 0),)  # (output, input) that may share memory


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    exponent, m = bfp.split(inputs[0])
    gate, _ = np.split(m, 2)
    steps = np.clip(gate >> min(max(-5 - exponent, 0), 31), -256, 255)
    narrow, shift = bfp.narrowed(m)
    gate, up = np.split(narrow, 2)
    y = ((gate * SIGMOID[steps + 256].astype(np.int64)) >> 17) * up
    return (bfp.join(2 * (exponent + shift) + 1, y),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_swiglu_bfp"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['out0_count']} - 1, {c['count']});"


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    return {"call": 1, "element": sizes["out0"]}
