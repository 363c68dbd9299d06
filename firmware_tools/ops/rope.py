"""RoPE, rotary position embedding (Su et al., 2021, arXiv:2104.09864), in place, with pairs (i, i + head_dim / 2).

inputs      x float32[at least heads * head_dim]: the query heads, then the key heads; what follows is left alone
outputs     x
constants   cos, sin float32 [context, head_dim / 2]; reads the row of the step's position
attributes  heads (query and key heads together), head_dim
"""

from __future__ import annotations

from collections.abc import Mapping

from firmware_tools.ops import Array, Call, Run, fastest


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    heads, head_dim = int(call.attributes["heads"]), int(call.attributes["head_dim"])
    cos, sin = call.constants["cos"][run.position], call.constants["sin"][run.position]
    x = inputs[0].copy()
    pairs = x[: heads * head_dim].reshape(heads, 2, head_dim // 2)
    a, b = pairs[:, 0].copy(), pairs[:, 1].copy()
    pairs[:, 0] = a * cos - b * sin
    pairs[:, 1] = b * cos + a * sin
    return (x,)


def kernel(call: Call, features: frozenset[str]) -> str:
    by_fours = int(call.attributes["head_dim"]) % 8 == 0
    return f"edge_rope_f32{fastest(features, 'mve', *(('dsp',) if by_fours else ()))}"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    heads, head_dim = int(call.attributes["heads"]), int(call.attributes["head_dim"])
    arguments = (c["position"], c["out0"], c["cos"], c["sin"], str(heads), str(head_dim), c["out0_count"], c["count"])
    return f"{kernel(call, features)}({', '.join(arguments)});"


def weight_bytes(call: Call, features: frozenset[str]) -> int:
    """One row of each table."""
    return sum(array.nbytes // array.shape[0] for array in call.constants.values())


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    heads, head_dim = int(call.attributes["heads"]), int(call.attributes["head_dim"])
    return {"call": 1, "head": heads, "element": heads * head_dim}
