"""SwiGLU: y = SiLU(gate) * up, with SiLU(g) = g / (1 + exp(-g)) (Shazeer, 2020, arXiv:2002.05202).

    inputs      gate_up float32[2 f]: the gates, then what they let through
    outputs     y float32[f]; may begin where gate_up begins
    attributes  bits: 8 where int8 matrices are around it; 32, or none, computes the exponential

With 8 bits the logistic function comes from a table of 512 steps of 1 / 32 from -8 to 8: within 0.004, and 0.0004
outside, of 1. y is quantized to int8 next, in steps of 0.008 of the row's largest, and KL from the float model changes
by 0.0001 to 0.0002.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.exp import exp_f32
from firmware_tools.ops import Array, Call, Run, fastest
from firmware_tools.packed import fixed

IN_PLACE = ((0, 0),)  # (output, input) that may share memory

# the logistic function in the middles of the steps, in 2^-16; sigmoid_table.h
SIGMOID = np.rint(65536 / (1 + np.exp(-(np.arange(-256, 256) + 0.5) / 32))).astype(np.uint16)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    gate, up = np.split(inputs[0], 2)
    if call.attributes.get("bits") != 8:
        return (gate / (np.float32(1) + exp_f32(-gate)) * up,)
    sigmoid = SIGMOID[np.clip(fixed(gate) >> 11, -256, 255) + 256].astype(np.float32) * np.float32(2.0**-16)
    return (gate * sigmoid * up,)


def kernel(call: Call, features: frozenset[str]) -> str:
    if call.attributes.get("bits") != 8:
        return "edge_swiglu_f32"
    return f"edge_swiglu_s8{fastest(features, 'mve', 'dsp')}"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['out0_count']}, {c['count']});"


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    return {"call": 1, "element": sizes["out0"]}
