"""Softmax over the last axis: y[i] = e^(beta (x[i] - max)) / their sum; or its logarithm.

inputs      x float32[rows, n]
outputs     y float32[rows, n]; may be x
attributes  n; beta; log: x - max - log(sum) instead

The powers are added first to last. Where all of a row is -infinity the result is not a number, as in TFLite.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools import elementary
from firmware_tools.floats import literal, of_dtype, of_shape
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run
from firmware_tools.packed import sequential_sum

IN_PLACE = ((0, 0),)  # (output, input) that may share memory
OPERATORS = ("SOFTMAX", "LOG_SOFTMAX")


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x = of_dtype(subgraph, operator.inputs[0], "the input", "float32")
    of_shape(subgraph, operator, x.shape)
    of_dtype(subgraph, operator.outputs[0], "the output", "float32")
    log = operator.op == "LOG_SOFTMAX"
    beta = 1.0 if log else float(str(operator.options.get("beta", 1.0)))
    attributes = {"n": x.shape[-1] if x.shape else 1, "beta": beta, "log": log}
    return Call("softmax_float", operator.inputs[:1], operator.outputs, {}, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    x = inputs[0].reshape(-1, call.attributes["n"])
    with np.errstate(all="ignore"):
        shifted = x - x.max(axis=-1, keepdims=True)
        powers = elementary.exp(shifted * np.float32(call.attributes["beta"]))
        total = sequential_sum(powers)[:, None]
        y = shifted - elementary.log(total) if call.attributes["log"] else powers / total
    return (y.astype(np.float32).reshape(inputs[0].shape),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_{'log_softmax' if call.attributes['log'] else 'softmax'}_f32"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    n = call.attributes["n"]
    beta = "" if call.attributes["log"] else f", {literal(call.attributes['beta'])}"
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['out0_count']} / {n}, {n}{beta});"
