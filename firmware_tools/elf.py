"""Reads the 32-bit little-endian ELF files that the linker writes: sections, segments and symbols, no more.

Source: Tool Interface Standard, Executable and Linking Format, version 1.2 (1995); ELF for the Arm Architecture.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass

from firmware_tools.errors import BadFile

IDENT = b"\x7fELF\x01\x01"  # 32-bit, little-endian
ARM = 40
PT_LOAD, SHT_SYMTAB, SHT_NOBITS = 1, 2, 8
SHF_ALLOC, SHF_EXECINSTR, STT_FUNC = 2, 4, 2
HEADER, PROGRAM_HEADER, SECTION_HEADER, SYMBOL = "<16xHHIIIIIHHHHHH", "<8I", "<10I", "<IIIBBH"


@dataclass(frozen=True)
class Section:
    """A stretch of the program by purpose; content is empty for memory that is only reserved. executable: has code."""

    name: str
    address: int
    size_bytes: int
    in_memory: bool
    content: bytes
    executable: bool = False


@dataclass(frozen=True)
class Symbol:
    """A name for an address; for a function the Thumb bit is already taken off."""

    name: str
    address: int
    size_bytes: int
    is_function: bool


@dataclass(frozen=True)
class Elf:
    """segments: (address where the bytes are stored, the bytes), in order of addresses, without empty ones."""

    entry: int
    segments: tuple[tuple[int, bytes], ...]
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]

    def section_bytes(self, name: str) -> int:
        """Size of a section, 0 where there is none."""
        return sum(section.size_bytes for section in self.sections if section.name == name)

    def address_of(self, name: str) -> int | None:
        """The address that a name stands for, or None."""
        return next((symbol.address for symbol in self.symbols if symbol.name == name), None)

    def functions(self, names: Collection[str]) -> dict[int, str]:
        """The functions that have these names, by address."""
        return {symbol.address: symbol.name for symbol in self.symbols if symbol.is_function and symbol.name in names}

    def function_at(self, address: int) -> str:
        """Name of the function that holds an address, or an empty string."""
        for symbol in self.symbols:
            if symbol.is_function and symbol.address <= address < symbol.address + max(symbol.size_bytes, 1):
                return symbol.name
        return ""


def read(data: bytes) -> Elf:
    """The parts of an ELF file; BadFile for anything that is not a whole 32-bit Arm one."""
    try:
        return _read(data)
    except (struct.error, IndexError, ValueError) as error:
        raise BadFile("the image's ELF file is damaged", "build it again") from error


def _read(data: bytes) -> Elf:
    if data[:6] != IDENT:
        raise ValueError("not a 32-bit little-endian ELF file")
    _, machine, _, entry, programs_at, sections_at, _, _, _, programs, _, count, names_at = struct.unpack_from(
        HEADER, data
    )
    if machine != ARM:
        raise ValueError("not for Arm")
    headers = [struct.unpack_from(SECTION_HEADER, data, sections_at + 40 * i) for i in range(count)]
    names = _cut(data, headers[names_at][4], headers[names_at][5])
    sections = tuple(_section(data, header, names) for header in headers[1:])
    symbols: tuple[Symbol, ...] = ()
    for header in headers:
        if header[1] == SHT_SYMTAB:
            strings = headers[header[6]]
            symbols = _symbols(_cut(data, header[4], header[5]), _cut(data, strings[4], strings[5]))
    return Elf(entry & ~1, _segments(data, programs_at, programs), sections, symbols)


def _segments(data: bytes, at: int, count: int) -> tuple[tuple[int, bytes], ...]:
    segments = []
    for i in range(count):
        kind, offset, _, stored_at, size, *_ = struct.unpack_from(PROGRAM_HEADER, data, at + 32 * i)
        if kind == PT_LOAD and size:
            segments.append((stored_at, _cut(data, offset, size)))
    return tuple(sorted(segments))


def _section(data: bytes, header: tuple[int, ...], names: bytes) -> Section:
    name, kind, flags, address, offset, size = header[:6]
    content = b"" if kind == SHT_NOBITS else _cut(data, offset, size)
    executable = bool(flags & SHF_EXECINSTR)
    return Section(_string(names, name), address, size, bool(flags & SHF_ALLOC), content, executable)


def _symbols(table: bytes, strings: bytes) -> tuple[Symbol, ...]:
    symbols = []
    for name, value, size, info, _, _ in struct.iter_unpack(SYMBOL, table):
        is_function = info & 15 == STT_FUNC
        symbols.append(Symbol(_string(strings, name), value & ~1 if is_function else value, size, is_function))
    return tuple(symbols)


def _string(strings: bytes, at: int) -> str:
    return strings[at : strings.index(b"\0", at)].decode("utf-8", "replace")


def _cut(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("truncated")
    return data[at : at + size]
