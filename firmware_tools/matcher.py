"""What the patterns of fuse.py ask of a subgraph.

`Net` sees through the operators that only move numbers: which elements of which tensor is this? RESHAPE, SLICE, SPLIT
and the like are evaluated on the elements' indices instead of their values. A pattern can then ask for "elements 64 to
95 of that tensor" and need not know by which of the many spellings a converter cut them out.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.closed import closed
from firmware_tools.graph import Graph, Operator, Signature, Subgraph, Tensor
from firmware_tools.ops import Array

MAX_ELEMENTS = 1 << 24  # of a tensor whose elements are followed; a file may claim shapes of any size
Indices = NDArray[np.int32]


INPUTS = {
    # op -> fewest and most inputs; those beyond the fewest are optional
    **dict.fromkeys(("CAST", "DEQUANTIZE", "RSQRT", "SQUARE", "LOGISTIC", "SOFTMAX", "SQUEEZE"), (1, 1)),
    **dict.fromkeys(("ADD", "SUB", "MUL", "MINIMUM", "LESS", "GATHER", "MEAN", "BATCH_MATMUL"), (2, 2)),
    **dict.fromkeys(("CONCATENATION", "SPLIT", "TRANSPOSE", "EXPAND_DIMS"), (2, 2)),
    **dict.fromkeys(("SELECT", "SELECT_V2", "SLICE", "SPLIT_V"), (3, 3)),
    "RESHAPE": (1, 2),
    "FULLY_CONNECTED": (2, 3),
    "STRIDED_SLICE": (4, 4),
}


@dataclass(frozen=True, eq=False)
class View:
    """The elements of one tensor as indices into the flat elements of another; indices has the tensor's own shape."""

    base: int
    indices: Indices

    def is_range(self, start: int, count: int) -> bool:
        """Are these, in order, the elements start to start + count - 1?"""
        flat = self.indices.reshape(-1)
        return flat.size == count and bool(np.array_equal(flat, np.arange(start, start + count)))

    def is_same(self, other: View) -> bool:
        """Are these the same elements in the same shape?"""
        return self.base == other.base and bool(np.array_equal(self.indices, other.indices))


def is_well_formed(operator: Operator) -> bool:
    """Has the operator the inputs and outputs that its op takes? Patterns need not ask again, and see no others."""
    least, most = INPUTS.get(operator.op, (1, 0))
    outputs = len(operator.outputs) == 1 or operator.op in ("SPLIT", "SPLIT_V") and len(operator.outputs) > 1
    return outputs and least <= len(operator.inputs) <= most and all(index >= 0 for index in operator.inputs[:least])


