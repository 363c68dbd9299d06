"""What lies where in a board's memories: ways to lay an image out, the best first; what it takes; what does not fit.

Weights are read whole for every token and code is read again and again: so weights go to RAM first where the board's
facts say that it is read faster than flash, and code where they say that kernels run faster from there; each as long as
all fits, which build.py finds out by linking. Of a board with several RAMs the first holds stack, variables and what is
copied of code. Weights, arena and KV cache each lie in the first RAM that leaves room for the others, the largest
first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from firmware_tools import linker, stack
from firmware_tools.elf import Elf
from firmware_tools.errors import DoesNotFit, UserError
from firmware_tools.linker import BUFFERS, FLASH, RAM, Layout

if TYPE_CHECKING:
    from firmware_tools.boards import Board
    from firmware_tools.compile import Sources

ALIGNMENT_BYTES = 16  # of buffers
RUNTIME_BYTES = 5 << 10  # what variables of runtime and port take at most, before `build` has said it exactly
NAMES = {".weights": "weights", ".arena": "arena", ".kv_cache": "KV cache"}
HINTS = {
    "decoder": "a smaller --context needs less RAM, int8 weights less flash; `edge inspect` shows which boards it fits",
    "plain": "int8 weights and values need less of both; `edge inspect` shows which boards it fits",
}


@dataclass(frozen=True)
class Region:
    """One of a board's memories: how much of it an image takes, and how much there is."""

    name: str
    used_bytes: int
    size_bytes: int


@dataclass(frozen=True)
class Sizes:
    """What an image takes, in bytes.

    code is all flash but weights and vocabulary: instructions, tables and the first content of data. stack is what the
    board reserves; stack_deepest the most that the call graph can need, None where that has no bound. input_bytes of a
    plain model are its inputs as the host gave them; its kv_cache_bytes all that it keeps between inferences. ram_bytes
    are those of all RAMs; regions tell them apart, flash first.
    """

    code_bytes: int
    weight_bytes: int
    vocabulary_bytes: int
    data_bytes: int
    bss_bytes: int
    arena_bytes: int
    kv_cache_bytes: int
    stack_bytes: int
    stack_deepest_bytes: int | None
    flash_bytes: int
    ram_bytes: int
    input_bytes: int = 0
    regions: tuple[Region, ...] = ()


def layouts(board: Board, weights: str | None = None) -> list[Layout]:
    """Ways to lay out an image on a board, that which saves most time first; weights: `flash` or `ram` in any case."""
    flash, ram = board.flash.bytes_per_s, board.ram.bytes_per_s
    faster = flash is not None and ram is not None and ram > flash
    weights_in = [weights] if weights else [RAM, FLASH] if faster else [FLASH]
    code_in = [RAM, FLASH] if board.code_in == RAM else [FLASH]
    return [Layout(weight_place, code_place) for weight_place in weights_in for code_place in code_in]


def expected(board: Board, weight_bytes: int, buffers: Mapping[str, int], code_bytes: int) -> Layout | None:
    """The layout that `build` will find, by estimates; None where nothing fits.

    buffers: bytes of .arena and .kv_cache; code_bytes: an upper bound, of which a part may be copied to RAM.
    """
    for layout in layouts(board):
        sizes = {**buffers, **({".weights": weight_bytes} if layout.weights == RAM else {})}
        rest = board.stack_bytes + RUNTIME_BYTES + (code_bytes if layout.code == RAM else 0)
        found = _parted(board, layout, sizes, rest)
        if found is not None:
            return found
    return None


def arranged(parts: Elf, board: Board, layout: Layout) -> Layout | None:
    """The layout with its buffers in several RAMs, of an image that was linked with all in the first; None where there
    is no such arrangement. Of a board with one RAM it stays as it is.
    """
    if not board.more_ram:
        return layout
    buffers = _buffers(parts, layout)
    return _parted(board, layout, buffers, _used(parts, board, layout, 0) - sum(buffers.values()))


def _parted(board: Board, layout: Layout, buffers: Mapping[str, int], rest: int) -> Layout | None:
    """Every buffer in a RAM, the largest first in the first one that leaves room; rest: what else is in the first."""
    names = sorted(buffers, key=lambda name: -buffers[name])
    for numbers in itertools.product(range(len(board.rams)), repeat=len(names)):
        taken = [rest, *[0] * len(board.more_ram)]
        for name, number in zip(names, numbers, strict=True):
            taken[number] += buffers[name]
        if all(used <= ram.size_bytes for used, ram in zip(taken, board.rams, strict=True)):
            return replace(layout, places={name: at for name, at in zip(names, numbers, strict=True) if at})
    return None


