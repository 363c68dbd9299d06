"""Toolchains: gcc's images compute the same bits and fit their stack, and records name the compiler."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from test_compile import assert_equal_to_numpy, forward

from edge.make.convert import convert
from edge.measure.describe import describe
from edge.run.target import open_target
from firmware_tools import boards, build, elf, emulators, graph, stack, toolchains
from firmware_tools.boards import Board
from firmware_tools.compile import compile_model
from firmware_tools.cores import CORES
from firmware_tools.errors import MissingTool, UserError
from firmware_tools.instructions import Code
from firmware_tools.toolchains import gcc

EMULATED = [name for name in boards.names() if boards.load(name).clock == "instructions"]


@pytest.fixture(scope="module")
def model() -> graph.Graph:
    return graph.read(convert(tiny.checkpoint()))


def by_gcc(model: graph.Graph, board: Board, folder: Path | None = None) -> build.Image:
    try:
        return build.build(compile_model(model, board), board, folder, toolchain="gcc")
    except MissingTool as missing:
        pytest.skip(missing.message)


def test_every_board_has_a_core_that_toolchains_know() -> None:
    assert {boards.load(name).cpu for name in boards.names()} <= CORES.keys()
    assert toolchains.DEFAULT in toolchains.names()


@pytest.mark.system
@pytest.mark.parametrize("name", EMULATED)
def test_gcc_computes_the_same_bits_within_its_stack(name: str, model: graph.Graph, tool: Callable[[str], str]) -> None:
    board = boards.load(name)
    image = by_gcc(model, board)
    assert image.facts.toolchain == gcc.version()
    if board.emulators[0] == "qemu":
        tool("qemu-system-arm")
    with emulators.load(board.emulators[0]).open(image) as link:
        assert_equal_to_numpy(model, 24, lambda token, position: forward(link, token, position), 4, board)
        seen = link.hello().stack_bytes
    deepest = image.sizes.stack_deepest_bytes
    assert seen is not None and 0 < seen < board.stack_bytes
    # gcc calls the parts of kernels in block floating point through pointers, and so might any function whose address
    # is formed, the commands of lines.c among them: that has no bound, and None says so
    assert deepest is not None or "fpu" not in board.features
    assert deepest is None or seen <= deepest < board.stack_bytes


@pytest.mark.system
@pytest.mark.parametrize("name", ["virtual-m0", "virtual-m4"])
def test_frames_read_from_code_are_the_ones_gcc_tells(
    name: str, model: graph.Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcc, "COMPILE", (*gcc.COMPILE, "-fstack-usage"))
    code = Code(elf.read(by_gcc(model, boards.load(name), tmp_path).elf))
    told: dict[str, set[int]] = {}
    for file in tmp_path.rglob("*.su"):
        for where, size_bytes, _ in (line.split("\t") for line in file.read_text().splitlines()):
            told.setdefault(where.rpartition(":")[2], set()).add(int(size_bytes))
    exact = 0
    for symbol in code.functions:
        frame_bytes = stack._frame_bytes(list(code.instructions(symbol)), code)
        if symbol.name in told and frame_bytes is not None:  # None: the report of faults, which sets SP
            assert frame_bytes >= min(told[symbol.name]), symbol.name  # more where assembly pushes
            exact += frame_bytes in told[symbol.name]
    assert exact > 50


@pytest.mark.system
def test_gcc_gives_the_same_bytes_in_any_folder(model: graph.Graph, tmp_path: Path) -> None:
    board = boards.load("virtual-m4")
    assert by_gcc(model, board, tmp_path / "first").elf == by_gcc(model, board, tmp_path / "deep" / "second folder").elf


def test_the_record_says_what_built_the_image(tmp_path: Path) -> None:
    (tmp_path / "tiny.tflite").write_bytes(convert(tiny.checkpoint()))
    with open_target("virtual-m4", tmp_path / "tiny.tflite") as running:
        assert (describe(running).image.toolchain or "").startswith("zig 0.")
    with open_target("host", tmp_path / "tiny.tflite") as running:
        assert describe(running).image.toolchain is None


def test_without_gcc_the_hint_says_what_to_install(model: graph.Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    board = boards.load("virtual-m4")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingTool, match="arm-none-eabi-gcc is not installed") as raised:
        build.build(compile_model(model, board), board, toolchain="gcc")
    assert "apt install gcc-arm-none-eabi libnewlib-arm-none-eabi" in raised.value.hint
    assert "zig" in raised.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="makes a compiler of a shell script")
def test_without_newlib_the_hint_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "arm-none-eabi-gcc"
    compiler.write_text('#!/bin/sh\necho "${1#-print-file-name=}"\n')  # what gcc answers for a file that it lacks
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(MissingTool, match="newlib is not installed"):
        gcc.command(boards.load("virtual-m4"))


def test_a_toolchain_that_is_not_there_is_an_error_with_the_names() -> None:
    with pytest.raises(UserError) as raised:
        toolchains.load("tcc")
    assert raised.value.hint == "toolchains: gcc, zig"
