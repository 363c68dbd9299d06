"""ONNX nodes to TFLite operators: a dictionary of ops in each module, one small function an op.

An op is `function(builder, node, *inputs) -> Value`, or a tuple of them; an input that is left out is None. It raises
NotTaken for what it does not do. What depends on constants alone is computed while the model is converted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.make import tflite
from edge.make.formats.onnx_ops import arrangement, elementwise, images, layers, recurrent
from edge.make.formats.onnx_ops.builder import Array, Builder, Node, NotTaken, Value, known, stored
from firmware_tools.errors import BadFile, UserError

OPS: Mapping[str, Callable[..., Any]] = {
    **elementwise.OPS,
    **arrangement.OPS,
    **layers.OPS,
    **images.OPS,
    **recurrent.OPS,
}
# computed by ONNX's own reference where all inputs are known, and only there for those that are no OPS
CONSTANT_ONLY = ("Constant", "ConstantOfShape", "EyeLike", "Mod", "Range", "Trilu", "Xor")
NEVER_FOLDED = (
    "GRU",
    "LSTM",
    "MatMul",
    "Gemm",
    "Conv",
    "Resize",
    "Upsample",
    "AveragePool",
    "MaxPool",
    "Pad",
    "Dropout",
)
LOOPS = "control flow is not converted: export the model with fixed shapes and its loops unrolled"
HINTS = {
    **dict.fromkeys(("If", "Loop", "Scan"), LOOPS),
    "ConvTranspose": "upsample by Resize of nearest neighbours and a Conv instead",
    "CumSum": "write it as a product with a triangular matrix",
    "DequantizeLinear": "export the float model: --quantize does the rest",
    "Einsum": "write it as transposes and matmul",
    "GatherElements": "write it as Gather, or as a product with one-hot rows",
    "GatherND": "write it as Gather",
    "GroupNormalization": "use LayerNormalization or BatchNormalization",
    "NonZero": "its result has no fixed size: use Where",
    "QuantizeLinear": "export the float model: --quantize does the rest",
    "RNN": "use LSTM or GRU",
    "TopK": "use ArgMax",
}
MOST_FOLDED = 1 << 26  # elements of one constant that is computed here
MOST_NODES = 100_000
LISTED = "docs/onnx.md lists the ops that are converted"


@dataclass(frozen=True)
class Source:
    """An ONNX graph as plain data: nodes in the order they run; inputs have a shape and a numpy type each."""

    nodes: Sequence[Node]
    constants: Mapping[str, Array]
    inputs: Mapping[str, tuple[tuple[int, ...], Any]]
    outputs: Sequence[str]
    opset: int


Evaluate = Callable[[Node, Sequence[Array | None]], Sequence[Array]]


def translated(source: Source, scheme: str, evaluate: Evaluate) -> tflite.Subgraph:
    """The graph of TFLite operators; evaluate computes a node of constants. UserError names what is not taken."""
    nodes = _needed(source)
    _check_ops(nodes, source)
    b = Builder(scheme, source.opset)
    for name, (shape, dtype) in source.inputs.items():
        b.values[name] = Value(
            shape, np.dtype(dtype), plain=b.graph.input(name, shape, stored(np.zeros(0, dtype)).dtype)
        )
    for name, data in source.constants.items():
        b.values.setdefault(name, known(data))
    for node in nodes:
        _translate(b, node, evaluate)
    for name in source.outputs:
        b.name = name
        b.graph.output(name, _finished(b, name))
    return b.graph


def _finished(b: Builder, name: str) -> int:
    """The tensor of an output, apart from the inputs."""
    value = b.values.get(name)
    if value is None:
        raise BadFile(f"nothing computes the output {name[:60]!r}", "export the model again")
    if value.data is not None:
        raise UserError(f"the output {name[:60]!r} does not depend on the input", "is it the right model?")
    return b.plain(value)


def _needed(source: Source) -> list[Node]:
    """The nodes that an output depends on."""
    live, needed = set(source.outputs), []
    for node in reversed(source.nodes):
        if live.intersection(node.outputs):
            needed.append(node)
            live.update(node.inputs)
    return needed[::-1]


def _check_ops(nodes: Sequence[Node], source: Source) -> None:
    """All ops that are not known at all, in one UserError."""
    if len(nodes) > MOST_NODES:
        raise BadFile(f"the model has {len(nodes)} nodes, more than {MOST_NODES}", "is it the right file?")
    unknown = {node.op: node.name for node in reversed(nodes) if node.op not in OPS and node.op not in CONSTANT_ONLY}
    if unknown:
        named = ", ".join(f"{op[:40]} ({name[:60]!r})" for op, name in sorted(unknown.items())[:4])
        hint = next((HINTS[op] for op in sorted(unknown) if op in HINTS), LISTED)
        raise UserError(f"the model has ops that are not converted: {named}", hint)


def _translate(b: Builder, node: Node, evaluate: Evaluate) -> None:
    b.name = node.outputs[0]
    try:
        results = _results(b, node, evaluate)
    except NotTaken as error:
        raise UserError(f"{_called(node)} is not converted: {error.reason}", error.hint or LISTED) from error
    except UserError:
        raise
    except Exception as error:  # numpy and ONNX's reference raise what they like at operands that do not fit
        raise BadFile(f"{_called(node)} has not the inputs and attributes of its kind", "export it again") from error
    for name, value in zip(node.outputs, results, strict=False):
        b.values[name] = value


def _called(node: Node) -> str:
    return f"{node.op} ({(node.name or node.outputs[0])[:60]!r})"


def _results(b: Builder, node: Node, evaluate: Evaluate) -> Sequence[Value]:
    missing = [name for name in node.inputs if name and name not in b.values]
    if missing:
        raise NotTaken(f"its input {missing[0][:60]!r} is computed nowhere", "export the model again")
    inputs = [b.values[name] if name else None for name in node.inputs]
    data = [None if value is None else value.data for value in inputs]
    all_known = all(value is None or value.data is not None for value in inputs)
    if all_known and node.op not in NEVER_FOLDED:
        if _folded_size(node, [d for d in data if d is not None]) > MOST_FOLDED:
            raise NotTaken(f"it computes a constant of more than {MOST_FOLDED} elements")
        return [known(np.asarray(array)) for array in evaluate(node, data)]
    if node.op not in OPS:
        raise NotTaken("it depends on the input", HINTS.get(node.op, "export the model with fixed shapes"))
    made = OPS[node.op](b, node, *inputs)
    return made if isinstance(made, tuple) else (made,)


def _folded_size(node: Node, data: Sequence[Array]) -> int:
    """At most so many elements has what a node computes of constants."""
    if node.op == "ConstantOfShape":
        return math.prod(max(int(n), 0) for n in data[0].reshape(-1))
    if node.op == "Range":
        start, limit, step = (float(array.reshape(())) for array in data)
        return int(abs((limit - start) / step)) + 1
    if node.op == "Expand":
        return math.prod(np.broadcast_shapes(data[0].shape, tuple(int(n) for n in data[1].reshape(-1))))
    if node.op == "Tile":
        return data[0].size * math.prod(max(int(n), 0) for n in data[1].reshape(-1))
    if node.op == "Gather":
        return data[0].size * data[1].size
    if node.op in elementwise.OPS:
        return math.prod(np.broadcast_shapes(*(array.shape for array in data)))
    return sum(array.size for array in data)
