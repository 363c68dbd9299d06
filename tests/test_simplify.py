"""Loops of .tflite files unrolled and constants folded: the same results as LiteRT; and what cannot be unrolled."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from single_op import Lite
from walk import Walk

from firmware_tools import graph, simplify
from firmware_tools.ops import Array, Unsupported


class File:
    """A file of three subgraphs: main, the condition and the body of its loop."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.buffers, self.model.operatorCodes = 3, [schema.BufferT()], []
        self.model.subgraphs = [schema.SubGraphT() for _ in range(3)]
        for subgraph in self.model.subgraphs:
            subgraph.tensors, subgraph.operators = [], []

    def tensor(self, subgraph: int, dtype: str, shape: tuple[int, ...], data: Array | None = None) -> int:
        tensor, tensors = schema.TensorT(), self.model.subgraphs[subgraph].tensors
        tensor.name, tensor.shape = f"t{len(tensors)}", list(shape)
        tensor.type, tensor.buffer = getattr(schema.TensorType, dtype.upper()), 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        tensors.append(tensor)
        return len(tensors) - 1

    def op(self, subgraph: int, name: str, inputs: list[int], outputs: list[int], options: Any = None) -> None:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        self.model.operatorCodes.append(code)
        operator.opcodeIndex, operator.inputs = len(self.model.operatorCodes) - 1, inputs
        operator.outputs = outputs
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.model.subgraphs[subgraph].operators.append(operator)

    def border(self, subgraph: int, inputs: list[int], outputs: list[int]) -> None:
        self.model.subgraphs[subgraph].inputs, self.model.subgraphs[subgraph].outputs = inputs, outputs

    def content(self) -> bytes:
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def loop(start: int, end: int, of_input: bool = False) -> bytes:
    """x = table[i] + 2 x for i from start to end - 1; of_input: while x is below end instead."""
    file = File()
    x, i = file.tensor(0, "float32", (1,)), file.tensor(0, "int32", (), np.array(start, np.int32))
    results = [file.tensor(0, "int32", ()), file.tensor(0, "float32", (1,))]
    y = file.tensor(0, "float32", (1,))
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    file.op(0, "WHILE", [i, x], results, options)
    file.op(0, "NEG", [results[1]], [y], schema.NegOptionsT())
    file.border(0, [x], [y])

    state = [file.tensor(1, "int32", ()), file.tensor(1, "float32", (1,))]
    where = file.tensor(1, "bool", (1,) if of_input else ())
    limit = np.array([end], np.float32) if of_input else np.array(end, np.int32)
    last = file.tensor(1, limit.dtype.name, limit.shape, limit)
    file.op(1, "LESS", [state[1] if of_input else state[0], last], [where], schema.LessOptionsT())
    file.border(1, state, [where])

    i, x = file.tensor(2, "int32", ()), file.tensor(2, "float32", (1,))
    table = file.tensor(2, "float32", (4, 1), np.float32([[0.5], [1.5], [-3], [7]]))
    one, two = (
        file.tensor(2, "int32", (), np.array(1, np.int32)),
        file.tensor(2, "float32", (), np.array(2, np.float32)),
    )
    following, row = file.tensor(2, "int32", ()), file.tensor(2, "float32", (1,))
    twice, total = file.tensor(2, "float32", (1,)), file.tensor(2, "float32", (1,))
    file.op(2, "ADD", [i, one], [following], schema.AddOptionsT())
    file.op(2, "GATHER", [table, i], [row], schema.GatherOptionsT())
    file.op(2, "MUL", [x, two], [twice], schema.MulOptionsT())
    file.op(2, "ADD", [row, twice], [total], schema.AddOptionsT())
    file.border(2, [i, x], [following, total])
    return file.content()


@pytest.mark.parametrize(("start", "end"), [(0, 4), (1, 3), (3, 4), (2, 2), (5, 1)])
def test_a_loop_gives_what_lite_gives(start: int, end: int) -> None:
    content = loop(start, end)
    subgraph = simplify.simplified(graph.read(content))
    walk, lite = Walk(subgraph), Lite(content)
    assert [operator.op for operator in subgraph.operators].count("MUL") == max(end - start, 0)
    assert {operator.op for operator in subgraph.operators} <= {"MUL", "ADD", "NEG"}  # counters and rows are known
    assert [operator.index for operator in subgraph.operators] == list(range(len(subgraph.operators)))
    for x in np.float32([[1.25], [-3]]):
        assert np.array_equal(walk.run((x,))[0], lite.run(x)[0])


