"""One small ONNX model for each op, and for each way of it that is converted differently."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A node of `op`: shapes of what it computes with, what the file stores after them (None: left out)."""

    op: str
    shapes: tuple[tuple[int, ...], ...]
    stored: tuple[Array | None, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    kind: str = "real"  # or positive, words, bool
    opset: int = 20
    before: str = ""  # an op between the first input and the node

    def inputs(self) -> list[Array]:
        random = np.random.default_rng(5)
        made: list[Array] = []
        for shape in self.shapes:
            real = random.normal(0, 1.5, shape).astype(np.float32)
            if self.kind == "positive":
                real = np.abs(real) + np.float32(0.1)
            made.append(real)
        if self.kind == "words":
            made[-1] = random.integers(0, 5, self.shapes[-1])
        if self.kind == "bool":
            made = [array > 0 for array in made]
        return made

    def model(self) -> onnx.ModelProto:
        types = {"f": onnx.TensorProto.FLOAT, "i": onnx.TensorProto.INT64, "b": onnx.TensorProto.BOOL}
        given = self.inputs()
        names = [f"x{i}" for i in range(len(given))]
        stored = [f"c{i}" if array is not None else "" for i, array in enumerate(self.stored)]
        outputs = [f"y{i}" for i in range(self.outputs)]
        nodes = []
        taken = list(names)
        if self.before:
            nodes.append(helper.make_node(self.before, ["x0"], ["before"], **BEFORE.get(self.before, {})))
            taken[0] = "before"
        nodes.append(helper.make_node(self.op, taken + stored, outputs, name="it", **self.attributes))
        graph = helper.make_graph(
            nodes,
            "case",
            [helper.make_tensor_value_info(n, types[x.dtype.kind], x.shape) for n, x in zip(names, given, strict=True)],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(x, n) for n, x in zip(stored, self.stored, strict=True) if x is not None],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        return onnx.shape_inference.infer_shapes(model)


BEFORE: dict[str, dict[str, Any]] = {"MaxPool": {"kernel_shape": [2, 2]}}  # makes a value whose channels are last
IMAGE = (1, 4, 7, 6)
RANDOM = np.random.default_rng(3)


def real(*shape: int) -> Array:
    return RANDOM.normal(0, 0.5, shape).astype(np.float32)


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def several(op: str, *attributes: dict[str, Any], shapes: Any = (IMAGE,), **more: Any) -> list[Case]:
    return [Case(op, shapes, attributes=a, **more) for a in attributes or ({},)]


UNARY = ("Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Identity", "Neg", "Relu", "Round", "Sigmoid")
CASES: list[Case] = [
    *(Case(op, ((3, 5),)) for op in (*UNARY, "Sign", "Sin", "Softplus", "Tanh", "IsNaN")),
    *(Case(op, (IMAGE,), before="MaxPool") for op in ("Relu", "Sigmoid", "Erf")),
    *(Case(op, ((3, 5),), kind="positive") for op in ("Log", "Reciprocal", "Sqrt")),
    *several("Gelu", {}, {"approximate": "tanh"}),
    *several("Elu", {}, {"alpha": 0.7}),
    *several("Celu", {}, {"alpha": 0.7}),
    *several("Selu"),
    *several("Mish"),
    *several("LeakyRelu", {"alpha": 0.2}),
    *several("HardSigmoid", {}, {"alpha": 0.3, "beta": 0.4}),
    Case("Swish", ((3, 5),), attributes={"alpha": 1.5}, opset=24),
    Case("PRelu", (IMAGE,), (real(4, 1, 1),)),
    Case("Dropout", ((3, 5),)),
    *(Case(op, ((2, 3, 4), (3, 1))) for op in ("Add", "Sub", "Mul", "Max", "Min", "Mean", "Sum")),
    *(Case(op, (IMAGE,), (real(4, 1, 1),), before="MaxPool") for op in ("Add", "Sub", "Mul")),
    Case("Add", (IMAGE, (1, 4, 6, 5)), before="MaxPool"),
    Case("Add", (IMAGE, (5,)), before="MaxPool"),
    Case("Div", ((2, 3), (3,)), kind="positive"),
    *(Case("Pow", ((2, 3),), (np.array(e, np.float32),), kind="positive") for e in (2, 0.5, 1, 1.7)),
    *(Case(op, ((2, 3), (2, 3))) for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")),
    *(Case(op, ((2, 3), (2, 3)), kind="bool") for op in ("And", "Or")),
    Case("Not", ((2, 3),), kind="bool"),
    Case("Cast", ((2, 3),), attributes={"to": onnx.TensorProto.INT64}),
    Case("Cast", ((2, 3),), attributes={"to": onnx.TensorProto.FLOAT}, kind="bool"),
    Case("Where", ((2, 3),), (real(2, 3), np.array(0.5, np.float32)), kind="bool"),
    Case("Clip", ((2, 30),), (np.array(0, np.float32), np.array(6, np.float32))),
    Case("Clip", ((2, 30),), (np.array(-0.3, np.float32), np.array(0.7, np.float32))),
    Case("Clip", ((2, 30),), (None, np.array(0.7, np.float32))),
    Case("BatchNormalization", (IMAGE,), (real(4), real(4), real(4), np.abs(real(4)))),
    # places and shapes
    Case("Concat", ((2, 3), (2, 4)), attributes={"axis": 1}),
    Case("Concat", (IMAGE, (1, 2, 6, 5)), attributes={"axis": 1}, before="MaxPool"),
    Case("Expand", ((3, 1),), (ints(2, 3, 4),)),
    *(Case("Flatten", (IMAGE,), attributes={"axis": axis}) for axis in (1, 2, -1)),
    Case("Gather", ((3, 5), (2, 4)), kind="words", attributes={"axis": 1}),
    Case("Gather", ((3, 5),), (np.array(-1),), {"axis": 1}),
    Case("Gather", ((3, 5),), (ints(2, 0),), {"axis": 0}),
    Case("Pad", ((3, 5),), (ints(1, 0, 2, 3),)),
    Case("Pad", ((3, 5),), (ints(1, 0, 2, 3), np.array(-2, np.float32))),
    Case("Pad", ((3, 5),), (ints(1, 0, 1, 2),), {"mode": "reflect"}, opset=18),
    Case("Reshape", ((2, 6),), (ints(3, -1),)),
    Case("Reshape", (IMAGE,), (ints(0, -1, 3),), before="MaxPool"),
    Case("Shape", ((2, 3),)),
    Case("Size", ((2, 3),)),
    Case("Slice", ((5, 6),), (ints(1, -4), ints(4, 99), ints(0, 1))),
    Case("Slice", ((5, 6),), (ints(-1, 5), ints(-99, 0), ints(0, 1), ints(-1, -2))),
    Case("Slice", (IMAGE,), (ints(1), ints(3), ints(1)), before="MaxPool"),
    Case("Split", ((5, 6),), (ints(2, 3),), {"axis": 0}, outputs=2),
    Case("Squeeze", ((1, 3, 1),), (ints(-1),)),
    Case("Tile", ((2, 3),), (ints(2, 1),)),
    *(Case("Transpose", (IMAGE,), attributes={"perm": p}, before="MaxPool") for p in ([0, 2, 3, 1], [3, 1, 0, 2])),
    Case("Unsqueeze", ((2, 3),), (ints(0, -1),)),
    # products, norms and reductions
    *several("ArgMax", {"axis": 1}, {"axis": -1, "keepdims": 0}),
    *several("ArgMin", {"axis": 1}),
    Case("Gemm", ((3, 4),), (real(5, 4), real(5)), {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", ((4, 3),), (real(4, 5), real(3, 5)), {"transA": 1}),
    Case("Gemm", ((3, 4), (5, 4)), (real(5),), {"transB": 1}),
    Case("MatMul", ((2, 3, 4),), (real(4, 5),)),
    Case("MatMul", ((4,),), (real(4, 5),)),
    Case("MatMul", ((2, 4),), (real(4),)),
    Case("MatMul", ((2, 3, 4), (4, 5))),
    Case("MatMul", ((4,), (2, 4, 5))),
    Case("MatMul", ((2, 3, 4), (4,))),
    *(Case(op, ((1, 3, 4, 5),)) for op in ("GlobalAveragePool", "GlobalMaxPool")),
    Case("GlobalAveragePool", (IMAGE,), before="MaxPool"),
    Case("InstanceNormalization", (IMAGE,), (real(4), real(4))),
    Case("LayerNormalization", ((2, 3, 8),), (real(8), real(8))),
    Case("LayerNormalization", ((2, 3, 8),), (real(3, 8),), {"axis": -2}),
    Case("RMSNormalization", ((2, 3, 8),), (real(8),), opset=23),
    *(Case(op, ((2, 3, 4),), attributes={"axis": axis}) for op in ("Softmax", "LogSoftmax") for axis in (-1, 1)),
    Case("Softmax", ((3, 5),), opset=11),
    *(
        Case(op, ((2, 3, 4),), (ints(1),), {"keepdims": k})
        for op in ("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
        for k in (0, 1)
    ),
    Case("ReduceSumSquare", ((2, 3, 4),)),
    *(Case("ReduceMean", (IMAGE,), (ints(*a),), {"keepdims": 0}, before="MaxPool") for a in ((2, 3), (1,), (2,))),
    # images
    *(
        Case("Conv", (IMAGE,), (real(6, 4, 3, 3), real(6)), attributes)
        for attributes in (
            {},
            {"pads": [1, 1, 1, 1]},
            {"pads": [2, 0, 1, 1], "strides": [2, 1]},
            {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
            {"auto_pad": "SAME_UPPER", "dilations": [2, 1]},
        )
    ),
    Case("Conv", (IMAGE,), (real(8, 1, 3, 3),), {"group": 4, "pads": [1, 1, 1, 1]}),
    Case("Conv", (IMAGE,), (real(6, 2, 3, 3), real(6)), {"group": 2}),
    Case("Conv", ((1, 4, 9),), (real(6, 4, 3), real(6)), {"pads": [1, 1], "strides": [2]}),
    *(
        Case(op, (IMAGE,), attributes={"kernel_shape": [3, 3], **attributes})
        for op in ("MaxPool", "AveragePool")
        for attributes in (
            {},
            {"pads": [1, 1, 1, 1]},
            {"pads": [1, 1, 1, 1], "strides": [2, 2]},
            {"strides": [2, 2], "ceil_mode": 1},
            {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        )
    ),
    Case("AveragePool", (IMAGE,), attributes={"kernel_shape": [3, 2], "pads": [1, 0, 2, 1], "count_include_pad": 1}),
    Case("AveragePool", ((1, 4, 9),), attributes={"kernel_shape": [3], "pads": [1, 0]}),
    *(Case("DepthToSpace", ((1, 8, 3, 2),), attributes={"blocksize": 2, "mode": mode}) for mode in ("DCR", "CRD")),
    Case(
        "Resize",
        ((1, 2, 3, 4),),
        (None, np.array([1, 1, 2, 3], np.float32)),
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    Case("Upsample", ((1, 2, 3, 4),), (np.array([1, 1, 2, 3], np.float32),), opset=9),
    # sequences: forward, reverse and both, with a state before the first step and without
    *(
        Case(
            op,
            ((5, 2, 3),),
            (
                real(d, gates * 4, 3),
                real(d, gates * 4, 4),
                real(d, gates * 8),
                None,
                *([real(d, 2, 4)] * (states if d == 2 else 0)),
            ),
            {"hidden_size": 4, "direction": direction, **more},
            outputs=1 + states,
        )
        for op, gates, states, more in (
            ("LSTM", 4, 2, {}),
            ("GRU", 3, 1, {}),
            ("GRU", 3, 1, {"linear_before_reset": 1}),
        )
        for d, direction in ((1, "forward"), (1, "reverse"), (2, "bidirectional"))
    ),
]
