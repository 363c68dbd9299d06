"""Add: y = a + b, the residual connection.

inputs      a, b float32[n]
outputs     y float32[n]; may be a
"""

from __future__ import annotations

from collections.abc import Mapping

from firmware_tools.ops import Array, Call, Run, fastest

IN_PLACE = ((0, 0), (0, 1))  # (output, input) that may share memory


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    return (inputs[0] + inputs[1],)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_add_f32{fastest(features, 'mve', 'dsp')}"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    return f"{kernel(call, features)}({c['in0']}, {c['in1']}, {c['out0']}, {c['out0_count']} * {c['count']});"


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    return {"call": 1, "element": sizes["out0"]}
