"""Changes .tflite files through the schema's object interface, for tests that need a file of ours gone wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from firmware_tools.graph import OPS

CODES = {name: code for code, name in OPS.items()}


def unpack(data: bytes) -> Any:
    """The whole file as a tree of the schema's objects."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))


def pack(model: Any) -> bytes:
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def edited(data: bytes, change: Callable[[Any], None]) -> bytes:
    """The file after change has worked on its tree; written anew, and so with another layout."""
    model = unpack(data)
    change(model)
    return pack(model)


def decode(model: Any) -> Any:
    """The subgraph of the signature `decode`."""
    (signature,) = (s for s in model.signatureDefs if s.signatureKey == b"decode")
    return model.subgraphs[signature.subgraphIndex]


def operators(model: Any, op: str) -> list[Any]:
    """The operators of `decode` with this op."""
    wanted = {i for i, code in enumerate(model.operatorCodes) if code.builtinCode == CODES[op]}
    return [operator for operator in decode(model).operators if operator.opcodeIndex in wanted]


def code(model: Any, op: str) -> int:
    """The index of a new operator code."""
    entry = schema.OperatorCodeT(builtinCode=CODES[op], deprecatedBuiltinCode=min(CODES[op], 127), version=1)
    model.operatorCodes.append(entry)
    return len(model.operatorCodes) - 1


def metadata(model: Any, name: str, content: bytes) -> None:
    """Sets or adds the metadata `name`."""
    model.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
    entries = [entry for entry in model.metadata if entry.name != name.encode()]
    entries.append(schema.MetadataT(name=name, buffer=len(model.buffers) - 1))
    model.metadata = entries


def replace_constant(model: Any, operator: Any, position: int, content: Any) -> None:
    """Gives one operator another constant as its input number `position`; the tensor may be shared, so it is copied."""
    graph = decode(model)
    array = np.asarray(content)
    tensor = copy.copy(graph.tensors[operator.inputs[position]])
    model.buffers.append(schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
    tensor.buffer, tensor.shape = len(model.buffers) - 1, list(array.shape)
    graph.tensors.append(tensor)
    rewire(operator, position, len(graph.tensors) - 1)


def rewire(operator: Any, position: int, tensor: int) -> None:
    """Makes another tensor the input number `position` of an operator."""
    operator.inputs = [tensor if i == position else index for i, index in enumerate(operator.inputs)]
