"""The deepest a program's stack can get, from its machine code: frame sizes along the call graph, without running it.

Frames come from clang's `.stack_sizes` section (`-fstack-size-section`); functions without an entry there (the
compiler's own library) from their pushes and subtractions of SP. Calls come from BL and B.W; a call through a register
may reach any function whose address the program forms. Encodings: ARMv7-M Architecture Reference Manual, A5 and A7.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from firmware_tools.elf import Elf, Section, Symbol

Instruction = tuple[int, int, int]  # address, first halfword, second halfword or 0


@dataclass
class Function:
    """What one function adds to the stack and whom it calls; frame_bytes is None where the code does not tell."""

    frame_bytes: int | None = 0
    calls: set[int] = field(default_factory=set)
    calls_by_register: bool = False


def deepest(elf: Elf, entry: str) -> int | None:
    """Bytes of stack that the function called entry and all it calls can need; None where that has no bound
    (recursion) or cannot be told (a frame of variable size).
    """
    functions, pointed_at = _functions(elf)
    for function in functions.values():
        if function.calls_by_register:
            function.calls |= pointed_at
    start = next((s.address for s in elf.symbols if s.is_function and s.name == entry), None)
    return None if start is None else _depth(start, functions, {}, set())


def _depth(at: int, functions: dict[int, Function], known: dict[int, int | None], path: set[int]) -> int | None:
    if at in known:
        return known[at]
    function = functions[at]
    deepest_call: int | None = 0
    for callee in function.calls:
        depth = None if callee in path | {at} else _depth(callee, functions, known, path | {at})
        deepest_call = None if depth is None or deepest_call is None else max(deepest_call, depth)
    known[at] = None if function.frame_bytes is None or deepest_call is None else function.frame_bytes + deepest_call
    return known[at]


def _functions(elf: Elf) -> tuple[dict[int, Function], set[int]]:
    """Every function by its address, and the addresses of those that are pointed at."""
    text = next(section for section in elf.sections if section.name == ".text")
    symbols = {s.address: s for s in elf.symbols if s.is_function and s.size_bytes}
    frames = _stack_sizes(elf)
    functions: dict[int, Function] = {}
    formed: set[int] = set()
    for address, symbol in symbols.items():
        instructions = list(_instructions(text, symbol))
        function = Function(frames.get(address, _frame_bytes(instructions)))
        for at, first, second in instructions:
            target = _branch_target(at, first, second)
            if target in symbols and (target != address or _is_call(first, second)):
                function.calls.add(target)
            function.calls_by_register |= _is_register_branch(first)
        formed |= _formed_addresses(instructions)
        functions[address] = function
    formed |= _words(elf, text)
    return functions, {address & ~1 for address in formed if address & 1 and address & ~1 in symbols}


def _stack_sizes(elf: Elf) -> dict[int, int]:
    """Entries of `.stack_sizes`: address u32, then the size as ULEB128."""
    sizes: dict[int, int] = {}
    for section in elf.sections:
        at = 0
        while section.name == ".stack_sizes" and at + 4 < len(section.content):
            address = struct.unpack_from("<I", section.content, at)[0] & ~1
            at, size, shift = at + 4, 0, 0
            while True:
                byte = section.content[at]
                at, size, shift = at + 1, size | (byte & 0x7F) << shift, shift + 7
                if byte < 0x80:
                    break
            sizes[address] = max(size, sizes.get(address, 0))
    return sizes


def _instructions(text: Section, symbol: Symbol) -> Iterator[Instruction]:
    at, end = symbol.address, min(symbol.address + symbol.size_bytes, text.address + text.size_bytes)
    literals: set[int] = set()  # constants behind the code that loads them: they may look like branches
    while at + 2 <= end:
        if at in literals:
            at += 4
            continue
        first = struct.unpack_from("<H", text.content, at - text.address)[0]
        is_long = first >= 0xE800 and at + 4 <= end
        second = struct.unpack_from("<H", text.content, at + 2 - text.address)[0] if is_long else 0
        literals.add(_literal(at, first, second))
        yield at, first, second
        at += 4 if is_long else 2


def _literal(at: int, first: int, second: int) -> int:
    """The address that LDR or VLDR loads from relative to PC, forwards; 0 for other instructions."""
    base = at + 4 & ~3
    if first & 0xF800 == 0x4800:  # LDR T1
        return base + 4 * (first & 0xFF)
    if first == 0xF8DF:  # LDR.W
        return base + (second & 0xFFF)
    if first & 0xFFBF == 0xED9F and second & 0xF00 == 0xA00:  # VLDR of one float
        return base + 4 * (second & 0xFF)
    return 0


def _is_call(first: int, second: int) -> bool:
    return first & 0xF800 == 0xF000 and second & 0xD000 == 0xD000


def _branch_target(at: int, first: int, second: int) -> int | None:
    """Where BL, B.W (T4) or B (T2) goes; None for other instructions."""
    if first & 0xF800 == 0xF000 and second & 0x9000 == 0x9000:
        sign = first >> 10 & 1
        i1, i2 = 1 ^ (second >> 13 & 1) ^ sign, 1 ^ (second >> 11 & 1) ^ sign
        offset = i1 << 23 | i2 << 22 | (first & 0x3FF) << 12 | (second & 0x7FF) << 1
        return at + 4 + offset - (sign << 24)
    if first & 0xF800 == 0xE000:
        return at + 4 + ((first & 0x7FF) << 1) - ((first & 0x400) << 2)
    return None


def _is_register_branch(first: int) -> bool:
    """BLX Rm, or BX Rm other than the return BX LR."""
    return first & 0xFF87 == 0x4780 or (first & 0xFF87 == 0x4700 and first != 0x4770)


def _formed_addresses(instructions: list[Instruction]) -> set[int]:
    """Constants built by MOVW and MOVT."""
    low: dict[int, int] = {}
    formed = set()
    for _, first, second in instructions:
        if first & 0xFB70 == 0xF240 and second & 0x8000 == 0:
            half = (first & 15) << 12 | (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
            register = second >> 8 & 15
            if first & 0x80:
                formed.add(half << 16 | low.get(register, 0))
            else:
                low[register] = half
                formed.add(half)
    return formed


def _words(elf: Elf, text: Section) -> set[int]:
    """All aligned words of the constants and data that are loaded, but for the vector table."""
    table = next((s.size_bytes for s in elf.symbols if s.name == "vectors"), 0)
    words: set[int] = set()
    for section in elf.sections:
        if section.name in (".text", ".data"):
            content = section.content[table if section is text else 0 :]
            words |= {word for (word,) in struct.iter_unpack("<I", content[: len(content) & ~3])}
    return words


def _frame_bytes(instructions: list[Instruction]) -> int | None:
    """Upper bound of what a function takes from SP: all its pushes and subtractions, whichever paths they are on."""
    total = 0
    for _, first, second in instructions:
        if first & 0xFE00 == 0xB400:  # PUSH T1
            total += 4 * (first & 0x1FF).bit_count()
        elif first & 0xFF80 == 0xB080:  # SUB SP, SP, #imm7
            total += 4 * (first & 0x7F)
        elif first == 0xE92D:  # PUSH.W
            total += 4 * second.bit_count()
        elif first == 0xF84D and second & 0xFFF == 0xD04:  # STR Rt, [SP, #-4]!
            total += 4
        elif first & 0xFFBF == 0xED2D and second & 0xE00 == 0xA00:  # VPUSH
            total += 4 * (second & 0xFF)
        elif first & 0xFBFF in (0xF1AD, 0xF2AD) and second & 0x8F00 == 0x0D00:  # SUB.W and SUBW SP, SP, #imm
            immediate = (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
            value = immediate if first & 0x200 else _expanded(immediate)
            total += value
        elif first == 0xEBAD and second & 0xF00 == 0xD00:  # SUB.W SP, SP, Rm
            return None
    return total


def _expanded(immediate: int) -> int:
    """ThumbExpandImm: 8 bits repeated or rotated (A5.3.2)."""
    byte, code = immediate & 0xFF, immediate >> 8
    if code < 4:
        return (byte, byte * 0x00010001, byte * 0x01000100, byte * 0x01010101)[code]
    rotation = immediate >> 7
    value = 0x80 | immediate & 0x7F
    return (value >> rotation | value << 32 - rotation) & 0xFFFFFFFF
