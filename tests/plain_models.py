"""Small .tflite models of several operators, made here, so that tests of plain models need no file of others.

A model is a list of tensors and of operators over their names; weights are random from a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

Array = NDArray[Any]
VERSIONS = {"CONV_2D": 3, "FULLY_CONNECTED": 4, "SOFTMAX": 2, "MAX_POOL_2D": 2, "ADD": 2}  # those of int8


@dataclass
class Maker:
    """A model while it is written; `tensor` and `operator` add to it, `content` is the file."""

    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    codes: list[str] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)

    def tensor(
        self,
        name: str,
        dtype: str,
        shape: Sequence[int],
        scale: float | Sequence[float] | None = None,
        zero_point: int = 0,
        data: Array | None = None,
        variable: bool = False,
    ) -> str:
        """Adds a tensor and returns its name; several scales go along its first axis."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer, tensor.isVariable = name, list(shape), 0, variable
        tensor.type = getattr(schema.TensorType, dtype.upper())
        if data is not None:
            assert data.shape == tuple(shape) and data.dtype == dtype, name
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = scales
            tensor.quantization.zeroPoint = np.full(scales.size, zero_point, np.int64)
        self.names[name] = len(self.tensors)
        self.tensors.append(tensor)
        return name

    def operator(self, op: str, inputs: Sequence[str], outputs: Sequence[str], options: Any = None) -> None:
        """Adds an operator over tensors by their names."""
        if op not in self.codes:
            self.codes.append(op)
        operator = schema.OperatorT()
        operator.opcodeIndex = self.codes.index(op)
        operator.inputs = [self.names[name] for name in inputs]
        operator.outputs = [self.names[name] for name in outputs]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(operator)

    def content(self, inputs: Sequence[str], outputs: Sequence[str], signatures: Sequence[str] = ()) -> bytes:
        """The file; each signature is another name for the one subgraph."""
        graph, whole = schema.SubGraphT(), schema.ModelT()
        graph.tensors, graph.operators, graph.name = self.tensors, self.operators, "main"
        graph.inputs = [self.names[name] for name in inputs]
        graph.outputs = [self.names[name] for name in outputs]
        whole.version, whole.buffers, whole.subgraphs = 3, self.buffers, [graph]
        whole.operatorCodes = [self._code(op) for op in self.codes]
        whole.signatureDefs = [self._signature(name, inputs, outputs) for name in signatures]
        builder = flatbuffers.Builder(1024)
        builder.Finish(whole.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    @staticmethod
    def _code(op: str) -> Any:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, op)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), VERSIONS.get(op, 1)
        return code

    def _signature(self, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = name.encode(), 0
        signature.inputs = [schema.TensorMapT(name=n.encode(), tensorIndex=self.names[n]) for n in inputs]
        signature.outputs = [schema.TensorMapT(name=n.encode(), tensorIndex=self.names[n]) for n in outputs]
        return signature


def fill(options: Any, **fields: Any) -> Any:
    """An option table with these fields."""
    for name, value in fields.items():
        setattr(options, name, value)
    return options


def connected(
    maker: Maker, x: str, y: str, sizes: tuple[int, int], seed: int, scale: float, activation: int = 0
) -> str:
    """A fully connected int8 layer from x (its scale is 0.05) to a new tensor y."""
    random, (rows, columns) = np.random.default_rng(seed), sizes
    weights = random.integers(-127, 128, (rows, columns)).astype(np.int8)
    maker.tensor(f"{y}_w", "int8", (rows, columns), 0.01, data=weights)
    bias = random.integers(-2000, 2000, rows).astype(np.int32)
    maker.tensor(f"{y}_b", "int32", (rows,), 0.05 * 0.01, data=bias)
    maker.tensor(y, "int8", (1, rows), scale, 3)
    options = fill(schema.FullyConnectedOptionsT(), fusedActivationFunction=activation, keepNumDims=False)
    maker.operator("FULLY_CONNECTED", (x, f"{y}_w", f"{y}_b"), (y,), options)
    return y


def classifier(classes: int = 5, signatures: Sequence[str] = ()) -> bytes:
    """int8 [1, 8, 6, 1] -> CONV_2D with ReLU, MAX_POOL_2D, RESHAPE, FULLY_CONNECTED, SOFTMAX -> int8 [1, classes]."""
    maker, random = Maker(), np.random.default_rng(1)
    maker.tensor("image", "int8", (1, 8, 6, 1), 0.05, -4)
    filters = random.integers(-127, 128, (4, 3, 3, 1)).astype(np.int8)
    scales = random.uniform(0.001, 0.003, 4).astype(np.float32)
    maker.tensor("filters", "int8", (4, 3, 3, 1), scales, data=filters)
    maker.tensor("bias", "int32", (4,), scales * np.float32(0.05), data=np.int32([1000, -200, 0, 500]))
    maker.tensor("features", "int8", (1, 8, 6, 4), 0.05, -128)
    convolution = fill(schema.Conv2DOptionsT(), padding=0, strideH=1, strideW=1, fusedActivationFunction=1)
    fill(convolution, dilationHFactor=1, dilationWFactor=1)
    maker.operator("CONV_2D", ("image", "filters", "bias"), ("features",), convolution)
    maker.tensor("pooled", "int8", (1, 4, 3, 4), 0.05, -128)
    pool = fill(schema.Pool2DOptionsT(), padding=1, strideH=2, strideW=2, filterHeight=2, filterWidth=2)
    maker.operator("MAX_POOL_2D", ("features",), ("pooled",), fill(pool, fusedActivationFunction=0))
    maker.tensor("shape", "int32", (2,), data=np.int32([1, -1]))
    maker.tensor("flat", "int8", (1, 48), 0.05, -128)
    maker.operator("RESHAPE", ("pooled", "shape"), ("flat",))
    connected(maker, "flat", "scores", (classes, 48), 2, 0.6)
    maker.tensor("classes", "int8", (1, classes), 1 / 256, -128)
    maker.operator("SOFTMAX", ("scores",), ("classes",), fill(schema.SoftmaxOptionsT(), beta=1.0))
    return maker.content(("image",), ("classes",), signatures)


def two_inputs() -> bytes:
    """Inputs left and right int8 [1, 8], outputs of both and of right alone: int8 [1, 3] and [1, 2]."""
    maker = Maker()
    maker.tensor("left", "int8", (1, 8), 0.05, 0)
    maker.tensor("right", "int8", (1, 8), 0.05, 0)
    maker.tensor("sum", "int8", (1, 8), 0.05, 1)
    maker.operator("ADD", ("left", "right"), ("sum",), fill(schema.AddOptionsT(), fusedActivationFunction=0))
    connected(maker, "sum", "both", (3, 8), 3, 0.3)
    connected(maker, "right", "alone", (2, 8), 4, 0.3, activation=1)
    return maker.content(("left", "right"), ("both", "alone"))


def autoencoder() -> bytes:
    """int8 [1, 8] -> int8 [1, 8]."""
    maker = Maker()
    maker.tensor("x", "int8", (1, 8), 0.05, 0)
    connected(maker, "x", "y", (8, 8), 5, 0.3)
    return maker.content(("x",), ("y",))


def unsupported() -> bytes:
    """float32 [1, 4] through two operators that no board computes, and one between them that all do."""
    maker = Maker()
    for name in ("x", "a", "b", "y"):
        maker.tensor(name, "float32", (1, 4))
    maker.operator("SEGMENT_SUM", ("x", "x"), ("a",))
    maker.operator("RELU", ("a",), ("b",))
    maker.operator("CUMSUM", ("b", "b"), ("y",))
    return maker.content(("x",), ("y",))


class Lite:
    """LiteRT's interpreter of a file, with reference kernels."""

    def __init__(self, content: bytes) -> None:
        kernels = OpResolverType.BUILTIN_REF
        self.interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kernels, num_threads=1)
        self.interpreter.allocate_tensors()

    def run(self, *inputs: Array) -> list[Array]:
        self.interpreter.reset_all_variables()
        for detail, value in zip(self.interpreter.get_input_details(), inputs, strict=True):
            self.interpreter.set_tensor(detail["index"], value)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(detail["index"]) for detail in self.interpreter.get_output_details()]


def stored(shape: Sequence[int], seed: int, dtype: str = "int8") -> Array:
    """Any stored numbers of an integer type, or standard normal floats."""
    random = np.random.default_rng(seed)
    if dtype == "float32":
        return random.standard_normal(shape).astype(np.float32)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
