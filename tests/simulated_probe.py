"""A simulated nRF52840 behind a simulated debug probe, as pyOCD's protocol for remote probes has it.

The chip's core is unicorn's: it runs the programs that pyOCD puts into its RAM to write flash. Written from Arm's
ADIv5 and Armv7-M manuals and Nordic's product specification (NVMC, FICR, CTRL-AP); the protocol is that of the server
of pyOCD 0.46.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import unicorn as uc
from unicorn import arm_const as arm

FLASH_BYTES, RAM, RAM_BYTES, PAGE = 1 << 20, 0x2000_0000, 1 << 18, 4096
NVMC, READY, CONFIG, ERASEPAGE, ERASEALL = 0x4001_E000, 0x400, 0x504, 0x508, 0x50C
DHCSR, DCRSR, DCRDR, DFSR, AIRCR, DEMCR = 0xE000EDF0, 0xE000EDF4, 0xE000EDF8, 0xE000ED30, 0xE000ED0C, 0xE000EDFC
REGISTERS = [getattr(arm, f"UC_ARM_REG_R{n}") for n in range(13)]
REGISTERS += [arm.UC_ARM_REG_SP, arm.UC_ARM_REG_LR, arm.UC_ARM_REG_PC]
MOST_INSTRUCTIONS = 2_000_000
FAULT, GONE = 12, 2  # status codes of the protocol


class Fault(Exception):
    """A bus error."""


def component(kind: int, part: int) -> dict[int, int]:
    """The identification registers of a component of Arm's, by their offsets."""
    peripheral = [part & 0xFF, 0xB0 | part >> 8, 0x0B, 0]
    ids = {0xFD0: 4, **{0xFE0 + 4 * i: byte for i, byte in enumerate(peripheral)}}
    return ids | {0xFF0: 0x0D, 0xFF4: kind << 4, 0xFF8: 0x05, 0xFFC: 0xB1}


@dataclass
class Chip:
    """stuck: an offset in flash whose lowest bit is 0 for ever; gone_after: words written until the cable is pulled."""

    old: bytes
    stuck: int | None = None
    locked: bool = False
    gone_after: int | None = None
    gone: bool = False
    flash: bytearray = field(default_factory=bytearray)
    words: dict[int, int] = field(default_factory=dict)
    _config: int = 0
    _halted: bool = False
    _was_reset: bool = False

    def __post_init__(self) -> None:
        self.core = uc.Uc(uc.UC_ARCH_ARM, uc.UC_MODE_THUMB | uc.UC_MODE_MCLASS)
        self.core.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M4)
        self.flash = bytearray(self.old.ljust(FLASH_BYTES, b"\xff"))
        self.core.mmio_map(0, FLASH_BYTES, self._load, None, self._program, None)
        self.core.mem_map(RAM, RAM_BYTES)
        self.core.mem_map(0x1000_0000, 0x2000, uc.UC_PROT_READ)
        self.core.mmio_map(0x4000_0000, 0x10_0000, self._peripheral, None, self._set_peripheral, None)
        self.core.mem_write(0x1000_0100, (0x52840).to_bytes(4, "little") + b"0DAA"[::-1])
        self.core.hook_add(uc.UC_HOOK_INTR, lambda core, number, _: core.emu_stop())
        for base, ids in (
            (0xE00FF000, component(1, 0x4C4)),
            (0xE000E000, component(0xE, 0x00C)),
            (0xE0001000, component(0xE, 0x002)),
            (0xE0002000, component(0xE, 0x003)),
        ):
            self.words |= {base + offset: value for offset, value in ids.items()}
        self.words |= {0xE00FF000: 0xFFF0F003, 0xE00FF004: 0xFFF02003, 0xE00FF008: 0xFFF03003}
        self.words |= {0xE000ED00: 0x410FC241, 0xE0002000: 0x60, 0xE0001000: 0x4000_0000}

    # --- flash

    def _peripheral(self, core: uc.Uc, offset: int, size: int, data: object) -> int:
        return 1 if offset + 0x4000_0000 == NVMC + READY else 0

    def _set_peripheral(self, core: uc.Uc, offset: int, size: int, value: int, data: object) -> None:
        register = offset + 0x4000_0000 - NVMC
        if register == CONFIG:
            self._config = value
        elif register == ERASEPAGE and self._config == 2:
            self._write(value & ~(PAGE - 1), b"\xff" * PAGE)
        elif register == ERASEALL and self._config == 2:
            self._write(0, b"\xff" * FLASH_BYTES)

    def _load(self, core: uc.Uc, address: int, size: int, data: object) -> int:
        return int.from_bytes(self.flash[address : address + size], "little")

    def _program(self, core: uc.Uc, address: int, size: int, value: int, data: object) -> None:
        """A write to flash clears bits where writing is enabled."""
        if self.gone_after is not None:
            self.gone = self.gone or self.gone_after <= 0
            self.gone_after -= 1
        if self._config == 1 and not self.gone:
            new = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            there = self.flash[address : address + size]
            self._write(address, bytes(a & b for a, b in zip(there, new, strict=True)))

    def _write(self, address: int, content: bytes) -> None:
        self.flash[address : address + len(content)] = content
        if self.stuck is not None:
            self.flash[self.stuck] &= 0xFE

    # --- the debug port's view

    def read(self, address: int, count: int) -> bytes:
        if self.locked:
            raise Fault
        if address >= 0xE000_0000:
            return b"".join(self._word(address + i).to_bytes(4, "little") for i in range(0, count, 4))[:count]
        if address < FLASH_BYTES:
            return bytes(self.flash[address : address + count])
        if address >= 0x4000_0000:
            return b"\0" * count
        try:
            return bytes(self.core.mem_read(address, count))
        except uc.UcError:
            raise Fault from None

    def write(self, address: int, content: bytes) -> None:
        if self.locked:
            raise Fault
        if address >= 0xE000_0000:
            for i in range(0, len(content), 4):
                self._set_word(address + i, int.from_bytes(content[i : i + 4], "little"))
        elif RAM <= address < RAM + RAM_BYTES:
            self.core.mem_write(address, content)

    def _word(self, address: int) -> int:
        if address == DHCSR:
            value = self.words.get(DHCSR, 0) & 0xF | 1 << 16 | self._halted << 17 | self._was_reset << 25
            self._was_reset = False
            return value
        return self.words.get(address, 0)

    def _set_word(self, address: int, value: int) -> None:
        self.words[address] = value
        if address == DHCSR:
            halt = value & 3 == 3
            if not halt and self._halted:
                self._halted = False
                self._run()
            else:
                self._halted = halt
        elif address == DCRSR:
            self._register(value & 0x7F, bool(value & 0x10000))
        elif address == AIRCR and value >> 16 == 0x05FA and value & 4:
            self._was_reset, self._config = True, 0
            self._halted = bool(self.words.get(DEMCR, 0) & 1)

    def _register(self, number: int, to: bool) -> None:
        known = REGISTERS[number] if number < 16 else arm.UC_ARM_REG_XPSR if number == 16 else None
        if known is not None and to:
            self.core.reg_write(known, self.words[DCRDR])
        elif not to:
            self.words[DCRDR] = self.core.reg_read(known) if known is not None else 0

    def _run(self) -> None:
        """Until a breakpoint instruction; a core that finds none goes on for ever, as far as anybody sees."""
        begin = self.core.reg_read(arm.UC_ARM_REG_PC) | 1
        with contextlib.suppress(uc.UcError):
            self.core.emu_start(begin, 0xFFFF_FFFE, count=MOST_INSTRUCTIONS)
        at = self.core.reg_read(arm.UC_ARM_REG_PC)
        with contextlib.suppress(uc.UcError):
            self._halted = self.core.mem_read(at & ~1, 2)[1] == 0xBE or self.core.mem_read((at & ~1) - 2, 2)[1] == 0xBE


