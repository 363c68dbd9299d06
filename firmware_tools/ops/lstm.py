"""Long short-term memory over a sequence, float32 activations; weights float32 or int8 (hybrid).

    inputs      x float32[batches, steps, inputs], or [steps, batches, inputs] where time_major
    outputs     y float32[batches, steps, units] or [steps, batches, units]; not x
    constants   weights [4, units, inputs], recurrent [4, units, units] float32 or int8; bias float32[4, units];
                scales float32[2, 4] where they are int8: of weights and recurrent, one a gate
    attributes  batches, steps, inputs, units, time_major; cell_clip (0: none); asymmetric; layer

    gate = bias + W x + R h;  c = sigmoid(forget) c + tanh(cell) sigmoid(input);  h = y = sigmoid(output) tanh(c)

(Hochreiter and Schmidhuber, 1997.) Each dot product is added up first to last and then to the gate. With int8 weights
the rows x and h are quantized as they come (hybrid.py), the integers' dot product is exact. The cache is h, then c,
float32 [batches, units] each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from firmware_tools import elementary, hybrid
from firmware_tools.floats import initializer
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.lstm import BIASES, INPUT_WEIGHTS, RECURRENT_WEIGHTS, check, sequence, shape_of, stacked
from firmware_tools.ops import Array, Call, Run, Unsupported

OPERATORS = ("UNIDIRECTIONAL_SEQUENCE_LSTM",)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    check(operator, subgraph)
    dtype = subgraph.tensors[operator.inputs[1]].dtype
    if dtype not in ("float32", "int8"):
        raise Unsupported(f"the LSTM's weights are {dtype}, not float32 or int8")
    weights = stacked(operator, subgraph, INPUT_WEIGHTS, "the weights", dtype)
    recurrent = stacked(operator, subgraph, RECURRENT_WEIGHTS, "the recurrent weights", dtype)
    attributes = shape_of(operator, subgraph, weights, recurrent, "float32")
    attributes["asymmetric"] = bool(operator.options.get("asymmetric_quantize_inputs"))
    bias = stacked(operator, subgraph, BIASES, "the biases", "float32")
    constants = {"weights": weights, "recurrent": recurrent, "bias": bias}
    if dtype == "int8":
        constants["scales"] = np.array([_scale(subgraph, i) for i in operator.inputs[1:9]], np.float32).reshape(2, 4)
    return Call("lstm", operator.inputs[:1], operator.outputs, constants, attributes)


def _scale(subgraph: Subgraph, index: int) -> float:
    quantization = subgraph.tensors[index].quantization
    if quantization is None or quantization.scale.size != 1 or bool(quantization.zero_point.any()):
        raise Unsupported("the LSTM's weights have no scale, or more than one, or a zero point")
    return float(quantization.scale[0])


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    a = call.attributes
    zeros = np.zeros((a["batches"], a["units"]), np.float32)
    state = run.caches.setdefault(a["layer"], {"h": zeros, "c": zeros})
    x, outputs = sequence(inputs[0], a), []
    with np.errstate(all="ignore"):
        for step in x:
            gates = _gates(call, step, state["h"])
            i, f, o = (elementary.logistic(gates[:, gate]) for gate in (0, 1, 3))
            c = f * state["c"]
            c = c + elementary.tanh(gates[:, 2]) * i
            if a["cell_clip"] > 0:
                c = np.minimum(np.maximum(c, np.float32(-a["cell_clip"])), np.float32(a["cell_clip"]))
            state["c"], state["h"] = c, o * elementary.tanh(c)
            outputs.append(state["h"])
    return (np.ascontiguousarray(sequence(np.stack(outputs), a)),)


def _gates(call: Call, x: Array, h: Array) -> Array:
    """float32 [batches, 4, units]."""
    gates: Array = np.broadcast_to(call.constants["bias"], (len(x), *call.constants["bias"].shape))
    for side, (matrix, rows) in enumerate((("weights", x), ("recurrent", h))):
        weights = call.constants[matrix]
        dots: Any = np.zeros(gates.shape, np.float32)
        if "scales" in call.constants:
            for batch, row in enumerate(rows):
                values, scale, zero_point = hybrid.quantize(row, call.attributes["asymmetric"])
                sums = (weights.astype(np.int32) @ (values - zero_point)).astype(np.float32)
                dots[batch] = sums * (scale * call.constants["scales"][side])[:, None]
        else:
            for k in range(weights.shape[2]):
                dots = dots + weights[:, :, k] * rows[:, None, k, None]
        gates = gates + dots
    return gates


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_lstm_{'hybrid' if 'scales' in call.constants else 'f32'}"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a = call.attributes
    names = ("batches", "steps", "inputs", "units", "time_major", "asymmetric", "cell_clip")
    shape = f"&(const edge_lstm_shape){initializer({name: a[name] for name in names})}"
    constants = (
        ("weights", "recurrent", "bias", "scales") if "scales" in call.constants else ("weights", "recurrent", "bias")
    )
    arguments = [c["in0"], c["out0"], *(c[name] for name in constants), shape, c["cache"], c["workspace"]]
    return f"{kernel(call, features)}({', '.join(arguments)});"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """The gates of a step; with int8 weights also x and h as int8."""
    a = call.attributes
    quantized = a["inputs"] + a["units"] if "scales" in call.constants else 0
    return int(16 * a["units"] + quantized)


def cache_bytes(call: Call) -> int:
    return int(8 * call.attributes["batches"] * call.attributes["units"])
