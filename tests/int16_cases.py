"""Strategies that make models of one operator on int16 tensors: shapes, strides, paddings and scales at random."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from hypothesis import assume
from hypothesis import strategies as st
from int8_cases import SAME, VALID, Draw, activation, integers, number, out_size, output_scale, uniform, zero_point
from single_op import Array, Case, T, case, model


def bias_of(draw: Draw, count: int, scale: float) -> T:
    """Of 64 bits, now and then past 32."""
    size = 1 << draw(st.sampled_from([12, 24, 34]))
    data = np.random.default_rng(number(draw, 0, 2**32 - 1)).integers(-size, size, count)
    return T("int64", (count,), scale, data=data)


def filters_of(draw: Draw, shape: tuple[int, ...], count: int, axis: int) -> T:
    scales = [uniform(draw, 0.001, 0.05) for _ in range(count if number(draw, 0, 3) else 1)]
    return T("int8", shape, scales, axis=axis, data=integers(draw, shape, symmetric=True))


def wide_scale(draw: Draw, terms: int, x: T, w: T) -> float:
    return output_scale(draw, terms, float(np.max(x.scale)), float(np.mean(w.scale)))


@st.composite
def conv_2d(draw: Draw, fours: bool = False, depthwise: bool = False) -> Case:
    kernel, image = (number(draw, 1, 3), number(draw, 1, 4)), (number(draw, 1, 7), number(draw, 1, 7))
    depth = 4 * number(draw, 1, 4) if fours else number(draw, 1, 5)
    count = depth * number(draw, 1, 2) if depthwise else 2 * number(draw, 1, 3) if fours else number(draw, 1, 5)
    strides, padding = (number(draw, 1, 2), number(draw, 1, 2)), draw(st.sampled_from([SAME, VALID]))
    dilations = (number(draw, 1, 2), 1 if fours else number(draw, 1, 2))
    out = [out_size(*sizes, padding) for sizes in zip(image, kernel, strides, dilations, strict=True)]
    assume(min(out) > 0)
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.strideH, options.strideW = strides
    options.dilationHFactor, options.dilationWFactor = dilations
    options.padding, options.fusedActivationFunction = padding, activation(draw)
    if depthwise:
        options.depthMultiplier = count // depth
    x = T("int16", (number(draw, 1, 2), *image, depth), uniform(draw, 1e-4, 1e-3))
    w = filters_of(draw, (1, *kernel, count) if depthwise else (count, *kernel, depth), count, 3 if depthwise else 0)
    y = T("int16", (x.shape[0], *out, count), wide_scale(draw, w.data.size // count, x, w))
    op = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    return _case(draw, op, [x, w, bias_of(draw, count, 1e-5)], y, options, x)


@st.composite
def fully_connected(draw: Draw) -> Case:
    batches, depth, count = number(draw, 1, 3), number(draw, 1, 24), number(draw, 1, 9)
    if number(draw, 0, 1):
        depth, count = 4 * depth, 2 * count
    x = T("int16", (batches, depth), uniform(draw, 1e-4, 1e-3))
    w = T("int8", (count, depth), uniform(draw, 0.001, 0.05), data=integers(draw, (count, depth), symmetric=True))
    y = T("int16", (batches, count), wide_scale(draw, depth, x, w))
    bias = [bias_of(draw, count, float(np.float32(x.scale) * np.float32(w.scale)))] if number(draw, 0, 3) else []
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = activation(draw)
    return _case(draw, "FULLY_CONNECTED", [x, w, *bias], y, options, x)


@st.composite
def transpose_conv(draw: Draw, fours: bool = False) -> Case:
    kernel, strides = (number(draw, 1, 4), number(draw, 1, 4)), (number(draw, 1, 3), number(draw, 1, 3))
    image, depth, count = (number(draw, 1, 5), number(draw, 1, 5)), number(draw, 1, 5), number(draw, 1, 4)
    if fours:
        depth, count = 4 * number(draw, 1, 3), 2 * number(draw, 1, 2)
    padding = draw(st.sampled_from([SAME, VALID]))
    out = [
        size * stride if padding == SAME else (size - 1) * stride + side
        for size, stride, side in zip(image, strides, kernel, strict=True)
    ]
    x = T("int16", (number(draw, 1, 2), *image, depth), uniform(draw, 1e-4, 1e-3))
    w = filters_of(draw, (count, *kernel, depth), count, 0)
    y = T("int16", (x.shape[0], *out, count), wide_scale(draw, w.data.size // count, x, w))
    shape = T("int32", (4,), data=np.array(y.shape, np.int32))
    options = schema.TransposeConvOptionsT()
    options.strideH, options.strideW, options.padding = *strides, padding
    return _case(draw, "TRANSPOSE_CONV", [shape, w, x, bias_of(draw, count, 1e-5)], y, options, x)


@st.composite
def binary(draw: Draw) -> Case:
    op = draw(st.sampled_from(["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"]))
    shape = tuple(number(draw, 1, 4) for _ in range(number(draw, 1, 4)))
    other = tuple(size if number(draw, 0, 2) else 1 for size in shape)[number(draw, 0, len(shape) - 1) :]
    scales = [uniform(draw, 1e-4, 1e-3) for _ in range(3)]
    if op == "MUL":
        scales[2] = float(np.float32(scales[0] * scales[1] * 3e4 * uniform(draw, 0.1, 3)))
    elif op in ("MAXIMUM", "MINIMUM"):
        scales = scales[:1] * 3
    a, b, y = T("int16", shape, scales[0]), T("int16", other, scales[1]), T("int16", shape, scales[2])
    options = schema.MaximumMinimumOptionsT()
    if op not in ("MAXIMUM", "MINIMUM"):
        options = getattr(schema, f"{op.title()}OptionsT")()
        options.fusedActivationFunction = activation(draw)
        if op != "MUL":
            options.potScaleInt16 = bool(number(draw, 0, 1))
    content = model(op, [a, b], [y], options, 1)
    return case("binary_int16", content, [(integers(draw, shape, "int16"), integers(draw, other, "int16"))])


@st.composite
def unary(draw: Draw) -> Case:
    op = draw(st.sampled_from(["LEAKY_RELU", "RELU", "RELU6"]))
    x = T("int16", (8, 64), uniform(draw, 1e-5, 3e-3))
    y = T("int16", x.shape, float(np.float32(x.scale * uniform(draw, 0.3, 3))))
    options = None
    if op == "LEAKY_RELU":
        options = schema.LeakyReluOptionsT()
        options.alpha = uniform(draw, 0.01, 1.5) * draw(st.sampled_from([1, 1, -1]))
    return _case(draw, op, [x], y, options, x)


@st.composite
def softmax(draw: Draw) -> Case:
    x = T("int8", (number(draw, 1, 3), number(draw, 1, 12)), uniform(draw, 0.01, 0.5), zero_point(draw))
    options = schema.SoftmaxOptionsT()
    options.beta = draw(st.sampled_from([1.0, 1.0, 0.5]))
    return _case(draw, "SOFTMAX", [x], T("int16", x.shape, 1 / 65536, -32768), options, x)


STEMS = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), "conv_2d_int16"),
    "FULLY_CONNECTED": "fully_connected_int16",
    **dict.fromkeys(("LEAKY_RELU", "RELU", "RELU6"), "unary_int16"),
    "TRANSPOSE_CONV": "transpose_conv_int16",
    "SOFTMAX": "softmax_int16",
}


def _case(draw: Draw, op: str, inputs: list[T], y: T, options: object, x: T) -> Case:
    content = model(op, inputs, [y], options, {"LEAKY_RELU": 2}.get(op, 3))
    values: list[tuple[Array, ...]] = [(integers(draw, x.shape, x.dtype),) for _ in range(2)]
    return case(STEMS[op], content, values)
