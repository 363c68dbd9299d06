"""Memory plans: nothing that is still needed is overwritten, and little is wasted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.make.convert import convert
from firmware_tools import fuse, graph, ops, plan
from firmware_tools.ops import Call
from firmware_tools.program import Program, Value


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Random programs of real ops: any op may read any value of a fitting size, however old."""
    values: list[int] = []
    calls: list[Call] = []

    def give(op: str, inputs: tuple[int, ...], size: int, **constants: np.ndarray) -> None:
        values.append(size)
        calls.append(Call(op, inputs, (len(values) - 1,), constants))

    give("embedding", (), 16, weights=np.ones((4, 16), np.float32))
    for _ in range(draw(st.integers(0, 14))):
        x = draw(st.integers(0, len(values) - 1))
        op = draw(st.sampled_from(["fully_connected", "fully_connected", "add", "rms_norm", "swiglu"]))
        if op == "fully_connected":
            rows, columns = draw(st.integers(1, 40)) * 2, values[x]
            int8 = draw(st.booleans())
            weights = np.ones((rows, columns), np.int8 if int8 else np.float32)
            give(op, (x,), rows, weights=weights, **({"scales": np.ones(rows, np.float32)} if int8 else {}))
        elif op == "add":
            fitting = [i for i, size in enumerate(values) if size == values[x]]
            give(op, (x, draw(st.sampled_from(fitting))), values[x])
        elif op == "rms_norm":
            give(op, (x,), values[x], gain=np.ones(values[x], np.float32))
        elif values[x] % 2 == 0:
            give(op, (x,), values[x] // 2)
    kinds = tuple(Value("float32", (size,)) for size in values)
    return Program(tuple(calls), kinds, (), (len(values) - 1,), draw(st.integers(0, len(calls))))


SCRIBBLE = -2


DSP = frozenset({"dsp", "fpu"})


def run_through(program: Program, layout: plan.Plan, rows: int = 1) -> None:
    """Carries the plan out on a map of bytes, each owned by the value last written there.

    Every call first scribbles on its workspace, then writes its outputs; only inputs that it may overwrite can be gone
    after that.
    """
    owner = np.full(layout.arena_bytes, -1)
    sizes_bytes = plan.row_bytes(program, rows)

    def place(value: int) -> slice:
        start = layout.offsets_bytes[value]
        assert start + sizes_bytes[value] <= layout.arena_bytes
        return slice(start, start + sizes_bytes[value])

    for index, call in enumerate(program.calls):
        workspace, scratch = layout.workspace_offsets_bytes[index], slice(0)
        if workspace is not None:
            scratch = slice(workspace, workspace + ops.workspace_bytes(call, DSP, rows if index < program.head else 1))
            assert scratch.stop <= layout.arena_bytes
        owner[scratch] = SCRIBBLE
        assert all((owner[place(value)] == value).all() for value in call.inputs), f"call {index} has lost an input"
        for value in call.outputs:
            owner[place(value)] = value
        allowed = {call.inputs[source] for _, source in getattr(ops.load(call.op), "IN_PLACE", ())}
        for value in set(call.inputs) - allowed:
            assert (owner[place(value)] == value).all(), f"call {index} overwrites what it reads"
        assert (owner[scratch] == SCRIBBLE).all(), f"call {index} writes into its workspace"
    for value in program.outputs:
        assert (owner[place(value)] == value).all(), "an output does not live to the end"


@settings(max_examples=150, deadline=None)
@given(programs(), st.integers(1, 4))
def test_nothing_needed_is_overwritten(program: Program, rows: int) -> None:
    layout = plan.plan(program, DSP, rows)
    run_through(program, layout, rows)
    assert layout.live_bytes <= layout.arena_bytes <= 1.5 * layout.live_bytes
    assert all(offset % plan.ALIGNMENT_BYTES == 0 for offset in layout.offsets_bytes)
    assert layout == plan.plan(program, DSP, rows)


def test_the_check_sees_overlaps() -> None:
    """A plan that puts everything at the start fails it."""
    program = fuse.program(graph.read(convert(tiny.checkpoint())))
    good = plan.plan(program, DSP)
    bad = dataclasses.replace(good, offsets_bytes=(0,) * len(program.values))
    with pytest.raises(AssertionError):
        run_through(program, bad)


@pytest.mark.parametrize("scheme", ["int8", "float32"])
def test_decoders_take_no_more_than_lives_at_once(scheme: str) -> None:
    program = fuse.program(graph.read(convert(tiny.checkpoint(), scheme)))
    layout = plan.plan(program, DSP)
    run_through(program, layout)
    assert layout.arena_bytes == layout.live_bytes


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8), st.integers(1, 50)), max_size=30))
def test_blocks_that_live_together_lie_apart(parts: list[tuple[int, int, int]]) -> None:
    blocks = [plan.Block(first, first + length, 16 * size) for first, length, size in parts]
    offsets = plan.place(blocks)
    for i, a in enumerate(blocks):
        for j in range(i):
            if a.lives_with(blocks[j]):
                assert offsets[i] + a.size_bytes <= offsets[j] or offsets[j] + blocks[j].size_bytes <= offsets[i]


def test_a_gap_that_fits_best_is_taken() -> None:
    taken = [(0, 16), (64, 80), (112, 128)]
    assert plan._best_gap(taken, 32) == 80
    assert plan._best_gap(taken, 48) == 16
    assert plan._best_gap(taken, 64) == 128


def test_caches_follow_each_other() -> None:
    program = fuse.program(graph.read(convert(tiny.checkpoint())), 10)
    layout = plan.plan(program, DSP)
    sizes = [ops.cache_bytes(call) for call in program.calls]
    starts = [start for start in layout.cache_offsets_bytes if start is not None]
    assert len(starts) == program.layers == sum(size > 0 for size in sizes)
    assert starts == [sum(plan.aligned(size) for size in sizes if size) // len(starts) * i for i in range(len(starts))]
    assert layout.cache_bytes == sum(map(plan.aligned, sizes))
