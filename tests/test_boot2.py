"""The RP2040's second stage: the words in the header are its source's, and it does what a flash of each kind needs.

`python -m tests.test_boot2 --update` writes the header anew from the source.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from firmware_tools import boards, elf
from firmware_tools.toolchains import zig

SOURCE = Path(boards.__file__).parent / "rp2040_boot2.S"
HEADER = SOURCE.with_suffix(".h")
CODE_BYTES = 252
RAM_AT, STAGE_AT = 0x20000000, 0x20041F00  # where the boot ROM copies the stage (RP2040 datasheet, 2.8.1.3.1)
FLASH_AT, VECTORS_AT = 0x10000000, 0x10000100
PADS_QSPI, SSI, SYSTEM = 0x40020000, 0x18000000, 0xE000E000
TEXT = """\
/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* rp2040_boot2.S, assembled, with its CRC-32 as the last word. Generated: python -m tests.test_boot2 --update */
#ifndef EDGE_RP2040_BOOT2_H
#define EDGE_RP2040_BOOT2_H

#include <stdint.h>

__attribute__((section(".boot"), used)) static const uint32_t boot2[64] = {{
{rows}
}};

#endif
"""


def assemble() -> bytes:
    """The stage's 252 bytes, from its source."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "boot2.o"
        command = [*zig.command(boards.load("pico")), "-c", str(SOURCE), "-o", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        text = next(section.content for section in elf.read(out.read_bytes()).sections if section.name == ".text")
    assert len(text) <= CODE_BYTES
    return text.ljust(CODE_BYTES, b"\0")


def crc(data: bytes) -> int:
    """The boot ROM's CRC-32 (RP2040 datasheet, 2.8.1.3.1): most significant bit first, not inverted at the end."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


def header(code: bytes) -> str:
    whole = code + crc(code).to_bytes(4, "little")
    words = [f"0x{int.from_bytes(whole[at : at + 4], 'little'):08X}," for at in range(0, len(whole), 4)]
    return TEXT.format(rows="\n".join("    " + " ".join(words[at : at + 8]) for at in range(0, len(words), 8)))


def test_the_header_has_the_words_of_the_source() -> None:
    assert HEADER.read_text(encoding="utf-8") == header(assemble()), "python -m tests.test_boot2 --update"


def test_the_crc_is_that_of_zlib_with_all_bits_reversed() -> None:
    """Another way to the same number: zlib's is of the same polynomial, but takes the bits in the other order."""
    for data in (b"", b"123456789", assemble()):
        mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
        assert int(f"{zlib.crc32(mirrored) ^ 0xFFFFFFFF:032b}"[::-1], 2) == crc(data)
    assert crc(b"123456789") == 0x0376E6E7  # the check value that catalogues give for CRC-32/MPEG-2


@dataclass
class Flash:
    """A serial flash behind the chip's SSI, as far as this stage talks to it: status registers and their writing.

    takes_quad: has it the bit QE? busy: how many times it says that it still writes. dead: the SSI is never ready.
    """

    status: int = 0
    takes_quad: bool = True
    busy: int = 0
    dead: bool = False
    registers: dict[int, int] = field(default_factory=dict)
    reads: list[tuple[int, int]] = field(default_factory=list)  # CTRLR0 and SPI_CTRLR0 whenever the SSI is turned on
    sent: list[int] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    writable: bool = False

    def write(self, offset: int, value: int) -> None:
        if offset == 0x60:
            self.sent.append(value)
            return
        if offset == 0x08 and value:
            self.reads.append((self.registers[0x00], self.registers.get(0xF4, 0)))
        elif offset != 0x08:
            assert self.registers.get(0x08) == 0, "the SSI is set up only while it is off"
        self.registers[offset] = value

    def read(self, offset: int) -> int:
        if offset == 0x28:
            self.finish()
            return 0x01 if self.dead else 0x04
        assert offset == 0x60
        return self.answers.pop(0) if self.answers else 0

    def finish(self) -> None:
        """What was sent until the SSI was asked whether it is done is one command."""
        if not self.sent or self.dead:
            return
        command, self.sent = bytes(self.sent), []
        self.commands.append(command)
        self.answers = [0xFF] * len(command)
        if command[0] == 0x35:
            self.answers[1] = self.status
        elif command[0] == 0x05:
            self.busy -= 1
            self.answers[1] = int(self.busy > 0)
        elif command[0] == 0x06:
            self.writable = True
        elif command[0] == 0x01 and self.writable and self.takes_quad:
            self.status = command[2]


def run(flash: Flash) -> tuple[int, int, int]:
    """Runs the stage as the boot ROM does; returns where it went, the stack pointer and VTOR."""
    unicorn = pytest.importorskip("unicorn")
    from unicorn import arm_const

    core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    core.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_M0)
    core.mem_map(RAM_AT, 0x42000)
    core.mem_map(FLASH_AT, 0x1000)
    core.mem_write(STAGE_AT, assemble())
    core.mem_write(VECTORS_AT, (0x20001234).to_bytes(4, "little") + (0x10000201).to_bytes(4, "little"))
    written = {}
    core.mmio_map(
        SSI, 0x1000, lambda _, at, *__: flash.read(at), None, lambda _, at, __, v, ___: flash.write(at, v), None
    )
    for base in (PADS_QSPI, SYSTEM):
        core.mmio_map(
            base, 0x1000, lambda *_: 0x56, None, lambda _, at, __, v, base: written.update({base + at: v}), base
        )
    core.reg_write(arm_const.UC_ARM_REG_SP, 0x20041F00)
    core.reg_write(arm_const.UC_ARM_REG_LR, 0)
    core.emu_start(STAGE_AT | 1, 0x10000200, count=20_000_000)
    assert {at - PADS_QSPI: v for at, v in written.items() if at < SYSTEM} == {4: 0x21} | dict.fromkeys(
        (8, 12, 16, 20), 0x54
    )
    return core.reg_read(arm_const.UC_ARM_REG_PC), core.reg_read(arm_const.UC_ARM_REG_SP), written[0xE000ED08]


