"""A simulated RP2350 around unicorn's Cortex-M33, as far as rp2350.h and rp2.h use it: no emulator has this chip.

It is stricter than what it stands for is known to be: a block in reset does not answer, a pad that is isolated leads
nowhere, a clock that is switched to must run, and CYCCNT stops while the core sleeps. What it knows is from pico-sdk's
register headers and from Raspberry Pi's datasheet (the boot's window, isolation, ticks), and from nowhere else; it
shows that the code does what these say, and nothing about silicon.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Collection
from typing import Any

from unicorn import UC_ARCH_ARM, UC_HOOK_CODE, UC_MODE_MCLASS, UC_MODE_THUMB, Uc
from unicorn.arm_const import (
    UC_ARM_REG_PC,
    UC_ARM_REG_R0,
    UC_ARM_REG_R1,
    UC_ARM_REG_R2,
    UC_ARM_REG_R3,
    UC_ARM_REG_SP,
    UC_CPU_ARM_CORTEX_M33,
)

from firmware_tools.build import Image

FLASH, RAM, ROM = 0x10000000, 0x20000000, 0x00000000
APB, APB_BYTES, AHB, AHB_BYTES, SIO, PPB, PPB_BYTES = (
    0x40000000,
    0x130000,
    0x50100000,
    0x11000,
    0xD0000000,
    0xE0000000,
    0x10000,
)
SYSINFO, CLOCKS, RESETS, IO, PADS, XOSC, PLL_SYS, PLL_USB, UART, TIMER, TICKS = (
    *(0x40000000, 0x40010000, 0x40020000, 0x40028000, 0x40038000, 0x40048000, 0x40050000, 0x40058000),
    *(0x40070000, 0x400B0000, 0x40108000),
)
IN_RESET = {SYSINFO: 21, IO: 6, PADS: 9, PLL_SYS: 14, PLL_USB: 15, UART: 26, TIMER: 23}
ALL_RESETS = 0x1FFFFFFF
USB_RESET = 28
ISO, OD, IE, PUE, PDE = 1 << 8, 1 << 7, 1 << 6, 1 << 3, 1 << 2
LOOKUP, GET_SYS_INFO, REBOOT = 0x200, 0x300, 0x400  # in the boot ROM
CHIP_ID = 0x0123456789ABCDEF
MARKERS = (0xFFFFDED3, 0xAB123579)


def image_definition(content: bytes) -> dict[int, bytes]:
    """The items of the block that makes an image of flash, by their types, as the boot ROM looks for it.

    A loop of blocks begins within the first 4 KB, at a word; each has its items, a last one that counts their words,
    the distance to the next block, and a marker.
    """
    words = struct.unpack_from("<1024I", content.ljust(4096, b"\xff"))
    start = words.index(MARKERS[0]) + 1
    items, at = {}, start
    while words[at] & 0xFF != 0xFF:
        size = words[at] >> 8 & 0xFF
        items[words[at] & 0x7F] = struct.pack(f"<{size}I", *words[at : at + size])
        at += size
    assert words[at] >> 8 & 0xFFFF == at - start, "the last item counts the words of those before"
    assert words[at + 1] == 0, "one block alone: the next one is itself"
    assert words[at + 2] == MARKERS[1]
    return items


class Chip:
    """The chip with an image in its flash. never: what does not start, of `xosc`, `pll_sys` and `pll_usb`."""

    def __init__(self, image: Image, never: Collection[str] = ()) -> None:
        self.never = never
        self.registers: dict[int, int] = {RESETS: ALL_RESETS, CLOCKS + 0x3C: 0x41}
        self.registers |= {PADS + 4 + 4 * pin: 0x116 for pin in range(30)}
        self.registers |= {base + 4: 0x2D for base in (PLL_SYS, PLL_USB)}  # powered down
        self.dpram, self.usb = bytearray(4096), {0x40: 4}  # MAIN_CTRL: the PHY is isolated
        self.received: deque[int] = deque()
        self.sent = bytearray()
        self.pins: list[tuple[int, int]] = []  # pin and level, as they change where they can be seen
        self.micros, self.slept_us, self.reboots = 0, 0, []
        self._reads, self._cycles_lost = 0, 0
        core = self.core = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        core.ctl_set_cpu_model(UC_CPU_ARM_CORTEX_M33)
        core.mem_map(FLASH, 4 << 20)
        core.mem_map(RAM, 520 << 10)
        core.mem_map(ROM, 32 << 10)
        for address, content in image.segments:
            core.mem_write(address, content)
        self._boot_rom()
        self._map(APB, APB_BYTES, self._read_apb, self._write_apb)
        self._map(AHB, AHB_BYTES, self._read_usb, self._write_usb)
        self._map(SIO, 0x1000, lambda at: 0, self._write_sio)
        self._map(PPB, PPB_BYTES, self._read_core, self._write_core)
        items = image_definition(bytes(core.mem_read(FLASH, 4096)))
        assert struct.unpack("<HH", items[0x42]) == (0x0142, 0x1021)  # executable, secure, Arm, RP2350
        assert 0x03 not in items and 0x44 not in items  # so vectors and entry are where flash begins
        stack, self._at = struct.unpack("<II", core.mem_read(FLASH, 8))
        core.reg_write(UC_ARM_REG_SP, stack)

    def run(self) -> None:
        """Until the core sleeps; then time passes to the next alarm, if nothing waits that ends the sleep."""
        self.core.emu_start(self._at | 1, 0)
        self._at = self.core.reg_read(UC_ARM_REG_PC)
        if not self.received and not self._usb_interrupt():
            alarm = self.registers.get(TIMER + 0x10, 0)
            slept = (alarm - self.micros) & 0xFFFFFFFF
            assert self.registers.get(TIMER + 0x40) and slept <= 10_000, "the core sleeps and nothing wakes it"
            self.micros += slept
            self.slept_us += slept

    def fault(self, handler: int, stack: int, at: int) -> None:
        """As if the instruction at that address failed: registers are on the stack, the handler runs."""
        self.core.mem_write(stack, struct.pack("<8I", 0, 0, 0, 0, 0, 0, at, 1 << 24))
        self.core.reg_write(UC_ARM_REG_SP, stack)
        self._at = handler & ~1
        self.run()

    # --- what clocks come to

    def _pll_hz(self, base: int) -> float:
        power, factor, post = (self.registers.get(base + at, 0) for at in (4, 8, 12))
        if power & 0x29 or not self.locked(base):
            return 0.0
        vco = 12e6 * factor / (self.registers.get(base, 1) & 0x3F)
        assert 750e6 <= vco <= 1600e6
        return vco / (post >> 16 & 7) / (post >> 12 & 7)

    def locked(self, base: int) -> bool:
        never = "pll_sys" if base == PLL_SYS else "pll_usb"
        return self.crystal and never not in self.never and not self.registers.get(base + 4, 0) & 0x21

    @property
    def crystal(self) -> bool:
        return self.registers.get(XOSC, 0) == 0xFABAA0 and "xosc" not in self.never

    @property
    def ref_hz(self) -> float:
        source = self.registers.get(CLOCKS + 0x30, 0) & 3
        assert source in (0, 2) and (source == 0 or self.crystal)
        return 12e6 if source else 6.5e6

    @property
    def sys_hz(self) -> float:
        control = self.registers[CLOCKS + 0x3C]
        if not control & 1:
            return self.ref_hz
        hz = self._pll_hz(PLL_SYS) if control >> 5 & 7 == 0 else 6.5e6
        assert hz, "clk_sys is switched to a PLL that does not run"
        return hz

    @property
    def usb_hz(self) -> float:
        control = self.registers.get(CLOCKS + 0x60, 0)
        return self._pll_hz(PLL_USB) if control >> 11 & 1 and control >> 5 & 7 == 0 else 0.0

    @property
    def baud(self) -> float:
        assert self.registers.get(CLOCKS + 0x48, 0) >> 11 & 1, "clk_peri is off"
        whole, part = (self.registers.get(UART + at, 0) for at in (0x24, 0x28))
        return self.sys_hz / (16 * (whole + part / 64))

    def pad_leads(self, pin: int, function: int, is_input: bool = False) -> bool:
        pad = self.registers[PADS + 4 + 4 * pin]
        return (
            self.registers.get(IO + 4 + 8 * pin) == function
            and not pad & (ISO | OD)
            and (not is_input or pad & IE != 0)
        )

    # --- registers

    def _map(self, base: int, size: int, read: Any, write: Any) -> None:
        self.core.mmio_map(
            base,
            size,
            lambda _core, offset, size, _user: (
                read(base + offset) if size == 4 else self._part(read, base + offset, size)
            ),
            None,
            lambda _core, offset, size, value, _user: write(base + offset, value, size),
            None,
        )

    @staticmethod
    def _part(read: Any, address: int, size: int) -> int:
        return int(read(address & ~3)) >> 8 * (address & 3) & (1 << 8 * size) - 1

    def _of_block(self, address: int) -> tuple[int, int]:
        block = address & ~0x7FFF
        if block in IN_RESET:
            assert not self.registers[RESETS] >> IN_RESET[block] & 1, f"{address:#x} is in a block that is in reset"
        return block, address & 0xFFF

    def _time_passes(self) -> None:
        running = self.registers.get(TICKS + 0x18, 0) & 1 and self.registers.get(TICKS + 0x1C)
        if running:
            assert running == self.ref_hz // 1_000_000
            self.micros += 1

    def _read_apb(self, address: int) -> int:
        block, offset = self._of_block(address)
        value = self.registers.get(block + offset, 0)
        if block == RESETS and offset == 8:
            return ~self.registers[RESETS] & ALL_RESETS
        if block == SYSINFO and offset == 8:
            return 2  # an ASIC
        if block == XOSC and offset == 4:
            return 0x80001000 if self.crystal else 0x1000
        if block in (PLL_SYS, PLL_USB) and offset == 0:
            return value | (1 << 31 if self.locked(block) else 0)
        if block == CLOCKS and offset in (0x38, 0x44):
            return 1 << (self.registers.get(block + offset - 8, 0) & (3 if offset == 0x38 else 1))
        if block == TIMER and offset in (0x24, 0x28):
            self._time_passes()
            return self.micros >> 32 if offset == 0x24 else self.micros & 0xFFFFFFFF
        if block == UART:
            return self._read_uart(offset)
        return value

    def _read_uart(self, offset: int) -> int:
        understood = self.pad_leads(1, 2, is_input=True) and abs(self.baud / 115200 - 1) < 0.02
        if offset == 0x18:
            return 0 if self.received and understood else 1 << 4
        return self.received.popleft() if offset == 0 and self.received else 0

    def _write_apb(self, address: int, value: int, size: int) -> None:
        assert size == 4
        block, offset = self._of_block(address)
        kind, before = address >> 12 & 3, self.registers.get(block + offset, 0)
        value = (value, before ^ value, before | value, before & ~value)[kind]
        if block == UART and offset == 0:
            assert self.pad_leads(0, 2) and self.registers.get(UART + 0x30) == 0x301
            assert self.registers.get(UART + 0x2C) == 0x70 and abs(self.baud / 115200 - 1) < 0.002
            self.sent.append(value & 0xFF)
        elif block == RESETS and offset == 0:
            self._reset(value & ~before)
        if block == TICKS and offset == 0x1C:
            assert not self.registers.get(TICKS + 0x18, 0) & 1, "a divider is changed while it divides"
        self.registers[block + offset] = value

    def _reset(self, blocks: int) -> None:
        """What is put into reset has its first values again; a clock must not hang on it."""
        for base, bit in ((PLL_SYS, 14), (PLL_USB, 15)):
            if blocks >> bit & 1:
                assert not (base == PLL_SYS and self.registers[CLOCKS + 0x3C] & 0xE1 == 1)
                self.registers[base + 4] = 0x2D
        if blocks >> IN_RESET[PADS] & 1:
            self.registers |= {PADS + 4 + 4 * pin: 0x116 for pin in range(30)}

    def _write_sio(self, address: int, value: int, size: int) -> None:
        offset = address & 0xFFF
        assert size == 4 and offset in (0x18, 0x20, 0x38)
        if offset == 0x38:
            self.registers[SIO] = self.registers.get(SIO, 0) | value
            return
        for pin in range(30):
            if value >> pin & 1 and self.registers.get(SIO, 0) >> pin & 1 and self.pad_leads(pin, 5):
                self.pins.append((pin, int(offset == 0x18)))

    def _read_core(self, address: int) -> int:
        if address == 0xE0001004 and self.registers.get(0xE0001000, 0) & 1:
            assert self.registers.get(0xE000EDFC, 0) >> 24 & 1
            self._reads += 1
            return self._cycles() & 0xFFFFFFFF
        return self.registers.get(address, 0)

    def _cycles(self) -> int:
        """150 in a microsecond, but for those slept, and some between two looks at it."""
        return (self.micros - self.slept_us) * 150 + self._reads + self._cycles_lost

    def _write_core(self, address: int, value: int, _size: int) -> None:
        if address == 0xE0001004:
            self._cycles_lost += value - self._cycles()
        self.registers[address] = value

    # --- USB: memory and registers; a test is the host

    def _usb_interrupt(self) -> bool:
        status = self.usb.get(0x50, 0)
        return bool(self.usb.get(0x58, 0) or status >> 17 & 1 or status >> 19 & 1)

    def _read_usb(self, address: int) -> int:
        assert not self.registers[RESETS] >> USB_RESET & 1 and self.usb_hz == 48e6
        offset = address - AHB
        if offset < len(self.dpram):
            return int.from_bytes(self.dpram[offset : offset + 4], "little")
        return self.usb.get(offset - 0x10000, 0)

    def _write_usb(self, address: int, value: int, size: int) -> None:
        assert not self.registers[RESETS] >> USB_RESET & 1 and self.usb_hz == 48e6
        offset = address - AHB
        if offset < len(self.dpram):
            self.dpram[offset : offset + size] = value.to_bytes(size, "little")
            return
        register = offset - 0x10000
        if register in (0x50, 0x58, 0x64):  # a one that is written clears
            self.usb[register] = self.usb.get(register, 0) & ~value
            return
        if register == 0x60:
            self.usb[0x64] = self.usb.get(0x64, 0) | value
        self.usb[register] = value

    # --- the boot ROM: its table, and two functions that are done here

    def _boot_rom(self) -> None:
        core = self.core
        core.mem_write(0x10, b"Mu\x02\0")
        core.mem_write(0x16, struct.pack("<H", LOOKUP | 1))
        for function in (LOOKUP, GET_SYS_INFO, REBOOT):
            core.mem_write(function, b"\x70\x47")  # BX LR
        core.hook_add(UC_HOOK_CODE, self._rom_function, begin=LOOKUP, end=REBOOT)

    def _rom_function(self, core: Uc, address: int, _size: int, _user: Any) -> None:
        a, b, c, d = (
            core.reg_read(register) for register in (UC_ARM_REG_R0, UC_ARM_REG_R1, UC_ARM_REG_R2, UC_ARM_REG_R3)
        )
        if address == LOOKUP:
            known = {ord("G") | ord("S") << 8: GET_SYS_INFO, ord("R") | ord("B") << 8: REBOOT}
            core.reg_write(UC_ARM_REG_R0, known.get(a, 0) | 1 if b == 4 and a in known else 0)
        elif address == GET_SYS_INFO:
            assert (b, c) == (4, 1)
            core.mem_write(a, struct.pack("<IIQ", 1, 0, CHIP_ID))
            core.reg_write(UC_ARM_REG_R0, 4)
        elif address == REBOOT:
            self.reboots.append((a, b, c, d))
