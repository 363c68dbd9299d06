"""Thumb code in an image: where its instructions are, and what a core must have to run each of them.

Emulators run what the core on the board does not know; here every instruction of an image is held against the core
before it runs anywhere. What is not in the tables of the architecture counts as undefined. Encodings: ARMv6-M
Architecture Reference Manual, A5; ARMv7-M, A5 and A7; Armv8-M, C2.3 and C2.4. Code is told from data by the mapping
symbols of the linked file (ELF for the Arm Architecture, 5.5.5).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from firmware_tools.boards import Board
from firmware_tools.cores import CORES
from firmware_tools.elf import Elf, Symbol
from firmware_tools.errors import UserError

Instruction = tuple[int, int, int]  # address, first halfword, second halfword or 0

EVERYWHERE = ""  # ARMv6-M: every core has it
V7M, V8M, V8_1M, DIVISION, DSP = "ARMv7-M", "ARMv8-M", "ARMv8.1-M", "division", "DSP"
FPU, FPV5, DOUBLE, HALF, HELIUM = "FPU", "FPv5", "double precision", "half precision", "Helium"
COPROCESSOR, UNDEFINED = "coprocessor", "undefined"


@dataclass(frozen=True)
class Foreign:
    """An instruction that a core lacks: where it is, and what the core would need."""

    function: str
    address: int
    halfwords: tuple[int, int]
    needs: str


def refuse_foreign(elf: Elf, board: Board) -> None:
    """UserError with the first instruction of an image that the board's core lacks."""
    known = CORES[board.cpu].instructions
    for foreign in foreign_instructions(elf, known):
        first, second = foreign.halfwords
        code = f"{first:04x} {second:04x}" if first >= 0xE800 else f"{first:04x}"
        raise UserError(
            f"{foreign.function} has an instruction that a {board.core} lacks ({foreign.needs}): {code} at "
            f"{foreign.address:#010x}",
            "code for another core was linked; please report it with the version of the toolchain",
        )


def foreign_instructions(elf: Elf, known: frozenset[str]) -> Iterator[Foreign]:
    """All instructions that need more than ARMv6-M and what is known, in order of functions."""
    code = Code(elf)
    for symbol in code.functions:
        for address, first, second in code.instructions(symbol):
            what = needs(first, second)
            if what != EVERYWHERE and what not in known:
                yield Foreign(symbol.name, address, (first, second), what)


class Code:
    """The functions of an image, once for each address, and their instructions."""

    def __init__(self, elf: Elf) -> None:
        self._sections = [s for s in elf.sections if s.executable and s.in_memory and s.size_bytes]
        marks = {s.address: "" for s in elf.symbols if s.name[:2] in ("$t", "$d", "$a")}
        for symbol in elf.symbols:
            if symbol.address in marks and symbol.name[:2] in ("$t", "$d", "$a"):
                marks[symbol.address] = max(
                    marks[symbol.address], symbol.name[1]
                )  # of two, "t" is the one with content
        self._marks = sorted(marks)
        self._kinds = [marks[address] for address in self._marks]
        named = {s.address: s for s in elf.symbols if s.is_function and self._holds(s.address)}
        self.functions = [named[address] for address in sorted(named)]
        self._starts = sorted({*named, *self._marks, *(s.address + s.size_bytes for s in self._sections)})

    def instructions(self, symbol: Symbol) -> Iterator[Instruction]:
        """Those of a function, in order of addresses; one without a size ends where the next thing begins."""
        at = symbol.address
        end = at + symbol.size_bytes if symbol.size_bytes else self._starts[bisect_right(self._starts, at)]
        while at + 2 <= end:
            place = bisect_right(self._marks, at)
            if self._kinds[place - 1 : place] != ["t"]:
                at = self._marks[place] if place < len(self._marks) else end
                continue
            first, second = self._halfword(at), 0
            if first >= 0xE800 and at + 4 <= end:
                second = self._halfword(at + 2)
            yield at, first, second
            at += 4 if first >= 0xE800 else 2

    def word(self, address: int) -> int:
        """A word of the code, or of the constants between."""
        return self._halfword(address) | self._halfword(address + 2) << 16

    def _holds(self, address: int) -> bool:
        return any(s.address <= address < s.address + s.size_bytes for s in self._sections)

    def _halfword(self, address: int) -> int:
        section = next(s for s in self._sections if s.address <= address < s.address + s.size_bytes)
        halfword: int = struct.unpack_from("<H", section.content, address - section.address)[0]
        return halfword


