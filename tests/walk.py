"""A subgraph computed operator by operator with the ops' numpy references: what a plain program of it would compute."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from plain_calls import compute

from firmware_tools import ops
from firmware_tools.graph import Subgraph
from firmware_tools.ops import Array, Call, Run

ALIASES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")


class Walk:
    """Every operator lowered once; `run` computes the outputs for inputs in the subgraph's order."""

    def __init__(self, subgraph: Subgraph) -> None:
        self.subgraph = subgraph
        self.calls: list[Call] = []
        for operator in subgraph.operators:
            if operator.op in ALIASES:
                self.calls.append(Call("alias", operator.inputs[:1], operator.outputs))
            else:
                self.calls.append(ops.lower(operator, subgraph))
        self.state = Run()

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        values = dict(zip(self.subgraph.inputs, inputs, strict=True))
        for call in self.calls:
            if call.op == "alias":
                source, target = call.inputs[0], call.outputs[0]
                data = values[source] if source in values else np.asarray(self.subgraph.tensors[source].data)
                values[target] = data.reshape(self.subgraph.tensors[target].shape)
                continue
            for index, array in compute(call, values, self.state).items():
                tensor = self.subgraph.tensors[index]
                assert (array.shape, array.dtype) == (tensor.shape, np.dtype(tensor.dtype)), call.op
                values[index] = array
        return tuple(values[index] for index in self.subgraph.outputs)
