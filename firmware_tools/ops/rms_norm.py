"""RMSNorm: y[i] = x[i] / sqrt(mean(x²) + epsilon) * gain[i] (Zhang and Sennrich, 2019, arXiv:1910.07467).

    inputs      x float32[dim]
    outputs     y float32[dim]
    constants   gain float32[dim]
    attributes  epsilon

The squares are added first to last; x is multiplied by the inverse root before the gain.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.ops import Array, Call, Run, fastest
from firmware_tools.packed import sequential_sum

IN_PLACE = ((0, 0),)  # (output, input) that may share memory


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    x = inputs[0]
    mean = sequential_sum(x * x) / np.float32(x.size)
    inverse = np.float32(1) / np.sqrt(mean + np.float32(call.attributes["epsilon"]))
    return (x * inverse * call.constants["gain"],)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_rms_norm_f32{fastest(features, 'mve', 'dsp')}"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    epsilon = f"{np.float32(call.attributes['epsilon'])!s}f"
    return (
        f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['gain']}, {epsilon}, {c['out0_count']}, {c['count']});"
    )


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    return {"call": 1, "element": sizes["out0"]}
