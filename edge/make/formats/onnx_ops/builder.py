"""A graph of TFLite operators while the nodes of an ONNX graph are turned into it.

ONNX keeps the channels of images in axis 1, TFLite in the last. A Value may exist in both orders: an op that takes
either takes the one there is, and a TRANSPOSE is added only where an op needs the other. What ONNX calls int64 is int32
here, and double is float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge.make import quantize, tflite

Array = NDArray[Any]

PER_CHANNEL_VERSION = 12  # of FULLY_CONNECTED with a scale for each row
HYBRID_CONV_VERSION = 5  # of CONV_2D with int8 filters and float images
VERSIONS = {"BROADCAST_TO": 2}  # of operators that LiteRT does not know by 1
LEAST_INT8 = 256  # weights; a smaller tensor stays float32
INT32 = np.iinfo(np.int32)


class NotTaken(Exception):
    """Why a node is not converted, as a clause, and what may help."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Node:
    """One node; "" stands for an input or output that is left out. Tensors among the attributes are arrays."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def number(self, name: str, default: int) -> int:
        return int(self.attributes.get(name, default))

    def real(self, name: str, default: float) -> float:
        return float(self.attributes.get(name, default))

    def numbers(self, name: str, default: Sequence[int]) -> list[int]:
        return [int(n) for n in self.attributes.get(name, default)]

    def text(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@dataclass
class Value:
    """What a name stands for: data where it is known, else tensors of the graph.

    shape is in ONNX's order of axes, and so is the tensor `plain`; `last` has axis 1 moved to the end; -1: not made.
    """

    shape: tuple[int, ...]
    dtype: Any
    data: Array | None = None
    plain: int = -1
    last: int = -1


def stored(data: Array) -> Array:
    """An array as TFLite's kernels take it: float32, int32 or bool."""
    if data.dtype == np.bool_:
        return data
    if data.dtype.kind == "f":
        return np.asarray(data, np.float32)
    if data.dtype.kind in "iu":
        return np.clip(data, INT32.min, INT32.max).astype(np.int32)
    raise NotTaken(f"its numbers are {data.dtype}", "boards compute float32, int32 and bool")


def known(data: Array) -> Value:
    """The value of a constant."""
    return Value(data.shape, data.dtype, data)


def to_last(shape: Sequence[int]) -> tuple[int, ...]:
    """Axis 1 moved to the end."""
    return (shape[0], *shape[2:], shape[1])


