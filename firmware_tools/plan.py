"""Program -> Plan: where each value and each workspace lies in the arena, and each cache in the KV cache.

A value lives from the call that writes it to the last that reads it; a workspace during its call; outputs, as logits,
to the end. What lives from run to run lies behind the caches. What never lives at the same time may share memory.
Blocks are placed one by one, the largest first, each into the smallest gap that holds it ("greedy by size", Pisarchyk
and Lee, 2020, arXiv:2001.03288). Where an op allows it, an output takes the place of an input that dies there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from firmware_tools import ops
from firmware_tools.program import Program

ALIGNMENT_BYTES = 16  # of values, workspaces and caches: enough for any vector load


@dataclass(frozen=True)
class Plan:
    """Offsets in bytes: of each value and of each call's workspace in the arena, of each call's cache in the KV cache.

    A value that the program keeps lies in the KV cache too, at its offset there. None: the call has no workspace or no
    cache. live_bytes is what lives at the fullest moment; no plan takes less.
    """

    offsets_bytes: tuple[int, ...]
    workspace_offsets_bytes: tuple[int | None, ...]
    arena_bytes: int
    live_bytes: int
    cache_offsets_bytes: tuple[int | None, ...]
    cache_bytes: int


@dataclass(frozen=True)
class Block:
    """Bytes that live from the start of call `first` to the end of call `last`."""

    first: int
    last: int
    size_bytes: int

    def lives_with(self, other: Block) -> bool:
        return self.first <= other.last and other.first <= self.last


def plan(program: Program, features: frozenset[str], rows: int = 1) -> Plan:
    """Lays out the memory of a program, for so many rows at once, on a core with these features.

    The same arguments give the same plan.
    """
    blocks, block_of_value = _value_blocks(program, rows)
    workspaces = [
        aligned(ops.workspace_bytes(call, features, rows if index < program.head else 1))
        for index, call in enumerate(program.calls)
    ]
    block_of_call: list[int | None] = []
    for index, size_bytes in enumerate(workspaces):
        block_of_call.append(len(blocks) if size_bytes else None)
        if size_bytes:
            blocks.append(Block(index, index, size_bytes))
    offsets = place(blocks)
    cache_offsets, cache_bytes = _caches(program)
    kept_offsets: dict[int, int] = {}
    for value in program.kept:
        kept_offsets[value] = cache_bytes
        cache_bytes += aligned(program.values[value].size_bytes)
    in_arena = [offsets[block] for block in block_of_value]
    return Plan(
        offsets_bytes=tuple(kept_offsets.get(value, offset) for value, offset in enumerate(in_arena)),
        workspace_offsets_bytes=tuple(None if block is None else offsets[block] for block in block_of_call),
        arena_bytes=_end(blocks, offsets),
        live_bytes=live_bytes(blocks),
        cache_offsets_bytes=cache_offsets,
        cache_bytes=cache_bytes,
    )


def aligned(size_bytes: int) -> int:
    """The least multiple of the alignment that is not below size_bytes."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def lifetimes(program: Program) -> tuple[tuple[int, int], ...]:
    """(first, last) call of each value; inputs live from before the first call, outputs until after the last."""
    first = program.first_calls()
    last = list(first)
    for index, call in enumerate(program.calls):
        for value in (*call.inputs, *call.outputs):
            last[value] = index
    for value in program.outputs:
        last[value] = len(program.calls)
    return tuple(zip(first, last, strict=True))


def place(blocks: Sequence[Block]) -> list[int]:
    """An offset for each block such that none overlaps another that lives with it; the best of a few orders."""
    orders: tuple[Callable[[int], tuple[int, ...]], ...] = (
        lambda i: (-blocks[i].size_bytes, blocks[i].first),
        lambda i: (-(blocks[i].last - blocks[i].first), -blocks[i].size_bytes, blocks[i].first),
        lambda i: (blocks[i].first, -blocks[i].size_bytes),
    )
    layouts = [_place_in_order(blocks, sorted(range(len(blocks)), key=order)) for order in orders]
    return min(layouts, key=lambda offsets: _end(blocks, offsets))


