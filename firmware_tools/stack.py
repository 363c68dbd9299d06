"""The deepest a program's stack can get, from its machine code: frame sizes along the call graph, without running it.

Frames come from the pushes and subtractions of SP in the code, those of inline assembly included, and from clang's
`.stack_sizes` section (`-fstack-size-section`), which knows frames that the code hides: the larger counts. Calls come
from BL and branches to other functions, through veneers where these are far away; a call through a register may reach
any function whose address the program forms. Encodings: ARMv7-M Architecture Reference Manual, A5 and A7.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from firmware_tools.elf import Elf
from firmware_tools.instructions import Code, Instruction, branch_target
from firmware_tools.veneers import veneer

ELSEWHERE = frozenset({"second_core"})  # where another core begins, in a stack of its own: nobody calls it


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
    pointed_at -= {symbol.address for symbol in elf.symbols if symbol.name in ELSEWHERE}
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
    code, frames = Code(elf), _stack_sizes(elf)
    symbols = {symbol.address for symbol in code.functions}
    functions: dict[int, Function] = {}
    formed: set[int] = set()
    places = set()  # of words that are part of a call
    for symbol in code.functions:
        address, instructions = symbol.address, list(code.instructions(symbol))
        far = veneer(symbol, instructions, code)
        if far is not None and far.target in symbols:
            functions[address] = Function(_frame_bytes(instructions, code), {far.target})
            places.add(far.word)
            continue
        stated, read = frames.get(address), _frame_bytes(instructions, code)
        function = Function(max(stated or 0, read) if read is not None else stated)
        for index, (at, first, second) in enumerate(instructions):
            target = branch_target(at, first, second)
            if target in symbols and (target != address or _is_call(first, second)):
                function.calls.add(target)
            function.calls_by_register |= _is_register_branch(first) and not _is_return(instructions[: index + 1])
        formed |= _formed_addresses(instructions)
        functions[address] = function
    formed |= _words(elf, places)
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


def _is_call(first: int, second: int) -> bool:
    return first & 0xF800 == 0xF000 and second & 0xD000 == 0xD000


def _is_register_branch(first: int) -> bool:
    """BLX Rm or BX Rm."""
    return first & 0xFF07 == 0x4700


def _is_return(instructions: list[Instruction]) -> bool:
    """Whether the last instruction is BX LR, or BX to what POP has taken from the stack just before."""
    words = [first for _, first, _ in instructions[-3:]]
    if words[-1] == 0x4770:
        return True
    if len(words) > 1 and words[-2] & 0xFF80 == 0xB000:  # ADD SP, #imm, between the two
        del words[-2]
    register = words[-1] >> 3 & 15
    return words[-1] & 0x80 == 0 and len(words) > 1 and words[-2] & 0xFE00 == 0xBC00 and words[-2] >> register & 1 == 1


def _formed_addresses(instructions: list[Instruction]) -> set[int]:
    """Constants built by MOVW and MOVT; the lower half of one counts alone only where no upper half follows."""
    low: dict[int, int] = {}
    formed = set()
    for _, first, second in instructions:
        if first & 0xFB70 == 0xF240 and second & 0x8000 == 0:
            half = (first & 15) << 12 | (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
            register = second >> 8 & 15
            if first & 0x80:
                formed.add(half << 16 | low.pop(register, 0))
            else:
                formed.add(low.get(register, 0))
                low[register] = half
    return formed | set(low.values())


def _words(elf: Elf, without: set[int | None]) -> set[int]:
    """All aligned words of the code, its constants and the data that is loaded, but for the vector table and some."""
    table = next(((s.address, s.address + s.size_bytes) for s in elf.symbols if s.name == "vectors"), (0, 0))
    words: set[int] = set()
    for section in elf.sections:
        if section.in_memory and (section.executable or section.name == ".data"):
            skipped = -section.address % 4
            content = section.content[skipped:]
            for index, (word,) in enumerate(struct.iter_unpack("<I", content[: len(content) & ~3])):
                at = section.address + skipped + 4 * index
                if not table[0] <= at < table[1] and at not in without:
                    words.add(word)
    return words


def _frame_bytes(instructions: list[Instruction], code: Code | None = None) -> int | None:
    """Upper bound of what a function takes from SP: all its pushes and subtractions, whichever paths they are on.

    None where a register that holds no constant decides; code: where constants in memory are.
    """
    total = 0
    for index, instruction in enumerate(instructions):
        taken = _taken_bytes(instruction, instructions[index - 1] if index else None, code)
        if taken is None:
            return None
        total += taken
    return total


def _taken_bytes(instruction: Instruction, before: Instruction | None, code: Code | None) -> int | None:
    _, first, second = instruction
    if first & 0xFE00 == 0xB400:  # PUSH T1
        return 4 * (first & 0x1FF).bit_count()
    if first & 0xFF80 == 0xB080:  # SUB SP, SP, #imm7
        return 4 * (first & 0x7F)
    if first == 0xE92D:  # PUSH.W
        return 4 * second.bit_count()
    if first == 0xF84D and second & 0xF00 == 0xD00:  # STR Rt, [SP, #-imm]!
        return second & 0xFF
    if first == 0xE96D:  # STRD Rt, Rt2, [SP, #-imm]!
        return 4 * (second & 0xFF)
    if first & 0xFFBF == 0xED2D and second & 0xE00 == 0xA00:  # VPUSH
        return 4 * (second & 0xFF)
    if first & 0xFBFF in (0xF1AD, 0xF2AD) and second & 0x8F00 == 0x0D00:  # SUB.W and SUBW SP, SP, #imm
        return _immediate(first, second)
    if first == 0xEBAD and second & 0xF00 == 0xD00:  # SUB.W SP, SP, Rm
        return _constant(second & 15, before, code) if second & 0xF0 == 0 else None
    if first & 0xFF87 == 0x4485:  # ADD SP, Rm: of a negative constant
        constant = _constant(first >> 3 & 15, before, code)
        return None if constant is None else -constant & 0xFFFFFFFF if constant >> 31 else 0
    if first & 0xFF87 == 0x4685 and first not in (0x46BD, 0x46DD):  # MOV SP, Rm; from R7 and R11, frames end
        return None
    return 0


def _constant(register: int, before: Instruction | None, code: Code | None) -> int | None:
    """The constant that the instruction before loads into a register; None where it does not."""
    if before is None:
        return None
    at, first, second = before
    if first & 0xF800 == 0x4800 and first >> 8 & 7 == register and code:  # LDR T1
        return code.word((at + 4 & ~3) + 4 * (first & 0xFF))
    if first == 0xF8DF and second >> 12 == register and code:  # LDR.W
        return code.word((at + 4 & ~3) + (second & 0xFFF))
    if first & 0xFBFF == 0xF04F and second & 0x8F00 == register << 8:  # MOV.W
        return _immediate(first, second)
    if first & 0xFBF0 == 0xF240 and second & 0x8F00 == register << 8:  # MOVW
        return (first & 15) << 12 | _immediate(first, second)
    return None


def _immediate(first: int, second: int) -> int:
    """The constant in a 32-bit instruction: 12 bits, which those without bit 9 expand."""
    immediate = (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
    return immediate if first & 0x200 else _expanded(immediate)


def _expanded(immediate: int) -> int:
    """ThumbExpandImm: 8 bits repeated or rotated (A5.3.2)."""
    byte, code = immediate & 0xFF, immediate >> 8
    if code < 4:
        return (byte, byte * 0x00010001, byte * 0x01000100, byte * 0x01010101)[code]
    rotation = immediate >> 7
    value = 0x80 | immediate & 0x7F
    return (value >> rotation | value << 32 - rotation) & 0xFFFFFFFF