def branch_target(at: int, first: int, second: int) -> int | None:
    """Where BL or a branch goes; None for other instructions."""
    if first & 0xF800 == 0xF000 and second & 0xD000 == 0x8000 and first & 0x380 != 0x380:  # T3: under a condition
        offset = (second >> 11 & 1) << 19 | (second >> 13 & 1) << 18 | (first & 0x3F) << 12 | (second & 0x7FF) << 1
        return at + 4 + offset - ((first >> 10 & 1) << 20)
    if first & 0xF800 == 0xF000 and second & 0x9000 == 0x9000:
        sign = first >> 10 & 1
        i1, i2 = 1 ^ (second >> 13 & 1) ^ sign, 1 ^ (second >> 11 & 1) ^ sign
        offset = i1 << 23 | i2 << 22 | (first & 0x3FF) << 12 | (second & 0x7FF) << 1
        return at + 4 + offset - (sign << 24)
    if first & 0xF800 == 0xE000:
        return at + 4 + ((first & 0x7FF) << 1) - ((first & 0x400) << 2)
    if first & 0xF000 == 0xD000 and first & 0xE00 != 0xE00:  # T1: under a condition
        return at + 4 + ((first & 0xFF) << 1) - ((first & 0x80) << 2)
    return None


# ---------------------------------------------------------------------------------- what an instruction needs of a core


def needs(first: int, second: int) -> str:
    """What a core must have beyond ARMv6-M to run an instruction: a name of cores.py, or UNDEFINED where none can."""
    if first < 0xE800:
        return _short(first)
    if first & 0xEC00 == 0xEC00:
        return _coprocessor(first, second)
    if first < 0xF000:
        return _memory_or_shifted(first, second)
    if first < 0xF800:
        return _control(first, second) if second & 0x8000 else _immediate(first, second)
    if first < 0xFA00:
        return _single(first, second)
    return _register(first, second) if first < 0xFB00 else _multiply(first, second)


def _short(first: int) -> str:
    """16 bits: A5.2."""
    if first & 0xF500 == 0xB100:  # CBZ, CBNZ
        return V7M
    if first & 0xFF00 == 0xBF00:  # IT, and hints, whose low bits are 0
        return V7M if first & 0xF else EVERYWHERE
    if first & 0xFF00 == 0xB600:  # CPS: interrupts by PRIMASK, in ARMv7-M by FAULTMASK as well
        return EVERYWHERE if first & 0xFFEF == 0xB662 else V7M if first & 0xFFEC == 0xB660 else UNDEFINED
    if first & 0xFF00 == 0x4700 and first & 7:  # BXNS, BLXNS
        return V8M if first & 7 == 4 else UNDEFINED
    if first & 0xFFC0 == 0xBA80 or first & 0xFF00 in (0xB700, 0xB800):
        return UNDEFINED
    return EVERYWHERE


def _memory_or_shifted(first: int, second: int) -> str:
    """0xE8 to 0xEB: load and store of several words, exclusive ones, table branches; shifted registers."""
    if first >= 0xEA00:
        return _shifted(first, second)
    if first == 0xE89F:  # CLRM
        return V8_1M
    if first & 0x40 == 0:  # LDM, STM: IA or DB
        return V7M if first & 0x180 in (0x080, 0x100) else UNDEFINED
    if first & 0xFFE0 == 0xE8C0 or first & 0xFFE0 == 0xE8D0:
        operation = second >> 4 & 15
        if operation >= 8:  # load-acquire, store-release
            return V8M if operation & 3 != 3 else UNDEFINED
        allowed = (0, 1, 4, 5) if first & 0x10 else (4, 5)
        return V7M if operation in allowed else UNDEFINED
    if (first, second) == (0xE97F, 0xE97F):  # SG
        return V8M
    if first & 0xFFF0 == 0xE840 and second & 0xF03F == 0xF000:  # TT
        return V8M
    return V7M


def _shifted(first: int, second: int) -> str:
    operation = first >> 5 & 15
    if operation == 6:  # PKHBT, PKHTB
        return DSP if first & 0x10 == 0 else UNDEFINED
    if first & 0xFFF0 == 0xEA50 and (second & 0x8000 or second & 0xF == 0xF):  # CSEL; shifts of 64 bits and saturating
        return V8_1M
    return V7M if operation in (0, 1, 2, 3, 4, 8, 10, 11, 13, 14) else UNDEFINED


def _immediate(first: int, second: int) -> str:
    """0xF0 to 0xF7 without bit 15: operations on constants."""
    if first & 0x200 == 0:
        return V7M if first >> 5 & 15 in (0, 1, 2, 3, 4, 8, 10, 11, 13, 14) else UNDEFINED
    operation = first >> 4 & 31
    if operation in (0x12, 0x1A) and second & 0x70C0 == 0:  # SSAT16, USAT16
        return DSP
    return V7M if operation in (0, 4, 10, 12, 16, 18, 20, 22, 24, 26, 28) else UNDEFINED