class Net:
    """A subgraph with the operator that computes each tensor. `touched` collects the operators that were asked for."""

    def __init__(self, subgraph: Subgraph) -> None:
        self.subgraph = subgraph
        self.operators = tuple(operator for operator in subgraph.operators if is_well_formed(operator))
        self.producer = {output: operator for operator in self.operators for output in operator.outputs}
        self.touched: set[int] = set()
        self._views: dict[int, View | None] = {}

    def tensor(self, index: int) -> Tensor:
        return self.subgraph.tensors[index]

    def size(self, index: int) -> int:
        """Number of elements."""
        return math.prod(self.tensor(index).shape)

    def constant(self, index: int) -> NDArray[Any] | None:
        """The content of a tensor that is stored in the file, float16 numbers widened; None for the absent input -1."""
        widened = self.made_by(index, "DEQUANTIZE") if index >= 0 else None
        if widened is not None and self.tensor(widened.inputs[0]).dtype == "float16":
            halves = self.tensor(widened.inputs[0]).data
            return None if halves is None else halves.astype(np.float32)
        return None if index < 0 else self.tensor(index).data

    def made_by(self, index: int, op: str) -> Operator | None:
        """The operator that computes a tensor, where it is an op without a fused activation."""
        operator = self.producer.get(index)
        if operator is None or operator.op != op or operator.options.get("fused_activation_function", "NONE") != "NONE":
            return None
        self.touched.add(operator.index)
        return operator

    def view(self, index: int) -> View | None:
        """What a tensor is once all moving is seen through; None where it is moved in a way that is not understood."""
        if index not in self._views:
            self._views[index] = self._find_view(index)
        self.touched.update(operator.index for operator, _ in self._path(index)[0])
        return self._views[index]

    def whole(self, index: int) -> int | None:
        """The tensor whose elements these are, all of them and in order."""
        view = self.view(index)
        return view.base if view is not None and view.is_range(0, self.size(view.base)) else None

    def _path(self, index: int) -> tuple[list[tuple[Operator, int]], int]:
        """The moving operators from a tensor back to its base, each with the output that is meant, and the base."""
        path = []
        while (operator := self.producer.get(index)) is not None and operator.op in MOVES:
            path.append((operator, index))
            index = operator.inputs[MOVES[operator.op][0]]
        return path, index

    def _find_view(self, index: int) -> View | None:
        path, base = self._path(index)
        if self.size(base) > MAX_ELEMENTS:
            return None
        indices = np.arange(self.size(base), dtype=np.int32).reshape(self.tensor(base).shape)
        for operator, output in reversed(path):
            moved = self._move(operator, output, indices)
            if moved is None or moved.shape != self.tensor(output).shape:
                return None
            indices = moved
        return View(base, indices)

    def _move(self, operator: Operator, target: int, indices: Indices) -> Indices | None:
        """What one operator makes of indices, at its output `target`; None where it cannot be told."""
        constants = [self.constant(i) for i in operator.inputs]
        try:
            return MOVES[operator.op][1](self, operator, target, constants, indices)
        except (ValueError, IndexError, TypeError, AttributeError):  # arguments that are computed, missing or absurd
            return None


Move = Callable[[Net, Operator, int, "list[NDArray[Any] | None]", Indices], "Indices | None"]


def _reshape(net: Net, operator: Operator, target: int, constants: Any, indices: Indices) -> Indices:
    return indices.reshape(net.tensor(target).shape)


def _slice(net: Net, operator: Operator, target: int, constants: Any, indices: Indices) -> Indices | None:
    begin, size = constants[1].reshape(-1).tolist(), constants[2].reshape(-1).tolist()
    if (
        len(begin) != indices.ndim
        or len(size) != indices.ndim
        or min(begin, default=0) < 0
        or min(size, default=0) < -1
    ):
        return None
    ranges = [slice(b, None if s == -1 else b + s) for b, s in zip(begin, size, strict=True)]
    return indices[tuple(ranges)]


def _strided_slice(net: Net, operator: Operator, target: int, constants: Any, indices: Indices) -> Indices | None:
    """Without new axes and ellipses; shrunk axes have one element, so that the output's shape tells the rest."""
    options = operator.options
    if options.get("ellipsis_mask") or options.get("new_axis_mask") or options.get("offset"):
        return None
    begin, end, stride = (constants[i].reshape(-1).tolist() for i in (1, 2, 3))
    masks = [int(str(options.get(f"{name}_mask") or 0)) for name in ("begin", "end", "shrink_axis")]
    ranges = []
    for axis in range(len(begin)):
        first, last, shrunk = (mask >> axis & 1 for mask in masks)
        start = None if first else begin[axis]
        stop = begin[axis] + 1 or None if shrunk else None if last else end[axis]
        ranges.append(slice(start, stop, 1 if shrunk else stride[axis]))
    return indices[tuple(ranges)].reshape(net.tensor(target).shape)


def _split(net: Net, operator: Operator, target: int, constants: Any, indices: Indices) -> Indices:
    count = len(operator.outputs)
    return np.split(indices, count, int(constants[0].item()))[operator.outputs.index(target)]


def _split_v(net: Net, operator: Operator, target: int, constants: Any, indices: Indices) -> Indices | None:
    sizes = constants[1].reshape(-1).tolist()
    if min(sizes) < 0 or len(sizes) != len(operator.outputs):
        return None
    cuts = np.cumsum(sizes)[:-1]
    return np.split(indices, cuts, int(constants[2].item()))[operator.outputs.index(target)]


def _transpose(net: Net, operator: Operator, target: int, constants: Any, indices: Indices) -> Indices:
    return indices.transpose(constants[1].reshape(-1).tolist())


