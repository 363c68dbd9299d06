"""Strategies that make models of one integer operator: shapes, strides, paddings and quantization at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from hypothesis import assume
from hypothesis import strategies as st
from single_op import Array, Case, T, case, model, reference

Draw = Callable[[Any], Any]
ACTIVATIONS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
SAME, VALID = 0, 1
EVERY = (4, 64)  # the shape of tensors that hold all 256 values


def uniform(draw: Draw, low: float, high: float) -> float:
    """A float32 between low and high, all orders of magnitude alike."""
    return float(np.float32(np.exp(draw(st.floats(float(np.log(low)), float(np.log(high)))))))


def number(draw: Draw, low: int, high: int) -> int:
    return int(draw(st.integers(low, high)))


def zero_point(draw: Draw) -> int:
    return int(draw(st.one_of(st.sampled_from([-128, 0, 127]), st.integers(-128, 127))))


def integers(draw: Draw, shape: Sequence[int], dtype: str = "int8", symmetric: bool = False) -> Array:
    """Numbers of all the type's range; now and then the ends of it alone. symmetric: without the least."""
    random = np.random.default_rng(number(draw, 0, 2**32 - 1))
    limits = np.iinfo(dtype)
    low = limits.min + int(symmetric)
    if number(draw, 0, 9) == 0:
        return random.choice(np.array([low, limits.max], dtype), shape)
    return random.integers(low, int(limits.max) + 1, shape).astype(dtype)


def activation(draw: Draw) -> int:
    return int(draw(st.sampled_from([0, 0, *ACTIVATIONS.values()])))


