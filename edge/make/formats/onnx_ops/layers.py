"""Products of matrices, normalizations, softmax and reductions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.make.formats.onnx_ops.builder import (
    Array,
    Builder,
    Node,
    NotTaken,
    Value,
    axis_of,
    constant_of,
    integers,
    known,
)
from edge.make.formats.onnx_ops.elementwise import broadcast

Op = Callable[..., Value]


def gemm(b: Builder, node: Node, x: Value, y: Value, added: Value | None = None) -> Value:
    """alpha A B + beta C, each of A and B transposed or not."""
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    if len(x.shape) != 2 or len(y.shape) != 2:
        raise NotTaken(f"its inputs are {list(x.shape)} and {list(y.shape)}, not matrices")
    left = b.plain(x)
    left = b.transposed(left, (1, 0)) if node.number("transA", 0) else left
    transposed = bool(node.number("transB", 0))
    k, n = y.shape[::-1] if transposed else y.shape
    if b.graph.shape(left)[1] != k:
        raise NotTaken(f"its inputs {list(x.shape)} and {list(y.shape)} do not multiply")
    shape = (b.graph.shape(left)[0], n)
    if y.data is None:
        product = b.made("BATCH_MATMUL", [left, b.plain(y)], shape, schema.BatchMatMulOptionsT(adjY=transposed))
        product = product if alpha == 1 else broadcast(b, "MUL", product, known(np.array(alpha, np.float32)))
        return product if added is None else broadcast(b, "ADD", product, _scaled(b, added, beta))
    weights = np.asarray(y.data if transposed else y.data.T, np.float32) * np.float32(alpha)
    bias = None
    if added is not None and added.data is not None and added.data.size in (1, n) and added.shape[:-1] in ((), (1,)):
        bias, added = np.broadcast_to(added.data.reshape(-1) * beta, (n,)), None
    product = Value(shape, np.dtype(np.float32), plain=b.dense(left, weights, bias))
    return product if added is None else broadcast(b, "ADD", product, _scaled(b, added, beta))


def _scaled(b: Builder, value: Value, factor: float) -> Value:
    return value if factor == 1 else broadcast(b, "MUL", value, known(np.array(factor, np.float32)))


def matmul(b: Builder, node: Node, x: Value, y: Value) -> Value:
    """FULLY_CONNECTED where the right side is a matrix that the file stores, else BATCH_MATMUL."""
    left, right = x.shape, y.shape
    if not left or not right or left[-1] != (right[-2] if len(right) > 1 else right[-1]):
        raise NotTaken(f"its inputs {list(left)} and {list(right)} do not multiply")
    a = b.plain(x)
    a = b.reshaped(a, (1, *left)) if len(left) == 1 else a
    if y.data is not None and len(right) <= 2:
        matrix = y.data.reshape(left[-1], -1)
        return _without_axes(b, b.dense(a, matrix.T), left, right)
    c = b.plain(y)
    c = b.reshaped(c, (*right, 1)) if len(right) == 1 else c
    shapes = b.graph.shape(a), b.graph.shape(c)
    try:
        batch = np.broadcast_shapes(shapes[0][:-2], shapes[1][:-2])
    except ValueError as error:
        raise NotTaken(f"its inputs {list(left)} and {list(right)} do not multiply") from error
    rank = len(batch) + 2
    a, c = (b.reshaped(t, (1,) * (rank - len(s)) + s) for t, s in zip((a, c), shapes, strict=True))
    product = b.emit("BATCH_MATMUL", [a, c], (*batch, shapes[0][-2], shapes[1][-1]), schema.BatchMatMulOptionsT())
    return _without_axes(b, product, left, right)


def _without_axes(b: Builder, product: int, left: tuple[int, ...], right: tuple[int, ...]) -> Value:
    """A product of vectors has not the axes that they were given."""
    *batch, rows, columns = b.graph.shape(product)
    shape = (*batch, *((rows,) if len(left) > 1 else ()), *((columns,) if len(right) > 1 else ()))
    return Value(shape, np.dtype(np.float32), plain=b.reshaped(product, shape))


def softmax(kind: str) -> Op:
    def op(b: Builder, node: Node, x: Value) -> Value:
        rank = len(x.shape)
        axis = axis_of(node.number("axis", -1 if b.opset >= 13 else 1), rank)
        options = schema.SoftmaxOptionsT(beta=1.0) if kind == "SOFTMAX" else schema.LogSoftmaxOptionsT()
        tensor = b.plain(x)
        if b.opset < 13:  # over all axes from this one on
            flat = b.reshaped(tensor, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
            made = b.reshaped(b.emit(kind, [flat], b.graph.shape(flat), options), x.shape)
        elif axis == rank - 1:
            made = b.emit(kind, [tensor], x.shape, options)
        else:
            order = [a for a in range(rank) if a != axis] + [axis]
            moved = b.transposed(tensor, order)
            back = [order.index(a) for a in range(rank)]
            made = b.transposed(b.emit(kind, [moved], b.graph.shape(moved), options), back)
        return Value(x.shape, x.dtype, plain=made)

    return op


def reduced(b: Builder, kind: str, x: Value, axes: list[int], kept: bool) -> Value:
    """A reduction over axes, in whichever order of axes there is."""
    rank, axes = len(x.shape), sorted({axis_of(axis, len(x.shape)) for axis in axes})
    if x.dtype.kind != "f":
        raise NotTaken(f"its input is {x.dtype}", "boards compute it of floats alone")
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if kept or i not in axes)
    options = schema.ReducerOptionsT(keepDims=kept)
    if b.is_last_only(x) and (kept or 1 in axes or set(range(2, rank)) <= set(axes)):
        place = {0: 0, 1: rank - 1, **{axis: axis - 1 for axis in range(2, rank)}}
        where = b.numbers(*sorted(place[axis] for axis in axes))
        if kept:
            moved = (shape[0], *shape[2:], shape[1])
            return Value(shape, x.dtype, last=b.emit(kind, [x.last, where], moved, options))
        return b.made(kind, [x.last, where], shape, options)
    return b.made(kind, [b.plain(x), b.numbers(*axes)], shape, options)


def reduction(kind: str, before: str = "", after: str = "") -> Op:
    """A reduction, with an operator of one tensor before and after it."""

    def op(b: Builder, node: Node, x: Value, axes: Value | None = None) -> Value:
        given = integers(axes, "axes") if axes is not None else node.numbers("axes", ())
        if not given and node.number("noop_with_empty_axes", 0):
            return x
        if before:
            x = Value(x.shape, x.dtype, plain=b.emit(before, [b.plain(x)], x.shape, UNARY.get(before, _none)()))
        made = reduced(b, kind, x, given or list(range(len(x.shape))), bool(node.number("keepdims", 1)))
        if after:
            made = b.made(after, [b.plain(made)], made.shape, UNARY.get(after, _none)())
        return made

    return op


def _none() -> None:
    return None


def global_pool(kind: str) -> Op:
    def op(b: Builder, node: Node, x: Value) -> Value:
        return reduced(b, kind, x, list(range(2, len(x.shape))), True)

    return op


def arg_extreme(kind: str, options: Callable[..., object]) -> Op:
    def op(b: Builder, node: Node, x: Value) -> Value:
        if node.number("select_last_index", 0):
            raise NotTaken("it asks for the last of equal elements", "the first is what boards find")
        axis = axis_of(node.number("axis", 0), len(x.shape))
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        made = b.emit(kind, [b.plain(x), b.numbers(axis)], shape, options(outputType=schema.TensorType.INT32), np.int32)
        kept = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        shape = kept if node.number("keepdims", 1) else shape
        return Value(shape, np.dtype(np.int64), plain=b.reshaped(made, shape, np.int32))

    return op


def _normalized(b: Builder, x: Value, axes: list[int], epsilon: float) -> Value:
    """(x - mean) / sqrt(variance + epsilon) over axes."""
    mean = reduced(b, "MEAN", x, axes, True)
    variance = reduced(b, "MEAN", broadcast(b, "SQUARED_DIFFERENCE", x, mean), axes, True)
    return broadcast(b, "MUL", broadcast(b, "SUB", x, mean), _inverse_root(b, variance, epsilon))


def _inverse_root(b: Builder, x: Value, epsilon: float) -> Value:
    shifted = broadcast(b, "ADD", x, known(np.array(epsilon, np.float32)))
    if b.is_last_only(shifted):
        return Value(x.shape, x.dtype, last=b.emit("RSQRT", [shifted.last], b.graph.shape(shifted.last)))
    return b.made("RSQRT", [b.plain(shifted)], x.shape)


def layer_normalization(b: Builder, node: Node, x: Value, scale: Value, bias: Value | None = None) -> Value:
    _only_first(node)
    axes = list(range(axis_of(node.number("axis", -1), len(x.shape)), len(x.shape)))
    made = broadcast(b, "MUL", _normalized(b, x, axes, node.real("epsilon", 1e-5)), scale)
    return made if bias is None else broadcast(b, "ADD", made, bias)


def rms_normalization(b: Builder, node: Node, x: Value, scale: Value) -> Value:
    axes = list(range(axis_of(node.number("axis", -1), len(x.shape)), len(x.shape)))
    square = reduced(b, "MEAN", broadcast(b, "MUL", x, x), axes, True)
    return broadcast(b, "MUL", broadcast(b, "MUL", x, _inverse_root(b, square, node.real("epsilon", 1e-5))), scale)


def instance_normalization(b: Builder, node: Node, x: Value, scale: Value, bias: Value) -> Value:
    shape = (1, -1) + (1,) * (len(x.shape) - 2)
    factor, added = (known(_floats(constant_of(v, "scale")).reshape(shape)) for v in (scale, bias))
    made = _normalized(b, x, list(range(2, len(x.shape))), node.real("epsilon", 1e-5))
    return broadcast(b, "ADD", broadcast(b, "MUL", made, factor), added)


def _floats(data: Array) -> Array:
    return np.asarray(data, np.float32)


def _only_first(node: Node) -> None:
    if any(node.outputs[1:]):
        raise NotTaken("more than its first output is used", "export the model in inference mode")


UNARY: Mapping[str, Callable[[], object]] = {"SQUARE": schema.SquareOptionsT, "ABS": schema.AbsOptionsT}
OPS: Mapping[str, Op] = {
    "ArgMax": arg_extreme("ARG_MAX", schema.ArgMaxOptionsT),
    "ArgMin": arg_extreme("ARG_MIN", schema.ArgMinOptionsT),
    "Gemm": gemm,
    "GlobalAveragePool": global_pool("MEAN"),
    "GlobalMaxPool": global_pool("REDUCE_MAX"),
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "LogSoftmax": softmax("LOG_SOFTMAX"),
    "MatMul": matmul,
    "RMSNormalization": rms_normalization,
    "ReduceL1": reduction("SUM", before="ABS"),
    "ReduceL2": reduction("SUM", before="SQUARE", after="SQRT"),
    "ReduceMax": reduction("REDUCE_MAX"),
    "ReduceMean": reduction("MEAN"),
    "ReduceMin": reduction("REDUCE_MIN"),
    "ReduceProd": reduction("REDUCE_PROD"),
    "ReduceSum": reduction("SUM"),
    "ReduceSumSquare": reduction("SUM", before="SQUARE"),
    "Softmax": softmax("SOFTMAX"),
}
