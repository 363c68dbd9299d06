"""Embedding in block floating point: the row of the token, x[i] = weights[token, i] * scales[token].

    inputs      none; reads the tokens of the step
    outputs     x int32[dim + 1], a row of bfp.py
    constants   weights int8 [vocab, dim]; scales uint16 [vocab]
    attributes  exponent: of the scales

The weights lie as fully_connected_bfp's do, so that a tied head shares them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools import bfp
from firmware_tools.ops import Array, Call, Run
from firmware_tools.ops.fully_connected_bfp import form, stored


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    weights = call.constants["weights"][run.token].astype(np.int64)
    return (bfp.join(int(call.attributes["exponent"]), weights * int(call.constants["scales"][run.token])),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_embedding_bfp{form(features)}"


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    return {**call.constants, "weights": stored(call, features)}


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    arguments = [c["tokens"], c["out0"], c["weights"], c["scales"], str(int(call.attributes["exponent"]))]
    arguments += [str(call.constants["weights"].shape[1]), c["count"]]
    return f"{kernel(call, features)}({', '.join(arguments)});"


def weight_bytes(call: Call, features: frozenset[str]) -> int:
    """One row of the table, and its scale."""
    return sum(array.nbytes // call.constants["scales"].size for array in layout(call, features).values())


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    return {"call": 1, "element": sizes["out0"]}
