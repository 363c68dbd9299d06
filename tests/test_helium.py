"""Cortex-M55 in QEMU: every kernel equals its numpy reference bit for bit, whole models do, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import helium
import numpy as np
import pytest
import test_library
import texts
from kernels import HeliumRunner, Runner
from test_compile import assert_equal_to_numpy, forward
from test_ops import (
    CALLS,
    LENGTHS,
    floats,
    int8_weights,
    test_kernel_equals_reference,  # noqa: F401 (runs here on the runners of this file)
    test_rows_at_once_give_the_same,  # noqa: F401
)

from edge.make.convert import convert
from firmware_tools import build, graph, library
from firmware_tools.compile import compile_model
from firmware_tools.emulators import qemu
from firmware_tools.ops import Call

pytestmark = pytest.mark.system
COMPILERS = (helium.M55, helium.M55_GCC)


@pytest.fixture(scope="module", params=COMPILERS, ids=lambda compiler: compiler.name)
def runner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]
) -> Runner:
    tool(qemu.PROGRAM), tool(request.param.command[0])
    folder = tmp_path_factory.mktemp(request.param.name)
    return HeliumRunner(request.param, helium.FEATURES, CALLS, LENGTHS, folder)


def test_costs_stay_where_they_are(tmp_path: Path, tool: Callable[[str], str]) -> None:
    """Instructions of whole layers, quantizing and scaling included; tests/bench/bench_ops.py prints them all."""
    tool(qemu.PROGRAM)
    shapes = ((64, 64), (172, 64), (64, 172), (512, 64))
    calls = [
        Call("fully_connected", (0,), (1,), {"weights": int8_weights(n, n, k), "scales": np.ones(n, np.float32)})
        for n, k in shapes
    ]
    attributes = {"layer": 0, "cache_bits": 8, "heads": 8, "kv_heads": 4, "head_dim": 8, "context": 128}
    calls.append(Call("attention", (0,), (1,), {}, attributes))
    lengths = [((k,), (n,)) for n, k in shapes] + [((128,), (64,))]
    runner = HeliumRunner(helium.M55, helium.FEATURES, calls, lengths, tmp_path, counting=True)
    for i, (n, k) in enumerate(shapes):
        runner.run(i, [floats(i, k)])
        assert 0.125 < runner.instructions / (n * k) < 0.22, shapes[i]  # a load and VMLADAVA for 16 products
        alone = runner.instructions
        runner.run_rows(i, [floats(i, 2 * k)], [0, 0], 0)
        assert runner.instructions < 1.95 * alone, "two tokens share loads"
    counts = {}
    for position in (0, 15, 127):
        runner.run(len(shapes), [floats(position, 128)], position=position)
        counts[position] = runner.instructions
    assert counts[0] < counts[15] < 2_700 and counts[127] < 10_500


@pytest.mark.parametrize(
    ("name", "scheme", "context"), [("shipped", "int8", 96), ("shipped", "float32", 24), ("stories", "int8", 128)]
)
def test_a_whole_model(
    name: str, scheme: str, context: int, request: pytest.FixtureRequest, tool: Callable[[str], str]
) -> None:
    """Every position's logits; tests/test_counts.py holds what they cost."""
    tool(qemu.PROGRAM)
    loaded = texts.shipped() if name == "shipped" else texts.stories(request.getfixturevalue("shared_data"))
    read = graph.read(convert(loaded[0], scheme, context))
    image = build.build(compile_model(read, helium.BOARD), helium.BOARD)
    with qemu.open(image) as link:
        assert_equal_to_numpy(read, context, lambda token, position: forward(link, token, position))


@pytest.mark.parametrize("compiler", COMPILERS, ids=lambda compiler: compiler.name)
def test_a_library(compiler: helium.Compiler, tmp_path: Path, tool: Callable[[str], str]) -> None:
    """The model as C for somebody else's firmware, on this core."""
    tool(qemu.PROGRAM), tool(compiler.command[0])
    read = test_library.model()
    library.save(library.build_library(read, "cortex-m55", "model"), tmp_path / "model")
    source = tmp_path / "model" / "src"
    (tmp_path / "calls.c").write_text(test_library.CALL_RUN, encoding="utf-8")
    files = [tmp_path / "calls.c", *sorted(source.rglob("*.c"))]
    core = helium.Helium(compiler, ["call_run"], files, [source], tmp_path)
    expected = test_library.expected(read)
    logits = core.put(bytes(expected.nbytes))
    ids = core.put(np.array(test_library.ids(read), np.uint32).tobytes())
    core.call("call_run", core.put(b"\xa5" * test_library.memory_bytes(source)), ids, test_library.COUNT, logits)
    assert core.get(logits, expected.nbytes) == expected.tobytes()
