"""A language model whose cache may have any length, as if the file said all T positions: boards have one length.

Such a file (docs/model-file.md) computes its mask from the number of elements that the cache was given, `step` of them
a position: LESS(RANGE(0, elements, step), position * step), which over T positions is LESS(0 … T - 1, position). And it
cuts probabilities from their end, by STRIDED_SLICE, where over T positions SLICE names the place. Both are found by
their structure alone; a graph in which the first is not found stays as it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from firmware_tools.contract import SIZES
from firmware_tools.graph import Operator, Subgraph, Tensor

MOST_POSITIONS = SIZES["context"]
OPEN = (-1,)  # the shape signature of such a cache
PLAIN_MASKS = ("begin_mask", "end_mask")  # of STRIDED_SLICE, which are seen through; all its other options are 0


def closed(subgraph: Subgraph) -> Subgraph:
    """The subgraph over the cache's declared length. Tensors and operators keep their numbers; new tensors come last,
    and what nobody needs any more (SHAPE, RANGE …) stays where it was.
    """
    if not any(subgraph.tensors[index].shape_signature == OPEN for index in subgraph.inputs):
        return subgraph
    closing = _Closing(subgraph)
    operators = [closing.mask(operator) for operator in subgraph.operators]
    if all(new is old for new, old in zip(operators, subgraph.operators, strict=True)):
        return subgraph
    operators = [closing.cut(operator) for operator in operators]
    tensors = tuple(replace(t, shape_signature=()) if t.shape_signature else t for t in closing.tensors)
    return replace(subgraph, tensors=tensors, operators=tuple(operators))


class _Closing:
    """Replaces operators one by one; `tensors` grow by the constants that this takes."""

    def __init__(self, subgraph: Subgraph) -> None:
        self.tensors = list(subgraph.tensors)
        self._inputs = frozenset(subgraph.inputs)
        self._producer = {output: operator for operator in subgraph.operators for output in operator.outputs}

    def mask(self, operator: Operator) -> Operator:
        """LESS(RANGE(0, length, step), MUL(position, step)) becomes LESS(0 1 2 …, position)."""
        if operator.op != "LESS" or not _takes(operator, 2):
            return operator
        places, limit = self._places(operator.inputs[0]), self._limit(operator.inputs[1])
        if places is None or limit is None or places[1] != limit[1]:
            return operator
        slots = self._constant("slots", np.arange(places[0], dtype=np.int32))
        return replace(operator, inputs=(slots, limit[0]))

    def cut(self, operator: Operator) -> Operator:
        """STRIDED_SLICE in steps of 1 becomes SLICE."""
        if operator.op != "STRIDED_SLICE" or not _takes(operator, 4) or not _has_plain_masks(operator):
            return operator
        shape, cut = self.tensors[operator.inputs[0]].shape, self.tensors[operator.outputs[0]].shape
        begins, ends, steps = (self._integers(index) for index in operator.inputs[1:])
        if not shape or not len(begins) == len(ends) == len(shape) or steps != [1] * len(shape):
            return operator
        from_start, to_end = (int(str(operator.options.get(name) or 0)) for name in PLAIN_MASKS)
        parts = [
            slice(None if from_start >> axis & 1 else begin, None if to_end >> axis & 1 else end).indices(size)
            for axis, (size, begin, end) in enumerate(zip(shape, begins, ends, strict=True))
        ]
        if tuple(end - begin for begin, end, _ in parts) != cut:
            return operator
        begin, size = (np.array(some, np.int32) for some in ([part[0] for part in parts], cut))
        inputs = (operator.inputs[0], self._constant("begin", begin), self._constant("size", size))
        return replace(operator, op="SLICE", version=1, inputs=inputs, options={})

    def _places(self, index: int) -> tuple[int, int] | None:
        """(positions, step) of RANGE(0, length of a cache, step)."""
        start, length, step = self._made_by(index, "RANGE", 3) or (-1, -1, -1)
        steps, size = self._integers(step), self._length(length)
        if self._integers(start) != [0] or len(steps) != 1 or steps[0] < 1 or size is None or size % steps[0]:
            return None
        positions = size // steps[0]
        return (positions, steps[0]) if 1 <= positions <= MOST_POSITIONS else None

    def _length(self, index: int) -> int | None:
        """The declared length of the cache, a vector, whose SHAPE's only element this is."""
        shape, *ends = self._made_by(index, "STRIDED_SLICE", 4, shrink_axis_mask=1) or (-1,)
        if [self._integers(end) for end in ends] != [[0], [1], [1]]:
            return None
        (cache,) = self._made_by(shape, "SHAPE", 1) or (-1,)
        tensor = self.tensors[cache] if cache in self._inputs else None
        return tensor.shape[0] if tensor and tensor.shape_signature == OPEN and len(tensor.shape) == 1 else None

    def _limit(self, index: int) -> tuple[int, int] | None:
        """(position, step) of MUL(position, step), in either order."""
        a, b = self._made_by(index, "MUL", 2, fused_activation_function="NONE") or (-1, -1)
        for position, step in ((a, b), (b, a)):
            steps = self._integers(step)
            if len(steps) == 1 and position in self._inputs and self._is_one_integer(position, index):
                return position, steps[0]
        return None

    def _is_one_integer(self, *indices: int) -> bool:
        return all((self.tensors[i].dtype, self.tensors[i].shape) == ("int32", (1,)) for i in indices)

    def _made_by(self, index: int, op: str, inputs: int, **options: int | str) -> tuple[int, ...] | None:
        """What the op that computes an int32 tensor takes; None where it is another or has other options."""
        operator = self._producer.get(index)
        if (
            operator is None
            or operator.op != op
            or not _takes(operator, inputs)
            or self.tensors[index].dtype != "int32"
        ):
            return None
        given = {name: value for name, value in operator.options.items() if value and name != "out_type"}
        return operator.inputs if given == options else None

    def _integers(self, index: int) -> list[int]:
        """The content of an int32 constant; none where it is something else."""
        tensor = self.tensors[index] if index >= 0 else None
        if tensor is None or tensor.dtype != "int32" or tensor.data is None:
            return []
        numbers: list[int] = tensor.data.reshape(-1).tolist()
        return numbers

    def _constant(self, name: str, content: np.ndarray[tuple[int], np.dtype[np.int32]]) -> int:
        index = len(self.tensors)
        self.tensors.append(Tensor(index, name, content.shape, "int32", None, content, -1))
        return index


def _takes(operator: Operator, inputs: int) -> bool:
    return len(operator.inputs) == inputs and len(operator.outputs) == 1 and min(operator.inputs) >= 0


def _has_plain_masks(operator: Operator) -> bool:
    return not any(value for name, value in operator.options.items() if name not in PLAIN_MASKS)
