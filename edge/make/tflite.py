"""Writes .tflite files: subgraphs of tensors and operators become one flatbuffer, in one pass and without TensorFlow.

The format is `schema.fbs` of TensorFlow Lite, version 3 (https://github.com/google-ai-edge/LiteRT). What is equal is
stored once: constants with the same content share a buffer, and names, shapes, scales, tensors and operators are
flatbuffer tables and vectors that many places point at, also from different subgraphs. That keeps the graph of a small
model a small part of its file. The bytes depend on the arguments alone.

Memory holds the graph and not the weights: the flatbuffer is built with gaps where contents belong, in memory that is
never touched there, and the file is written piece by piece around them. Contents that wait in a file (spill.py) go from
there straight into it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge.make.gapped import Gapped, check_size
from edge.make.spill import digest, is_kept

Array = NDArray[Any]

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
GRAPH_BYTES = 1 << 24  # room for the tables of a graph, which costs nothing while it is not used
BUFFER_ALIGNMENT = 16  # bytes; LiteRT maps the file and computes in place
TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int64): schema.TensorType.INT64,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph; data is None for what is computed, 4-bit numbers lie in it two to a byte.

    scales [shape[0]] quantize integers per row, one scale and zero_point all of them; or block_scales, the index of a
    float16 tensor [rows, blocks], does. With `open` whoever runs the graph may give a tensor of rank 1 another length.
    """

    name: str
    shape: tuple[int, ...]
    type: Any
    data: Array | None = None
    scales: Array | None = None
    block_scales: int = -1
    zero_point: int = 0
    open: bool = False


@dataclass(frozen=True)
class Operator:
    """One operator; kind is its name in the schema's BuiltinOperator, inputs and outputs are indices of tensors."""

    kind: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any


@dataclass
class Subgraph:
    """One signature while it is built: tensors and operators are appended in the order they run.

    apart holds the tensors that only this subgraph has: they are numbered last in the file, so that the operators that
    two subgraphs have in common use the same numbers and are stored once.
    """

    name: str
    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    apart: set[int] = field(default_factory=set)
    _constants: dict[Hashable, int] = field(default_factory=dict)

    def input(self, name: str, shape: Sequence[int], dtype: Any, open: bool = False) -> int:
        """Adds an input of the signature; returns its tensor's index. open: its length is a default, not fixed."""
        self.inputs[name] = self._add(Tensor(name, tuple(shape), TYPES[np.dtype(dtype)], open=open))
        return self.inputs[name]

    def output(self, name: str, tensor: int) -> None:
        """Makes a tensor an output of the signature."""
        self.outputs[name] = tensor

    def constant(self, name: str, data: Array, scales: Array | None = None, zero_point: int = 0) -> int:
        """Adds a constant, or finds an equal one; returns its tensor's index.

        With scales (float32 [data.shape[0]] or [1]) the values are (data - zero_point) * scale of their row.
        """
        key = (data.dtype.str, data.shape, digest(data), None if scales is None else digest(scales), zero_point)
        if key not in self._constants:
            tensor = Tensor(name, data.shape, TYPES[data.dtype], data, scales, zero_point=zero_point)
            self._constants[key] = self._add(tensor)
        return self._constants[key]

    def constant_int4(self, name: str, values: Array, scales: Array) -> int:
        """Adds a matrix of integers from -8 to 7 (in int8); scales are float32 [rows], or float16 [rows, blocks]."""
        key = ("int4", values.shape, digest(values), digest(scales))
        if key not in self._constants:
            packed = values.derived("int4", _nibbles) if is_kept(values) else _nibbles(values)
            kind = schema.TensorType.INT4
            if scales.ndim == 1:
                tensor = Tensor(name, values.shape, kind, packed, scales)
            else:
                tensor = Tensor(name, values.shape, kind, packed, None, self.constant(f"{name}_scales", scales))
            self._constants[key] = self._add(tensor)
        return self._constants[key]

    def add(
        self,
        kind: str,
        inputs: Sequence[int],
        *shapes: Sequence[int],
        name: str = "",
        options: Any = None,
        version: int = 1,
        dtype: Any = np.float32,
        scale: Array | None = None,
        zero_point: int = 0,
    ) -> tuple[int, ...]:
        """Adds an operator with one output of each of the given shapes; returns the indices of the outputs.

        scale (float32 [1]) and zero_point quantize all of them.
        """
        kind_of = TYPES[np.dtype(dtype)]
        outputs = tuple(
            self._add(Tensor(name, tuple(shape), kind_of, scales=scale, zero_point=zero_point)) for shape in shapes
        )
        self.operators.append(Operator(kind, version, tuple(inputs), outputs, options))
        return outputs

    def shape(self, tensor: int) -> tuple[int, ...]:
        """The shape of the tensor with this index."""
        return self.tensors[tensor].shape

    def _add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1


