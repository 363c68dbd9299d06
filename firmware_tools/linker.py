"""The linker script of a board: which section lies where.

Flash holds, in this order, code with its constants, the vocabulary, the weights, and the first content of .data. RAM
holds the stack at the bottom, where one too deep leaves RAM and faults, then .data, .bss (cleared at start) and .noinit
(never cleared). No region has a limit here: build.py compares the sizes with the board's afterwards, so that it can say
by how many bytes an image is too large.
"""

from __future__ import annotations

from firmware_tools.boards import Board

SECTIONS_IN_FLASH = (".text", ".vocabulary", ".weights", ".data")
SECTIONS_IN_RAM = (".stack", ".data", ".bss", ".noinit")

SCRIPT = """\
ENTRY(edge_reset)
PHDRS
{{
    flash PT_LOAD FLAGS(5);
    data PT_LOAD FLAGS(6);
}}
SECTIONS
{{
    . = {flash:#010x};
    .text : {{ KEEP(*(.vectors)) *(.text .text.*) *(.rodata .rodata.*) }} :flash
    .vocabulary : ALIGN(4) {{ *(.vocabulary .vocabulary.*) }} :flash
    .weights : ALIGN(16) {{ *(.weights .weights.*) }} :flash
    edge_data_load = ALIGN(8);
    . = {ram:#010x};
    .stack (NOLOAD) : {{ edge_stack_bottom = .; . += {stack_bytes}; edge_stack_top = .; }} :NONE
    .data : AT(edge_data_load) {{ edge_data_start = .; *(.data .data.*) . = ALIGN(8); edge_data_end = .; }} :data
    .bss (NOLOAD) : {{ edge_bss_start = .; *(.bss .bss.* COMMON) . = ALIGN(8); edge_bss_end = .; }} :NONE
    .noinit (NOLOAD) : {{ *(.noinit .noinit.*) . = ALIGN(8); }} :NONE
    /DISCARD/ : {{ *(.ARM.exidx .ARM.exidx.* .ARM.extab .ARM.extab.* .comment .debug*) }}
}}
"""


def script(board: Board) -> str:
    """The text of the linker script for a board."""
    return SCRIPT.format(flash=board.flash.start, ram=board.ram.start, stack_bytes=board.stack_bytes)
