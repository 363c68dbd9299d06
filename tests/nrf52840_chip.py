"""A simulated nRF52840 around unicorn's Cortex-M4: what the image of the nRF52840-DK uses of it, after Nordic's manual.

It is no emulator of the chip. simulated_nrf52840.c has the same in finer steps of time, around the port alone; here the
image runs as it would be flashed. Tasks act when they are written, and whatever the chip would not bear is an error.
"""

from __future__ import annotations

from collections import deque

import unicorn
from unicorn import arm_const as arm

from firmware_tools import boards
from firmware_tools.build import Image

FRAME = 5555  # cycles of ten bits at 115,200 baud
TEN_MS = 640_000
CYCLES_AN_ACCESS = 10
LONGEST_US = 120_000_000
WFI = bytes.fromhex("30bf")
UARTE, TIMER0, TIMER1, PPI, GPIO = 0x40002000, 0x40008000, 0x40009000, 0x4001F000, 0x50000000
STARTRX, STARTTX, RXDRDY, ENDTX = UARTE, UARTE + 0x008, UARTE + 0x108, UARTE + 0x120
RXD_PTR, RXD_MAXCNT, TXD_PTR, TXD_MAXCNT = UARTE + 0x534, UARTE + 0x538, UARTE + 0x544, UARTE + 0x548
HFCLKSTART, HFCLKSTAT = 0x40000000, 0x4000040C
DWT_CTRL, DWT_CYCCNT = 0xE0001000, 0xE0001004
PAGES = ((0x40000000, 0x20000), (0x50000000, 0x1000), (0xE0000000, 0x43000))
FACTS = {0x10000100: 0x52840, 0x10000130: 8, 0x10000134: 5, 0x10001208: 0xFFFFFF5A}


class Chip:
    """One chip with an image in its flash. crystal: does it start."""

    def __init__(self, image: Image, crystal: bool = True) -> None:
        self.crystal = crystal
        self.registers: dict[int, int] = {}
        self.now = self.asleep = 0  # cycles; those in which the core's counter stood still
        self.cycles_from = self.counted = self.filled = 0
        self.received: deque[int] = deque()
        self.sent = bytearray()
        self.pins: list[tuple[int, int]] = []
        board = boards.load(image.board)
        self.ram = range(board.ram.start, board.ram.start + board.ram.size_bytes)
        self.core = core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        core.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M4)
        core.mem_map(board.flash.start, board.flash.size_bytes, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        core.mem_map(board.ram.start, board.ram.size_bytes, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        core.mem_map(0x10000000, 0x2000, unicorn.UC_PROT_READ)
        for address, content in (*image.segments, *((at, word.to_bytes(4, "little")) for at, word in FACTS.items())):
            core.mem_write(address, content)
        for start, size in PAGES:
            core.mmio_map(start, size, self._reader(start), None, self._writer(start), None)
        stack, self.at = (int.from_bytes(core.mem_read(board.flash.start + i, 4), "little") for i in (0, 4))
        core.reg_write(arm.UC_ARM_REG_SP, stack)

    def run(self) -> None:
        """Until the firmware has slept once: 10 ms, or until the next byte of those that wait."""
        self.core.emu_start(self.at | 1, 0, timeout=LONGEST_US)
        self.at = self.core.reg_read(arm.UC_ARM_REG_PC)
        assert bytes(self.core.mem_read(self.at - 2, 2)) == WFI, f"it waits for ever, at {self.at:#x}"
        slept = FRAME if self.received else TEN_MS
        self.now += slept
        self.asleep += slept
        if self.received:
            self._receive(self.received.popleft())

    def _receive(self, byte: int) -> None:
        """To RAM by EasyDMA, which starts over at the buffer's end; counted by TIMER1 through PPI."""
        get = self.registers.get
        assert (get(UARTE + 0x500), get(UARTE + 0x524), get(UARTE + 0x514)) == (8, 0x01D60000, 8), "no receiver"
        self.core.mem_write(self._dma(get(RXD_PTR, 0) + self.filled), bytes([byte]))
        self.filled = (self.filled + 1) % get(RXD_MAXCNT, 0)
        assert self.filled or get(UARTE + 0x200) == 1 << 5, "reception ends with the buffer"
        self.registers[RXDRDY] = 1
        counts = (get(PPI + 0x504), get(PPI + 0x510), get(PPI + 0x514)) == (1, RXDRDY, TIMER1 + 8)
        assert counts and (get(TIMER1 + 0x504), get(TIMER1 + 0x508)) == (2, 3), "nobody counts the bytes"
        self.counted += 1

    def _dma(self, address: int) -> int:
        assert address in self.ram, f"EasyDMA at {address:#x}, outside RAM"
        return address

    def _reader(self, start: int):  # type: ignore[no-untyped-def]
        def read(_core: unicorn.Uc, offset: int, size: int, _user: object) -> int:
            self.now += CYCLES_AN_ACCESS
            address = start + offset
            assert size == 4
            if address == DWT_CYCCNT:
                return (self.now - self.asleep - self.cycles_from) % 2**32 if self.registers.get(DWT_CTRL, 0) & 1 else 0
            return self.registers.get(address, 0)

        return read

    def _writer(self, start: int):  # type: ignore[no-untyped-def]
        def write(_core: unicorn.Uc, offset: int, size: int, value: int, _user: object) -> None:
            self.now += CYCLES_AN_ACCESS
            assert size == 4
            self.registers[start + offset] = value
            self._act(start + offset, value)

        return write

    def _act(self, address: int, value: int) -> None:
        """What a write starts."""
        if address == HFCLKSTART and self.crystal:
            self.registers[HFCLKSTAT] = 0x10001
        elif address == STARTRX:
            self.filled = 0
        elif address == STARTTX:
            count = self.registers[TXD_MAXCNT]
            start = self._dma(self.registers[TXD_PTR])
            self.sent += self.core.mem_read(start, count)
            self._dma(start + count - 1)
            self.now += count * FRAME
            self.registers[ENDTX] = 1
        elif address == TIMER0 + 0x040:
            cycles = 4 << self.registers[TIMER0 + 0x510]
            self.registers[TIMER0 + 0x540] = self.now // cycles % 2**32
        elif address == TIMER1 + 0x040:
            self.registers[TIMER1 + 0x540] = self.counted
        elif address == DWT_CYCCNT:
            self.cycles_from = self.now - self.asleep - value
        elif address in (GPIO + 0x508, GPIO + 0x50C, GPIO + 0x808, GPIO + 0x80C):
            pin = value.bit_length() - 1 + 32 * (address >= GPIO + 0x800)
            self.pins.append((pin, int(address & 0xF == 8)))
