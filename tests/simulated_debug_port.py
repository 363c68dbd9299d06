"""A simulated STM32F446 behind a simulated JTAG port, which OpenOCD's remote_bitbang drives bit by bit.

JTAG, because the remote_bitbang of OpenOCD 0.12 has no SWD; the debug port behind it is the same. Written from IEEE
1149.1, Arm's ADIv5 and Armv7-M manuals (debug port, memory access port, debug registers) and RM0390 (flash). It has no
core that runs: OpenOCD writes flash through the flash controller's registers, as it does without a work area.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FLASH, CONTROLLER = 0x0800_0000, 0x4002_3C00
SECTORS = (*[16 * 1024] * 4, 64 * 1024, *[128 * 1024] * 3)
KEYS = [0x45670123, 0xCDEF89AB]
DHCSR, DCRDR, DEMCR, AIRCR = 0xE000EDF0, 0xE000EDF8, 0xE000EDFC, 0xE000ED0C


@dataclass
class Chip:
    """Memory, flash controller and debug registers. stuck: an offset in flash whose lowest bit is 0 for ever.

    powered: does anything answer? locked: read-out protection, level 1: a debugger does not reach flash.
    gone_after: words and halfwords written to flash until the cable is pulled.
    """

    flash: bytearray
    stuck: int | None = None
    powered: bool = True
    locked: bool = False
    gone_after: int | None = None
    gone: bool = False
    words: dict[int, int] = field(default_factory=dict)
    _keys: list[int] = field(default_factory=list)
    _open: bool = False
    _control: int = 0x8000_0000
    _halted: bool = False
    _was_reset: bool = False

    def __post_init__(self) -> None:
        self.words |= {
            0xE000ED00: 0x410FC241,  # CPUID: Cortex-M4
            0xE0042000: 0x10006421,  # DBGMCU_IDCODE
            0x1FFF7A20: 512 << 16,  # flash size, in KB, in the upper half
            0xE0002000: 0x60,  # FP_CTRL: six comparators
            0xE0001000: 0x40000000,  # DWT_CTRL: four
        }

    def read(self, address: int) -> int | None:
        """A word; None for a bus error."""
        offset = address - FLASH
        if 0 <= offset < len(self.flash):
            return None if self.locked else int.from_bytes(self.flash[offset : offset + 4], "little")
        if address == CONTROLLER + 0x10:
            return self._control
        if address == CONTROLLER + 0x14:
            return 0x0FFF00ED if self.locked else 0x0FFFAAED
        if address == DHCSR:
            value = 1 << 16 | self._halted << 17 | self._was_reset << 25 | self.words.get(DHCSR, 0) & 0xF
            self._was_reset = False
            return value
        return self.words.get(address, 0)

    def write(self, address: int, value: int, size: int) -> bool:
        """Writes size bytes, which value has in their lanes; False for a bus error."""
        offset = address - FLASH
        if 0 <= offset < len(self.flash):
            return self._program(offset, value >> 8 * (address & 3), size)
        if address == CONTROLLER + 4:
            self._keys = [*self._keys, value][-2:]
            if self._keys == KEYS:
                self._control &= 0x7FFF_FFFF
        elif address == CONTROLLER + 0x10:
            self._set_control(value)
        elif address == CONTROLLER + 0xC:
            pass  # status: its error bits are cleared by a 1, and none is ever set
        elif address == DHCSR:
            self._halted = value & 3 == 3
            self.words[DHCSR] = value
        elif address == AIRCR and value >> 16 == 0x05FA and value & 4:
            self._control, self._was_reset = 0x8000_0000, True
            self._halted = bool(self.words.get(DEMCR, 0) & 1)
        else:
            self.words[address & ~3] = value
        return True

    def _set_control(self, value: int) -> None:
        if self._control & 0x8000_0000:
            return  # locked
        self._control = value & ~0x10000
        if value & 0x10000:
            which = range(len(SECTORS)) if value & 4 else [value >> 3 & 0xF] if value & 2 else []
            for number in which:
                begin = sum(SECTORS[:number])
                self.flash[begin : begin + SECTORS[number]] = b"\xff" * SECTORS[number]
            self._stick()

    def _program(self, offset: int, value: int, size: int) -> bool:
        if self.gone_after is not None:
            self.gone = self.gone or self.gone_after <= 0
            self.gone_after -= 1
        if self.locked or self.gone:
            return False
        if self._control & 0x8000_0001 == 1:  # unlocked, and PG
            for i in range(size):
                self.flash[offset + i] &= value >> 8 * i & 0xFF
            self._stick()
        return True

    def _stick(self) -> None:
        if self.stuck is not None:
            self.flash[self.stuck] &= 0xFE


# the states of a test access port, and where TMS 0 and 1 lead
NEXT = {
    "reset": ("idle", "reset"),
    "idle": ("idle", "select dr"),
    "select dr": ("capture dr", "select ir"),
    "capture dr": ("shift dr", "exit1 dr"),
    "shift dr": ("shift dr", "exit1 dr"),
    "exit1 dr": ("pause dr", "update dr"),
    "pause dr": ("pause dr", "exit2 dr"),
    "exit2 dr": ("shift dr", "update dr"),
    "update dr": ("idle", "select dr"),
    "select ir": ("capture ir", "reset"),
    "capture ir": ("shift ir", "exit1 ir"),
    "shift ir": ("shift ir", "exit1 ir"),
    "exit1 ir": ("pause ir", "update ir"),
    "pause ir": ("pause ir", "exit2 ir"),
    "exit2 ir": ("shift ir", "update ir"),
    "update ir": ("idle", "select dr"),
}
ABORT, DPACC, APACC, IDCODE = 0x8, 0xA, 0xB, 0xE
OK, WAIT = 2, 1


class Port:
    """Two ports in a row, as in an STM32: TDI, boundary scan, debug port, TDO."""

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self._state = "reset"
        self._bits: list[int] = []  # what is shifted, TDO's first
        self._debug_ir, self._scan_ir = IDCODE, 1
        self._select = self._csw = self._tar = self._result = self._status = 0

    @property
    def out(self) -> int:
        return self._bits[0] if self.chip.powered and self._bits and self._state.startswith("shift") else 1

    def clock(self, tms: int, tdi: int) -> None:
        """A rising edge of TCK."""
        if self._state == "capture dr":
            self._bits = self._capture()
        elif self._state == "capture ir":
            self._bits = [1, 0, 0, 0, 1, 0, 0, 0, 0]
        elif self._state.startswith("shift"):
            self._bits = [*self._bits[1:], tdi]
        self._state = NEXT[self._state][tms]
        if self._state == "reset":
            self._debug_ir, self._scan_ir = IDCODE, 1
        elif self._state == "update ir":
            self._debug_ir, self._scan_ir = _number(self._bits[:4]), _number(self._bits[4:9])
        elif self._state == "update dr":
            self._update(_number(self._bits[:35]))

    def _capture(self) -> list[int]:
        if self._debug_ir == IDCODE:
            debug = _bits(0x4BA00477, 32)
        elif self._debug_ir in (DPACC, APACC, ABORT):
            debug = _bits(self._result << 3 | OK, 35)
        else:
            debug = [0]
        return debug + (_bits(0x06421041, 32) if self._scan_ir == 1 else [0])

    def _update(self, value: int) -> None:
        """Carries out an access; its result is captured by the next."""
        reading, address, data = value & 1, value << 1 & 0xC, value >> 3
        if self._debug_ir == DPACC:
            if reading:
                self._result = self._status if address == 4 else 0 if address != 0xC else self._result
            elif address == 4:
                sticky = self._status & 0x20 & ~data  # a 1 clears it
                self._status = sticky | data & 0x5000_0000 | (data & 0x5000_0000) << 1
            elif address == 8:
                self._select = data
        elif self._debug_ir == APACC and not self._status & 0x20:
            register = self._select & 0xF0 | address
            if reading:
                self._result = self._ap_read(register)
            else:
                self._ap_write(register, data)

    def _ap_read(self, register: int) -> int:
        if self._select >> 24:
            return 0  # there is one access port
        if register == 0x0C:
            value = self.chip.read(self._tar & ~3)
            self._step()
            return self._failed() if value is None else value
        if register & 0xF0 == 0x10:
            value = self.chip.read(self._tar & ~0xF | register & 0xC)
            return self._failed() if value is None else value
        return {0x00: self._csw | 0x40, 0x04: self._tar, 0xF8: 0xE00FF003, 0xFC: 0x24770011}.get(register, 0)

    def _ap_write(self, register: int, value: int) -> None:
        if self._select >> 24:
            return
        if register == 0x00:
            self._csw = value & ~0x40
        elif register == 0x04:
            self._tar = value
        elif register == 0x0C:
            if not self.chip.write(self._tar, value, 1 << (self._csw & 3)):
                self._failed()
            self._step()
        elif register & 0xF0 == 0x10 and not self.chip.write(self._tar & ~0xF | register & 0xC, value, 4):
            self._failed()

    def _step(self) -> None:
        if self._csw >> 4 & 3:
            size = 1 << (self._csw & 3)
            self._tar = self._tar & ~0x3FF | self._tar + size & 0x3FF

    def _failed(self) -> int:
        self._status |= 0x20
        return 0


def _bits(value: int, count: int) -> list[int]:
    return [value >> i & 1 for i in range(count)]


def _number(bits: list[int]) -> int:
    return sum(bit << i for i, bit in enumerate(bits))


def _serve(server: socket.socket, chip: Chip) -> None:
    with contextlib.suppress(OSError):
        line, _ = server.accept()
        port, level = Port(chip), 0
        with line:
            while data := line.recv(1 << 16):
                answer = bytearray()
                for char in data.decode("ascii"):
                    if char in "01234567":
                        now = int(char) >> 2
                        if now and not level:
                            port.clock(int(char) >> 1 & 1, int(char) & 1)
                        level = now
                    elif char == "R":
                        answer += b"1" if port.out else b"0"
                if chip.gone:
                    return  # the cable is pulled
                line.sendall(answer)


@contextlib.contextmanager
def behind_remote_bitbang(chip: Chip, folder: Path) -> Iterator[str]:
    """A configuration file with which OpenOCD reaches the chip."""
    path = folder / "wire"
    server = socket.socket(socket.AF_UNIX)  # on TCP every turn would wait 40 ms for Nagle's algorithm
    server.bind(str(path))
    server.listen()
    thread = threading.Thread(target=_serve, args=(server, chip), daemon=True)
    thread.start()
    config = folder / "simulated.cfg"
    config.write_text(
        f"adapter driver remote_bitbang\nremote_bitbang host {path}\nremote_bitbang port 0\n"
        "transport select jtag\nset WORKAREASIZE 0\nsource [find target/stm32f4x.cfg]\n"
        "reset_config none\ncortex_m reset_config sysresetreq\n"
        "$_TARGETNAME configure -event reset-init {}\n$_TARGETNAME configure -event reset-start {}\n"
    )
    try:
        yield str(config)
    finally:
        server.close()
        path.unlink()
        thread.join(5)
