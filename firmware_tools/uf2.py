"""UF2: an image in blocks of 512 bytes, each of which says where its part belongs, for bootloaders that show a volume.

A volume takes its blocks in any order and more than once; so each names its address, its number and how many there are,
and the family of chips that may take it. The boot ROMs of RP2040 and RP2350 want 256 bytes in every block, at addresses
that are multiples of 256.

Early RP2350s miss the first block of a file unless another one came before (erratum RP2350-E10): their files begin with
a block for the family "absolute", which says of itself that it is to be ignored and counts as a file of its own.

Sources: the UF2 specification, https://github.com/microsoft/uf2; boot/uf2.h of Raspberry Pi's pico-sdk 2.2.0 (flags,
families, the tag to ignore a block); the block that its picotool 2 writes against the erratum (address, counts, fill).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from firmware_tools.errors import BadFile

BLOCK_BYTES, PAYLOAD_BYTES, MOST_PAYLOAD_BYTES = 512, 256, 476
HEADER = "<8I"  # two magics, flags, address, payload's size, number, count, family
MAGIC_1, MAGIC_2, MAGIC_END = 0x0A324655, 0x9E5D5157, 0x0AB16F30
NOT_MAIN_FLASH, FILE_CONTAINER, FAMILY, MD5, EXTENSIONS = 0x1, 0x1000, 0x2000, 0x4000, 0x8000
RP2040, ABSOLUTE, DATA, RP2350_ARM, RP2350_RISCV, RP2350_ARM_NONSECURE = range(0xE48BFF56, 0xE48BFF5C)
WITH_ABSOLUTE_BLOCK = frozenset({RP2350_ARM, RP2350_RISCV, RP2350_ARM_NONSECURE})
ABSOLUTE_ADDRESS, ABSOLUTE_FILL, ABSOLUTE_COUNT = 0x10FFFF00, 0xEF, 2
IGNORE_BLOCK = bytes.fromhex("04e35799")  # an extension's tag: its size, and its kind in three bytes
ERASED = 0xFF
HINT = "take the image.uf2 that `edge build` wrote"


@dataclass(frozen=True)
class Uf2:
    """What a file brings into flash: content from address start on, for chips of one family.

    blocks counts those that are written; absolute_block: it begins with the one that erratum RP2350-E10 asks for.
    """

    start: int
    content: bytes = field(repr=False)
    family: int
    blocks: int
    absolute_block: bool


@dataclass(frozen=True)
class _Block:
    flags: int
    address: int
    number: int
    count: int
    family: int
    payload: bytes
    rest: bytes


def encode(content: bytes, start: int, family: int, *, absolute_block: bool | None = None) -> bytes:
    """The file that writes content from address start on; its last block is filled up with 0xFF, as erased flash is.

    absolute_block: begin with the one that erratum RP2350-E10 asks for; by default where the family is an RP2350's.
    ValueError where there is no content, or start is not a multiple of 256 or too high.
    """
    if not content or start % PAYLOAD_BYTES or not 0 <= start <= (1 << 32) - len(content):
        raise ValueError(f"no UF2 file can bring {len(content)} bytes to {start:#x}")
    parts = [content[at : at + PAYLOAD_BYTES] for at in range(0, len(content), PAYLOAD_BYTES)]
    blocks = [
        _block(FAMILY, start + PAYLOAD_BYTES * number, number, len(parts), family, _filled(part))
        for number, part in enumerate(parts)
    ]
    if family in WITH_ABSOLUTE_BLOCK if absolute_block is None else absolute_block:
        fill = bytes([ABSOLUTE_FILL]) * PAYLOAD_BYTES
        flags = FAMILY | EXTENSIONS
        blocks.insert(0, _block(flags, ABSOLUTE_ADDRESS, 0, ABSOLUTE_COUNT, ABSOLUTE, fill, IGNORE_BLOCK))
    return b"".join(blocks)


def decode(data: bytes) -> Uf2:
    """What a file holds. BadFile unless it is whole: every block once, one family, no gap and no overlap."""
    try:
        return _decode(data)
    except ValueError as error:
        raise BadFile(f"the UF2 file is damaged: {error}", HINT) from None


def _filled(part: bytes) -> bytes:
    return part + bytes([ERASED]) * (PAYLOAD_BYTES - len(part))


def _block(flags: int, address: int, number: int, count: int, family: int, payload: bytes, rest: bytes = b"") -> bytes:
    head = struct.pack(HEADER, MAGIC_1, MAGIC_2, flags, address, len(payload), number, count, family)
    return head + (payload + rest).ljust(MOST_PAYLOAD_BYTES, b"\0") + struct.pack("<I", MAGIC_END)


def _decode(data: bytes) -> Uf2:
    if not data or len(data) % BLOCK_BYTES:
        raise ValueError(f"{len(data)} bytes are not a number of blocks of {BLOCK_BYTES}")
    blocks = [_read(data[at : at + BLOCK_BYTES], at // BLOCK_BYTES) for at in range(0, len(data), BLOCK_BYTES)]
    absolute = _is_absolute(blocks[0])
    blocks = blocks[1:] if absolute else blocks
    if not blocks:
        raise ValueError("it has no block to write")
    families = {block.family for block in blocks}
    if len(families) != 1:
        raise ValueError(f"it is for several families of chips: {', '.join(f'{f:#010x}' for f in sorted(families))}")
    if any(block.count != len(blocks) for block in blocks):
        raise ValueError(f"it has {len(blocks)} blocks, and not all of them say so")
    blocks.sort(key=lambda block: block.number)
    if [block.number for block in blocks] != list(range(len(blocks))):
        raise ValueError("a block is missing or there twice")
    end = blocks[0].address
    for block in blocks:
        if block.address != end:
            what = "overlaps the one before" if block.address < end else "leaves a gap to the one before"
            raise ValueError(f"block {block.number} {what}")
        end += len(block.payload)
    if end > 1 << 32:
        raise ValueError("it goes past the end of the address space")
    content = b"".join(block.payload for block in blocks)
    return Uf2(blocks[0].address, content, blocks[0].family, len(blocks), absolute)


def _read(data: bytes, index: int) -> _Block:
    first, second, flags, address, size, number, count, family = struct.unpack_from(HEADER, data)
    if (first, second, *struct.unpack_from("<I", data, BLOCK_BYTES - 4)) != (MAGIC_1, MAGIC_2, MAGIC_END):
        raise ValueError(f"block {index} has not the marks of one")
    if flags & ~EXTENSIONS != FAMILY:
        raise ValueError(f"block {index} has the flags {flags:#x}: it is not for flash, or for no family of chips")
    if not 0 < size <= MOST_PAYLOAD_BYTES:
        raise ValueError(f"block {index} has {size} bytes, and not 1 to {MOST_PAYLOAD_BYTES}")
    place = struct.calcsize(HEADER)
    payload, rest = data[place : place + size], data[place + size : BLOCK_BYTES - 4]
    return _Block(flags, address, number, count, family, payload, rest)


def _is_absolute(block: _Block) -> bool:
    """Whether a block is the one of erratum RP2350-E10, in every byte that says so."""
    return (
        (block.family, block.number, block.count) == (ABSOLUTE, 0, ABSOLUTE_COUNT)
        and block.flags == FAMILY | EXTENSIONS
        and block.payload == bytes([ABSOLUTE_FILL]) * PAYLOAD_BYTES
        and block.rest.startswith(IGNORE_BLOCK)
    )