@dataclass
class Builder:
    """The subgraph so far and what each name of the ONNX graph stands for; scheme is that of the weights."""

    scheme: str
    opset: int
    graph: tflite.Subgraph = field(default_factory=lambda: tflite.Subgraph("serving_default"))
    values: dict[str, Value] = field(default_factory=dict)
    wide: dict[int, int] = field(default_factory=dict)
    name: str = ""  # of the node that is being converted

    def emit(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: Any = None,
        dtype: Any = np.float32,
        version: int = 0,
    ) -> int:
        """Adds an operator with one output."""
        out = self.graph.add(
            kind,
            inputs,
            tuple(shape),
            name=self.name,
            options=options,
            version=version or VERSIONS.get(kind, 1),
            dtype=_dtype(dtype),
        )
        return out[0]

    def made(
        self, kind: str, inputs: Sequence[int], shape: Sequence[int], options: Any = None, dtype: Any = np.float32
    ) -> Value:
        """Adds an operator whose output is in ONNX's order."""
        return Value(tuple(shape), np.dtype(dtype), plain=self.emit(kind, inputs, shape, options, dtype))

    def constant(self, data: Array) -> int:
        """The tensor of a constant, one for equal ones."""
        return self.graph.constant(self.name, np.ascontiguousarray(stored(data)).reshape(data.shape))

    def numbers(self, *numbers: int) -> int:
        """A constant vector of integers: axes, sizes and the like."""
        return self.constant(np.array(numbers, np.int32))

    def plain(self, value: Value) -> int:
        """The tensor of a value in ONNX's order of axes."""
        if value.data is not None:
            return self.constant(value.data)
        if value.plain < 0:
            shape = value.shape
            if shape[1] == 1 or math.prod(shape[2:]) == 1:  # nothing moves
                value.plain = self.reshaped(value.last, shape, value.dtype)
            else:
                value.plain = self.transposed(value.last, (0, len(shape) - 1, *range(1, len(shape) - 1)), value.dtype)
        return value.plain

    def channels_last(self, value: Value) -> int:
        """The tensor of a value with axis 1 moved to the end."""
        if value.data is not None:
            return self.constant(np.moveaxis(value.data, 1, -1))
        if value.last < 0:
            shape = value.shape
            if shape[1] == 1 or math.prod(shape[2:]) == 1:
                value.last = self.reshaped(value.plain, to_last(shape), value.dtype)
            else:
                value.last = self.transposed(value.plain, to_last(range(len(shape))), value.dtype)
        return value.last

    def is_last_only(self, value: Value) -> bool:
        """Does a computed value exist with its channels last, and not otherwise?"""
        return value.data is None and value.plain < 0 <= value.last

    def transposed(self, tensor: int, axes: Sequence[int], dtype: Any = np.float32) -> int:
        shape = self.graph.shape(tensor)
        return self.emit(
            "TRANSPOSE", [tensor, self.numbers(*axes)], [shape[a] for a in axes], schema.TransposeOptionsT(), dtype
        )

    def reshaped(self, tensor: int, shape: Sequence[int], dtype: Any = np.float32) -> int:
        if self.graph.shape(tensor) == tuple(shape):
            return tensor
        if math.prod(self.graph.shape(tensor)) != math.prod(shape):
            raise NotTaken(f"a shape {list(self.graph.shape(tensor))} does not become {list(shape)}")
        options = schema.ReshapeOptionsT(newShape=list(shape))
        return self.emit("RESHAPE", [tensor, self.numbers(*shape)], shape, options, dtype)

    def weights(self, data: Array) -> int:
        """A matrix or filters [rows, …] in the scheme's type."""
        data = np.ascontiguousarray(stored(data))
        if not np.isfinite(data).all():
            raise NotTaken("its weights are not all finite", "the training diverged, or the file is damaged")
        if self.scheme == "int8" and data.size >= LEAST_INT8:
            matrix = quantize.per_row(data.reshape(len(data), -1), 8)
            return self.graph.constant(self.name, matrix.values.reshape(data.shape), matrix.scales)
        return self.widened(data)

    def widened(self, data: Array) -> int:
        """Weights that operators see as float32, whatever they are stored in."""
        if self.scheme != "float16" or data.size < LEAST_INT8:
            return self.constant(data)
        halves = quantize.halves(np.asarray(data, np.float32)).values
        tensor = self.graph.constant(self.name, halves)
        if tensor not in self.wide:
            self.wide[tensor] = self.emit("DEQUANTIZE", [tensor], data.shape, schema.DequantizeOptionsT())
        return self.wide[tensor]

    def is_int8(self, tensor: int) -> bool:
        return bool(self.graph.tensors[tensor].type == schema.TensorType.INT8)

    def dense(self, x: int, weights: Array, bias: Array | None = None) -> int:
        """x Wᵀ + bias for x [..., k] and weights [n, k]."""
        shape = self.graph.shape(x)
        matrix = self.weights(weights)
        added = -1 if bias is None else self.constant(np.asarray(bias, np.float32))
        options = schema.FullyConnectedOptionsT(keepNumDims=len(shape) != 2)
        version = PER_CHANNEL_VERSION if self.is_int8(matrix) else 1
        return self.emit("FULLY_CONNECTED", [x, matrix, added], (*shape[:-1], len(weights)), options, version=version)

    def binary(self, kind: str, a: int, b: int, dtype: Any = np.float32) -> int:
        """An operator of two tensors whose shapes broadcast."""
        try:
            shape = np.broadcast_shapes(self.graph.shape(a), self.graph.shape(b))
        except ValueError as error:
            raise NotTaken("the shapes of its inputs do not fit each other") from error
        return self.emit(kind, [a, b], shape, OPTIONS[kind]() if kind in OPTIONS else None, dtype)

    def number(self, value: float) -> int:
        """A constant of one float."""
        return self.constant(np.array([value], np.float32))


# options of the operators of two tensors, without which LiteRT does not take them
OPTIONS = {
    "ADD": schema.AddOptionsT,
    "SUB": schema.SubOptionsT,
    "MUL": schema.MulOptionsT,
    "DIV": schema.DivOptionsT,
    "POW": schema.PowOptionsT,
    "MAXIMUM": schema.MaximumMinimumOptionsT,
    "MINIMUM": schema.MaximumMinimumOptionsT,
    "SQUARED_DIFFERENCE": schema.SquaredDifferenceOptionsT,
    "LESS": schema.LessOptionsT,
    "LESS_EQUAL": schema.LessEqualOptionsT,
    "GREATER": schema.GreaterOptionsT,
    "GREATER_EQUAL": schema.GreaterEqualOptionsT,
    "EQUAL": schema.EqualOptionsT,
    "NOT_EQUAL": schema.NotEqualOptionsT,
    "LOGICAL_AND": schema.LogicalAndOptionsT,
    "LOGICAL_OR": schema.LogicalOrOptionsT,
}


def _dtype(dtype: Any) -> Any:
    """Of a computed tensor: what `stored` makes of constants."""
    return stored(np.zeros(0, dtype)).dtype


def constant_of(value: Value | None, what: str) -> Array:
    """The data of an input that must be known when the model is converted."""
    if value is None or value.data is None:
        raise NotTaken(f"its {what} depends on the input", "export the model with fixed shapes")
    return value.data


def integers(value: Value | None, what: str) -> list[int]:
    """The same as a list of integers."""
    data = constant_of(value, what)
    if data.dtype.kind not in "iu" or data.size > 64:
        raise NotTaken(f"its {what} is no list of integers")
    return [int(n) for n in data.reshape(-1)]


def axis_of(number: int, rank: int) -> int:
    """An axis that may count from the end."""
    if not -rank <= number < rank:
        raise NotTaken(f"axis {number} is not one of {rank}")
    return number % rank
