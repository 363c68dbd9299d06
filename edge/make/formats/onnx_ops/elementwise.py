"""Ops that compute element by element, of one tensor or of several that broadcast."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.make.formats.onnx_ops.builder import Array, Builder, Node, NotTaken, Value, constant_of, known

Op = Callable[..., Value]
# what TFLite has operators of its own for: (least, most)
RELUS: Mapping[tuple[float, float], str] = {
    (0.0, math.inf): "RELU",
    (0.0, 6.0): "RELU6",
    (-1.0, 1.0): "RELU_N1_TO_1",
    (0.0, 1.0): "RELU_0_TO_1",
}
# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: erf within 1.5e-7
ERF_P, ERF = 0.3275911, (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def apply(b: Builder, x: Value, function: Callable[[int], int]) -> Value:
    """A function of a tensor that keeps its shape, in whichever order of axes there is."""
    if b.is_last_only(x):
        return Value(x.shape, x.dtype, last=function(x.last))
    return Value(x.shape, x.dtype, plain=function(b.plain(x)))


def unary(kind: str, options: Callable[[], object] = lambda: None) -> Op:
    def op(b: Builder, node: Node, x: Value) -> Value:
        _floats(x)
        return apply(b, x, lambda t: b.emit(kind, [t], b.graph.shape(t), options()))

    return op


def _floats(*values: Value) -> None:
    for value in values:
        if value.dtype.kind != "f":
            raise NotTaken(f"its input is {value.dtype}", "boards compute it of floats alone")


def broadcast(b: Builder, kind: str, x: Value, y: Value, dtype: Any = None) -> Value:
    """An operator of two values; channels stay last where both are images and one has them there."""
    shape = _broadcast(x, y)
    kinds = {value.dtype.kind for value in (x, y)}
    if len(kinds) != 1:
        raise NotTaken(f"its inputs are {x.dtype} and {y.dtype}")
    result = np.dtype(x.dtype if dtype is None else dtype)
    computed = [value for value in (x, y) if value.data is None]
    if any(b.is_last_only(v) for v in computed) and all(len(v.shape) == len(shape) for v in computed):
        tensors = [b.channels_last(_of_rank(v, len(shape))) for v in (x, y)]
        return Value(shape, result, last=b.binary(kind, tensors[0], tensors[1], result))
    return Value(shape, result, plain=b.binary(kind, b.plain(_with_axis(x)), b.plain(_with_axis(y)), result))


def _broadcast(*values: Value) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*(value.shape for value in values))
    except ValueError as error:
        raise NotTaken("the shapes of its inputs do not fit each other") from error


def _of_rank(value: Value, rank: int) -> Value:
    """A constant with axes of 1 in front."""
    if value.data is None or len(value.shape) == rank:
        return value
    return known(value.data.reshape((1,) * (rank - len(value.shape)) + value.shape))


def _with_axis(value: Value) -> Value:
    """A constant of one number as a vector."""
    return known(value.data.reshape(1)) if value.data is not None and value.shape == () else value


def binary(kind: str, dtype: Any = None, floats: bool = False) -> Op:
    def op(b: Builder, node: Node, x: Value, y: Value) -> Value:
        if floats:
            _floats(x, y)
        return broadcast(b, kind, x, y, dtype)

    return op


def several(kind: str, mean: bool = False) -> Op:
    def op(b: Builder, node: Node, *values: Value) -> Value:
        total = values[0]
        for value in values[1:]:
            total = broadcast(b, kind, total, value)
        return broadcast(b, "MUL", total, _scalar(1 / len(values))) if mean else total

    return op


def _scalar(number: float) -> Value:
    return known(np.array(number, np.float32))


def power(b: Builder, node: Node, x: Value, exponent: Value) -> Value:
    _floats(x)
    if exponent.data is not None:
        exponent = known(np.asarray(exponent.data, np.float32))
        if exponent.data is not None and exponent.data.size == 1 and len(exponent.shape) <= len(x.shape):
            value = float(exponent.data.reshape(()))
            if value in (0.5, 1.0, 2.0):
                kind = {0.5: "SQRT", 2.0: "SQUARE"}.get(value)
                return x if kind is None else unary(kind, OPTIONS.get(kind, lambda: None))(b, node, x)
    return broadcast(b, "POW", x, exponent)


def clip(b: Builder, node: Node, x: Value, low: Value | None = None, high: Value | None = None) -> Value:
    _floats(x)
    least = node.real("min", -math.inf) if low is None else float(constant_of(low, "minimum").reshape(()))
    most = node.real("max", math.inf) if high is None else float(constant_of(high, "maximum").reshape(()))
    return _between(b, x, least, most)


def _between(b: Builder, x: Value, least: float, most: float) -> Value:
    most = math.inf if most >= 3.4e38 else most
    least = -math.inf if least <= -3.4e38 else least
    name = RELUS.get((least, most))
    if name:
        return apply(b, x, lambda t: b.emit(name, [t], b.graph.shape(t)))
    if math.isfinite(least):
        x = broadcast(b, "MAXIMUM", x, _scalar(least))
    return broadcast(b, "MINIMUM", x, _scalar(most)) if math.isfinite(most) else x


def leaky_relu(b: Builder, node: Node, x: Value) -> Value:
    options = schema.LeakyReluOptionsT(alpha=node.real("alpha", 0.01))
    return apply(b, x, lambda t: b.emit("LEAKY_RELU", [t], b.graph.shape(t), options))


def prelu(b: Builder, node: Node, x: Value, slope: Value) -> Value:
    """max(x, 0) + slope * min(x, 0): its slopes broadcast as ONNX's do."""
    _floats(x, slope)
    positive = _between(b, x, 0, math.inf)
    negative = broadcast(b, "MINIMUM", x, _scalar(0))
    return broadcast(b, "ADD", positive, broadcast(b, "MUL", negative, slope))


