"""SwiGLU: y = SiLU(gate) * up, with SiLU(g) = g / (1 + exp(-g)) (Shazeer, 2020, arXiv:2002.05202).

inputs      gate_up float32[2 f]: the gates, then what they let through
outputs     y float32[f]; may begin where gate_up begins
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.exp import exp_f32
from firmware_tools.ops import Array, Call, Run

IN_PLACE = ((0, 0),)  # (output, input) that may share memory


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    gate, up = np.split(inputs[0], 2)
    return (gate / (np.float32(1) + exp_f32(-gate)) * up,)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_swiglu_f32"


def layout(call: Call) -> dict[str, Array]:
    return dict(call.constants)


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['out0_count']});"


def workspace_bytes(call: Call) -> int:
    return 0


def cache_bytes(call: Call, context: int) -> int:
    return 0