# op -> (which input is moved, how)
MOVES: dict[str, tuple[int, Move]] = {
    "RESHAPE": (0, _reshape),
    "EXPAND_DIMS": (0, _reshape),
    "SQUEEZE": (0, _reshape),
    "SLICE": (0, _slice),
    "STRIDED_SLICE": (0, _strided_slice),
    "SPLIT": (1, _split),
    "SPLIT_V": (0, _split_v),
    "TRANSPOSE": (0, _transpose),
}


@dataclass(frozen=True)
class Step:
    """A call whose values are still tensors of the subgraph; output may be among inputs: in place."""

    op: str
    inputs: tuple[int, ...]
    output: int
    constants: Mapping[str, Array] = field(default_factory=dict)
    attributes: Mapping[str, float | int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Rotated:
    """A tensor that is part of another after RoPE: where its elements come from, and the tables."""

    source: View
    cos: Array
    sin: Array


class Decoder(Net):
    """The subgraph of `decode` while it is matched; `rows` are the tensors that steps have computed."""

    def __init__(self, graph: Graph, signature: Signature, context: int | None) -> None:
        super().__init__(closed(graph.subgraphs[signature.subgraph]))
        self.inputs = {tensor.index: name for name, tensor in signature.inputs.items()}
        self.outputs = {name: tensor.index for name, tensor in signature.outputs.items()}
        self.layers = sum(re.fullmatch(r"k_\d+", name) is not None for name in signature.inputs)
        self.context = context
        self.rows: set[int] = set()
        self.rotated: dict[int, Rotated] = {}
        self._pool: dict[tuple[str, tuple[int, ...], bytes], Array] = {}

    def row(self, index: int) -> int | None:
        """The understood tensor that this one is, whatever its shape."""
        base = self.whole(index)
        return base if base in self.rows else None

    def is_input(self, index: int, name: str) -> bool:
        """Is this the input `name` of the signature, whatever its shape?"""
        base = self.whole(index)
        return base is not None and self.inputs.get(base) == name

    def kept(self, array: NDArray[Any], shape: tuple[int, ...]) -> Array:
        """A constant for a step; equal ones are one object."""
        array = np.ascontiguousarray(array).reshape(shape)
        key = (array.dtype.str, array.shape, hashlib.sha256(array.data).digest())
        return self._pool.setdefault(key, array)

    def floats(self, index: int) -> NDArray[np.float32] | None:
        """A constant of finite float32 numbers."""
        data = self.constant(index)
        if data is None or self.tensor(index).dtype != "float32" or not bool(np.isfinite(data).all()):
            return None
        return data

    def scalar(self, index: int) -> float | None:
        """A constant with one finite element."""
        data = self.floats(index)
        return float(data.item()) if data is not None and data.size == 1 else None

    def pair(self, index: int, op: str) -> tuple[int, int] | None:
        """Both operands of the op that computes a tensor."""
        operator = self.made_by(index, op)
        return (operator.inputs[0], operator.inputs[1]) if operator else None

    def factors(self, index: int) -> list[int]:
        """What a tensor is the product of, through nested MULs, down to rows and what is no MUL."""
        operands = None if self.row(index) is not None else self.pair(index, "MUL")
        return [index] if operands is None else [leaf for operand in operands for leaf in self.factors(operand)]

    def gathered(self, index: int, by: str) -> int | None:
        """The table [n, columns] of which a tensor is the row with the number that the input `by` gives."""
        base = self.whole(index)
        gather = None if base is None else self.made_by(base, "GATHER")
        if gather is None or gather.options.get("axis", 0) != 0 or gather.options.get("batch_dims", 0) != 0:
            return None
        table, rows = gather.inputs
        shape = self.tensor(table).shape
        fits = len(shape) == 2 and self.constant(table) is not None and self.size(gather.outputs[0]) == shape[1]
        return table if fits and self.is_input(rows, by) else None


def orders(items: Any, count: int) -> Iterator[Any]:
    """All orders of items, where there are count of them: operands may be swapped."""
    if len(items) == count == 2:
        yield from ((items[0], items[1]), (items[1], items[0]))
    elif len(items) == count == 3:
        for i, j, k in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
            yield items[i], items[j], items[k]