def serialize(subgraphs: Sequence[Subgraph], metadata: Mapping[str, bytes], description: str) -> bytes:
    """The bytes of a .tflite with one signature for each subgraph, keyed by its name."""
    file = io.BytesIO()
    write(subgraphs, metadata, description, file)
    return file.getvalue()


def write(subgraphs: Sequence[Subgraph], metadata: Mapping[str, bytes], description: str, file: BinaryIO) -> None:
    """The same into a file. UserError where the contents are more than a .tflite holds; then nothing is written."""
    _Writer([_numbered(graph) for graph in subgraphs], metadata).write(description, file)


def _numbered(graph: Subgraph) -> Subgraph:
    """The same subgraph with the tensors that are apart behind all others."""
    order = sorted(range(len(graph.tensors)), key=graph.apart.__contains__)
    number = {old: new for new, old in enumerate(order)} | {-1: -1}
    return Subgraph(
        graph.name,
        [replace(graph.tensors[old], block_scales=number[graph.tensors[old].block_scales]) for old in order],
        [
            replace(op, inputs=tuple(number[i] for i in op.inputs), outputs=tuple(number[o] for o in op.outputs))
            for op in graph.operators
        ],
        {name: number[tensor] for name, tensor in graph.inputs.items()},
        {name: number[tensor] for name, tensor in graph.outputs.items()},
    )


def _nibbles(values: Array) -> Array:
    """Integers from -8 to 7 two to a byte, the lower half first."""
    flat = np.append(values.reshape(-1), np.zeros(values.size % 2, np.int8)).view(np.uint8) & 15
    packed: Array = flat[::2] | flat[1::2] << 4
    return packed


