"""The linker script of a board: which section lies where, and what the startup has to copy and to clear.

Flash holds, in this order, code with its constants, the vocabulary, the weights, and then the first content of all that
is copied to RAM at start, without a gap. RAM holds the stack at the bottom, where one too deep leaves RAM and faults,
then .data, .bss (cleared at start) and .noinit (never cleared). No region has a limit here: build.py compares the sizes
with the board's afterwards, so that it can say by how many bytes an image is too large.

A `Layout` says what is otherwise. Weights may be copied to RAM, and so may code: all but the runtime and the port
functions, with its constants, and what the compiler's library adds. Of a board with several RAMs, weights, arena and
KV cache may each lie in another than the first.

`.boot` is what some chips want before the vectors, of its whole size (the RP2040's second stage, 256 bytes); `.about`
is what an image says of itself; `.fast` is code of the runtime or the port that goes where kernels go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from firmware_tools.boards import Board

FLASH, RAM = "flash", "ram"
# what may lie in any RAM: section -> the arrays in it, as -fdata-sections calls their sections
BUFFERS = {".arena": ".bss.edge_arena", ".kv_cache": ".bss.edge_kv_cache .bss.edge_state"}
SECTIONS = (".text", ".vocabulary", ".weights", ".fast", ".stack", ".data", ".bss", ".noinit", *BUFFERS)
CODE, CONSTANTS = "*(.fast .fast.*) *(.text .text.*)", "*(.rodata .rodata.*)"
PERMISSIONS = {".fast": 5, ".weights": 4, ".data": 6}


@dataclass(frozen=True)
class Layout:
    """weights and code: `flash` or `ram`. places: section (.weights, .arena, .kv_cache) -> in which of `Board.rams` it
    lies, where that is not the first.
    """

    weights: str = FLASH
    code: str = FLASH
    places: Mapping[str, int] = field(default_factory=dict)

    @property
    def copied(self) -> tuple[str, ...]:
        """Sections that lie in flash and are copied to RAM at start, in the order they have in flash."""
        weights, code = (".weights",) * (self.weights == RAM), (".fast",) * (self.code == RAM)
        return (*weights, *code, ".data")


def script(board: Board, layout: Layout = Layout(), slow: Sequence[str] = ()) -> str:
    """The text of the linker script for a board; slow: folders and objects whose code stays in flash in any case."""
    headers = [f"    {name[1:]} PT_LOAD FLAGS({PERMISSIONS[name]});" for name in layout.copied]
    lines = ["ENTRY(edge_reset)", "PHDRS", "{", "    flash PT_LOAD FLAGS(5);", *headers, "}", "SECTIONS", "{"]
    lines += [f"    . = {board.flash.start:#010x};", "    edge_flash_start = .;", *_in_flash(layout, slow)]
    for number, ram in reversed(list(enumerate(board.rams))):  # the first one last: it takes all that is left
        lines += [f"    . = {ram.start:#010x};", *_in_ram(board, layout, number)]
    last = layout.copied[-1]
    lines += [
        f"    edge_flash_end = {_symbol(last, 'load')} + SIZEOF({last});",
        "    /DISCARD/ : { *(.ARM.exidx .ARM.exidx.* .ARM.extab .ARM.extab.* .comment .debug*) }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _in_flash(layout: Layout, slow: Sequence[str]) -> Iterator[str]:
    code, constants = CODE, CONSTANTS
    if layout.code == RAM:  # what is not named here is taken by .fast, further down
        code = " ".join(f"{name}(.text .text.*)" for name in slow)
        constants = " ".join(f"{name}(.rodata .rodata.*)" for name in slow)
    first = "KEEP(*(.boot)) edge_vectors = .; KEEP(*(.vectors)) KEEP(*(.about))"
    yield f"    .text : {{ {first} {code} {constants} {_tables(layout)} }} :flash"
    yield "    .vocabulary : ALIGN(4) { *(.vocabulary .vocabulary.*) . = ALIGN(8); } :flash"
    if layout.weights == FLASH:
        yield f"    .weights : ALIGN(16) {{ {_content('.weights')} }} :flash"
    yield "    edge_loads = ALIGN(4);"
    before = "edge_loads"
    for name in layout.copied:
        yield f"    {_symbol(name, 'load')} = {before};"
        before = f"{_symbol(name, 'load')} + SIZEOF({name})"


def _in_ram(board: Board, layout: Layout, number: int) -> Iterator[str]:
    """The sections of one of the board's RAMs; the first holds all that nothing else says of."""
    if number == 0:
        yield f"    .stack (NOLOAD) : {{ edge_stack_bottom = .; . += {board.stack_bytes}; edge_stack_top = .; }} :NONE"
    for name in layout.copied:
        if layout.places.get(name, 0) == number:
            address = " ALIGN(16)" if name == ".weights" else ""
            yield f"    {name}{address} : AT({_symbol(name, 'load')}) {{ {_content(name)} }} :{name[1:]}"
    for name in _cleared(layout):
        if layout.places.get(name, 0) == number:
            yield f"    {name} (NOLOAD) : {{ {_content(name)} }} :NONE"
    if number == 0:
        yield "    .noinit (NOLOAD) : { *(.noinit .noinit.*) . = ALIGN(8); } :NONE"


def _content(name: str) -> str:
    patterns = {
        ".weights": "*(.weights .weights.*)",
        ".fast": f"{CODE} {CONSTANTS}",
        ".data": "*(.data .data.*)",
        ".bss": "*(.bss .bss.* COMMON)",
    }
    inside = patterns.get(name) or f"*({BUFFERS[name]})"
    end = 4 if name == ".weights" else 8  # words are copied
    return f"{_symbol(name, 'start')} = .; {inside} . = ALIGN({end}); {_symbol(name, 'end')} = .;"


def _cleared(layout: Layout) -> list[str]:
    return [".bss", *(name for name in BUFFERS if layout.places.get(name))]


def _tables(layout: Layout) -> str:
    """What startup.c goes through: from where, to where, until where to copy; from where until where to clear."""
    copies = [_symbol(name, part) for name in layout.copied for part in ("load", "start", "end")]
    clears = [_symbol(name, part) for name in _cleared(layout) for part in ("start", "end")]
    tables = [("edge_copies", copies), ("edge_clears", clears)]
    words = " ".join(f"{name} = .; {' '.join(f'LONG({s})' for s in words)} {name}_end = .;" for name, words in tables)
    return f". = ALIGN(4); {words} . = ALIGN(16);"


def _symbol(section: str, part: str) -> str:
    return f"edge_{section[1:]}_{part}"