def live_bytes(blocks: Sequence[Block]) -> int:
    """The most bytes that live at once."""
    moments = {block.first for block in blocks}
    return max((sum(b.size_bytes for b in blocks if b.first <= moment <= b.last) for moment in moments), default=0)


def row_bytes(program: Program, rows: int) -> tuple[int, ...]:
    """Bytes of each value's rows: of those that only the last row's logits need there is one."""
    return tuple(
        value.size_bytes * (rows if first < program.head else 1)
        for value, first in zip(program.values, program.first_calls(), strict=True)
    )


def _value_blocks(program: Program, rows: int) -> tuple[list[Block], list[int]]:
    """The blocks that values lie in, and which one each value has: an output in place shares its input's."""
    lives = lifetimes(program)
    exact = [0 if value in program.kept else size for value, size in enumerate(row_bytes(program, rows))]
    size = [aligned(size_bytes) for size_bytes in exact]
    home = list(range(len(program.values)))  # the value in whose block each lies
    for index, call in enumerate(program.calls):
        for output, source in _in_place(program, index):
            old, new = call.inputs[source], call.outputs[output]
            # an input of fewer elements repeats: it may be read again after an element of the output is written
            if lives[old][1] == index and lives[new][0] == index and exact[new] <= exact[old]:
                home[new] = home[old]
                break
    blocks: list[Block] = []
    block_of_home: dict[int, int] = {}
    for value in range(len(program.values)):
        if home[value] == value:
            tenants = [lives[v] for v in range(len(home)) if home[v] == value]
            block_of_home[value] = len(blocks)
            blocks.append(Block(min(first for first, _ in tenants), max(last for _, last in tenants), size[value]))
    return blocks, [block_of_home[home[value]] for value in range(len(home))]


def _in_place(program: Program, index: int) -> Iterator[tuple[int, int]]:
    """(output, input) pairs of a call that may share memory, where they are not one value already."""
    call = program.calls[index]
    for output, source in getattr(ops.load(call.op), "IN_PLACE", ()):
        if source < len(call.inputs) and call.outputs[output] not in call.inputs:  # an input may be stored instead
            yield output, source


def _place_in_order(blocks: Sequence[Block], order: Sequence[int]) -> list[int]:
    offsets = [0] * len(blocks)
    placed: list[int] = []
    for index in order:
        block = blocks[index]
        neighbours = sorted(
            (offsets[i], offsets[i] + blocks[i].size_bytes) for i in placed if blocks[i].lives_with(block)
        )
        offsets[index] = _best_gap(neighbours, block.size_bytes)
        placed.append(index)
    return offsets


def _best_gap(taken: Sequence[tuple[int, int]], size_bytes: int) -> int:
    """The start of the smallest gap between taken ranges (sorted) that holds size_bytes; their end where none does."""
    best, best_bytes, end = -1, 0, 0
    for start, stop in taken:
        gap_bytes = start - end
        if gap_bytes >= size_bytes and (best < 0 or gap_bytes < best_bytes):
            best, best_bytes = end, gap_bytes
        end = max(end, stop)
    return best if best >= 0 else end


def _end(blocks: Sequence[Block], offsets: Sequence[int]) -> int:
    return max((offset + block.size_bytes for block, offset in zip(blocks, offsets, strict=True)), default=0)


def _caches(program: Program) -> tuple[tuple[int | None, ...], int]:
    """Where each call's cache starts, one after the other, and their sum."""
    offsets: list[int | None] = []
    end = 0
    for call in program.calls:
        size_bytes = aligned(ops.cache_bytes(call))
        offsets.append(end if size_bytes else None)
        end += size_bytes
    return tuple(offsets), end
