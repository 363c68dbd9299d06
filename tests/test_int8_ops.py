"""Ops on integers equal LiteRT's reference kernels bit for bit: in numpy, in C on this machine, and on Cortex-M cores.

Models of one operator are made at random, the same ones every time. The reference in numpy is compared while they are
made, so that a model that fails is made as simple as it can be; then all of them are compiled at once for each core.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import int8_cases as make
import numpy as np
import pytest
import rearrange_cases
from ai_edge_litert import schema_py_generated as schema
from cortex import M0, M4, M4_GCC, Core
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st
from kernels import INCLUDES, PORTABLE, kernel_files
from single_op import Case, Compiled, T, checking_program, model, reference, same, used

from firmware_tools import graph, ops
from firmware_tools.build import build_host_program
from firmware_tools.errors import MissingTool
from firmware_tools.ops import Run
from firmware_tools.requantize import scale_once_rounded, step_function, thresholds

PHASES = (Phase.generate, Phase.shrink)
COUNTS: dict[str, tuple[st.SearchStrategy[Case], int]] = {
    "conv_2d": (make.conv_2d(), 80),
    "conv_2d of pixels": (make.conv_2d(pointwise=True), 50),
    "depthwise_conv_2d": (make.depthwise_conv_2d(), 60),
    "depthwise_conv_2d of 3 by 3": (make.depthwise_conv_2d(threes=True), 50),
    "fully_connected_int8": (make.fully_connected(), 200),
    "fully_connected_int8 of many": (make.fully_connected(wide=True), 12),
    "pool_2d": (make.pool_2d(), 60),
    "softmax": (make.softmax(), 50),
    "binary_int8": (make.binary(), 120),
    "table_int8": (make.table(), 80),
    "quantize": (make.quantize(), 80),
    "reduce_int8": (make.reduce(), 80),
    "resize_nearest_neighbor": (make.resize_nearest_neighbor(), 30),
    "transpose_conv": (make.transpose_conv(), 30),
    "svdf": (make.svdf(), 30),
    "rearrange": (rearrange_cases.rearrange(), 240),
}


def collect(strategy: st.SearchStrategy[Case], count: int, first: int | None = None) -> list[Case]:
    """So many models that the numpy reference computes as LiteRT does: always the same ones, or those of a seed."""
    found: list[Case] = []

    same_always = first is None

    @settings(max_examples=count, derandomize=same_always, database=None, deadline=None, phases=PHASES)
    @given(strategy)
    def compare(one: Case) -> None:
        run = Run()
        for inputs, expected in zip(one.inputs, one.expected, strict=True):
            outputs = reference(one, inputs, run)
            assert same(outputs, expected), f"{one.name}\n{outputs}\nLiteRT: {expected}"
        found.append(one)

    (compare if first is None else seed(first)(compare))()
    return found


@pytest.fixture(scope="module")
def cases() -> dict[str, list[Case]]:
    return {name: collect(strategy, count) for name, (strategy, count) in COUNTS.items()}


RUNNERS: dict[str, tuple[Core | None, frozenset[str]]] = {
    "host": (None, PORTABLE),
    "m4-dsp": (M4, M4.features),
    "m4-portable": (M4, PORTABLE),
    "m0": (M0, PORTABLE),
    "m4-gcc": (M4_GCC, M4.features),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_kernels_equal_litert(
    runner: str, cases: dict[str, list[Case]], tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """On the host with UBSan; memory has guards everywhere."""
    core, features = RUNNERS[runner]
    if core is M4_GCC:
        tool(M4_GCC.compiler[0])  # the strict cross-check, where there is one
    every = [one for found in cases.values() for one in found]
    compiled = Compiled(every, tmp_path, core, features)
    for i, one in enumerate(every):
        for inputs, expected in zip(one.inputs, one.expected, strict=True):
            found = compiled.run(i, one, inputs)
            assert same(found, expected), f"{one.name}\n{found}\nLiteRT: {expected}"


def test_kernels_stay_inside_their_memory(cases: dict[str, list[Case]], tmp_path: Path) -> None:
    """AddressSanitizer, every array in its own block of the heap; what is read outside is found, too."""
    every = [one for found in cases.values() for one in found[::6]]  # the compiler takes its time
    files = [*checking_program(every, tmp_path), *kernel_files(PORTABLE, used(every))]
    try:
        program = build_host_program(files, INCLUDES, tmp_path / "check")
    except MissingTool as error:
        pytest.skip(str(error))
    result = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]


def test_all_kernels_are_among_the_cases(cases: dict[str, list[Case]]) -> None:
    """So that a change of shapes does not leave a fast kernel untested."""
    found = {ops.load(o.call.op).kernel(o.call, f) for c in cases.values() for o in c for f in (PORTABLE, M4.features)}
    for name in (
        "edge_conv_2d_s8",
        "edge_depthwise_conv_2d_s8",
        "edge_average_pool_2d_s8",
        "edge_add_int8",
        "edge_mul_int8",
    ):
        assert {name, f"{name}_dsp"} <= found
    assert {"edge_conv_2d_s8_groups", "edge_depthwise_conv_2d_s8_taps_dsp"} <= found
    connected = "edge_fully_connected_int8"
    assert {
        connected,
        f"{connected}_dsp",
        f"{connected}_few_dsp",
        f"{connected}_wide_dsp",
        f"{connected}_fours_dsp",
    } <= found


def refused(name: str, stem: str, inputs: list[T], outputs: list[T], options: object = None) -> str:
    subgraph = graph.read(model(name, inputs, outputs, options)).subgraphs[0]
    with pytest.raises(ops.Unsupported) as refusal:
        ops.load(stem).lower(subgraph.operators[0], subgraph)
    return refusal.value.reason


def test_what_is_not_supported_is_refused() -> None:
    x, y = T("int8", (1, 3, 3, 2), 0.1, 3), T("int8", (1, 3, 3, 4), 0.2, 1)
    weights = T("int8", (4, 1, 1, 2), 0.01, data=np.ones((4, 1, 1, 2), np.int8))
    bias, conv = T("int32", (4,), 0.001, data=np.ones(4, np.int32)), schema.Conv2DOptionsT()
    conv.strideH = conv.strideW = 1

    def of_conv(**changed: T) -> str:
        tensors = {"x": x, "weights": weights, "bias": bias, "y": y, **changed}
        return refused("CONV_2D", "conv_2d", [tensors[k] for k in ("x", "weights", "bias")], [tensors["y"]], conv)

    assert of_conv(x=T("float32", x.shape)) == "the input is float32, not int8"
    assert of_conv(x=T("int8", x.shape)) == "the input has no scale, or not one for the whole tensor"
    assert of_conv(weights=T("int8", weights.shape, 0.01)) == "the filters are computed by the graph, not stored"
    assert "zero point" in of_conv(weights=replace(weights, zero_point=1))
    assert "along axis 3" in of_conv(weights=replace(weights, scale=[0.1, 0.2], axis=3))
    assert "too far" in of_conv(bias=replace(bias, data=np.full(4, (1 << 31) - 1, np.int32)))
    assert "too far" in of_conv(y=replace(y, scale=1e-12))
    assert "do not divide" in of_conv(x=T("int8", (1, 3, 3, 3), 0.1))
    assert "too far" in refused("MUL", "binary_int8", [x, x], [replace(x, scale=1e-8)], schema.MulOptionsT())
    softmax = schema.SoftmaxOptionsT()
    assert "1/256" in refused("SOFTMAX", "softmax", [x], [x], softmax)
    joined = schema.ConcatenationOptionsT()
    joined.axis = 3
    twice = T("int8", (1, 3, 3, 4), 0.1, 3)
    assert "scales" in refused("CONCATENATION", "rearrange", [x, replace(x, scale=0.3)], [twice], joined)
    order = T("int32", (4,))
    assert "not stored" in refused("TRANSPOSE", "rearrange", [x, order], [x], schema.TransposeOptionsT())


def test_steps_are_found_where_rounding_has_them() -> None:
    """For factors of every size, those with results half-way included, and offsets that SMMLA can add."""
    random = np.random.default_rng(0)
    factors = [*np.exp(random.uniform(np.log(1e-5), np.log(0.5), 60)), 0.5, 0.25, 0.375, 1 / 3, 1.0, 2.0]
    for factor, unit in itertools.product(map(float, factors), (1, 1 << 24)):
        found = step_function(factor, -128, 127, unit)
        assert found is not None
        multiplier, offset, shift = found
        at = thresholds(factor, -128, 127)
        x = np.unique(np.concatenate([at - 1, at, at + 1]))
        expected = np.clip(scale_once_rounded(x, factor), -128, 127)
        assert np.array_equal(np.clip((x * multiplier + offset) >> shift, -128, 127), expected), factor
    assert step_function(1e-12, -128, 127) is None