STARTED = (0x10000200, 0x20001234, VECTORS_AT)
SERIAL, QUAD = (0x001F0300, 0x03000218), (0x005F0300, 0xA0002022)
FIRST_QUAD = (0x005F0300, 0x00002221)  # the one read with its command


def test_a_flash_that_reads_on_four_lines_already_is_not_written() -> None:
    flash = Flash(status=0x02)
    assert run(flash) == STARTED
    assert flash.commands == [b"\x35\0", b"\xeb\xa0"]
    assert flash.reads[1:] == [FIRST_QUAD, QUAD]
    assert flash.registers[0x14] == 2 and flash.registers[0xF0] == 1


def test_a_flash_that_can_is_told_once_to_read_on_four_lines() -> None:
    flash = Flash(busy=5)
    assert run(flash) == STARTED
    assert flash.commands[1:3] == [b"\x06", b"\x01\x00\x02"]
    assert [c[0] for c in flash.commands[3:]] == [0x05] * 5 + [0x35, 0xEB]
    assert flash.reads[1:] == [FIRST_QUAD, QUAD]


@pytest.mark.parametrize("flash", [Flash(takes_quad=False), Flash(takes_quad=False, busy=1 << 40), Flash(dead=True)])
def test_any_other_flash_is_read_on_one_line(flash: Flash) -> None:
    """Nor does one that writes for ever, or an SSI that is never ready, keep the stage from its end."""
    assert run(flash) == STARTED
    assert flash.reads[-1] == SERIAL
    assert flash.registers[0x14] == 4


if __name__ == "__main__" and sys.argv[1:] == ["--update"]:
    HEADER.write_text(header(assemble()), encoding="utf-8", newline="\n")
