"""Reads a .tflite file into a `Graph` of plain data, and verifies it; nothing unchecked gets past this module.

Any bytes may come in: what is not a well-formed model is one BadFile, after time and memory in proportion to its size.
Files by others are read too. A file with the metadata key `edge.contract` must keep all that docs/model-file.md says.
Nothing of the file is executed, and no native code parses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from firmware_tools import contract, mapped
from firmware_tools.content import Nibbles, digest
from firmware_tools.errors import BadFile
from firmware_tools.mapped import Malformed
from firmware_tools.verify import (
    READ_ERRORS,
    Reader,
    Value,
    check_calls,
    check_indices,
    check_order,
    names_of,
)

MAX_FILE_BYTES = 2**31 - 1  # offsets in a FlatBuffer are signed 32-bit
MAX_RANK = 16
HINT = "the file may be truncated or damaged; convert or download it again"

OPS = names_of(schema.BuiltinOperator)
OPTIONS = names_of(schema.BuiltinOptions)
OPTIONS_2 = names_of(schema.BuiltinOptions2)
ACTIVATIONS = names_of(schema.ActivationFunctionType)
QUANTIZATION_DETAILS = names_of(schema.QuantizationDetails)
DTYPES = {value: name.lower() for value, name in names_of(schema.TensorType).items()}
NUMPY_DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64")
    + ("uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128")
}


@dataclass(frozen=True, eq=False)
class Quantization:
    """real = scale * (stored - zero_point); one scale for the tensor, or one for each index along `axis`.

    details holds what other forms of quantization keep beside (blocks, custom), by their names in the schema.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int
    details: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor; data is a read-only view into the file, None where the graph computes it.

    dtype is the schema's name in lower case. data has the tensor's shape where numpy knows the type, int4 as int8; else
    (strings, other small numbers) it is the buffer as uint8. buffer is the index of the file's buffer: tensors may
    share one.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None
    stored: NDArray[Any] | Nibbles | None
    buffer: int
    shape_signature: tuple[int, ...] = ()
    is_variable: bool = False

    @cached_property
    def data(self) -> NDArray[Any] | None:
        return self.stored.unpacked() if isinstance(self.stored, Nibbles) else self.stored


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator; inputs and outputs are indices of tensors, -1 for an optional input that is absent.

    options holds every field of the schema's option table, `fused_activation_function` by its name.
    """

    index: int
    op: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Value]


@dataclass(frozen=True, eq=False)
class Subgraph:
    """Operators in an order in which they can be computed, and the tensors they use."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True, eq=False)
