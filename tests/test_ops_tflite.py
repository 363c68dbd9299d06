"""Every op's reference equals what the TFLite interpreter computes with the ops it stands for, within stated bounds.

The interpreter runs its reference kernels. Bounds are in ulps of float32: of the result itself, or, for sums whose
order of addition differs, of the sum of the terms' magnitudes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from firmware_tools import ops
from firmware_tools.exp import exp_f32
from firmware_tools.ops import Array, Call, Run
from firmware_tools.packed import sequential_sum

ULP = 2.0**-23
BUILTIN = schema.BuiltinOperator
TYPES = {"float32": schema.TensorType.FLOAT32, "int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32}


class Lite:
    """A .tflite of a few ops, built one by one; tensors are known by their numbers."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.buffers, self.model.operatorCodes = 3, [schema.BufferT()], []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators, self.graph.inputs = [], [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self, shape: Sequence[int], dtype: str = "float32", data: Array | None = None, scales: Array | None = None
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape = f"t{len(self.graph.tensors)}", list(shape)
        tensor.type, tensor.buffer = TYPES[dtype], 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        if scales is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = scales, np.zeros(scales.size, np.int64)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def input(self, shape: Sequence[int], dtype: str = "float32") -> int:
        self.graph.inputs.append(self.tensor(shape, dtype))
        return self.graph.inputs[-1]

    def constant(self, data: Array, scales: Array | None = None) -> int:
        return self.tensor(data.shape, data.dtype.name, data, scales)

    def op(
        self, name: str, inputs: Sequence[int], *shapes: Sequence[int], options: Any = None, version: int = 1
    ) -> int:
        """Adds an op with one output of each shape; returns the first output's number."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(BUILTIN, name)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs = len(self.model.operatorCodes) - 1, list(inputs)
        operator.outputs = [self.tensor(shape) for shape in shapes]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(operator)
        return int(operator.outputs[0])

    def run(self, output: int, *values: Array) -> Array:
        self.graph.outputs = [output]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        lite = Interpreter(
            model_content=bytes(builder.Output()), experimental_op_resolver_type=OpResolverType.BUILTIN_REF
        )
        lite.allocate_tensors()
        for detail, value in zip(lite.get_input_details(), values, strict=True):
            lite.set_tensor(detail["index"], value)
        lite.invoke()
        result: Array = lite.get_tensor(lite.get_output_details()[0]["index"]).reshape(-1)
        return result


def floats(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def reference(call: Call, *inputs: Array, run: Run | None = None) -> Array:
    outputs: tuple[Array, ...] = ops.load(call.op).reference(call, inputs, run or Run())
    return outputs[0]


def assert_within(found: Array, expected: Array, ulps: float, magnitude: Array | None = None) -> None:
    """|found - expected| <= ulps * ULP * magnitude, by default of the expected value itself."""
    size = np.abs(expected if magnitude is None else magnitude).astype(np.float64)
    error = np.abs(found.astype(np.float64) - expected.astype(np.float64)) / np.maximum(size * ULP, 1e-45)
    assert error.max() <= ulps, f"{error.max():.2f} ulps"


@pytest.mark.parametrize(("n", "k"), [(5, 7), (64, 172), (512, 64)])
def test_fully_connected_float32(n: int, k: int) -> None:
    weights, x = floats(n, n, k), floats(k, k)
    lite = Lite()
    inputs = [lite.input((1, k)), lite.constant(weights), -1]
    output = lite.op("FULLY_CONNECTED", inputs, (1, n), options=schema.FullyConnectedOptionsT())
    found = reference(Call("fully_connected", (0,), (1,), {"weights": weights}), x)
    assert_within(found, lite.run(output, x[None]), 4, np.abs(weights) @ np.abs(x))


@pytest.mark.parametrize(("n", "k"), [(5, 7), (64, 172), (512, 64)])
def test_fully_connected_int8(n: int, k: int) -> None:
    """TFLite's hybrid kernel quantizes the row alike; it rounds ties away from zero, and these rows have none."""
    weights = np.random.default_rng(n).integers(-127, 128, (n, k)).astype(np.int8)
    scales, x = np.abs(floats(n, n)) / 127, floats(k, k)
    lite = Lite()
    inputs = [lite.input((1, k)), lite.constant(weights, scales), -1]
    output = lite.op("FULLY_CONNECTED", inputs, (1, n), options=schema.FullyConnectedOptionsT(), version=9)
    found = reference(Call("fully_connected", (0,), (1,), {"weights": weights, "scales": scales}), x)
    assert_within(found, lite.run(output, x[None]), 2)