class _Writer:
    """Appends to a flatbuffer, which grows from its end: what is pointed at comes before what points."""

    def __init__(self, subgraphs: Sequence[Subgraph], metadata: Mapping[str, bytes]) -> None:
        self.subgraphs = subgraphs
        self.metadata = metadata
        self.buffers: dict[bytes, int] = {}  # digest of the content -> index in the model; 0 is the empty buffer
        self.contents: list[Array] = []
        self.codes: dict[tuple[str, int], int] = {}
        self.offsets: dict[Hashable, int] = {}
        self.gapped = Gapped(1024)
        self.builder = self.gapped.builder

    def write(self, description: str, file: BinaryIO) -> None:
        """Everything, from the leaves to the root; then the file, from its beginning to its end."""
        metadata = [(name, self._buffer(np.frombuffer(data, np.uint8))) for name, data in self.metadata.items()]
        for graph in self.subgraphs:
            for tensor in graph.tensors:
                if tensor.data is not None:
                    self._buffer(tensor.data)
        self._make_room()
        buffers = self._tables([self._buffer_table(None), *map(self._buffer_table, self.contents)])
        graphs = self._tables([self._subgraph(graph) for graph in self.subgraphs])
        codes = self._tables([self._code(kind, version) for kind, version in self.codes])
        signatures = self._tables([self._signature(index, graph) for index, graph in enumerate(self.subgraphs)])
        entries = self._tables([self._metadata(name, buffer) for name, buffer in metadata])
        text = self._string(description)
        builder = self.builder
        schema.ModelStart(builder)
        schema.ModelAddVersion(builder, SCHEMA_VERSION)
        schema.ModelAddOperatorCodes(builder, codes)
        schema.ModelAddSubgraphs(builder, graphs)
        schema.ModelAddDescription(builder, text)
        schema.ModelAddBuffers(builder, buffers)
        schema.ModelAddMetadata(builder, entries)
        schema.ModelAddSignatureDefs(builder, signatures)
        builder.Finish(schema.ModelEnd(builder), FILE_IDENTIFIER)
        self.gapped.write(file)

    def _make_room(self) -> None:
        """Replaces the builder by one that has room for all contents and tables."""
        check_size(sum(content.nbytes + 64 for content in self.contents))
        tensors = [tensor for graph in self.subgraphs for tensor in graph.tensors]
        tables = sum(512 + (0 if tensor.scales is None else 12 * tensor.scales.size) for tensor in tensors)
        size_bytes = sum(content.nbytes + 64 for content in self.contents) + GRAPH_BYTES + tables
        self.gapped = Gapped(size_bytes)
        self.builder = self.gapped.builder

    def _once(self, key: Hashable, make: Callable[[], int]) -> int:
        """The offset of what make writes, written only the first time this key comes."""
        if key not in self.offsets:
            self.offsets[key] = make()
        return self.offsets[key]

    def _string(self, text: str) -> int:
        return self._once(text, lambda: int(self.builder.CreateString(text)))

    def _vector(self, values: Sequence[int] | Array, dtype: Any) -> int:
        array = np.asarray(values, dtype)
        key = (array.dtype.str, array.tobytes())
        return self._once(key, lambda: int(self.builder.CreateNumpyVector(array)))

    def _tables(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def _buffer(self, data: Array) -> int:
        key = digest(data)
        if key not in self.buffers:
            self.contents.append(data if is_kept(data) else np.ascontiguousarray(data))
            self.buffers[key] = len(self.contents)
        return self.buffers[key]

    def _buffer_table(self, content: Array | None) -> int:
        builder = self.builder
        data = None if content is None else self.gapped.content(content, BUFFER_ALIGNMENT)
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))

    def _subgraph(self, graph: Subgraph) -> int:
        tensors = self._tables([self._tensor(graph, tensor) for tensor in graph.tensors])
        operators = self._tables([self._operator(operator) for operator in graph.operators])
        inputs = self._vector(list(graph.inputs.values()), np.int32)
        outputs = self._vector(list(graph.outputs.values()), np.int32)
        name = self._string(graph.name)
        builder = self.builder
        schema.SubGraphStart(builder)
        schema.SubGraphAddTensors(builder, tensors)
        schema.SubGraphAddInputs(builder, inputs)
        schema.SubGraphAddOutputs(builder, outputs)
        schema.SubGraphAddOperators(builder, operators)
        schema.SubGraphAddName(builder, name)
        return int(schema.SubGraphEnd(builder))

    def _tensor(self, graph: Subgraph, tensor: Tensor) -> int:
        buffer = 0 if tensor.data is None else self._buffer(tensor.data)
        scales = 0 if tensor.scales is None else self._quantization(tensor.scales, tensor.zero_point)
        if tensor.block_scales >= 0:
            scales = self._blockwise(
                tensor.block_scales, tensor.shape[1] // graph.tensors[tensor.block_scales].shape[1]
            )
        shape = self._vector(tensor.shape, np.int32)
        name = self._string(tensor.name)
        signature = self._vector([-1], np.int32) if tensor.open else 0
        key = ("tensor", shape, name, tensor.type, buffer, scales, signature)
        return self._once(key, lambda: self._tensor_table(shape, name, tensor.type, buffer, scales, signature))

    def _tensor_table(self, shape: int, name: int, type: Any, buffer: int, scales: int, signature: int) -> int:
        builder = self.builder
        schema.TensorStart(builder)
        schema.TensorAddShape(builder, shape)
        schema.TensorAddType(builder, type)
        schema.TensorAddBuffer(builder, buffer)
        schema.TensorAddName(builder, name)
        if scales:
            schema.TensorAddQuantization(builder, scales)
        if signature:
            schema.TensorAddShapeSignature(builder, signature)
        return int(schema.TensorEnd(builder))

    def _quantization(self, scales: Array, zero: int) -> int:
        """Quantization by rows or of the whole; equal zero points of all tensors with as many rows are one vector."""
        scale = self._vector(scales, np.float32)
        zero_point = self._vector(np.full(scales.size, zero), np.int64)
        return self._once(("quantization", scale, zero_point), lambda: self._quantization_table(scale, zero_point))

    def _blockwise(self, scales: int, block: int) -> int:
        """Symmetric quantization by blocks of the last axis; scales is a tensor of the subgraph."""
        return self._once(("blockwise", scales, block), lambda: self._blockwise_table(scales, block))

    def _blockwise_table(self, scales: int, block: int) -> int:
        builder = self.builder
        schema.BlockwiseQuantizationStart(builder)
        schema.BlockwiseQuantizationAddScales(builder, scales)
        schema.BlockwiseQuantizationAddZeroPoints(builder, -1)
        schema.BlockwiseQuantizationAddBlockSize(builder, block)
        details = schema.BlockwiseQuantizationEnd(builder)
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddDetailsType(builder, schema.QuantizationDetails.BlockwiseQuantization)
        schema.QuantizationParametersAddDetails(builder, details)
        return int(schema.QuantizationParametersEnd(builder))

    def _quantization_table(self, scale: int, zero_point: int) -> int:
        schema.QuantizationParametersStart(self.builder)
        schema.QuantizationParametersAddScale(self.builder, scale)
        schema.QuantizationParametersAddZeroPoint(self.builder, zero_point)
        return int(schema.QuantizationParametersEnd(self.builder))

    def _operator(self, operator: Operator) -> int:
        code = self.codes.setdefault((operator.kind, operator.version), len(self.codes))
        inputs = self._vector(operator.inputs, np.int32)
        outputs = self._vector(operator.outputs, np.int32)
        kind = type(operator.options).__name__.removesuffix("T")
        options = 0 if operator.options is None else self._options(operator.options)
        key = ("operator", code, inputs, outputs, options)
        return self._once(key, lambda: self._operator_table(code, inputs, outputs, kind, options))

    def _operator_table(self, code: int, inputs: int, outputs: int, kind: str, options: int) -> int:
        builder = self.builder
        schema.OperatorStart(builder)
        schema.OperatorAddOpcodeIndex(builder, code)
        schema.OperatorAddInputs(builder, inputs)
        schema.OperatorAddOutputs(builder, outputs)
        if options:
            schema.OperatorAddBuiltinOptionsType(builder, getattr(schema.BuiltinOptions, kind))
            schema.OperatorAddBuiltinOptions(builder, options)
        return int(schema.OperatorEnd(builder))

    def _options(self, options: Any) -> int:
        key = (type(options).__name__, repr(sorted(vars(options).items())))
        return self._once(key, lambda: int(options.Pack(self.builder)))

    def _code(self, kind: str, version: int) -> int:
        number = getattr(schema.BuiltinOperator, kind)
        schema.OperatorCodeStart(self.builder)
        # readers older than the 32-bit field look at the 8-bit one, which holds up to 127
        schema.OperatorCodeAddDeprecatedBuiltinCode(self.builder, min(number, 127))
        schema.OperatorCodeAddVersion(self.builder, version)
        schema.OperatorCodeAddBuiltinCode(self.builder, number)
        return int(schema.OperatorCodeEnd(self.builder))

    def _signature(self, index: int, graph: Subgraph) -> int:
        inputs = self._tables([self._entry(name, tensor) for name, tensor in graph.inputs.items()])
        outputs = self._tables([self._entry(name, tensor) for name, tensor in graph.outputs.items()])
        key = self._string(graph.name)
        builder = self.builder
        schema.SignatureDefStart(builder)
        schema.SignatureDefAddInputs(builder, inputs)
        schema.SignatureDefAddOutputs(builder, outputs)
        schema.SignatureDefAddSignatureKey(builder, key)
        schema.SignatureDefAddSubgraphIndex(builder, index)
        return int(schema.SignatureDefEnd(builder))

    def _entry(self, name: str, tensor: int) -> int:
        text = self._string(name)
        schema.TensorMapStart(self.builder)
        schema.TensorMapAddName(self.builder, text)
        schema.TensorMapAddTensorIndex(self.builder, tensor)
        return int(schema.TensorMapEnd(self.builder))

    def _metadata(self, name: str, buffer: int) -> int:
        text = self._string(name)
        schema.MetadataStart(self.builder)
        schema.MetadataAddName(self.builder, text)
        schema.MetadataAddBuffer(self.builder, buffer)
        return int(schema.MetadataEnd(self.builder))
