"""Rotary position embedding in block floating point, in place, with pairs (i, i + head_dim / 2); ops/rope.py's twin.

inputs      x int32[more than heads * head_dim], a row of bfp.py: query heads, key heads; what follows is left alone
outputs     x, with the same exponent
constants   cos, sin int16 [context, head_dim / 2], in 2^-15; reads the row of the step's position
attributes  heads (query and key heads together), head_dim
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools import bfp
from firmware_tools.ops import Array, Call, Run


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    heads, head_dim = int(call.attributes["heads"]), int(call.attributes["head_dim"])
    cos, sin = (call.constants[name][run.position].astype(np.int64) for name in ("cos", "sin"))
    exponent, m = bfp.split(inputs[0])
    x, shift = bfp.narrowed(m[: heads * head_dim])
    pairs = x.reshape(heads, 2, head_dim // 2)
    a, b = pairs[:, 0], pairs[:, 1]
    turned = np.stack([a * cos - b * sin, b * cos + a * sin], axis=1)
    m[: heads * head_dim] = bfp.scaled(turned.reshape(-1), bfp.FULL - shift)
    return (bfp.join(exponent, m),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_rope_bfp"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    numbers = (int(call.attributes["heads"]), int(call.attributes["head_dim"]), f"{c['out0_count']} - 1", c["count"])
    arguments = (c["position"], c["out0"], c["cos"], c["sin"], *map(str, numbers))
    return f"{kernel(call, features)}({', '.join(arguments)});"


def table(values: Array) -> Array:
    """Sines or cosines in 2^-15."""
    return np.clip(np.rint(values.astype(np.float64) * 32768), -32767, 32767).astype(np.int16)


def weight_bytes(call: Call, features: frozenset[str]) -> int:
    """One row of each table."""
    return sum(array.nbytes // array.shape[0] for array in call.constants.values())


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    heads, head_dim = int(call.attributes["heads"]), int(call.attributes["head_dim"])
    return {"call": 1, "head": heads, "element": heads * head_dim}
