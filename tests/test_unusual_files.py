"""What files of others have that the converters of today do not write, each in a small model made here: channels that
pruning left without weights, biases of any size, scales along an axis that is not there, operators of other makers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from cortex import M0, M4, Core
from kernels import PORTABLE
from remodel import edited
from single_op import Case, Compiled, T, case, model, reference, same

from firmware_tools import graph, lower, ops
from firmware_tools.errors import UserError

CUT = 1 << 30  # where converters cut biases


def convolution(pruned: bool = True, depthwise: bool = False) -> bytes:
    """8 filters, the weights of some of which have scales of almost nothing, and biases past all reason."""
    random, channels = np.random.default_rng(7), 8
    shape = (1, 3, 3, channels) if depthwise else (channels, 1, 1, channels)
    scales = random.uniform(0.001, 0.01, channels)
    bias = random.integers(-3000, 3000, channels)
    if pruned:
        scales[[1, 4]] = 4e-9, 2e-11
        bias[[1, 4]] = CUT, -CUT - 128
    x, y = T("int8", (1, 5, 5, channels), 0.05, -3), T("int8", (1, 5, 5, channels), 0.06, 5)
    weights = T(
        "int8", shape, scales, axis=3 if depthwise else 0, data=random.integers(-127, 128, shape).astype(np.int8)
    )
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    if depthwise:
        options.depthMultiplier = 1
    data = bias.astype(np.int32)
    op = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    return model(op, [x, weights, T("int32", (channels,), scales * 0.05, data=data)], [y], options, 3)


def connected(bias: int) -> bytes:
    random = np.random.default_rng(3)
    x, y = T("int8", (2, 12), 0.05, -3), T("int8", (2, 4), 6.0, 5)
    weights = T("int8", (4, 12), 0.004, data=random.integers(-127, 128, (4, 12)).astype(np.int8))
    data = np.array([bias, -bias, 2000, -2000], np.int32)
    options = schema.FullyConnectedOptionsT()
    return model("FULLY_CONNECTED", [x, weights, T("int32", (4,), 0.05 * 0.004, data=data)], [y], options, 4)


def of_32_bits(target: str) -> bytes:
    return model("QUANTIZE", [T("int32", (64,), 1e-6)], [T(target, (64,), 0.03, 5 if target == "int8" else 0)], None, 2)


def inputs_of(content: bytes) -> list[tuple[np.ndarray, ...]]:
    subgraph = graph.read(content).subgraphs[0]
    tensor = subgraph.tensors[subgraph.inputs[0]]
    limits, random = np.iinfo(tensor.dtype), np.random.default_rng(1)
    made = [random.integers(limits.min, limits.max, tensor.shape, endpoint=True) for _ in range(3)]
    made += [np.full(tensor.shape, limits.min), np.full(tensor.shape, limits.max)]
    return [(array.astype(tensor.dtype),) for array in made]


FILES = {
    "conv_2d": [convolution()],
    "depthwise_conv_2d": [convolution(depthwise=True)],
    "fully_connected_int8": [connected(CUT), connected((1 << 31) - 900000)],
    "quantize": [of_32_bits("int16"), of_32_bits("int8")],
}


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [case(stem, content, inputs_of(content)) for stem, contents in FILES.items() for content in contents]


def test_numpy_equals_litert(cases: list[Case]) -> None:
    for one in cases:
        for inputs, expected in zip(one.inputs, one.expected, strict=True):
            assert same(reference(one, inputs), expected), one.name


@pytest.mark.parametrize("core", [None, M4, M0], ids=["host", "m4", "m0"])
def test_c_equals_litert(core: Core | None, cases: list[Case], tmp_path: Path) -> None:
    compiled = Compiled(cases, tmp_path, core, PORTABLE if core is None else core.features)
    for i, one in enumerate(cases):
        for inputs, expected in zip(one.inputs, one.expected, strict=True):
            assert same(compiled.run(i, one, inputs), expected), one.name


@pytest.mark.parametrize("depthwise", [False, True])
def test_pruned_channels_keep_the_fast_kernel(depthwise: bool) -> None:
    """MLPerf Tiny's person detector has them in most of its layers."""
    stem = "depthwise_conv_2d" if depthwise else "conv_2d"
    subgraph = graph.read(convolution(depthwise=depthwise)).subgraphs[0]
    call = ops.load(stem).lower(subgraph.operators[0], subgraph)
    assert ops.load(stem).kernel(call, M4.features).endswith("_dsp")
    whole = graph.read(convolution(False, depthwise)).subgraphs[0]
    kept = ops.load(stem).lower(whole.operators[0], whole).constants
    still = [0, 2, 3, 5, 6, 7]
    assert np.array_equal(kept["bias"][still], call.constants["bias"][still])  # the others are as they were


@pytest.mark.parametrize("axis", [0, 3])
def test_scales_of_a_bias_may_lie_along_the_axis_of_its_weights(axis: int) -> None:
    """TFLite Micro's person detector says axis 3 of biases that have one; LiteRT of today refuses the file."""

    def turn(whole: schema.ModelT) -> None:
        subgraph = whole.subgraphs[0]
        subgraph.tensors[subgraph.operators[0].inputs[2]].quantization.quantizedDimension = axis

    content = edited(convolution(depthwise=True), turn)
    found = lower.program(graph.read(content)).calls[0].constants
    assert all(
        np.array_equal(found[key], array)
        for key, array in lower.program(graph.read(convolution(depthwise=True))).calls[0].constants.items()
    )


def test_an_operator_of_another_maker_is_one_clear_error() -> None:
    def of_custom(whole: schema.ModelT) -> None:
        whole.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
        whole.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        whole.operatorCodes[0].customCode = "ethos-u"
        whole.subgraphs[0].operators[0].builtinOptions = None
        whole.subgraphs[0].operators[0].builtinOptionsType = 0

    with pytest.raises(UserError, match=r"operator 0, CUSTOM \(tensor 't3'\)") as error:
        lower.program(graph.read(edited(convolution(), of_custom)))
    assert "convert the model without them" in str(error.value.hint)