def _scaled(b: Builder, x: Value, factor: float) -> Value:
    return x if factor == 1.0 else broadcast(b, "MUL", x, _scalar(factor))


def _elu(b: Builder, node: Node, x: Value, inner: float, alpha: float) -> Value:
    """max(x, 0) + alpha (e^(inner min(x, 0)) - 1)."""
    _floats(x)
    negative = unary("ELU")(b, node, _scaled(b, broadcast(b, "MINIMUM", x, _scalar(0)), inner))
    return broadcast(b, "ADD", _between(b, x, 0, math.inf), _scaled(b, negative, alpha))


def elu(b: Builder, node: Node, x: Value) -> Value:
    alpha = node.real("alpha", 1.0)
    return unary("ELU")(b, node, x) if alpha == 1.0 else _elu(b, node, x, 1.0, alpha)


def celu(b: Builder, node: Node, x: Value) -> Value:
    alpha = node.real("alpha", 1.0)
    return _elu(b, node, x, 1 / alpha, alpha)


def selu(b: Builder, node: Node, x: Value) -> Value:
    """Its defaults are those of Klambauer and others, 2017."""
    made = _elu(b, node, x, 1.0, node.real("alpha", 1.6732632))
    return _scaled(b, made, node.real("gamma", 1.0507010))


def mish(b: Builder, node: Node, x: Value) -> Value:
    return broadcast(b, "MUL", x, unary("TANH")(b, node, softplus(b, node, x)))


def gelu(b: Builder, node: Node, x: Value) -> Value:
    approximate = node.text("approximate", "none") == "tanh"
    options = schema.GeluOptionsT(approximate=approximate)
    return apply(b, x, lambda t: b.emit("GELU", [t], b.graph.shape(t), options))


def hard_sigmoid(b: Builder, node: Node, x: Value) -> Value:
    scaled = broadcast(b, "MUL", x, _scalar(node.real("alpha", 0.2)))
    return _between(b, broadcast(b, "ADD", scaled, _scalar(node.real("beta", 0.5))), 0, 1)


def hard_swish(b: Builder, node: Node, x: Value) -> Value:
    return apply(b, x, lambda t: b.emit("HARD_SWISH", [t], b.graph.shape(t), schema.HardSwishOptionsT()))


def swish(b: Builder, node: Node, x: Value) -> Value:
    alpha = node.real("alpha", 1.0)
    scaled = x if alpha == 1.0 else broadcast(b, "MUL", x, _scalar(alpha))
    return broadcast(b, "MUL", x, unary("LOGISTIC")(b, node, scaled))


def softplus(b: Builder, node: Node, x: Value) -> Value:
    """max(x, 0) + log(1 + e^-|x|), which does not overflow."""
    magnitude = unary("ABS", schema.AbsOptionsT)(b, node, x)
    powers = unary("EXP", schema.ExpOptionsT)(b, node, unary("NEG", schema.NegOptionsT)(b, node, magnitude))
    logs = unary("LOG")(b, node, broadcast(b, "ADD", powers, _scalar(1)))
    return broadcast(b, "ADD", _between(b, x, 0, math.inf), logs)


def reciprocal(b: Builder, node: Node, x: Value) -> Value:
    return broadcast(b, "DIV", _scalar(1), x)


def erf(b: Builder, node: Node, x: Value) -> Value:
    """sign(x) (1 - polynomial(t) e^(-x²)) with t = 1 / (1 + p |x|)."""
    _floats(x)
    magnitude = unary("ABS", schema.AbsOptionsT)(b, node, x)
    t = reciprocal(b, node, broadcast(b, "ADD", broadcast(b, "MUL", magnitude, _scalar(ERF_P)), _scalar(1)))
    polynomial = _scalar(0)
    for coefficient in ERF:
        partial = _scalar(coefficient)
        if polynomial.data is None:
            partial = broadcast(b, "ADD", polynomial, partial)
        polynomial = broadcast(b, "MUL", t, partial)
    square = unary("NEG", schema.NegOptionsT)(b, node, unary("SQUARE", schema.SquareOptionsT)(b, node, x))
    tail = broadcast(b, "MUL", polynomial, unary("EXP", schema.ExpOptionsT)(b, node, square))
    rest = broadcast(b, "SUB", _scalar(1), tail)
    return broadcast(b, "MUL", unary("SIGN", schema.SignOptionsT)(b, node, x), rest)


