"""A subgraph without loops and without what depends on constants alone.

Each WHILE becomes its body again and again, for as often as its condition says: Keras 3 converts LSTM, GRU and the like
to such loops, over counters that start at constants. What depends on constants alone is computed here, with the ops'
references, so that counters vanish and every round knows which step it takes; so are shapes, where a graph computes
them. Weights stored as float16 become float32. A loop whose end depends on the input is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from firmware_tools import ops, shapes
from firmware_tools.closed import closed
from firmware_tools.graph import Graph, Operator, Subgraph, Tensor
from firmware_tools.ops import Array, Run, Unsupported

MOST_OPERATORS, MOST_TENSORS = 20_000, 500_000
MOST_FOLDED = 1 << 22  # elements of all constants that are computed here, beside as many as the file stores
MOST_ROUNDS, MOST_DEPTH = 10_000, 8  # of loops, and of loops in loops
HINT = "fix the length of the sequence in the model, or build its recurrent layers with unroll=True"


def simplified(graph: Graph, index: int = 0) -> Subgraph:
    """Subgraph number index, unrolled and folded; inputs and outputs keep their order, and inputs their numbers.

    Raises:
        Unsupported: a loop ends when the input says so, or is too long.
    """
    subgraph = closed(graph.subgraphs[index])
    simplifier = _Simplifier(graph, subgraph)
    places = {number: number for number in range(len(subgraph.tensors))}
    simplifier.walk(subgraph, places)
    outputs = tuple(places[output] for output in subgraph.outputs)
    return replace(subgraph, tensors=tuple(simplifier.tensors), operators=tuple(simplifier.operators), outputs=outputs)


class _Simplifier:
    """Tensors and operators of the result while it grows; `places` map a subgraph's tensors to them."""

    def __init__(self, graph: Graph, subgraph: Subgraph) -> None:
        self.graph = graph
        self.tensors = list(subgraph.tensors)
        self.operators: list[Operator] = []
        self._stored: dict[tuple[int, int], int] = {}
        self._left = MOST_FOLDED + sum(
            tensor.data.size for s in graph.subgraphs for tensor in s.tensors if tensor.data is not None
        )
        self._rounds, self._depth = 0, 0

    def walk(self, subgraph: Subgraph, places: dict[int, int]) -> None:
        for operator in subgraph.operators:
            inputs = tuple(i if i < 0 else self._place(subgraph, i, places) for i in operator.inputs)
            if operator.op == "WHILE":
                results = self._loop(operator, inputs)
                places.update(zip(operator.outputs, results, strict=True))
            else:
                self._keep(operator, inputs, subgraph, places)

    def _place(self, subgraph: Subgraph, number: int, places: dict[int, int]) -> int:
        """The tensor that stands for one of a subgraph; what a body stores is one for all rounds."""
        if number not in places:
            key = (id(subgraph), number)
            if key not in self._stored:
                self._stored[key] = self._add(subgraph.tensors[number])
            places[number] = self._stored[key]
        return places[number]

    def _add(self, tensor: Tensor, **changes: Any) -> int:
        if len(self.tensors) > MOST_TENSORS:
            raise Unsupported(f"the loop unrolls to more than {MOST_TENSORS} tensors", HINT)
        self.tensors.append(replace(tensor, index=len(self.tensors), **changes))
        return len(self.tensors) - 1

    def _loop(self, operator: Operator, state: tuple[int, ...]) -> tuple[int, ...]:
        condition, body = (
            self.graph.subgraphs[int(str(operator.options.get(f"{name}_subgraph_index", 0)))]
            for name in ("cond", "body")
        )
        sizes = {len(state), len(operator.outputs), len(condition.inputs), len(body.inputs), len(body.outputs)}
        if len(sizes) != 1 or len(condition.outputs) != 1 or min(state, default=0) < 0:
            raise Unsupported("the loop's condition and body do not fit its state")
        self._depth += 1
        while self._holds(condition, state):
            places = dict(zip(body.inputs, state, strict=True))
            self.walk(body, places)
            state = tuple(self._place(body, output, places) for output in body.outputs)
            self._rounds += 1
            if len(self.operators) > MOST_OPERATORS or self._rounds > MOST_ROUNDS or self._depth > MOST_DEPTH:
                raise Unsupported(f"the loop unrolls to more than {MOST_OPERATORS} operators or never ends", HINT)
        self._depth -= 1
        return state

    def _holds(self, condition: Subgraph, state: tuple[int, ...]) -> bool:
        places = dict(zip(condition.inputs, state, strict=True))
        if self._depth > MOST_DEPTH:
            raise Unsupported("loops lie too deep in one another", HINT)
        self.walk(condition, places)
        data = self.tensors[self._place(condition, condition.outputs[0], places)].data
        if data is None:
            raise Unsupported("the loop ends when the input says so", HINT)
        return bool(data.all())

    def _keep(self, operator: Operator, inputs: tuple[int, ...], subgraph: Subgraph, places: dict[int, int]) -> None:
        """The operator itself, or what it computes where that is known."""
        if operator.op == "CONCATENATION":  # rounds of a loop begin and end with parts that have no elements
            inputs = tuple(i for i in inputs if math.prod(self.tensors[i].shape)) or inputs[:1]
        used = [self.tensors[i] for i in inputs if i >= 0]
        declared = [subgraph.tensors[number] for number in operator.outputs]
        outputs = [
            replace(tensor, shape=shapes.inferred(operator, used, tensor), shape_signature=()) for tensor in declared
        ]
        results = self._folded(replace(operator, inputs=inputs), outputs, used)
        for n, (number, tensor) in enumerate(zip(operator.outputs, outputs, strict=True)):
            if results is not None:
                places[number] = self._add(tensor, shape=results[n].shape, stored=results[n], buffer=-1)
            elif number in places:  # the outermost subgraph's tensors keep their numbers
                self.tensors[number] = tensor
            else:
                places[number] = self._add(tensor)
        made = tuple(places[number] for number in operator.outputs)
        if results is None and any(math.prod(self.tensors[number].shape) for number in made):
            self.operators.append(replace(operator, index=len(self.operators), inputs=inputs, outputs=made))

    def _folded(self, operator: Operator, outputs: Sequence[Tensor], used: Sequence[Tensor]) -> list[Array] | None:
        """The outputs of an operator that depends on constants alone; None where it does not, or nobody knows."""
        try:
            results = self._computed(operator, outputs, used)
        except ops.MALFORMED:  # lowering the operator will say so
            return None
        self._left -= sum(data.size for data in results or ())
        if self._left < 0:
            raise Unsupported("what depends on constants alone is too large to compute beforehand", HINT)
        return results

    def _computed(self, operator: Operator, outputs: Sequence[Tensor], used: Sequence[Tensor]) -> list[Array] | None:
        if operator.op == "SHAPE":
            return [np.array(used[0].shape, outputs[0].dtype)]
        if any(tensor.data is None for tensor in used) or not used:
            return None
        if operator.op == "DEQUANTIZE" and used[0].dtype == "float16":
            return [np.asarray(used[0].data, np.float32)]
        if sum(math.prod(tensor.shape) for tensor in outputs) > self._left:
            return None
        if operator.op in FOLDS:
            return [FOLDS[operator.op](operator, [tensor.data for tensor in used], outputs[0].shape)]
        here = [replace(tensor, index=len(self.tensors) + n) for n, tensor in enumerate(outputs)]
        alone = replace(operator, outputs=tuple(tensor.index for tensor in here))
        try:
            call = ops.lower(alone, Subgraph("", (*self.tensors, *here), (), (), (alone,)))
        except Unsupported:
            return None
        if ops.cache_bytes(call):
            return None
        return list(ops.load(call.op).reference(call, tuple(self.tensors[i].data for i in call.inputs), Run()))