def _buffers(parts: Elf, layout: Layout) -> dict[str, int]:
    """What may lie in any RAM, and how large it is, alignment included."""
    arrays = {symbol.name: symbol.size_bytes for symbol in parts.symbols}
    sizes = {
        name: sum(_aligned(arrays.get(section.removeprefix(".bss."), 0)) for section in sections.split())
        for name, sections in BUFFERS.items()
    }
    if layout.weights == RAM:
        sizes[".weights"] = _aligned(parts.section_bytes(".weights"))
    return {name: size for name, size in sizes.items() if size}


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _used(parts: Elf, board: Board, layout: Layout, number: int) -> int:
    """Bytes of one of the board's RAMs from its start to the end of the last section that is placed in it."""
    in_flash = {".text", ".vocabulary", ".weights", ".fast"} - set(layout.copied)
    ends = [
        section.address + section.size_bytes
        for section in parts.sections
        if section.in_memory and section.name in linker.SECTIONS and section.name not in in_flash
        if layout.places.get(section.name, 0) == number
    ]
    return max(ends, default=board.rams[number].start) - board.rams[number].start


def measure(parts: Elf, sources: Sources, board: Board, layout: Layout) -> Sizes:
    """What a linked image takes; UserError where it has a section that the linker script does not place."""
    size = {name: parts.section_bytes(name) for name in linker.SECTIONS}
    strange = [s.name for s in parts.sections if s.in_memory and s.size_bytes and s.name not in size]
    if strange:
        raise UserError(f"the image has sections that the linker script does not place: {', '.join(strange)}")
    end = max((address + len(content) for address, content in parts.segments), default=board.flash.start)
    flash_bytes = end - board.flash.start
    used = [_used(parts, board, layout, number) for number in range(len(board.rams))]
    names = [ram.name or "RAM" for ram in board.rams]
    return Sizes(
        code_bytes=flash_bytes - size[".weights"] - size[".vocabulary"],
        weight_bytes=size[".weights"],
        vocabulary_bytes=size[".vocabulary"],
        data_bytes=size[".data"],
        bss_bytes=size[".bss"] + sum(size[name] for name in BUFFERS),
        arena_bytes=sources.arena_bytes,
        kv_cache_bytes=sources.kv_cache_bytes,
        stack_bytes=board.stack_bytes,
        stack_deepest_bytes=stack.deepest(parts, "edge_reset"),
        flash_bytes=flash_bytes,
        ram_bytes=sum(used),
        input_bytes=sources.input_bytes,
        regions=(
            Region("flash", flash_bytes, board.flash.size_bytes),
            *(Region(name, n, ram.size_bytes) for name, n, ram in zip(names, used, board.rams, strict=True)),
        ),
    )


def fits(sizes: Sizes) -> bool:
    """Whether no memory is taken beyond its end."""
    return all(region.used_bytes <= region.size_bytes for region in sizes.regions)


def refuse_what_does_not_fit(sizes: Sizes, parts: Elf, board: Board, layout: Layout, name: str, kind: str) -> None:
    """DoesNotFit with all that is missing, by region and bytes."""
    missing = [
        f"{needed - given:,} bytes of {region} are missing (it needs {needed:,}, the board has {given:,})"
        for region, needed, given in _demands(sizes, board)
        if needed > given
    ]
    if not missing and not fits(sizes):
        missing = list(_without_room(parts, board, layout))
    if missing:
        raise DoesNotFit(f"{name} does not fit {board.name}: {'; '.join(missing)}", HINTS[kind])


def _demands(sizes: Sizes, board: Board) -> Iterator[tuple[str, int, int]]:
    yield "flash", sizes.flash_bytes, board.flash.size_bytes
    yield "RAM", sizes.ram_bytes, sum(ram.size_bytes for ram in board.rams)
    yield "stack", sizes.stack_deepest_bytes or 0, board.stack_bytes


def _without_room(parts: Elf, board: Board, layout: Layout) -> Iterator[str]:
    """Of a board with several RAMs that are large enough together, but not each for what has to lie in one."""
    buffers: Mapping[str, int] = _buffers(parts, layout)
    rest = _used(parts, board, layout, 0) - sum(buffers.values())
    pieces = ", ".join(f"{NAMES[name]} {size:,}" for name, size in sorted(buffers.items(), key=lambda b: -b[1]))
    rams = ", ".join(f"{ram.name or 'RAM'} {ram.size_bytes:,}" for ram in board.rams)
    yield (
        f"its buffers ({pieces} bytes) cannot be parted among the board's RAMs ({rams} bytes; stack, variables and "
        f"code take {rest:,} of the first)"
    )
