"""Ops on int16 tensors equal LiteRT's reference kernels bit for bit: in numpy, in C on this machine and on Cortex-M."""

from __future__ import annotations

from pathlib import Path

import int16_cases as make
import pytest
from cortex import M0, M4, Core
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kernels import PORTABLE
from single_op import Case, Compiled, reference, same

from firmware_tools import ops

COUNTS: dict[str, tuple[st.SearchStrategy[Case], int]] = {
    "conv_2d": (make.conv_2d(), 40),
    "conv_2d of fours": (make.conv_2d(fours=True), 40),
    "depthwise_conv_2d": (make.conv_2d(depthwise=True), 40),
    "fully_connected": (make.fully_connected(), 40),
    "transpose_conv": (make.transpose_conv(), 40),
    "transpose_conv of fours": (make.transpose_conv(fours=True), 30),
    "binary": (make.binary(), 80),
    "unary": (make.unary(), 50),
    "softmax": (make.softmax(), 30),
}


def collect(strategy: st.SearchStrategy[Case], count: int) -> list[Case]:
    """So many models, each of which the numpy reference computes as LiteRT does."""
    found: list[Case] = []

    @settings(max_examples=count, derandomize=True, database=None, deadline=None, phases=(Phase.generate, Phase.shrink))
    @given(strategy)
    def compare(one: Case) -> None:
        for inputs, expected in zip(one.inputs, one.expected, strict=True):
            outputs = reference(one, inputs)
            assert same(outputs, expected), f"{one.name} {one.call.attributes}\n{outputs}\nLiteRT: {expected}"
        found.append(one)

    compare()
    return found


@pytest.fixture(scope="module")
def cases() -> dict[str, list[Case]]:
    return {name: collect(strategy, count) for name, (strategy, count) in COUNTS.items()}


@pytest.mark.parametrize("core, features", [(None, PORTABLE), (M4, M4.features), (M0, PORTABLE)])
def test_kernels_equal_litert(
    core: Core | None, features: frozenset[str], cases: dict[str, list[Case]], tmp_path: Path
) -> None:
    """On the host with UBSan; memory has guards everywhere."""
    every = [one for found in cases.values() for one in found]
    compiled = Compiled(every, tmp_path, core, features)
    for i, one in enumerate(every):
        for inputs, expected in zip(one.inputs, one.expected, strict=True):
            found = compiled.run(i, one, inputs)
            assert same(found, expected), f"{one.name}\n{found}\nLiteRT: {expected}"


def test_all_kernels_are_among_the_cases(cases: dict[str, list[Case]]) -> None:
    found = {ops.load(o.call.op).kernel(o.call, f) for c in cases.values() for o in c for f in (PORTABLE, M4.features)}
    assert {
        "edge_conv_2d_s16",
        "edge_conv_2d_s16_dsp",
        "edge_transpose_conv_s16",
        "edge_transpose_conv_s16_dsp",
    } <= found
    assert {
        "edge_fully_connected_s16",
        "edge_fully_connected_s16_dsp",
        "edge_slopes_int16",
        "edge_softmax_s8_s16",
    } <= found
    assert {f"edge_{name}_int16" for name in ("add", "sub", "mul", "maximum", "minimum")} <= found