def _slice(operator: Operator, data: Sequence[Any], shape: tuple[int, ...]) -> Array:
    starts = data[1].reshape(-1).tolist()
    part: Array = data[0][tuple(slice(start, start + count) for start, count in zip(starts, shape, strict=True))]
    return part


def _concatenation(operator: Operator, data: Sequence[Any], shape: tuple[int, ...]) -> Array:
    return np.concatenate(data, shapes.axis_of(operator, len(shape)))


def _reshape(operator: Operator, data: Sequence[Any], shape: tuple[int, ...]) -> Array:
    reshaped: Array = data[0].reshape(shape)
    return reshaped


def _product(operator: Operator, data: Sequence[Any], shape: tuple[int, ...]) -> Array:
    product: Array = np.prod(data[0], axis=tuple(data[1].reshape(-1).tolist()), dtype=data[0].dtype).reshape(shape)
    return product


def _fill(operator: Operator, data: Sequence[Any], shape: tuple[int, ...]) -> Array:
    return np.full(tuple(data[0].reshape(-1).tolist()), data[1].reshape(()), data[1].dtype)


FOLDS: Mapping[str, Callable[[Operator, Sequence[Any], tuple[int, ...]], Array]] = {
    "SLICE": _slice,
    "CONCATENATION": _concatenation,
    "RESHAPE": _reshape,
    "EXPAND_DIMS": _reshape,
    "SQUEEZE": _reshape,
    "REDUCE_PROD": _product,
    "FILL": _fill,
}
