"""Veneers: what linkers put between a call and a function that is further away than a branch reaches, as code in RAM is
from code in flash. Each holds the address it goes to, which makes it no pointer to a function: only the call goes on.

Their forms, instruction by instruction, as the linkers write them; `…` is the address, in a word or in two constants:

    lld, ARMv7-M        movw ip, …; movt ip, …; bx ip
    lld, ARMv6-M        push {r0, r1}; ldr r0, [pc, #4]; str r0, [sp, #4]; pop {r0, pc}; …
    GNU ld, ARMv7-M     ldr.w pc, [pc, #0]; …
    GNU ld, ARMv6-M     push {r0}; ldr r0, [pc, #8]; mov ip, r0; pop {r0}; bx ip; nop; …
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware_tools.elf import Symbol
from firmware_tools.instructions import Code, Instruction

# first halfwords, and where behind the first the word with the address lies
WITH_WORD = {
    (0xB403, 0x4801, 0x9001, 0xBD01): 8,
    (0xB401, 0x4802, 0x4684, 0xBC01, 0x4760): 12,
    (0xB401, 0x4802, 0x4684, 0xBC01, 0x4760, 0xBF00): 12,
    (0xF8DF,): 4,
    (0xF85F,): 4,
}
LOAD_PC = 0xF000  # the second halfword of LDR.W PC, [PC, #0]
MOVW_IP, MOVT_IP, BX_IP = 0x0C00, 0x0C00, 0x4760


@dataclass(frozen=True)
class Veneer:
    """Where a veneer goes, and the address of the word that says so; None where its instructions do."""

    target: int
    word: int | None


def veneer(symbol: Symbol, instructions: list[Instruction], code: Code) -> Veneer | None:
    """The veneer that a function is, or None for a function of its own."""
    firsts = tuple(first for _, first, _ in instructions)
    if firsts in WITH_WORD and (len(firsts) > 1 or instructions[0][2] == LOAD_PC):
        at = symbol.address + WITH_WORD[firsts]
        return Veneer(code.word(at) & ~1, at)
    if len(firsts) == 3 and firsts[2] == BX_IP:
        (_, low, low_rest), (_, high, high_rest), _ = instructions
        is_movw = low & 0xFBF0 == 0xF240 and low_rest & 0x8F00 == MOVW_IP
        is_movt = high & 0xFBF0 == 0xF2C0 and high_rest & 0x8F00 == MOVT_IP
        if is_movw and is_movt:
            return Veneer((_half(high, high_rest) << 16 | _half(low, low_rest)) & ~1, None)
    return None


def _half(first: int, second: int) -> int:
    """The 16-bit constant of MOVW and MOVT."""
    return (first & 15) << 12 | (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