def _control(first: int, second: int) -> str:
    """0xF0 to 0xF7 with bit 15: branches, special registers, barriers."""
    if second & 0xD000 == 0xD000:  # BL
        return EVERYWHERE
    if second & 0xD000 == 0x9000:  # B.W
        return V7M
    if second & 0xD000 == 0xC000:  # BLX where there is Arm code; loops of ARMv8.1-M
        return V8_1M if first & 0xFF80 == 0xF000 else UNDEFINED
    if first & 0x0380 != 0x0380:  # conditional branch
        return V7M
    if first & 0xFFF0 == 0xF7F0:
        return EVERYWHERE if second & 0xF000 == 0xA000 else UNDEFINED  # UDF.W
    if first & 0xFFE0 == 0xF380:  # MSR
        return DSP if second & 0x0400 else _special_register(second)
    if first & 0xFFE0 == 0xF3E0:  # MRS
        return _special_register(second)
    if first & 0xFFF0 == 0xF3A0:  # hints in 32 bits
        return V7M
    if first & 0xFFF0 == 0xF3B0:  # DSB, DMB, ISB; CLREX
        return {2: V7M, 4: EVERYWHERE, 5: EVERYWHERE, 6: EVERYWHERE}.get(second >> 4 & 15, UNDEFINED)
    return UNDEFINED


def _special_register(second: int) -> str:
    number = second & 0xFF
    if number in (17, 18, 19):  # BASEPRI, BASEPRI_MAX, FAULTMASK
        return V7M
    return EVERYWHERE if number < 10 or number in (16, 20) else V8M  # stack limits, the other security state


def _single(first: int, second: int) -> str:
    """0xF8 and 0xF9: load and store of one byte, halfword or word."""
    if first & 0x10 == 0:
        return V7M if first < 0xF900 and first & 0x60 != 0x60 else UNDEFINED
    return V7M if first & 0x60 != 0x60 and (first < 0xF900 or first & 0x60 != 0x40) else UNDEFINED


def _register(first: int, second: int) -> str:
    """0xFA: shifts, extensions, additions and subtractions of parts."""
    if second & 0xF000 != 0xF000:
        return UNDEFINED
    group, operation = first >> 4 & 15, second >> 4 & 15
    if group < 8:
        if operation == 0:  # LSL, LSR, ASR, ROR
            return V7M
        if operation < 8 or group > 5:
            return UNDEFINED
        return (
            V7M if first & 15 == 15 and group not in (2, 3) else DSP
        )  # SXTH, UXTB …; added to a register, or of pairs
    if operation < 8:
        return DSP if group in (8, 9, 10, 12, 13, 14) and operation & 3 != 3 else UNDEFINED
    if group == 8:
        return DSP if operation < 12 else UNDEFINED  # QADD …
    table = {(9, 8): V7M, (9, 9): V7M, (9, 10): V7M, (9, 11): V7M, (10, 8): DSP, (11, 8): V7M}  # REV …, SEL, CLZ
    return table.get((group, operation), UNDEFINED)


def _multiply(first: int, second: int) -> str:
    """0xFB: products and quotients."""
    group, operation = first >> 4 & 7, second >> 4 & 15
    if first < 0xFB80:
        if group == 0:  # MLA, MUL, MLS
            return V7M if operation < 2 else UNDEFINED
        return DSP if operation < (1 if group == 7 else 4 if group == 1 else 2) else UNDEFINED
    if group in (1, 3):
        return DIVISION if operation == 15 else UNDEFINED
    if group in (0, 2, 4, 6) and operation == 0:  # SMULL, UMULL, SMLAL, UMLAL
        return V7M
    halves = {4: (8, 9, 10, 11, 12, 13), 5: (12, 13), 6: (6,)}  # SMLALxy, SMLALD, SMLSLD, UMAAL
    return DSP if operation in halves.get(group, ()) else UNDEFINED


def _coprocessor(first: int, second: int) -> str:
    """0xEC to 0xEF and 0xFC to 0xFF: FPU (coprocessors 10 and 11, 9 in half precision), Helium, and what boards add."""
    number, kind = second >> 8 & 15, first & 0x300
    if kind == 0x300:  # whatever stands where other instructions have their coprocessor
        return HELIUM
    if number < 8:
        return COPROCESSOR
    if number not in (9, 10, 11) or first & 0xFE00 == 0xFC00:
        return HELIUM
    if number == 9:
        return HALF
    if first & 0xFFBF == 0xEC9F:  # VSCCLRM
        return V8_1M
    if kind != 0x200:  # loads, stores, moves of 64 bits: a pair of singles is a double to them
        return V8M if first & 0xFFE0 == 0xEC20 and second & 0xFF00 == 0x0A00 else FPU  # VLSTM, VLLDM
    if first >= 0xFE00:  # VSEL, VMAXNM, VRINTA, VCVTA …
        if first & 0xFFBF == 0xFEB0:  # VMOVX, VINS
            return HALF
        return HELIUM if second & 0x10 else _precision(number, FPV5)
    if second & 0x10:  # moves of 32 bits; Helium has those of parts
        return HELIUM if number == 11 and (first & 0xC0 or second & 0x60) else FPU
    if first & 0xFFBE == 0xEEB6 and second & 0x40:  # VRINTR, VRINTZ, VRINTX; VCVT between single and double
        return DOUBLE if first & 1 and second & 0x80 else _precision(number, FPV5)
    return _precision(number, FPU)


def _precision(number: int, single: str) -> str:
    return DOUBLE if number == 11 else single
