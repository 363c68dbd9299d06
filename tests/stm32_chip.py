"""A simulated STM32 around unicorn's Cortex-M: registers that become ready or never do, written down as they are used.

It is no emulator of the chip: it has the clock tree, the USART, timers, pins and the cycle counter, as the reference
manuals have them, and nothing of our C went into it. Whatever the manuals forbid is a violation: a clock above what
voltage, flash or a bus bears, a PLL changed while it runs, a peripheral used without its clock. `chip.tree()` computes
from the registers as they are what really runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import unicorn
from unicorn import arm_const as arm

from firmware_tools.boards import Board
from firmware_tools.build import Image

CYCLES_AN_ACCESS = 10
DEMCR, DWT_CTRL, DWT_CYCCNT, DWT_LAR = 0xE000EDFC, 0xE0001000, 0xE0001004, 0xE0001FB0
SYST_CSR, SYST_RVR, SYST_CVR = 0xE000E010, 0xE000E014, 0xE000E018
CCSIDR, DCISW, CCR, ICIALLU = 0xE000ED80, 0xE000EF60, 0xE000ED14, 0xE000EF50
TIM2, TIM5 = 0x40000000, 0x40000C00
PAGES = (
    (0x40000000, 0x28000),
    (0x48000000, 0x3000),
    (0x52002000, 0x1000),
    (0x58000000, 0x25000),
    (0x5C001000, 0x1000),
    (0xE0000000, 0x43000),
)
NEVER = -1
LONGEST_US = 120_000_000
WFI = bytes.fromhex("30bf")
MHZ = 1_000_000


@dataclass(frozen=True)
class Tree:
    """What runs, in hertz; `bus` is AHB, which flash hangs on, and below it are the APBs."""

    cpu: float
    bus: float
    apb1: float
    apb2: float
    timers: float  # of APB1


@dataclass(frozen=True)
class Rule:
    """A ready bit: it follows `wanted` after as many reads of its register as `late` says, at once the other way."""

    name: str
    register: int
    mask: int
    wanted: Callable[[Chip], bool]


@dataclass(frozen=True)
class Family:
    """What one chip has. limits(chip) names what is too fast now; gates: (first, last, register, bit) of clocks."""

    reset: Mapping[int, int]
    rules: tuple[Rule, ...]
    tree: Callable[[Chip], Tree]
    limits: Callable[[Chip], list[str]]
    cfgr: int
    sws: int  # its lowest bit; SW is at bit 0
    sources: Mapping[int, Callable[[Chip], bool]]  # of SW: is it ready?
    acr: int
    frozen: tuple[tuple[int, int, Callable[[Chip], bool]], ...]  # register, mask: may not change while
    gates: tuple[tuple[int, int, int, int], ...]
    idcode: tuple[int, int]
    gpio: int
    uart: int
    fifo: int
    old: bool  # a USART with SR and DR
    baud: Callable[[Chip], float]


@dataclass
class Chip:
    """One chip with an image in its flash. slow: by names of rules (`SWS`, `ACR` too) how late they are, or NEVER."""

    family: Family
    board: Board
    image: Image
    slow: Mapping[str, int] = field(default_factory=dict)
    stuck_late: bool = False  # the switch to the PLL comes when it is no longer waited for, and for ever
    started: Mapping[int, int] = field(default_factory=dict)  # registers that a boot loader left otherwise than reset

    def __post_init__(self) -> None:
        self.registers = {**self.family.reset, **self.started}
        self.seen: dict[str, float] = {}  # violations, and when each was first
        self.polled = (-1, 0)  # the register that is read again and again, and what it holds
        self.reads: dict[str, int] = {}
        self.cycles = self.cycles_before = 0
        self.seconds = 0.0
        self.timers: dict[int, float] = {}
        self.received: deque[tuple[int, bool]] = deque()
        self.overrun = self.flags_seen = False
        self.sent = bytearray()
        self.unlocked = False
        self.since: dict[str, float] = {}  # for limits: when something was seen first
        self.sets_cleaned: set[int] = set()
        self.core = core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        core.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M7 if "M7" in self.board.core else arm.UC_CPU_ARM_CORTEX_M4)
        flash = self.board.flash
        core.mem_map(flash.start, flash.size_bytes, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        for ram in self.board.rams:
            core.mem_map(ram.start, ram.size_bytes, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        for address, content in self.image.segments:
            core.mem_write(address, content)
        for start, size in PAGES:
            core.mmio_map(start, size, self._reader(start), None, self._writer(start), None)
        stack, self.at = (int.from_bytes(core.mem_read(flash.start + i, 4), "little") for i in (0, 4))
        core.reg_write(arm.UC_ARM_REG_SP, stack)
        self._settle()

    # --- what a test does

    def run(self, sleeps: int = 1) -> None:
        """Until the firmware has slept so many times; 10 ms each, or less where a byte is waiting."""
        for _ in range(sleeps):
            self.core.emu_start(self.at | 1, 0, timeout=LONGEST_US)
            self.at = self.core.reg_read(arm.UC_ARM_REG_PC)
            assert bytes(self.core.mem_read(self.at - 2, 2)) == WFI, f"it waits for ever, at {self.at:#x}"
            self.polled = (-1, 0)
            part = 0.01 if not self.received else 0.0001
            self.seconds += part
            self.registers[SYST_CVR] = int(self.registers[SYST_RVR] * (1 - part / 0.01))
            self.registers[SYST_CSR] = self.registers.get(SYST_CSR, 0) | (0x10000 if part == 0.01 else 0)

    def compute(self, seconds: float) -> None:
        """Time passes without a sleep, as if a model computed."""
        self.seconds += seconds
        self.cycles += round(seconds * self._cpu_hz)

    def receive(self, byte: int, framing_error: bool = False) -> None:
        """A byte comes in. What has no room is lost, and until that is acknowledged nothing else comes."""
        if len(self.received) >= max(1, self.family.fifo):
            self.overrun = True
        elif not self.overrun:
            self.received.append((byte, framing_error))

    def ask(self, byte: bytes) -> str:
        """What the firmware prints in answer to a byte."""
        self.sent.clear()
        self.receive(byte[0])
        self.run(2)
        return self.sent.decode()

    def violations(self) -> list[str]:
        return [f"{what}, at {seconds:.6f} s" for what, seconds in self.seen.items()]

    def count_loops(self) -> None:
        """Loops without an access take time, too: at least a cycle for four bytes of instructions."""

        def block(_core: unicorn.Uc, _at: int, size: int, _user: object) -> None:
            self.cycles += size // 4
            self.seconds += size // 4 / self._cpu_hz

        self.core.hook_add(unicorn.UC_HOOK_BLOCK, block)

    def tree(self) -> Tree:
        return self.family.tree(self)

    def baud(self) -> float:
        return self.family.baud(self)

    def bits(self, register: int, place: int, width: int) -> int:
        return self.registers.get(register, 0) >> place & (1 << width) - 1

    def pin(self, number: int) -> tuple[int, int, int]:
        """Mode, alternate function and output level of a pin."""
        base = self.family.gpio + 0x400 * (number // 16)
        at = number % 16
        return (
            self.bits(base, 2 * at, 2),
            self.bits(base + 0x20 + at // 8 * 4, at % 8 * 4, 4),
            self.bits(base + 0x14, at, 1),
        )

    # --- how

    def _reader(self, start: int) -> Callable[..., int]:
        return lambda _core, offset, _size, _user: self._read(start + offset)

    def _writer(self, start: int) -> Callable[..., None]:
        return lambda _core, offset, _size, value, _user: self._write(start + offset, value)

    def _read(self, at: int) -> int:
        self._pass()
        if at == self.polled[0]:
            return self.polled[1]
        value = self._read_once(at)
        never = [rule.register for rule in self.family.rules if self.slow.get(rule.name) == NEVER]
        if at in never or (at == self.family.cfgr and self.slow.get("SWS") == NEVER) or at == self.family.acr:
            self.polled = at, value  # until something is written, nothing changes
        return value

    def _read_once(self, at: int) -> int:
        self._refuse_without_clock(at)
        for rule in self.family.rules:
            if rule.register == at and rule.name in self.slow:
                self.reads[rule.name] = self.reads.get(rule.name, 0) + 1
                self._settle()
        if at == self.family.cfgr and "SWS" in self.slow:
            self.reads["SWS"] = self.reads.get("SWS", 0) + 1
            self._settle()
        if at == DWT_CYCCNT:
            return self.cycles - self.cycles_before & 0xFFFFFFFF if self._counts() else self.registers.get(at, 0)
        if at == CCSIDR:
            return 0xF00FE019  # 16 KB in 4 ways of 128 sets
        if at in (TIM2 + 0x24, TIM5 + 0x24):
            return self._timer(at - 0x24)
        if at == self.family.idcode[0]:
            return self.family.idcode[1]
        if at == SYST_CSR:
            value = self.registers.get(at, 0)
            self.registers[at] = value & ~0x10000
            return value
        uart = at - self.family.uart
        return self._read_uart(uart, at) if 0 <= uart < 0x30 else self.registers.get(at, 0)

    def _write(self, at: int, value: int) -> None:
        self._pass()
        self.polled = (-1, 0)
        self._refuse_without_clock(at)
        before = self.registers.get(at, 0)
        for register, mask, running in self.family.frozen:
            if register == at and (before ^ value) & mask and running(self):
                self._violation(f"{at:#x} changed from {before:#x} to {value:#x} while it may not be")
        for rule in self.family.rules:  # hardware's bits are not written
            if rule.register == at:
                value = value & ~rule.mask | before & rule.mask
        if at == self.family.cfgr:
            width = 3 if self.family.sws == 3 else 2
            mask = (1 << width) - 1 << self.family.sws
            value = value & ~mask | before & mask
        if at == self.family.acr and "ACR" in self.slow:
            value = value & ~0xF | before & 0xF
        if at == DWT_LAR:
            self.unlocked = value == 0xC5ACCE55
        if at == DWT_CYCCNT:
            self.cycles_before = self.cycles - value
        if at == DCISW:
            self.sets_cleaned.add(value)
        if at == CCR and value >> 16 & 1 and len(self.sets_cleaned) != 512:
            self._violation("the data cache was switched on before it was emptied")
        if at in (TIM2, TIM5) and value & 1:
            self.timers[at] = self.seconds
        uart = at - self.family.uart
        if 0 <= uart < 0x30 and self._write_uart(uart, value):
            return
        port = at - self.family.gpio
        if 0 <= port < 0x2C00 and port % 0x400 == 0x18:
            output = at - 4
            self.registers[output] = (self.registers.get(output, 0) | value & 0xFFFF) & ~(value >> 16)
            return
        self.registers[at] = value
        self._settle()

    def _pass(self) -> None:
        self.cycles += CYCLES_AN_ACCESS
        self.seconds += CYCLES_AN_ACCESS / self._cpu_hz

    def _settle(self) -> None:
        """Hardware follows what was written; then all limits are looked at."""
        for rule in self.family.rules:
            value = self.registers.get(rule.register, 0)
            if not rule.wanted(self):
                self.registers[rule.register] = value & ~rule.mask
                self.reads.pop(rule.name, None)
            elif self._came(rule.name):
                self.registers[rule.register] = value | rule.mask
        self._switch()
        self._cpu_hz = self.tree().cpu
        for what in self.family.limits(self):
            self._violation(what)

    def _violation(self, what: str) -> None:
        self.seen.setdefault(what, self.seconds)

    def _came(self, name: str) -> bool:
        late = self.slow.get(name, 0)
        return late != NEVER and self.reads.get(name, 0) >= late

    def _switch(self) -> None:
        cfgr, place = self.family.cfgr, self.family.sws
        width = 3 if place == 3 else 2
        wanted, now = self.bits(cfgr, 0, width), self.bits(cfgr, place, width)
        if self.stuck_late:
            first = max(self.family.sources)
            if wanted == first:
                self.reads["stuck"] = 1
                return
            if self.reads.get("stuck"):
                wanted = first
        if wanted == now:
            return
        if not self.stuck_late and not self._came("SWS") and wanted == max(self.family.sources):
            return
        if not self.family.sources[wanted](self):
            self._violation(f"SW is {wanted}, whose clock is not ready")
            return
        mask = (1 << width) - 1
        self.registers[cfgr] = self.registers[cfgr] & ~(mask << place) | wanted << place

    def _refuse_without_clock(self, at: int) -> None:
        for first, last, register, bit in self.family.gates:
            if first <= at <= last and not self.bits(register, bit, 1):
                self._violation(f"{at:#x} was used without its clock")

    def _counts(self) -> bool:
        locked = "M7" in self.board.core and not self.unlocked
        return not locked and bool(self.bits(DEMCR, 24, 1) and self.bits(DWT_CTRL, 0, 1))

    def _timer(self, timer: int) -> int:
        if timer not in self.timers or not self.bits(timer, 0, 1):
            return self.registers.get(timer + 0x24, 0)
        hz = self.tree().timers / (self.bits(timer + 0x28, 0, 16) + 1)
        return int((self.seconds - self.timers[timer]) * hz) & 0xFFFFFFFF

    def _read_uart(self, offset: int, at: int) -> int:
        status, data = (0x00, 0x04) if self.family.old else (0x1C, 0x24)
        if offset == status:
            self.flags_seen = True
            error = bool(self.received) and self.received[0][1]
            return 0xC0 | bool(self.received) << 5 | self.overrun << 3 | error << 1
        if offset == data:
            if status == 0 and self.flags_seen:
                self.overrun = False
            self.flags_seen = False
            return self.received.popleft()[0] if self.received else 0
        return self.registers.get(at, 0)

    def _write_uart(self, offset: int, value: int) -> bool:
        if offset == (0x04 if self.family.old else 0x28):
            self.sent.append(value & 0xFF)
            return True
        if not self.family.old and offset == 0x20:
            self.overrun = self.overrun and not value >> 3 & 1
            return True
        return False