def test_what_depends_on_constants_alone_is_computed() -> None:
    """y = x + relu(a + b) of float16 weights a, where the graph stores a and b."""
    file = File()
    a, b = np.float16([1.5, -4]), np.float32([0.25, 1])
    x, y = file.tensor(0, "float32", (2,)), file.tensor(0, "float32", (2,))
    half, other = file.tensor(0, "float16", (2,), a), file.tensor(0, "float32", (2,), b)
    wide, total, positive = (file.tensor(0, "float32", (2,)) for _ in range(3))
    file.op(0, "DEQUANTIZE", [half], [wide])
    file.op(0, "ADD", [wide, other], [total], schema.AddOptionsT())
    file.op(0, "RELU", [total], [positive])
    file.op(0, "ADD", [x, positive], [y], schema.AddOptionsT())
    file.border(0, [x], [y])
    file.model.subgraphs = file.model.subgraphs[:1]
    subgraph = simplify.simplified(graph.read(file.content()))
    assert [operator.op for operator in subgraph.operators] == ["ADD"]
    given = np.float32([3, 4])
    assert np.array_equal(Walk(subgraph).run((given,))[0], Lite(file.content()).run(given)[0])
    assert Walk(subgraph).run((given,))[0].tolist() == [4.75, 4]


def test_open_shapes_are_found_and_what_graphs_compute_of_them_is_known() -> None:
    """[1, 2, 3] as [2, 3] by a shape that the graph computes: first the second axis, then what is left; then exp."""
    file = File()
    x = file.tensor(0, "float32", (1, 2, 3))
    shape, axis, packed = (file.tensor(0, "int32", size) for size in ((3,), (), (2,)))
    at = [file.tensor(0, "int32", (1,), np.array([n], np.int32)) for n in (1, 2, 1)]
    rest = file.tensor(0, "int32", (), np.array(-1, np.int32))
    rows, y = file.tensor(0, "float32", (1, 1)), file.tensor(0, "float32", (1, 1))
    for number in (rows, y):
        file.model.subgraphs[0].tensors[number].shapeSignature = [-1, -1]
    file.op(0, "SHAPE", [x], [shape], schema.ShapeOptionsT(schema.TensorType.INT32))
    first = schema.StridedSliceOptionsT()
    first.shrinkAxisMask = 1
    file.op(0, "STRIDED_SLICE", [shape, *at], [axis], first)
    file.op(0, "PACK", [axis, rest], [packed], schema.PackOptionsT(2, 0))
    file.op(0, "RESHAPE", [x, packed], [rows])
    file.op(0, "EXP", [rows], [y])
    file.border(0, [x], [y])
    file.model.subgraphs = file.model.subgraphs[:1]
    subgraph = simplify.simplified(graph.read(file.content()))
    assert [operator.op for operator in subgraph.operators] == ["RESHAPE", "EXP"]
    assert subgraph.tensors[subgraph.outputs[0]].shape == (2, 3)
    given = np.linspace(-1, 1, 6, dtype=np.float32).reshape(1, 2, 3)
    np.testing.assert_allclose(Walk(subgraph).run((given,))[0], Lite(file.content()).run(given)[0], rtol=3e-7)


def test_what_cannot_be_unrolled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unsupported, match="ends when the input says so") as refusal:
        simplify.simplified(graph.read(loop(0, 100, of_input=True)))
    assert "unroll=True" in refusal.value.hint
    with pytest.raises(Unsupported, match="never ends"):
        monkeypatch.setattr(simplify, "MOST_ROUNDS", 50)
        simplify.simplified(graph.read(loop(0, 100)))
    monkeypatch.setattr(simplify, "MOST_OPERATORS", 5)
    with pytest.raises(Unsupported, match="more than 5 operators"):
        simplify.simplified(graph.read(loop(0, 4)))