def test_embedding_int8() -> None:
    weights = np.random.default_rng(0).integers(-127, 128, (9, 24)).astype(np.int8)
    scales = np.abs(floats(0, 9))
    lite = Lite()
    token = lite.input((1,), "int32")
    row = lite.op("GATHER", [lite.constant(weights), token], (1, 24), options=schema.GatherOptionsT())
    lite.graph.tensors[row].type = schema.TensorType.INT8
    row = lite.op("CAST", [row], (1, 24), options=schema.CastOptionsT())
    scale = lite.op("GATHER", [lite.constant(scales[:, None]), token], (1, 1), options=schema.GatherOptionsT())
    output = lite.op("MUL", [row, scale], (1, 24), options=schema.MulOptionsT())
    call = Call("embedding", (), (0,), {"weights": weights, "scales": scales})
    for i in range(9):
        assert_within(reference(call, run=Run(token=i)), lite.run(output, np.int32([i])), 0)


def test_add() -> None:
    lite = Lite()
    output = lite.op("ADD", [lite.input((1, 50)), lite.input((1, 50))], (1, 50), options=schema.AddOptionsT())
    a, b = floats(1, 50), floats(2, 50)
    assert_within(reference(Call("add", (0, 1), (2,)), a, b), lite.run(output, a[None], b[None]), 0)


def test_rms_norm() -> None:
    x, gain, epsilon = floats(1, 64), floats(2, 64), 1e-5
    lite = Lite()
    row = lite.input((1, 64))
    squares = lite.op("MUL", [row, row], (1, 64), options=schema.MulOptionsT())
    keep = schema.ReducerOptionsT()
    keep.keepDims = True
    mean = lite.op("MEAN", [squares, lite.constant(np.int32([1]))], (1, 1), options=keep)
    mean = lite.op("ADD", [mean, lite.constant(np.float32([epsilon]))], (1, 1), options=schema.AddOptionsT())
    inverse = lite.op("RSQRT", [mean], (1, 1))
    scaled = lite.op("MUL", [row, inverse], (1, 64), options=schema.MulOptionsT())
    output = lite.op("MUL", [scaled, lite.constant(gain)], (1, 64), options=schema.MulOptionsT())
    call = Call("rms_norm", (0,), (1,), {"gain": gain}, {"epsilon": epsilon})
    assert_within(reference(call, x), lite.run(output, x[None]), 8)


def test_rope() -> None:
    heads, half, behind = 3, 4, 5
    angles, x = floats(0, 1, half) * 3, floats(1, heads * 2 * half + behind)
    cos, sin = np.cos(angles), np.sin(angles)
    lite = Lite()
    row = lite.input((heads, 2 * half))
    parts = schema.SplitOptionsT()
    parts.numSplits = 2
    a = lite.op("SPLIT", [lite.constant(np.int32(1).reshape(())), row], (heads, half), (heads, half), options=parts)
    c, s = lite.constant(cos), lite.constant(sin)

    def product(x: int, y: int) -> int:
        return lite.op("MUL", [x, y], (heads, half), options=schema.MulOptionsT())

    ac, bs, bc, as_ = product(a, c), product(a + 1, s), product(a + 1, c), product(a, s)
    low = lite.op("SUB", [ac, bs], (heads, half), options=schema.SubOptionsT())
    high = lite.op("ADD", [bc, as_], (heads, half), options=schema.AddOptionsT())
    join = schema.ConcatenationOptionsT()
    join.axis = 1
    output = lite.op("CONCATENATION", [low, high], (heads, 2 * half), options=join)
    call = Call("rope", (0,), (0,), {"cos": cos, "sin": sin}, {"heads": heads, "head_dim": 2 * half})
    turned, found = x[:-behind], reference(call, x)
    assert_within(found[:-behind], lite.run(output, turned.reshape(heads, -1)), 0)
    assert found[-behind:].tobytes() == x[-behind:].tobytes()


