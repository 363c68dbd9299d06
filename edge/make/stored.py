"""The weight matrices of a file as the numbers that it computes with: what quantization made of them, read back.

The file is asked, not the converter, so that what a report says of a scheme is what has been written.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.content import Nibbles
from firmware_tools.errors import UserError
from firmware_tools.graph import Graph, Operator, Subgraph, Tensor

Array = NDArray[np.float32]


class StoredMatrices:
    """matrix(name) of a file of ours: `head`, and `i.qkv`, `i.o`, `i.gate_up`, `i.down` of each layer i."""

    def __init__(self, model: Graph) -> None:
        self._subgraph: Subgraph = model.subgraphs[model.signatures["decode"].subgraph]

    def matrix(self, name: str, shape: tuple[int, int]) -> Array:
        """float32 [rows, columns]; UserError where the file does not have it in a form that is known here.

        Products whose outputs have the same name add up; one with fewer columns is over sums of blocks of the input.
        """
        total: Array | None = None
        for operator in self._products.get(name, ()):
            weights = self._product(operator)
            if weights is None or weights.shape[0] != shape[0] or shape[1] % weights.shape[1]:
                raise UserError(f"the matrix {name} is stored in a form that --report does not know")
            weights = np.repeat(weights, shape[1] // weights.shape[1], axis=1)
            total = weights if total is None else total + weights
        if total is None:
            raise UserError(f"the file has no matrix {name} that --report could look into")
        return total

    @cached_property
    def _products(self) -> Mapping[str, list[Operator]]:
        """FULLY_CONNECTED operators by the name of their output."""
        found: dict[str, list[Operator]] = {}
        for operator in self._subgraph.operators:
            if operator.op == "FULLY_CONNECTED":
                found.setdefault(self._subgraph.tensors[operator.outputs[0]].name, []).append(operator)
        return found

    @cached_property
    def _readers(self) -> Mapping[int, list[Operator]]:
        found: dict[int, list[Operator]] = {}
        for operator in self._subgraph.operators:
            for index in operator.inputs:
                found.setdefault(index, []).append(operator)
        return found

    @cached_property
    def _widened(self) -> Mapping[int, int]:
        """float32 tensor -> the float16 constant that it is of."""
        operators = (operator for operator in self._subgraph.operators if operator.op == "DEQUANTIZE")
        return {operator.outputs[0]: operator.inputs[0] for operator in operators}

    def _product(self, operator: Operator) -> Array | None:
        """The real weights of a product, the scales of a MUL that follows it alone included."""
        index = operator.inputs[1]
        weights = self._real(self._subgraph.tensors[self._widened.get(index, index)])
        after = self._readers.get(operator.outputs[0], [])
        if weights is None or len(after) != 1 or after[0].op != "MUL":
            return weights
        (other,) = (each for each in after[0].inputs if each != operator.outputs[0])
        scales = self._subgraph.tensors[other].data
        if scales is None or scales.shape != weights.shape[:1]:
            return weights
        return np.asarray(weights * scales[:, None], np.float32)

    def _real(self, tensor: Tensor) -> Array | None:
        if tensor.stored is None or len(tensor.shape) != 2:
            return None
        # Tensor.data would keep what it unpacks
        values = tensor.stored.unpacked() if isinstance(tensor.stored, Nibbles) else tensor.stored
        form = tensor.quantization
        if form is None:
            return np.asarray(values, np.float32) if tensor.dtype in ("float16", "float32") else None
        scales: Any = form.scale
        if form.details:
            index = form.details.get("scales")
            if not isinstance(index, int) or self._subgraph.tensors[index].data is None:
                return None
            scales = self._subgraph.tensors[index].data
        elif form.zero_point.any() or scales.size not in (1, len(values)):
            return None
        scales = np.asarray(scales, np.float32).reshape(scales.shape[0], -1)
        if values.shape[1] % scales.shape[1]:
            return None
        return np.asarray(values * np.repeat(scales, values.shape[1] // scales.shape[1], axis=1), np.float32)