def negation(b: Builder, node: Node, x: Value) -> Value:
    if x.dtype != np.bool_:
        raise NotTaken(f"its input is {x.dtype}, not bool")
    return apply(b, x, lambda t: b.emit("LOGICAL_NOT", [t], b.graph.shape(t), schema.LogicalNotOptionsT(), np.bool_))


def is_nan(b: Builder, node: Node, x: Value) -> Value:
    """What is not equal to itself."""
    return broadcast(b, "NOT_EQUAL", x, x, np.bool_)


def where(b: Builder, node: Node, condition: Value, x: Value, y: Value) -> Value:
    shape = _broadcast(condition, x, y)
    if x.dtype.kind != y.dtype.kind:
        raise NotTaken(f"it chooses between {x.dtype} and {y.dtype}")
    tensors = [b.plain(_with_axis(value)) for value in (condition, x, y)]
    return b.made("SELECT_V2", tensors, shape, schema.SelectV2OptionsT(), x.dtype)


TYPES: Mapping[int, type] = {
    1: np.float32,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float32,
    11: np.float32,
}  # TensorProto.DataType


def cast(b: Builder, node: Node, x: Value) -> Value:
    target = TYPES.get(node.number("to", 0))
    if target is None:
        raise NotTaken(f"it casts to type {node.number('to', 0)} of ONNX", "boards compute float32, int32 and bool")
    if np.dtype(target).kind == x.dtype.kind:
        return Value(x.shape, np.dtype(target), x.data, x.plain, x.last)
    return b.made("CAST", [b.plain(x)], x.shape, schema.CastOptionsT(), target)


def batch_normalization(
    b: Builder, node: Node, x: Value, scale: Value, bias: Value, mean: Value, variance: Value
) -> Value:
    """One product and one sum for each channel."""
    parts = [np.asarray(constant_of(v, "scale"), np.float64) for v in (scale, bias, mean, variance)]
    factor = parts[0] / np.sqrt(parts[3] + node.real("epsilon", 1e-5))
    shape = (1, -1) + (1,) * (len(x.shape) - 2)
    scaled = broadcast(b, "MUL", x, known(_float(factor, shape)))
    return broadcast(b, "ADD", scaled, known(_float(parts[1] - parts[2] * factor, shape)))


def _float(data: Array, shape: tuple[int, ...]) -> Array:
    return np.asarray(data, np.float32).reshape(shape)


def same(b: Builder, node: Node, x: Value, *rest: Value | None) -> Value:
    return x


OPTIONS: Mapping[str, Callable[[], object]] = {"SQUARE": schema.SquareOptionsT}
OPS: Mapping[str, Op] = {
    "Abs": unary("ABS", schema.AbsOptionsT),
    "Add": binary("ADD"),
    "And": binary("LOGICAL_AND", np.bool_),
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "Celu": celu,
    "Ceil": unary("CEIL"),
    "Clip": clip,
    "Cos": unary("COS", schema.CosOptionsT),
    "Div": binary("DIV", floats=True),
    "Dropout": same,
    "Elu": elu,
    "Equal": binary("EQUAL", np.bool_),
    "Erf": erf,
    "Exp": unary("EXP", schema.ExpOptionsT),
    "Floor": unary("FLOOR"),
    "Gelu": gelu,
    "Greater": binary("GREATER", np.bool_),
    "GreaterOrEqual": binary("GREATER_EQUAL", np.bool_),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "Identity": same,
    "IsNaN": is_nan,
    "LeakyRelu": leaky_relu,
    "Less": binary("LESS", np.bool_),
    "LessOrEqual": binary("LESS_EQUAL", np.bool_),
    "Log": unary("LOG"),
    "Max": several("MAXIMUM"),
    "Mean": several("ADD", mean=True),
    "Min": several("MINIMUM"),
    "Mish": mish,
    "Mul": binary("MUL"),
    "Neg": unary("NEG", schema.NegOptionsT),
    "Not": negation,
    "Or": binary("LOGICAL_OR", np.bool_),
    "PRelu": prelu,
    "Pow": power,
    "Reciprocal": reciprocal,
    "Relu": unary("RELU"),
    "Round": unary("ROUND"),
    "Selu": selu,
    "Sigmoid": unary("LOGISTIC"),
    "Sign": unary("SIGN", schema.SignOptionsT),
    "Sin": unary("SIN"),
    "Softplus": softplus,
    "Sqrt": unary("SQRT"),
    "Sub": binary("SUB"),
    "Sum": several("ADD"),
    "Swish": swish,
    "Tanh": unary("TANH"),
    "Where": where,
}
