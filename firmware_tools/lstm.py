"""The tensors of a file's UNIDIRECTIONAL_SEQUENCE_LSTM, for the ops that compute it in floats and in integers.

Gates are in TFLite's order everywhere: input, forget, cell, output. State is zeros at first, stays from one invocation
to the next, and is cleared by clearing the op's cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from firmware_tools.floats import constant, of_dtype, optional
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Unsupported

INPUT_WEIGHTS, RECURRENT_WEIGHTS, PEEPHOLES, BIASES, PROJECTION = (1, 5), (5, 9), (9, 12), (12, 16), (16, 18)
OUTPUT_STATE, CELL_STATE, NORMS = 18, 19, (20, 24)
KERAS = "the LSTM layer of Keras converts to one without"


def check(operator: Operator, subgraph: Subgraph) -> None:
    """Unsupported for the variants that are not computed."""
    kinds = {"peephole connections": PEEPHOLES, "a projection": PROJECTION, "layer normalization": NORMS}
    for name, (first, end) in kinds.items():
        if any(optional(operator.inputs, i) >= 0 for i in range(first, end)):
            raise Unsupported(f"the LSTM has {name}", KERAS)
    if operator.inputs[1] < 0:
        raise Unsupported("the LSTM has coupled input and forget gates", KERAS)
    activation = str(operator.options.get("fused_activation_function"))
    if activation != "TANH":
        raise Unsupported(f"the LSTM's activation is {activation}, not TANH")
    for index in (operator.inputs[OUTPUT_STATE], operator.inputs[CELL_STATE]):
        if index < 0 or not subgraph.tensors[index].is_variable:
            raise Unsupported("the LSTM's state is not a variable of its own", KERAS)


def stacked(operator: Operator, subgraph: Subgraph, inputs: tuple[int, int], what: str, dtype: str) -> Array:
    """The four gates' tensors as one, [4, …]."""
    parts = [constant(subgraph, operator.inputs[i], what, dtype) for i in range(*inputs)]
    if len({part.shape for part in parts}) != 1 or parts[0].ndim != (1 if inputs == BIASES else 2):
        raise Unsupported(f"{what} of the gates have different shapes")
    return np.stack(parts)


def shape_of(operator: Operator, subgraph: Subgraph, weights: Array, recurrent: Array, dtype: str) -> dict[str, Any]:
    """batches, steps, inputs, units, time_major, cell_clip, layer: what the loops need."""
    x = of_dtype(subgraph, operator.inputs[0], "the input", dtype).shape
    time_major = bool(operator.options.get("time_major"))
    out, units = of_dtype(subgraph, operator.outputs[0], "the output", dtype).shape, weights.shape[1]
    if len(x) != 3 or weights.shape[2] != x[2] or recurrent.shape[1:] != (units, units) or out != (*x[:2], units):
        raise Unsupported(f"weights {list(weights.shape[1:])} do not take {list(x)} to {list(out)}")
    if len(subgraph.tensors[operator.inputs[BIASES[0]]].shape) != 1 or bias_units(operator, subgraph) != units:
        raise Unsupported("the LSTM's biases have another size than its gates")
    return {
        "batches": x[1] if time_major else x[0],
        "steps": x[0] if time_major else x[1],
        "inputs": x[2],
        "units": units,
        "time_major": time_major,
        "cell_clip": float(str(operator.options.get("cell_clip") or 0.0)),
        "layer": operator.index,
    }


def bias_units(operator: Operator, subgraph: Subgraph) -> int:
    return subgraph.tensors[operator.inputs[BIASES[0]]].shape[0]


def sequence(x: Array, attributes: Mapping[str, Any]) -> Array:
    """x as [steps, batches, …]; its own inverse."""
    return x if attributes["time_major"] else x.swapaxes(0, 1)
