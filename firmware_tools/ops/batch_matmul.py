"""Matrix products of floats, many at once: y = a b for each matrix, either of them transposed.

inputs      a float32[…, m, k] (or [k, m] transposed), b float32[…, k, n] (or [n, k]); one may be a constant
outputs     y float32[…, m, n]; the leading axes broadcast
constants   a or b, where the file stores it
attributes  m, k, n; adjoint (a, b): transposed; loops: how both move over the leading axes (floats.broadcast)

Products are added first to last.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.floats import FLOAT, broadcast, broadcast_literal, of_dtype, result_shape, sorted_out, together
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported

OPERATORS = ("BATCH_MATMUL",)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    a, b = (of_dtype(subgraph, index, "a matrix", "float32", "int8") for index in operator.inputs[:2])
    if "int8" in (a.dtype, b.dtype):
        raise Unsupported(f"the matrices are {a.dtype} and {b.dtype}, not float32", FLOAT)
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise Unsupported(f"the matrices have the shapes {list(a.shape)} and {list(b.shape)}")
    adjoint = (bool(operator.options.get("adj_x")), bool(operator.options.get("adj_y")))
    m, k = a.shape[:-3:-1] if adjoint[0] else a.shape[-2:]
    depth, n = b.shape[:-3:-1] if adjoint[1] else b.shape[-2:]
    out = result_shape(subgraph, operator)
    if depth != k or out[-2:] != (m, n):
        raise Unsupported(f"the shapes {list(a.shape)} and {list(b.shape)} do not multiply to {list(out)}")
    of_dtype(subgraph, operator.outputs[0], "the output", "float32")
    inputs, constants = sorted_out(subgraph, {"a": a.index, "b": b.index})
    attributes = {
        "m": m,
        "k": k,
        "n": n,
        "adjoint": adjoint,
        "loops": broadcast(out[:-2], a.shape[:-2], b.shape[:-2]),
    }
    return Call("batch_matmul", inputs, operator.outputs, constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    a, b = together("ab", call.constants, inputs)
    a = np.swapaxes(a, -1, -2) if call.attributes["adjoint"][0] else a
    b = np.swapaxes(b, -1, -2) if call.attributes["adjoint"][1] else b
    batches = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    total = np.zeros((*batches, a.shape[-2], b.shape[-1]), np.float32)
    with np.errstate(all="ignore"):
        for k in range(a.shape[-1]):
            total += a[..., :, k, None] * b[..., None, k, :]
    return (total,)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_batch_matmul_f32"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    computed = [c[f"in{i}"] for i in range(len(call.inputs))]
    a, b = together("ab", {name: c[name] for name in call.constants}, computed)
    sizes = ", ".join(str(call.attributes[name]) for name in "mkn")
    m, k, n = (call.attributes[name] for name in "mkn")
    steps_a = f"1, {m}" if call.attributes["adjoint"][0] else f"{k}, 1"
    steps_b = f"1, {k}" if call.attributes["adjoint"][1] else f"{n}, 1"
    loops = broadcast_literal(call.attributes["loops"])
    return f"{kernel(call, features)}({a}, {b}, {c['out0']}, {sizes}, {steps_a}, {steps_b}, {loops});"