class Signature:
    """A named way to call subgraph number `subgraph`."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    subgraph: int


T = TypeVar("T")
Part = TypeVar("Part", Tensor, Operator)
Known: TypeAlias = dict[tuple[str | int, ...], Any]  # kind and place of a table, and maybe index -> what it says


@dataclass(frozen=True, eq=False)
class Graph:
    """A verified .tflite file. contract, card and tokenizer are None, {} and b"" where it is not one of ours.

    name: the card's, else the file's without its ending.
    """

    subgraphs: tuple[Subgraph, ...]
    signatures: Mapping[str, Signature]
    metadata: Mapping[str, bytes]
    description: str
    file_sha256: str
    file_bytes: int
    contract: str | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    name: str = "model"

    @property
    def tokenizer(self) -> bytes:
        """tokenizer.json."""
        return self.metadata.get("edge.tokenizer", b"")

    @cached_property
    def sha256(self) -> str:
        """Hash of the content, in hex: the same however the file is laid out, and without `edge.label`."""
        metadata = {key: value for key, value in self.metadata.items() if key != "edge.label"}
        content = (self.subgraphs, self.signatures, metadata, self.description)
        if self.contract in (None, "1.0"):
            return digest(b"edge canonical content 1", content)
        # of files with many signatures, which have most of their parts in common, each part is hashed once
        return digest(b"edge canonical content 2", content, (Tensor, Operator))


def read(source: Path | str | bytes) -> Graph:
    """Reads and verifies a model.

    Args:
        source: the path of a .tflite file, or its bytes.

    Raises:
        BadFile: it cannot be read, is not a .tflite, or anything in it is out of range.
    """
    return _read(source, _graph)


def claims_contract(source: Path | str | bytes) -> bool:
    """Whether a file says that it keeps our contract; nothing else of it is read or checked. BadFile as of read."""
    return _read(source, _claims_contract)


def _read(source: Path | str | bytes, what: Callable[[Reader, str], T]) -> T:
    name = "the model" if isinstance(source, bytes) else str(source)
    data = mapped.Bytes(source) if isinstance(source, bytes) else _load(Path(source))
    stem = "model" if isinstance(source, bytes) else Path(source).stem
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise BadFile(f"{name} is not a .tflite file", "`edge convert` makes one from a checkpoint")
    try:
        return what(Reader(data), stem)
    except Malformed as error:
        raise BadFile(f"{name} is not a valid .tflite file: {error}", HINT) from error
    except READ_ERRORS as error:
        raise BadFile(f"{name} is not a valid .tflite file: it breaks off or points outside itself", HINT) from error


def _load(path: Path) -> mapped.Bytes | mapped.Mapped:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadFile(f"{path} is larger than a .tflite can be (2 GiB)", "give the path of a .tflite file")
        return mapped.load(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise BadFile(f"cannot read {path}: {reason}", "give the path of a .tflite file") from error


def _graph(reader: Reader, stem: str) -> Graph:
    model = reader.table(schema.Model.GetRootAs(reader.data))
    if model.Version() != 3:
        raise Malformed(f"schema version {model.Version()} instead of 3")
    if model.ExternalBufferGroupsLength() or model.ExternalBuffersLength():
        raise Malformed("it keeps weights in other files, which is not supported")
    buffers = [_buffer(reader, table) for table in reader.tables(model, "Buffers")]
    opcodes = [_opcode(reader, table) for table in reader.tables(model, "OperatorCodes")]
    known: Known = {}
    subgraphs = tuple(_subgraph(reader, table, buffers, opcodes, known) for table in reader.tables(model, "Subgraphs"))
    if not subgraphs:
        raise Malformed("it has no subgraph")
    check_calls((operator.options for subgraph in subgraphs for operator in subgraph.operators), len(subgraphs))
    signatures = _signatures(reader, model, subgraphs)
    metadata = _metadata(reader, model, buffers)
    shapes = {name: (_border(signature.inputs), _border(signature.outputs)) for name, signature in signatures.items()}
    open_tensors = {name: _open(signature) for name, signature in signatures.items()}
    version, card = contract.check(metadata, shapes, open_tensors)
    return Graph(
        subgraphs=subgraphs,
        signatures=signatures,
        metadata=metadata,
        description=reader.text(model.Description(), "the description"),
        file_sha256=mapped.sha256(reader.data),
        file_bytes=len(reader.data),
        contract=version,
        card=card,
        name=str(card.get("name", stem)),
    )


def _claims_contract(reader: Reader, stem: str) -> bool:
    tables = reader.tables(reader.table(schema.Model.GetRootAs(reader.data)), "Metadata")
    return "edge.contract" in [reader.text(table.Name(), "the name of metadata") for table in tables]


def _open(signature: Signature) -> dict[str, tuple[int, ...]]:
    border = {**signature.outputs, **signature.inputs}
    return {name: tensor.shape_signature for name, tensor in border.items() if -1 in tensor.shape_signature}


def _border(tensors: Mapping[str, Tensor]) -> contract.Border:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


def _buffer(reader: Reader, table: Any) -> NDArray[np.uint8]:
    """The bytes of one buffer, inside the FlatBuffer or (files past 2 GiB) behind it."""
    inside = reader.numbers(table, "Data")
    offset, size = table.Offset(), table.Size()
    if offset <= 1:  # 0: inside; 1: a placeholder that writers leave
        return np.empty(0, np.uint8) if inside is None else inside
    if offset + size > len(reader.data) or inside is not None and inside.size:
        raise Malformed("a buffer reaches past the end of the file")
    return np.frombuffer(reader.data, np.uint8, size, offset)


def _opcode(reader: Reader, table: Any) -> tuple[str, int, str]:
    """(name, version, custom code) of an operator code; the older field counts where it is the larger."""
    code = max(table.DeprecatedBuiltinCode(), table.BuiltinCode())
    if code not in OPS:
        raise Malformed(f"operator code {code} is unknown")
    if table.Version() < 1:
        raise Malformed(f"{OPS[code]} has version {table.Version()}")
    return OPS[code], table.Version(), reader.text(table.CustomCode(), "a custom operator's name")


def _subgraph(
    reader: Reader, table: Any, buffers: list[NDArray[np.uint8]], opcodes: list[tuple[str, int, str]], known: Known
) -> Subgraph:
    tensors = _each(reader, table, "Tensors", known, lambda part, index: _tensor(reader, part, index, buffers))
    operators = _each(reader, table, "Operators", known, lambda part, index: _operator(reader, part, index, opcodes))
    subgraph = Subgraph(
        name=reader.text(table.Name(), "a subgraph's name"),
        tensors=tensors,
        inputs=reader.integers(table, "Inputs"),
        outputs=reader.integers(table, "Outputs"),
        operators=operators,
    )
    check_indices(subgraph.inputs + subgraph.outputs, len(tensors), "an input or output of a subgraph")
    given = {i for i in range(len(tensors)) if i in set(subgraph.inputs) or tensors[i].stored is not None}
    written = [(operator.inputs, operator.outputs) for operator in operators]
    check_order(written, given, {tensor.index for tensor in tensors if tensor.is_variable}, len(tensors))
    return subgraph


def _each(reader: Reader, subgraph: Any, name: str, known: Known, read: Callable[[Any, int], Part]) -> tuple[Part, ...]:
    """The tensors or operators of a subgraph, read the first time that their table comes: subgraphs share them."""
    parts = []
    for index, table in enumerate(reader.tables(subgraph, name)):
        place: tuple[str | int, ...] = (name, table._tab.Pos)
        if (*place, index) not in known:
            first: Part = known[place] if place in known else known.setdefault(place, read(table, index))
            known[(*place, index)] = first if first.index == index else replace(first, index=index)
        parts.append(known[(*place, index)])
    return tuple(parts)


def _tensor(reader: Reader, table: Any, index: int, buffers: list[NDArray[np.uint8]]) -> Tensor:
    what = f"tensor {index}"
    shape = reader.integers(table, "Shape")
    if len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise Malformed(f"{what} has the shape {list(shape[:MAX_RANK])}")
    if table.Type() not in DTYPES:
        raise Malformed(f"{what} has the unknown type {table.Type()}")
    if table.Sparsity() is not None:
        raise Malformed(f"{what} is stored sparse, which is not supported")
    if not 0 <= table.Buffer() < len(buffers):
        raise Malformed(f"{what} uses buffer {table.Buffer()} of {len(buffers)}")
    dtype = DTYPES[table.Type()]
    return Tensor(
        index=index,
        name=reader.text(table.Name(), f"the name of {what}"),
        shape=shape,
        dtype=dtype,
        quantization=_quantization(reader, table.Quantization(), shape, what),
        stored=_stored(buffers[table.Buffer()], dtype, shape, what),
        buffer=table.Buffer(),
        shape_signature=reader.integers(table, "ShapeSignature"),
        is_variable=bool(table.IsVariable()),
    )


def _stored(buffer: NDArray[np.uint8], dtype: str, shape: tuple[int, ...], what: str) -> NDArray[Any] | Nibbles | None:
    if not buffer.size:
        return None
    if dtype == "int4":
        return _nibbles(buffer, shape, what)
    if dtype not in NUMPY_DTYPES:
        return buffer
    expected = math.prod(shape) * NUMPY_DTYPES[dtype].itemsize
    if buffer.size != expected:
        raise Malformed(f"{what} has {buffer.size} bytes of data where {dtype}{list(shape)} takes {expected}")
    return buffer.view(NUMPY_DTYPES[dtype]).reshape(shape)


def _nibbles(buffer: NDArray[np.uint8], shape: tuple[int, ...], what: str) -> Nibbles:
    count = math.prod(shape)
    if buffer.size != -(-count // 2):
        raise Malformed(f"{what} has {buffer.size} bytes of data where int4{list(shape)} takes {-(-count // 2)}")
    return Nibbles(buffer, shape)


def _quantization(reader: Reader, table: Any, shape: tuple[int, ...], what: str) -> Quantization | None:
    """The scales of a tensor; None where it has none (an empty table counts as none)."""
    if table is None:
        return None
    reader.table(table)
    scale, zero_point = reader.numbers(table, "Scale"), reader.numbers(table, "ZeroPoint")
    details = reader.union(QUANTIZATION_DETAILS, table.DetailsType(), table.Details(), f"quantization of {what}")
    if (scale is None or not scale.size) and not details:
        return None
    scale = np.empty(0, np.float32) if scale is None else scale
    zero_point = np.zeros(scale.size, np.int64) if zero_point is None or not zero_point.size else zero_point
    axis = table.QuantizedDimension()
    reader.spend(scale.size // 16)
    if not bool(np.isfinite(scale).all()) or bool((scale < 0).any()):
        raise Malformed(f"{what} has a scale that is negative or not finite")
    if zero_point.size != scale.size:
        raise Malformed(f"{what} has {scale.size} scales and {zero_point.size} zero points")
    if len(shape) == 1 and scale.size == shape[0]:
        axis = 0  # writers give a bias the axis of its weights, and no reader minds
    if scale.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scale.size):
        raise Malformed(f"{what} has {scale.size} scales along axis {axis} of {list(shape)}")
    return Quantization(scale, zero_point, axis, details)


def _operator(reader: Reader, table: Any, index: int, opcodes: list[tuple[str, int, str]]) -> Operator:
    what = f"operator {index}"
    if not 0 <= table.OpcodeIndex() < len(opcodes):
        raise Malformed(f"{what} has operator code {table.OpcodeIndex()} of {len(opcodes)}")
    op, version, custom = opcodes[table.OpcodeIndex()]
    if table.LargeCustomOptionsOffset():
        raise Malformed(f"{what} keeps its options outside the FlatBuffer, which is not supported")
    options = reader.union(OPTIONS, table.BuiltinOptionsType(), table.BuiltinOptions(), f"options of {what}")
    options |= reader.union(OPTIONS_2, table.BuiltinOptions2Type(), table.BuiltinOptions2(), f"options of {what}")
    if "fused_activation_function" in options:
        activation = options["fused_activation_function"]
        if not isinstance(activation, int) or activation not in ACTIVATIONS:
            raise Malformed(f"{what} has the unknown activation {activation!r}")
        options["fused_activation_function"] = ACTIVATIONS[activation]
    if op == "CUSTOM":
        options["custom_code"] = custom
        blob = reader.numbers(table, "CustomOptions")
        reader.spend(0 if blob is None else blob.size // 16)
        options["custom_options"] = b"" if blob is None else blob.tobytes()
    options |= {
        name: value for name in ("MutatingVariableInputs", "Intermediates") if (value := reader.integers(table, name))
    }
    return Operator(index, op, version, reader.integers(table, "Inputs"), reader.integers(table, "Outputs"), options)


def _signatures(reader: Reader, model: Any, subgraphs: tuple[Subgraph, ...]) -> dict[str, Signature]:
    signatures: dict[str, Signature] = {}
    for table in reader.tables(model, "SignatureDefs"):
        key = reader.text(table.SignatureKey(), "the name of a signature")
        index = table.SubgraphIndex()
        if key in signatures or not 0 <= index < len(subgraphs):
            raise Malformed(f"signature {len(signatures)} has the name of another, or subgraph {index}")
        subgraph = subgraphs[index]
        inputs = _tensor_map(reader, table, "Inputs", subgraph, subgraph.inputs)
        outputs = _tensor_map(reader, table, "Outputs", subgraph, subgraph.outputs)
        signatures[key] = Signature(inputs, outputs, index)
    return signatures


def _tensor_map(
    reader: Reader, signature: Any, name: str, subgraph: Subgraph, allowed: tuple[int, ...]
) -> dict[str, Tensor]:
    border: dict[str, Tensor] = {}
    known = set(allowed)
    for table in reader.tables(signature, name):
        key = reader.text(table.Name(), "a name in a signature")
        index = table.TensorIndex()
        if key in border or index not in known:
            raise Malformed(f"a signature names tensor {index} twice, or it is not at the border of its subgraph")
        border[key] = subgraph.tensors[index]
    return border


def _metadata(reader: Reader, model: Any, buffers: list[NDArray[np.uint8]]) -> dict[str, bytes]:
    metadata: dict[str, bytes] = {}
    for table in reader.tables(model, "Metadata"):
        name, buffer = reader.text(table.Name(), "the name of metadata"), table.Buffer()
        if name in metadata or not 0 <= buffer < len(buffers):
            raise Malformed(f"metadata {len(metadata)} has the name of another, or buffer {buffer} of {len(buffers)}")
        reader.spend(buffers[buffer].size // 16)
        metadata[name] = buffers[buffer].tobytes()
    return metadata