class Probe:
    """Answers the requests of pyOCD's client."""

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self._power = 0

    def answer(self, request: str, arguments: list[Any]) -> Any:
        handler: Callable[..., Any] | None = getattr(self, f"_{request}", None)
        return handler(*arguments) if handler else None

    def _readprop(self, name: str) -> Any:
        return {
            "vendor_name": "simulated",
            "product_name": "simulated probe",
            "supported_wire_protocols": ["SWD", "DEFAULT"],
            "wire_protocol": "SWD",
            "capabilities": [],
        }.get(name)

    def _is_reset_asserted(self) -> bool:
        return False

    def _has_swo(self) -> bool:
        return False

    def _read_dp(self, address: int) -> int:
        return {0: 0x2BA01477, 4: self._power}.get(address, 0)

    def _write_dp(self, address: int, value: int) -> None:
        if address == 4:
            self._power = value & 0x5000_0000 | (value & 0x5000_0000) << 1

    def _read_ap(self, address: int) -> int:
        port, register = address >> 24, address & 0xFF
        if port == 0:
            return {0x00: 0x2300_0040, 0xF8: 0xE00FF003, 0xFC: 0x24770011}.get(register, 0)
        if port == 1:
            return {0x0C: int(not self.chip.locked), 0xFC: 0x02880000}.get(register, 0)
        return 0

    def _get_memory_interface_for_ap(self, version: int, address: int) -> int | None:
        return 0 if address == 0 else None

    def _read_mem(self, handle: int, address: int, bits: int) -> int:
        return int.from_bytes(self.chip.read(address, bits // 8), "little")

    def _write_mem(self, handle: int, address: int, value: int, bits: int) -> None:
        self.chip.write(address, value.to_bytes(bits // 8, "little"))

    def _read_block32(self, handle: int, address: int, count: int) -> list[int]:
        data = self.chip.read(address, 4 * count)
        return [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]

    def _write_block32(self, handle: int, address: int, words: list[int]) -> None:
        self.chip.write(address, b"".join(word.to_bytes(4, "little") for word in words))

    def _read_block8(self, handle: int, address: int, count: int) -> list[int]:
        return list(self.chip.read(address, count))

    def _write_block8(self, handle: int, address: int, data: list[int]) -> None:
        self.chip.write(address, bytes(data))


def _serve(server: socket.socket, probe: Probe) -> None:
    with contextlib.suppress(OSError):
        line, _ = server.accept()
        with line, line.makefile("rwb") as file:
            while data := file.readline():
                request = json.loads(data)
                answer: dict[str, Any] = {"id": request["id"], "status": 0}
                try:
                    answer["result"] = probe.answer(request["request"], request.get("arguments", []))
                except Fault:
                    answer |= {"status": FAULT, "error": "transfer fault"}
                if probe.chip.gone:
                    answer = {"id": request["id"], "status": GONE, "error": "probe disconnected"}
                file.write(json.dumps(answer).encode() + b"\n")
                file.flush()


@contextlib.contextmanager
def behind_pyocds_protocol(chip: Chip) -> Iterator[str]:
    """The name under which pyOCD reaches the chip."""
    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve, args=(server, Probe(chip)), daemon=True)
    thread.start()
    try:
        yield f"remote:127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()
        thread.join(5)