def out_size(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    reach = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == SAME else max(0, -(-(size - reach + 1) // stride))


def output_scale(draw: Draw, terms: int, scale: float, weight_scale: float) -> float:
    """One that a sum of so many products fills, more or less."""
    return float(np.float32(scale * weight_scale * 60 * np.sqrt(terms) * uniform(draw, 0.2, 4)))


@st.composite
def conv_2d(draw: Draw, pointwise: bool = False) -> Case:
    kernel = (1, 1) if pointwise else (number(draw, 1, 3), number(draw, 1, 4))
    depth, groups = (
        (4 * number(draw, 1, 9), 1) if pointwise else (number(draw, 1, 6), draw(st.sampled_from([1, 1, 1, 2])))
    )
    channels, count = depth * groups, groups * number(draw, 1, 9 // groups)
    batches, image = number(draw, 1, 2), (number(draw, 1, 7), number(draw, 1, 7))
    strides, padding = (number(draw, 1, 2), number(draw, 1, 2)), draw(st.sampled_from([SAME, VALID]))
    dilations = (number(draw, 1, 2), number(draw, 1, 2)) if not pointwise and number(draw, 0, 2) == 0 else (1, 1)
    out = [out_size(*sizes, padding) for sizes in zip(image, kernel, strides, dilations, strict=True)]
    assume(min(out) > 0)
    options = schema.Conv2DOptionsT()
    options.strideH, options.strideW = strides
    options.dilationHFactor, options.dilationWFactor = dilations
    options.padding, options.fusedActivationFunction = padding, activation(draw)
    scale = uniform(draw, 0.01, 0.1)
    scales = np.array([uniform(draw, 0.001, 0.05) for _ in range(count if number(draw, 0, 3) else 1)], np.float32)
    weights = integers(draw, (count, *kernel, depth), symmetric=bool(number(draw, 0, 5)))
    bias = integers(draw, (count,), "int16").astype(np.int32)
    y = T("int8", (batches, *out, count), output_scale(draw, weights[0].size, scale, scales.mean()), zero_point(draw))
    x = T("int8", (batches, *image, channels), scale, zero_point(draw))
    inputs = [x, T("int8", weights.shape, scales, data=weights), T("int32", (count,), scale * scales, data=bias)]
    content = model("CONV_2D", inputs, [y], options, 3)
    return case("conv_2d", content, [(integers(draw, x.shape),) for _ in range(2)])


@st.composite
def depthwise_conv_2d(draw: Draw, threes: bool = False) -> Case:
    kernel = (3, 3) if threes else (number(draw, 1, 4), number(draw, 1, 4))
    fours = threes or number(draw, 0, 1)
    channels, multiplier = (4 * number(draw, 1, 3), 1) if fours else (number(draw, 1, 6), number(draw, 1, 3))
    batches, image = number(draw, 1, 2), (number(draw, 1, 7), number(draw, 1, 7))
    strides, padding = (number(draw, 1, 3), number(draw, 1, 3)), draw(st.sampled_from([SAME, VALID]))
    dilations = (number(draw, 1, 2), 1 if threes else number(draw, 1, 2))
    out = [out_size(*sizes, padding) for sizes in zip(image, kernel, strides, dilations, strict=True)]
    assume(min(out) > 0)
    options = schema.DepthwiseConv2DOptionsT()
    options.strideH, options.strideW = strides
    options.dilationHFactor, options.dilationWFactor = dilations
    options.padding, options.fusedActivationFunction = padding, activation(draw)
    options.depthMultiplier = multiplier
    count, scale = channels * multiplier, uniform(draw, 0.01, 0.1)
    scales = np.array([uniform(draw, 0.001, 0.05) for _ in range(count)], np.float32)
    weights, bias = integers(draw, (1, *kernel, count)), integers(draw, (count,), "int16").astype(np.int32)
    x = T("int8", (batches, *image, channels), scale, zero_point(draw))
    y = T("int8", (batches, *out, count), output_scale(draw, 9, scale, scales.mean()), zero_point(draw))
    inputs = [x, T("int8", weights.shape, scales, 0, 3, weights), T("int32", (count,), scale * scales, data=bias)]
    content = model("DEPTHWISE_CONV_2D", inputs, [y], options, 3)
    return case("depthwise_conv_2d", content, [(integers(draw, x.shape),) for _ in range(2)])


@st.composite
def fully_connected(draw: Draw, wide: bool = False) -> Case:
    """wide: sums that do not fit 24 bits."""
    batches, n = number(draw, 1, 3), number(draw, 1, 20)
    k = number(draw, 1100, 1300) if wide else number(draw, 1, 40)
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = activation(draw)
    powers = not wide and number(draw, 0, 3) == 0  # scales that are powers of 2: results that lie half-way
    scale = 0.5 if powers else uniform(draw, 0.01, 0.1)
    scales = [0.25] if powers else [uniform(draw, 0.001, 0.05) for _ in range(n if number(draw, 0, 2) == 0 else 1)]
    out_scale = 1.0 if powers else output_scale(draw, k, scale, scales[0])
    weights = integers(draw, (n, k), symmetric=wide or bool(number(draw, 0, 5)))
    if powers:
        weights = np.sign(weights)
    bias = integers(draw, (n,), "int16").astype(np.int32) // (100 if powers else 1)
    x, y = T("int8", (batches, k), scale, zero_point(draw)), T("int8", (batches, n), out_scale, zero_point(draw))
    bias_scales = [scale * s for s in scales]
    inputs = [x, T("int8", (n, k), scales, data=weights), T("int32", (n,), bias_scales, data=bias)]
    if number(draw, 0, 5) == 0:
        inputs[2] = None  # type: ignore[call-overload]
    content = model("FULLY_CONNECTED", inputs, [y], options, 4)
    return case("fully_connected_int8", content, [(integers(draw, x.shape),) for _ in range(3)])


@st.composite
def pool_2d(draw: Draw) -> Case:
    image, kernel = (number(draw, 1, 8), number(draw, 1, 8)), (number(draw, 1, 4), number(draw, 1, 4))
    strides, padding = (number(draw, 1, 3), number(draw, 1, 3)), draw(st.sampled_from([SAME, VALID]))
    out = [out_size(*sizes, 1, padding) for sizes in zip(image, kernel, strides, strict=True)]
    assume(min(out) > 0)
    options = schema.Pool2DOptionsT()
    options.strideH, options.strideW = strides
    options.filterHeight, options.filterWidth = kernel
    options.padding, options.fusedActivationFunction = padding, activation(draw)
    dtype = draw(st.sampled_from(["int8", "int8", "int16"]))
    quantization = (0.05, 0 if dtype == "int16" else zero_point(draw))
    channels = draw(st.sampled_from([1, 3, 4, 8]))
    x = T(dtype, (2, *image, channels), *quantization)
    name = draw(st.sampled_from(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
    content = model(name, [x], [T(dtype, (2, *out, channels), *quantization)], options, 3)
    return case("pool_2d", content, [(integers(draw, x.shape, dtype),)])


@st.composite
def softmax(draw: Draw) -> Case:
    shape = (number(draw, 1, 3), number(draw, 1, 40))
    options = schema.SoftmaxOptionsT()
    options.beta = draw(st.sampled_from([1.0, 0.5, 1.25]))
    x = T("int8", shape, uniform(draw, 0.002, 3), zero_point(draw))
    content = model("SOFTMAX", [x], [T("int8", shape, 1 / 256, -128)], options, 2)
    return case("softmax", content, [(integers(draw, shape),) for _ in range(3)])


def broadcast(draw: Draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that go together."""
    full = [number(draw, 1, 5) for _ in range(number(draw, 1, 4))]
    if number(draw, 0, 2) == 0:
        return tuple(full), tuple(full)
    a = [n if number(draw, 0, 2) else 1 for n in full]
    b = [n if number(draw, 0, 2) or m == 1 else 1 for n, m in zip(full, a, strict=True)]
    b = b[number(draw, 0, len(b) - 1) :]
    shapes = (tuple(a), tuple(b))
    return shapes if number(draw, 0, 1) else (shapes[1], shapes[0])


@st.composite
def binary(draw: Draw) -> Case:
    options = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}
    name = draw(st.sampled_from(["ADD", "ADD", "SUB", "MUL", "MUL", "MAXIMUM", "MINIMUM"]))
    shapes = broadcast(draw)
    out = tuple(np.broadcast_shapes(*shapes))
    scales = [uniform(draw, 0.01, 0.2) for _ in shapes]
    if number(draw, 0, 3) == 0 or name not in options:
        scales[1] = scales[0]
    points = [zero_point(draw), zero_point(draw)]
    stored = draw(st.sampled_from([None, None, None, 0, 1]))
    inputs = [
        T("int8", shape, scale, point, data=integers(draw, shape) if i == stored else None)
        for i, (shape, scale, point) in enumerate(zip(shapes, scales, points, strict=True))
    ]
    option = options.get(name, schema.MaximumMinimumOptionsT)()
    if name in options:
        option.fusedActivationFunction = activation(draw)
    scale = uniform(draw, 0.001 if name == "MUL" else 0.01, 0.4) if name in options else scales[0]
    content = model(name, inputs, [T("int8", out, scale, zero_point(draw))], option, 2)
    values = [tuple(integers(draw, t.shape) for t in inputs if t.data is None) for _ in range(2)]
    return case("binary_int8", content, values)


@st.composite
def table(draw: Draw) -> Case:
    name = draw(
        st.sampled_from(
            ["RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "HARD_SWISH"]
            + ["QUANTIZE"] * 2
            + ["LOGISTIC", "TANH"]
        )
    )
    dtypes = (
        draw(st.sampled_from([("int8", "int8"), ("uint8", "int8"), ("int8", "uint8")]))
        if name == "QUANTIZE"
        else ("int8", "int8")
    )
    scale = uniform(draw, 0.005, 0.3)
    out_scale, point = uniform(draw, 0.01, 0.4), number(draw, 0, 127) if name == "QUANTIZE" else zero_point(draw)
    if name == "HARD_SWISH":
        out_scale = max(out_scale, scale / 100)
    out_scale, point = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}.get(name, (out_scale, point))
    options = None
    if name == "LEAKY_RELU":
        options = schema.LeakyReluOptionsT()
        options.alpha = draw(st.sampled_from([0.1, 0.01, 0.3, 1.5]))
    elif name in ("QUANTIZE", "HARD_SWISH"):
        options = schema.QuantizeOptionsT() if name == "QUANTIZE" else schema.HardSwishOptionsT()
    x = T(dtypes[0], EVERY, scale, number(draw, 0, 127) if name == "QUANTIZE" else zero_point(draw))
    version = {"RELU": 2, "RELU6": 2, "LEAKY_RELU": 2, "LOGISTIC": 2, "TANH": 2, "QUANTIZE": 2}.get(name, 1)
    content = model(name, [x], [T(dtypes[1], EVERY, out_scale, point)], options, version)
    return case("table_int8", content, [(np.arange(256).astype(np.uint8).view(dtypes[0]).reshape(EVERY),)])


@st.composite
def quantize(draw: Draw) -> Case:
    pairs = [("int16", "int16"), ("int16", "int8"), ("int8", "int16"), ("int16", "int32"), ("float32", "int8")]
    pairs += [
        ("float32", "uint8"),
        ("float32", "int16"),
        ("int8", "float32"),
        ("uint8", "float32"),
        ("int16", "float32"),
    ]
    source, target = draw(st.sampled_from(pairs))

    def side(dtype: str, low: float) -> T:
        if dtype == "float32":
            return T(dtype, EVERY)
        return T(dtype, EVERY, uniform(draw, low, 0.2), number(draw, 0, 127) if dtype in ("int8", "uint8") else 0)

    x, y = side(source, 0.0001), side(target, 0.01)
    if source == "float32":
        assert y.scale is not None
        steps = np.random.default_rng(number(draw, 0, 1000)).integers(-400, 400, EVERY) / 2  # half of them half-way
        value = (steps * np.float32(y.scale)).astype(np.float32)
    else:
        value = integers(draw, EVERY, source)
    name = "DEQUANTIZE" if target == "float32" else "QUANTIZE"
    options = schema.DequantizeOptionsT() if target == "float32" else schema.QuantizeOptionsT()
    return case("quantize", model(name, [x], [y], options, 3 if target == "float32" else 2), [(value,)])


@st.composite
def reduce(draw: Draw) -> Case:
    name = draw(st.sampled_from(["MEAN", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM"]))
    shape = tuple(number(draw, 1, 5) for _ in range(number(draw, 1, 4)))
    axes = sorted({number(draw, 0, len(shape) - 1) for _ in range(number(draw, 1, len(shape)))})
    options = schema.ReducerOptionsT()
    options.keepDims = bool(number(draw, 0, 1))
    out = [1 if i in axes else n for i, n in enumerate(shape)]
    out = out if options.keepDims else [n for i, n in enumerate(shape) if i not in axes]
    x = T("int8", shape, uniform(draw, 0.01, 0.2), zero_point(draw))
    y = T("int8", tuple(out), x.scale, x.zero_point)
    if name in ("MEAN", "SUM") and number(draw, 0, 2):
        y = T("int8", tuple(out), uniform(draw, 0.01, 0.4), zero_point(draw))
    numbers = np.array([axis - len(shape) * number(draw, 0, 1) for axis in axes], np.int32)
    content = model(name, [x, T("int32", numbers.shape, data=numbers)], [y], options, 2)
    one = case("reduce_int8", content, [(integers(draw, shape),) for _ in range(2)], reference=name != "SUM")
    return close_to(one) if name == "SUM" else one


def close_to(one: Case) -> Case:
    """What the numpy reference expects, at most one off what LiteRT computes in floats: it has no SUM in integers."""
    outputs = tuple(reference(one, inputs) for inputs in one.inputs)
    for found, expected in zip(outputs, one.expected, strict=True):
        assert np.abs(found[0].astype(int) - expected[0]).max() <= 1, (one.name, found, expected)
    return replace(one, expected=outputs)


@st.composite
def resize_nearest_neighbor(draw: Draw) -> Case:
    image, out = (number(draw, 1, 6), number(draw, 1, 6)), (number(draw, 1, 9), number(draw, 1, 9))
    dtype, mode = draw(st.sampled_from(["int8", "float32"])), number(draw, 0, 2)
    options = schema.ResizeNearestNeighborOptionsT()
    options.alignCorners, options.halfPixelCenters = mode == 1, mode == 2
    scale = 0.1 if dtype == "int8" else None
    x, y = T(dtype, (2, *image, 3), scale), T(dtype, (2, *out, 3), scale)
    size = np.array(out, np.int32)
    content = model("RESIZE_NEAREST_NEIGHBOR", [x, T("int32", (2,), data=size)], [y], options, 2)
    return case("resize_nearest_neighbor", content, [(integers(draw, x.shape).astype(dtype),)])


@st.composite
def transpose_conv(draw: Draw) -> Case:
    kernel, strides = (number(draw, 1, 4), number(draw, 1, 4)), (number(draw, 1, 3), number(draw, 1, 3))
    image, channels, count = (number(draw, 1, 4), number(draw, 1, 4)), number(draw, 1, 5), number(draw, 1, 5)
    padding = draw(st.sampled_from([SAME, VALID]))
    out = [
        n * s if padding == SAME else (n - 1) * s + max(k, s) for n, s, k in zip(image, strides, kernel, strict=True)
    ]
    options = schema.TransposeConvOptionsT()
    options.strideH, options.strideW, options.padding = *strides, padding
    scale = uniform(draw, 0.01, 0.1)
    scales = np.array([uniform(draw, 0.001, 0.05) for _ in range(count)], np.float32)
    weights, bias = integers(draw, (count, *kernel, channels)), integers(draw, (count,), "int16").astype(np.int32)
    size = np.array([2, *out, count], np.int32)
    x = T("int8", (2, *image, channels), scale, zero_point(draw))
    y = T("int8", (2, *out, count), output_scale(draw, 4 * channels, scale, scales.mean()), zero_point(draw))
    inputs = [T("int32", (4,), data=size), T("int8", weights.shape, scales, data=weights), x]
    if number(draw, 0, 3):
        inputs.append(T("int32", (count,), scale * scales, data=bias))
    content = model("TRANSPOSE_CONV", inputs, [y], options, 3 if len(inputs) == 4 else 2)
    return case("transpose_conv", content, [(integers(draw, x.shape),)])


@st.composite
def svdf(draw: Draw) -> Case:
    """Four steps of one sequence."""
    rank, units, memory, columns = number(draw, 1, 2), number(draw, 1, 5), number(draw, 1, 6), number(draw, 1, 12)
    batches, filters = number(draw, 1, 2), rank * units
    options = schema.SVDFOptionsT()
    options.rank, options.fusedActivationFunction = rank, ACTIVATIONS["RELU"]
    scale, weight_scale = uniform(draw, 0.01, 0.1), uniform(draw, 0.001, 0.05)
    state_scale = float(np.float32(scale * weight_scale * columns * uniform(draw, 0.1, 2)))
    time_scale = uniform(draw, 1e-5, 1e-3)
    out_scale = float(np.float32(state_scale * time_scale * memory * rank * 4e6 * uniform(draw, 0.2, 4)))
    features, time = integers(draw, (filters, columns)), integers(draw, (filters, memory), "int16") // 16
    bias = integers(draw, (units,), "int16").astype(np.int32)
    x, y = (
        T("int8", (batches, columns), scale, zero_point(draw)),
        T("int8", (batches, units), out_scale, zero_point(draw)),
    )
    state = T("int16", (batches, filters * memory), state_scale, variable=True)
    inputs = [x, T("int8", features.shape, weight_scale, data=features), T("int16", time.shape, time_scale, data=time)]
    inputs += [T("int32", (units,), state_scale * time_scale, data=bias), state]
    return case("svdf", model("SVDF", inputs, [y], options, 4), [(integers(draw, x.shape),) for _ in range(4)])
