"""ONNX files: PyTorch's torch.onnx.export and whatever else writes them, on the `onnx` package (extra `onnx`).

docs/onnx.md lists the ops. A batch that the file leaves open becomes 1. Weights in a second file are read if it lies
beside the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.make import tflite
from edge.make.checkpoints import Request
from edge.make.formats import onnx_ops
from edge.make.formats.onnx_ops.builder import Array, Node
from firmware_tools import graph
from firmware_tools.errors import BadFile, MissingTool, UserError

SCHEMES = ("int8", "float16", "float32")
MOST_BYTES = 1 << 30
OLDEST_OPSET = 9
MOST_DIMENSION = 1 << 24
AGAIN = "export it again: torch.onnx.export(model, example, 'model.onnx')"


def recognises(path: Path) -> bool:
    """Does its name end in .onnx?"""
    return path.suffix == ".onnx"


def convert(path: Path, request: Request) -> bytes:
    """The .tflite of an ONNX model: signature `serving_default`, inputs and outputs called as in the file."""
    if request.scheme not in SCHEMES:
        hint = f"choose --quantize {', '.join(SCHEMES)}, or convert the same model from Keras"
        raise UserError(f"an ONNX source is not quantized to {request.scheme}", hint)
    if request.calibrate:
        raise UserError("--calibrate has no use here: an ONNX source has no integer activations", "leave it out")
    source = read(path)
    subgraph = onnx_ops.translated(source, request.scheme, _evaluate_at(source.opset))
    model = tflite.serialize([subgraph], {}, "edge onnx 1.0")
    try:
        graph.read(model)
    except BadFile as error:
        raise BadFile(f"{path.name} does not make a model: {error.message}", AGAIN) from error
    return model


def read(path: Path) -> onnx_ops.Source:
    """A checked ONNX file as plain data."""
    model = _parsed(path)
    _take_external(model, path)
    _check(model, path)
    opsets = {entry.domain: int(entry.version) for entry in model.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx", 0))
    if opset < OLDEST_OPSET:
        raise BadFile(f"{path.name} is of operator set {opset}, older than {OLDEST_OPSET}", AGAIN)
    constants = {tensor.name: _array(tensor) for tensor in model.graph.initializer}
    if model.graph.sparse_initializer:
        raise UserError(f"{path.name} has sparse weights", "export it with dense weights")
    return onnx_ops.Source(
        nodes=[_node(proto, number) for number, proto in enumerate(model.graph.node)],
        constants=constants,
        inputs={entry.name: _input(entry, path) for entry in model.graph.input if entry.name not in constants},
        outputs=[entry.name for entry in model.graph.output],
        opset=opset,
    )


def _onnx() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.inliner
        import onnx.numpy_helper
        import onnx.reference
    except ImportError as error:
        raise MissingTool("ONNX files need the package onnx", "pip install 'edge-tinyml[onnx]'") from error
    return onnx


def _parsed(path: Path) -> Any:
    onnx = _onnx()
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MOST_BYTES:
            raise BadFile(f"{path.name} has {size_bytes} bytes, more than {MOST_BYTES}", "take a smaller model")
        data = path.read_bytes()
    except OSError as error:
        raise BadFile(f"cannot read {path}: {error.strerror}") from error
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own DecodeError, wherever it lives
        raise BadFile(f"{path.name} is no ONNX file, or is truncated", AGAIN) from error
    if not model.graph.node or not model.graph.output:
        raise BadFile(f"{path.name} is no ONNX file, or is truncated", AGAIN)
    return model


def _check(model: Any, path: Path) -> None:
    onnx = _onnx()
    try:
        onnx.checker.check_model(model)
        if model.functions:
            model.CopyFrom(onnx.inliner.inline_local_functions(model))
    except Exception as error:  # its errors have no base of their own
        cause = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BadFile(f"{path.name} is no valid ONNX file: {cause[:200]}", AGAIN) from error


def _take_external(model: Any, path: Path) -> None:
    """Moves weights from a file beside the model into it; BadFile where the model names any other."""
    onnx = _onnx()
    external = onnx.TensorProto.EXTERNAL
    left = MOST_BYTES
    for tensor in model.graph.initializer:
        if tensor.data_location != external:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        data = _external(path, entries, _size_bytes(tensor), left)
        left -= len(data)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.raw_data = data


def _size_bytes(tensor: Any) -> int:
    onnx = _onnx()
    try:
        item = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError) as error:
        raise BadFile(f"a weight is of type {tensor.data_type}, which ONNX does not know", AGAIN) from error
    return math.prod(max(int(n), 0) for n in tensor.dims) * item


def _external(path: Path, entries: Mapping[str, str], size_bytes: int, left: int) -> bytes:
    """The bytes of one tensor in a second file."""
    name = entries.get("location", "")
    beside = path.resolve().parent
    if not name or name in (".", "..") or any(mark in name for mark in "/\\:\0"):
        raise BadFile(f"the weights of {path.name} lie in {name[:60]!r}, not beside it", AGAIN)
    other = beside / name
    hint = f"copy {name[:60]} into the folder of {path.name}, or export with external_data=False"
    try:
        if other.resolve().parent != beside or not other.is_file():
            raise BadFile(f"the weights of {path.name} lie in {name[:60]!r}, which is not there", hint)
        offset = int(entries.get("offset") or 0)
        if offset < 0 or size_bytes > left or offset + size_bytes > other.stat().st_size:
            raise BadFile(f"{name[:60]!r} is shorter than {path.name} says, or too large", hint)
        with other.open("rb") as file:
            file.seek(offset)
            return file.read(size_bytes)
    except (OSError, ValueError) as error:
        raise BadFile(f"cannot read the weights of {path.name} in {name[:60]!r}", hint) from error


def _array(tensor: Any) -> Array:
    onnx = _onnx()
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise BadFile(f"the constant {tensor.name[:60]!r} lies in another file", "export with external_data=False")
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except Exception as error:
        raise BadFile(f"the constant {tensor.name[:60]!r} is damaged", AGAIN) from error


def _node(proto: Any, number: int) -> Node:
    onnx = _onnx()
    attributes = {}
    for entry in proto.attribute:
        value = onnx.helper.get_attribute_value(entry)
        attributes[entry.name] = _array(value) if isinstance(value, onnx.TensorProto) else value
    op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
    if not proto.output:
        raise BadFile(f"node {number} computes nothing", AGAIN)
    return Node(op, proto.name, tuple(proto.input), tuple(proto.output), attributes)


def _input(entry: Any, path: Path) -> tuple[tuple[int, ...], Any]:
    """Shape and type of an input; an open first axis is a batch of 1."""
    onnx = _onnx()
    kind = entry.type.tensor_type
    if not entry.type.HasField("tensor_type") or not kind.HasField("shape"):
        raise UserError(f"the input {entry.name[:60]!r} of {path.name} has no shape", "export it with an example input")
    shape = []
    for axis, dimension in enumerate(kind.shape.dim):
        size = int(dimension.dim_value) if dimension.HasField("dim_value") else 0
        if size < 1 and axis > 0:
            name = dimension.dim_param[:40] or "?"
            raise UserError(
                f"axis {axis} ({name!r}) of the input {entry.name[:60]!r} has no fixed size",
                "boards need one: export the model without dynamic_axes or dynamic_shapes for it",
            )
        shape.append(max(size, 1))
    if math.prod(shape) > MOST_DIMENSION:
        raise UserError(
            f"the input {entry.name[:60]!r} has the shape {shape}, too large to compute", "take a smaller one"
        )
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    except KeyError as error:
        raise BadFile(
            f"the input {entry.name[:60]!r} is of type {kind.elem_type}, which ONNX does not know", AGAIN
        ) from error
    if dtype not in (np.float32, np.float64, np.float16, np.int32, np.int64, np.bool_):
        raise UserError(f"the input {entry.name[:60]!r} is {dtype}", "inputs are float32, int32, int64 or bool")
    return tuple(shape), dtype


def _evaluate_at(opset: int) -> onnx_ops.Evaluate:
    """Computes one node of constants with ONNX's reference implementation."""
    onnx = _onnx()

    def evaluate(node: Node, inputs: Sequence[Array | None]) -> Sequence[Array]:
        names = [f"i{n}" if array is not None else "" for n, array in enumerate(inputs)]
        outputs = [f"o{n}" for n in range(len(node.outputs))]
        attributes = {
            name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            for name, value in node.attributes.items()
        }
        proto = onnx.helper.make_node(node.op, names, outputs, **attributes)
        operators = [onnx.helper.make_opsetid("", opset)]
        run = onnx.reference.ReferenceEvaluator(
            onnx.helper.make_model(
                onnx.helper.make_graph(
                    [proto],
                    "constant",
                    [onnx.helper.make_empty_tensor_value_info(name) for name in names if name],
                    [onnx.helper.make_empty_tensor_value_info(name) for name in outputs],
                ),
                opset_imports=operators,
            )
        )
        feeds = {name: array for name, array in zip(names, inputs, strict=True) if name}
        with np.errstate(all="ignore"):
            return [np.asarray(array) for array in run.run(None, feeds)]

    return evaluate
