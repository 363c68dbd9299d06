"""Embedding: the row of the token, x[i] = weights[token, i] * scales[token].

    inputs      none; reads the token of the step
    outputs     x float32[dim]
    constants   weights int8 or float32 [vocab, dim]; scales float32 [vocab] where weights are int8

Weights lie as fully_connected's do (packed.py), so that a tied head shares them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.ops import Array, Call, Run, fastest
from firmware_tools.packed import lay


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    row = call.constants["weights"][run.token].astype(np.float32)
    return (row * call.constants["scales"][run.token] if "scales" in call.constants else row,)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_embedding_{'s8' if 'scales' in call.constants else 'f32'}{fastest(features, 'mve')}"


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    return {**call.constants, "weights": lay(call.constants["weights"], features)}


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    tables = ", ".join(c[name] for name in ("weights", "scales") if name in call.constants)
    return f"{kernel(call, features)}({c['tokens']}, {c['out0']}, {tables}, {c['out0_count']}, {c['count']});"


def weight_bytes(call: Call, features: frozenset[str]) -> int:
    """One row of the table, and its scale."""
    return sum(array.nbytes // array.shape[0] for array in call.constants.values())


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    return {"call": 1, "element": sizes["out0"]}
