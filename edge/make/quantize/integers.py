"""Integer activations: every tensor lies on a grid, and an operator brings what it reads onto the type that it needs.

A grid is what TFLite calls quantization parameters: value = (number - zero_point) * scale. int16 has zero point 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge.make.quantize import SMALLEST_SCALE, Matrix
from edge.make.tflite import Subgraph

# the lowest version of each operator that takes int8 and int16 (TensorFlow's op_version.cc)
VERSIONS = {
    "ADD": (2, 3),
    "BATCH_MATMUL": (2, 3),
    "CONCATENATION": (2, 3),
    "DEQUANTIZE": (2, 3),
    "FULLY_CONNECTED": (12, 12),  # scales by rows; see decoder.PER_CHANNEL_VERSION
    "GATHER": (2, 4),
    "LOGISTIC": (2, 3),
    "MAXIMUM": (2, 4),
    "MINIMUM": (2, 4),
    "MUL": (2, 4),
    "QUANTIZE": (2, 2),
    "REDUCE_MAX": (2, 3),
    "RESHAPE": (1, 1),
    "RSQRT": (2, 3),
    "SELECT_V2": (1, 1),
    "SLICE": (2, 4),
    "SOFTMAX": (2, 3),
    "SPLIT": (2, 4),
    "SUB": (2, 5),
    "TRANSPOSE": (2, 4),
}


@dataclass(frozen=True)
class Grid:
    """The numbers of a tensor: value = (number - zero_point) * scale, in 8 or 16 bits."""

    bits: int
    scale: np.float32
    zero_point: int = 0

    @property
    def dtype(self) -> Any:
        return np.int8 if self.bits == 8 else np.int16

    @property
    def levels(self) -> tuple[int, int]:
        """The lowest and the highest number."""
        return -(1 << self.bits - 1), (1 << self.bits - 1) - 1

    @property
    def widened(self) -> Grid:
        """The int16 grid that holds every value of this one exactly."""
        return self if self.bits == 16 else Grid(16, np.float32(self.scale / 128))

    def numbers(self, values: NDArray[Any]) -> NDArray[Any]:
        """The nearest numbers of the grid."""
        rounded = np.rint(np.asarray(values, np.float64) / np.float64(self.scale)) + self.zero_point
        return np.asarray(np.clip(rounded, *self.levels), self.dtype)


CLIPS = np.linspace(0.5, 1.0, 11)  # parts of the range that an int8 grid may span
PROBABILITIES = {8: Grid(8, np.float32(1 / 256), -128), 16: Grid(16, np.float32(1 / 32768))}  # kernels demand these


def grid_of(lowest: float, highest: float, bits: int) -> Grid:
    """The grid of a range; 0 is on it, as TFLite demands."""
    lowest, highest = min(float(lowest), 0.0), max(float(highest), 0.0)
    if bits == 16:
        return Grid(16, np.maximum(np.float32(max(-lowest, highest) / 32767), SMALLEST_SCALE))
    scale = np.maximum(np.float32((highest - lowest) / 255), SMALLEST_SCALE)
    return Grid(8, scale, int(np.clip(np.rint(-128 - lowest / np.float64(scale)), -128, 127)))


def least_error(values: NDArray[Any]) -> Grid:
    """The int8 grid of least squared error among those that span a part of the range."""
    lowest, highest = float(values.min()), float(values.max())

    def error(part: float) -> float:
        beyond = values - np.clip(values, part * lowest, part * highest)
        step = part * (highest - lowest) / 255
        return float(np.mean(np.square(beyond, dtype=np.float64))) + step * step / 12

    best = min(CLIPS, key=error)
    return grid_of(best * lowest, best * highest, 8)


class Integers:
    """Adds operators over integers to a subgraph; remembers the grid of each tensor."""

    def __init__(self, graph: Subgraph) -> None:
        self.graph = graph
        self.grids: dict[int, Grid] = {}

    def add(self, kind: str, inputs: Sequence[int], shape: Sequence[int], grid: Grid, name: str, options: Any) -> int:
        """One operator with one output on a grid."""
        return self.add_many(kind, inputs, [shape], grid, name, options)[0]

    def add_many(
        self, kind: str, inputs: Sequence[int], shapes: Sequence[Sequence[int]], grid: Grid, name: str, options: Any
    ) -> tuple[int, ...]:
        """One operator, all outputs on one grid."""
        made = self.graph.add(
            kind,
            inputs,
            *shapes,
            name=name,
            options=options,
            version=VERSIONS[kind][grid.bits == 16],
            dtype=grid.dtype,
            scale=np.array([grid.scale], np.float32),
            zero_point=grid.zero_point,
        )
        self.grids.update(dict.fromkeys(made, grid))
        return made

    def constant(self, name: str, values: NDArray[Any], grid: Grid) -> int:
        """Values rounded to a grid."""
        scale = np.array([grid.scale], np.float32)
        tensor = self.graph.constant(name, grid.numbers(values), scale, grid.zero_point)
        self.grids[tensor] = grid
        return tensor

    def to(self, x: int, grid: Grid, name: str) -> int:
        """x on another grid: QUANTIZE, also from float32; nothing where it lies on it."""
        if self.grids.get(x) == grid:
            return x
        return self.add("QUANTIZE", [x], self.graph.shape(x), grid, name, schema.QuantizeOptionsT())

    def floats(self, x: int, name: str) -> int:
        """x as float32: DEQUANTIZE."""
        version = VERSIONS["DEQUANTIZE"][self.grids[x].bits == 16]
        options = schema.DequantizeOptionsT()
        return self.graph.add("DEQUANTIZE", [x], self.graph.shape(x), name=name, options=options, version=version)[0]

    def wide(self, x: int, bits: int, name: str) -> int:
        """x in at least so many bits, its values unchanged."""
        return self.to(x, self.grids[x].widened, name) if bits == 16 else x

    def elementwise(self, kind: str, a: int, b: int, grid: Grid, name: str) -> int:
        """ADD, SUB or MUL; b broadcasts to the shape of a. Operands of 8 bits are widened where the result has 16."""
        bits = max(grid.bits, self.grids[a].bits, self.grids[b].bits)
        options = {
            "ADD": schema.AddOptionsT(potScaleInt16=False),
            "SUB": schema.SubOptionsT(potScaleInt16=False),
            "MUL": schema.MulOptionsT(),
        }[kind]
        inputs = [self.wide(a, bits, name), self.wide(b, bits, name)]
        if bits == grid.bits:
            return self.add(kind, inputs, self.graph.shape(a), grid, name, options)
        exact = Grid(16, np.float32(grid.scale / 128))  # an operator has one type: the result is narrowed after
        low, high = ((level - grid.zero_point) * 128 for level in grid.levels)
        exact = exact if max(-low, high) <= 32767 else Grid(16, np.float32(grid.scale / 64))
        return self.to(self.add(kind, inputs, self.graph.shape(a), exact, name, options), grid, name)

    def limited(self, kind: str, a: int, b: int, name: str) -> int:
        """MINIMUM or MAXIMUM of two on the same grid."""
        options = schema.MaximumMinimumOptionsT()
        return self.add(kind, [a, b], self.graph.shape(a), self.grids[a], name, options)

    def fully_connected(self, x: int, matrix: Matrix, bias: NDArray[Any] | None, grid: Grid, name: str) -> int:
        """x [R, K] times int8 weights [N, K] with a scale a row; x is brought to the bits of the result."""
        assert matrix.scales is not None
        x = self.wide(x, grid.bits, name)
        weights, shift = self.graph.constant(name, matrix.values, matrix.scales), -1
        if bias is not None:
            scales = np.asarray(matrix.scales * self.grids[x].scale, np.float32)
            ends = np.iinfo(np.int32)  # an int64 bias, which int16 needs, is no longer either
            steps = np.clip(np.rint(bias / np.float64(scales)), ends.min, ends.max)
            shift = self.graph.constant(f"{name}_bias", steps.astype(np.int32 if grid.bits == 8 else np.int64), scales)
        shape = [self.graph.shape(x)[0], matrix.values.shape[0]]
        options = schema.FullyConnectedOptionsT()
        return self.add("FULLY_CONNECTED", [x, weights, shift], shape, grid, name, options)

    def matmul(self, a: int, b: int, grid: Grid, name: str, transposed: bool = False) -> int:
        """a [B, M, K] times b [B, K, N], or [B, N, K] if transposed."""
        columns = self.graph.shape(b)[1 if transposed else 2]
        inputs = [self.wide(a, grid.bits, name), self.wide(b, grid.bits, name)]
        shape = [*self.graph.shape(a)[:2], columns]
        return self.add("BATCH_MATMUL", inputs, shape, grid, name, schema.BatchMatMulOptionsT(adjY=transposed))

    def unary(self, kind: str, x: int, grid: Grid, name: str, options: Any = None) -> int:
        """LOGISTIC, RSQRT or SOFTMAX, whose input has the type of the result."""
        return self.add(kind, [self.wide(x, grid.bits, name)], self.graph.shape(x), grid, name, options)

    def largest(self, x: int, name: str) -> int:
        """The largest along the last axis, which stays as one."""
        shape = self.graph.shape(x)
        axis = self.graph.constant("axis", np.array([len(shape) - 1], np.int32))
        options = schema.ReducerOptionsT(keepDims=True)
        return self.add("REDUCE_MAX", [x, axis], [*shape[:-1], 1], self.grids[x], name, options)

    def gather(self, table: int, rows: int, name: str) -> int:
        """Rows of a table [n, columns]."""
        shape = [self.graph.shape(rows)[0], self.graph.shape(table)[1]]
        return self.add("GATHER", [table, rows], shape, self.grids[table], name, schema.GatherOptionsT())

    def reshape(self, x: int, shape: Sequence[int], name: str) -> int:
        return self.add("RESHAPE", [x], shape, self.grids[x], name, schema.ReshapeOptionsT(newShape=list(shape)))

    def swap(self, x: int, name: str) -> int:
        """Exchanges the first two of three axes."""
        order = self.graph.constant("order", np.array([1, 0, 2], np.int32))
        first, second, third = self.graph.shape(x)
        return self.add(
            "TRANSPOSE", [x, order], [second, first, third], self.grids[x], name, schema.TransposeOptionsT()
        )

    def slice(self, x: int, axis: int, start: int, count: int, name: str) -> int:
        shape = list(self.graph.shape(x))
        begin = [0] * len(shape)
        shape[axis], begin[axis] = count, start
        where = self.graph.constant("begin", np.array(begin, np.int32))
        size = self.graph.constant("size", np.array(shape, np.int32))
        return self.add("SLICE", [x, where, size], shape, self.grids[x], name, schema.SliceOptionsT())

    def halves(self, x: int, name: str) -> tuple[int, int]:
        """Both halves of the last axis."""
        shape = list(self.graph.shape(x))
        shape[-1] //= 2
        where = self.graph.constant("axis", np.array(len(shape) - 1, np.int32))
        options = schema.SplitOptionsT(numSplits=2)
        first, second = self.add_many("SPLIT", [where, x], [shape, shape], self.grids[x], name, options)
        return first, second

    def concatenate(self, a: int, b: int, name: str, axis: int = -1) -> int:
        """Both lie on one grid."""
        shape = list(self.graph.shape(a))
        shape[axis] += self.graph.shape(b)[axis]
        options = schema.ConcatenationOptionsT(axis=axis % len(shape))
        return self.add("CONCATENATION", [a, b], shape, self.grids[a], name, options)
