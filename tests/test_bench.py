"""What is measured, in which unit, at which position; on the host and on a virtual board."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge.make import convert
from edge.measure.bench import bench
from edge.measure.describe import describe
from edge.run.target import Running, open_target
from firmware_tools.errors import UserError
from firmware_tools.link import Clock
from tests import tiny

CONTEXT = tiny.SHAPE.context


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "tiny.tflite"
    convert.save(convert.convert(tiny.checkpoint()), path)
    return path


@pytest.fixture(scope="module")
def host(model: Path) -> Iterator[Running]:
    with open_target("host", model) as running:
        yield running


@pytest.fixture(scope="module")
def board(model: Path) -> Iterator[Running]:
    with open_target("virtual-m4", model, counting=True) as running:
        yield running


def test_host_tells_seconds(host: Running) -> None:
    record = bench(host, position=5, repeats=7)
    assert (record.clock, record.emulated, record.target, record.board) == ("seconds", False, "host", "host")
    assert len(record.decode.repeats) == 7 and record.decode.median == statistics.median(record.decode.repeats)
    assert (record.decode.position, record.decode.tokens, record.prefill.tokens) == (5, 1, 5)
    assert record.prefill.per_token is not None and 0 < record.prefill.per_token < 60
    assert all(0 < repeat < 60 for repeat in record.decode.repeats)
    assert record.image.sha256 is None and record.memory.code_bytes is None and record.energy is None
    assert record.clock_hz is record.image.identity is record.memory.weights_in is None


def test_board_counts_instructions(board: Running) -> None:
    record = bench(board, position=5, repeats=3)
    assert (record.clock, record.emulated, record.board) == ("instructions", True, "virtual-m4")
    assert record.target == "virtual-m4@unicorn"
    assert len(set(record.decode.repeats)) == 1, "the same step takes the same instructions"
    assert record.decode.median is not None and record.decode.median == int(record.decode.median)
    assert board.image is not None and record.image.sha256 == board.image.sha256
    assert all(value is not None for name, value in vars(record.memory).items() if name != "input_bytes")
    assert (record.memory.weights_in, record.clock_hz) == ("flash", None)
    assert record.image.identity == board.image.facts.identity == board.info.image
    assert record.machine is record.before is record.after is None and record.invalid == (), (
        "computers tell, not boards"
    )


def test_a_board_that_is_no_emulated_one_tells_its_clock(board: Running) -> None:
    """As silicon would: the same answers, but for what says that they are emulated."""
    told = replace(board.info, emulated=False, ticks_hz=180_000_000, weights_in="ram")
    link = SimpleNamespace(clock=Clock("seconds", 1.0))
    record = describe(replace(board, info=told, image=None, link=link))
    assert (record.clock_hz, record.memory.weights_in, record.image.sha256) == (180_000_000, "ram", None)
    assert record.image.identity == told.image


def test_more_positions_take_more_instructions(board: Running) -> None:
    counts = [bench(board, position=position, repeats=1).decode.median for position in (1, 8, CONTEXT - 1)]
    assert all(a is not None and b is not None and a < b for a, b in zip(counts, counts[1:], strict=False))


def test_nothing_counted_is_nothing_measured(model: Path) -> None:
    with open_target("virtual-m4", model) as running, pytest.raises(UserError, match="counts nothing"):
        bench(running, position=2, repeats=2)


def test_first_position_reads_no_prompt(host: Running) -> None:
    record = bench(host, position=0, repeats=2)
    assert record.prefill.per_token is None and record.prefill.tokens is None
    assert len(record.decode.repeats) == 2


def test_prompt_and_tokens(host: Running) -> None:
    record = bench(host, prompt="tin", tokens=4, repeats=3)
    used = len(host.tokenizer.prompt("tin"))
    assert (record.prefill.tokens, record.decode.position, record.decode.tokens) == (used, used, 4)
    assert len(record.decode.repeats) == 12


def test_without_anything_it_fills_what_there_is(host: Running) -> None:
    record = bench(host, repeats=1)
    assert record.prefill.tokens == 16 and record.decode.tokens == CONTEXT - 16


@pytest.mark.parametrize("position", [CONTEXT, 10**9])
def test_position_outside_the_cache(host: Running, position: int) -> None:
    with pytest.raises(UserError, match="not in the cache"):
        bench(host, position=position, repeats=1)


def test_more_tokens_than_room(host: Running) -> None:
    with pytest.raises(UserError, match="do not fit the context"):
        bench(host, prompt="tin", tokens=CONTEXT, repeats=1)


def test_smaller_context_is_kept(model: Path) -> None:
    with open_target("host", model, context=8) as running:
        assert bench(running, position=7, repeats=1).context == 8
        with pytest.raises(UserError, match="holds 0 to 7"):
            bench(running, position=8, repeats=1)


@pytest.mark.system
def test_both_emulators_count_the_same(model: Path, board: Running, tool: Callable[[str], str]) -> None:
    """One image, two emulators that know nothing of each other: within half a percent."""
    tool("qemu-system-arm")
    with open_target("virtual-m4@qemu", model, counting=True) as running:
        found = bench(running, position=9, repeats=1)
    expected = bench(board, position=9, repeats=1)
    assert found.image == expected.image and found.target == "virtual-m4@qemu"
    assert found.decode.median == pytest.approx(expected.decode.median, rel=0.005)
    assert found.prefill.per_token == pytest.approx(expected.prefill.per_token, rel=0.005)