def test_swiglu() -> None:
    gate = np.linspace(-8.9, 8.9, 172, dtype=np.float32)  # below -9 TFLite takes exp(x) for the logistic function
    up = floats(0, 172)
    lite = Lite()
    g, u = lite.input((1, 172)), lite.input((1, 172))
    sigmoid = lite.op("LOGISTIC", [g], (1, 172))
    silu = lite.op("MUL", [g, sigmoid], (1, 172), options=schema.MulOptionsT())
    output = lite.op("MUL", [silu, u], (1, 172), options=schema.MulOptionsT())
    found = reference(Call("swiglu", (0,), (1,)), np.concatenate([gate, up]))
    assert_within(found, lite.run(output, gate[None], up[None]), 12)  # the rounded power of e^8.9 is worth 6


def test_softmax() -> None:
    x = floats(0, 200) * 5
    lite = Lite()
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    output = lite.op("SOFTMAX", [lite.input((1, 200))], (1, 200), options=options)
    e = exp_f32(x - x.max())
    assert_within(e / sequential_sum(e), lite.run(output, x[None]), 32)  # e^-30: half an ulp of a power of 43


def attention_in_lite(queries: Array, keys: Array, values: Array) -> Array:
    """softmax(q k / sqrt(D)) v of each head; queries [H, 1, D], keys and values [H, T, D]."""
    heads, count, head_dim = keys.shape
    lite = Lite()
    q, k, v = (lite.input(array.shape) for array in (queries, keys, values))
    turn = schema.BatchMatMulOptionsT()
    turn.adjY = True
    scores = lite.op("BATCH_MATMUL", [q, k], (heads, 1, count), options=turn)
    factor = lite.constant(np.float32([1 / np.sqrt(head_dim)]))
    scores = lite.op("MUL", [scores, factor], (heads, 1, count), options=schema.MulOptionsT())
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    weights = lite.op("SOFTMAX", [scores], (heads, 1, count), options=options)
    output = lite.op("BATCH_MATMUL", [weights, v], (heads, 1, head_dim), options=schema.BatchMatMulOptionsT())
    return lite.run(output, queries, keys, values)


@pytest.mark.parametrize(("bits", "bound"), [(32, 64 * ULP), (8, 0.04)])
def test_attention(bits: int, bound: float) -> None:
    """Against largest |value|: float32 differs by rounding alone, int8 by what its cache loses."""
    heads, kv_heads, head_dim, count = 4, 2, 8, 40
    shape = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "context": count}
    call = Call("attention", (0,), (1,), {}, {"layer": 0, "cache_bits": bits, **shape})
    run, tokens = Run(context=count), floats(0, count, heads + 2 * kv_heads, head_dim)
    for position, token in enumerate(tokens):
        run.position = position
        found = reference(call, token.reshape(-1), run=run)
        past = np.repeat(tokens[: position + 1, heads:], heads // kv_heads, axis=1).transpose(1, 0, 2).copy()
        expected = attention_in_lite(token[:heads, None], past[:heads], past[heads:])
        assert np.abs(found - expected).max() <= bound * np.abs(past[heads:]).max(), position
