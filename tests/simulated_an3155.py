"""A simulated STM32 whose ROM speaks AN3155, written from the application note's rules, and the bad line to it.

`Chip` takes bytes and gives bytes. `Port` looks like a pyserial port with a chip at its other end, in a time of its own
that costs none; `on_pty` puts a chip behind a pseudoterminal, in real time.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import threading
import tty
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import serial

ACK, NACK = 0x79, 0x1F
BYTE_S = 11 / 115200  # start, 8 bits, parity, stop
FLASH = 0x0800_0000


@dataclass
class Chip:
    """One STM32. layout: (how many, bytes) of its sectors, in order.

    boots: what it runs after a reset with BOOT0 low or (in ROM) high is decided by who resets; wiring: the levels of
    (DTR, RTS) that reset it and mean BOOT0 high, None where nothing is wired.
    """

    flash: bytearray
    layout: tuple[tuple[int, int], ...]
    product_id: int = 0x421
    extended: bool = True
    protected: bool = False  # RDP level 1
    nacks: int = 1  # how often a protected command is refused
    locked: frozenset[int] = frozenset()  # sectors protected against writing
    stuck: int | None = None  # an offset whose lowest bit is 0 for ever
    counts_pages: bool = True  # does its ROM refuse more pages than it has?
    wiring: tuple[bool, bool] | None = None
    in_rom: bool = True
    chatter: bytes = b""  # what its firmware says to any byte
    started_at: int | None = None
    erase_s: float = 0.4
    busy_s: float = 0.0
    _rom: Generator[None, int, None] | None = None
    _out: bytearray = field(default_factory=bytearray)
    _held: bool = False

    def __post_init__(self) -> None:
        self.reset(self.in_rom)

    @property
    def sectors(self) -> list[tuple[int, int]]:
        """(offset, bytes) of each."""
        found, offset = [], 0
        for count, size in self.layout:
            found += [(offset + i * size, size) for i in range(count)]
            offset += count * size
        return found

    def reset(self, boot0: bool) -> None:
        self.in_rom, self.started_at = boot0, None
        self._rom = self._talk() if boot0 else None
        if self._rom:
            next(self._rom)

    def lines(self, dtr: bool, rts: bool) -> None:
        """What its RESET and BOOT0 see."""
        if self.wiring is None:
            return
        held = dtr == self.wiring[0]
        if self._held and not held:
            self.reset(rts == self.wiring[1])
        self._held = held

    def feed(self, byte: int) -> bytes:
        """What it answers to a byte; busy_s is how long it takes."""
        self.busy_s = 0.0
        self._out.clear()
        if self._held:
            return b""
        if self._rom is None:
            return self.chatter
        with contextlib.suppress(StopIteration):
            self._rom.send(byte)
        return bytes(self._out)

    # --- the ROM

    def _talk(self) -> Generator[None, int, None]:
        while (yield) != 0x7F:
            pass
        self._say(ACK)
        while True:
            command = yield
            if (yield) != command ^ 0xFF:
                self._say(NACK)
            elif command == 0x00:
                codes = bytes(
                    [0x00, 0x01, 0x02, 0x11, 0x21, 0x31, 0x44 if self.extended else 0x43, 0x63, 0x73, 0x82, 0x92]
                )
                self._say(ACK, len(codes), 0x31, *codes, ACK)
            elif command == 0x01:
                self._say(ACK, 0x31, 0, 0, ACK)
            elif command == 0x02:
                self._say(ACK, 1, self.product_id >> 8, self.product_id & 0xFF, ACK)
            elif command in (0x11, 0x21, 0x31, 0x43, 0x44) and self.protected:
                self._say(*[NACK] * self.nacks)
            elif command in (0x11, 0x21, 0x31):
                yield from self._at_address(command)
                if self.started_at is not None:
                    self._rom = None
                    return
            elif command == (0x44 if self.extended else 0x43):
                self._say(ACK)
                yield from (self._erase_extended() if self.extended else self._erase())
            else:
                self._say(NACK)

    def _say(self, *answer: int) -> None:
        self._out += bytes(answer)

    def _take(self, count: int) -> Generator[None, int, bytes]:
        taken = bytearray()
        for _ in range(count):
            taken.append((yield))
        return bytes(taken)

    def _at_address(self, command: int) -> Generator[None, int, None]:
        self._say(ACK)
        part = yield from self._take(5)
        at = int.from_bytes(part[:4], "big") - FLASH
        if _xor(part) or not 0 <= at < len(self.flash) or at % 4:
            self._say(NACK)
            return
        self._say(ACK)
        if command == 0x21:
            self.started_at = at
        elif command == 0x11:
            count, complement = yield from self._take(2)
            if count ^ complement != 0xFF or at + count + 1 > len(self.flash):
                self._say(NACK)
            else:
                self._say(ACK, *self.flash[at : at + count + 1])
        else:
            (count,) = yield from self._take(1)
            data = yield from self._take(count + 1)
            checksum = yield
            if _xor(data) ^ count ^ checksum or (count + 1) % 4:
                self._say(NACK)
            else:
                self._program(at, data)
                self.busy_s = 0.002
                self._say(ACK)

    def _program(self, at: int, data: bytes) -> None:
        for i, (offset, size) in enumerate(self.sectors):
            for j in range(max(at, offset), min(at + len(data), offset + size, len(self.flash))):
                if i not in self.locked:  # no error is returned for those that are
                    self.flash[j] &= data[j - at]  # a bit that is 0 stays 0
        self._stick()

    def _erase_sectors(self, numbers: list[int]) -> None:
        for number in numbers:
            offset, size = self.sectors[number]
            if number not in self.locked:
                self.flash[offset : offset + size] = b"\xff" * size
        self._stick()
        self.busy_s = min(self.erase_s * len(numbers), 32.0)

    def _stick(self) -> None:
        if self.stuck is not None:
            self.flash[self.stuck] &= 0xFE

    def _erase(self) -> Generator[None, int, None]:
        (count,) = yield from self._take(1)
        if count == 0xFF:
            if (yield) == 0:
                self._erase_sectors(list(range(len(self.sectors))))
            self._say(ACK)  # even where the byte was wrong, and nothing was erased
            return
        numbers = yield from self._take(count + 1)
        checksum = yield
        self._finish_erase(list(numbers), _xor(numbers) ^ count ^ checksum)

    def _erase_extended(self) -> Generator[None, int, None]:
        head = yield from self._take(2)
        count = int.from_bytes(head, "big")
        if count >= 0xFFF0:
            checksum = yield
            if checksum ^ _xor(head) or count != 0xFFFF:
                self._say(NACK)
            else:
                self._erase_sectors(list(range(len(self.sectors))))
                self._say(ACK)
            return
        if self.counts_pages and count >= len(self.sectors):
            self._say(NACK)
            return
        pages = yield from self._take(2 * (count + 1))
        checksum = yield
        numbers = [int.from_bytes(pages[i : i + 2], "big") for i in range(0, len(pages), 2)]
        self._finish_erase(numbers, _xor(head) ^ _xor(pages) ^ checksum)

    def _finish_erase(self, numbers: list[int], wrong: int) -> None:
        if wrong or any(number >= len(self.sectors) for number in numbers):
            self._say(NACK)
        else:
            self._erase_sectors(numbers)
            self._say(ACK)


def _xor(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
    return value


@dataclass
class Line:
    """What happens to bytes, either way; each is a share of them. unplugged_at and interrupted_at count bytes."""

    pick: random.Random = field(default_factory=random.Random)
    lost: float = 0.0
    flipped: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    latest_s: float = 4.0
    unplugged_at: int | None = None
    interrupted_at: int | None = None
    carried: int = 0

    def carry(self, byte: int) -> list[int]:
        """What becomes of a byte."""
        if self.carried == self.unplugged_at:
            raise serial.SerialException("device reports readiness to read but returned no data")
        self.carried += 1
        if self.carried == self.interrupted_at:
            raise KeyboardInterrupt
        chance = self.pick.random()
        if chance < self.lost:
            return []
        if chance < self.lost + self.flipped:
            return [byte ^ 1 << self.pick.randrange(8)]
        return [byte] * (2 if chance < self.lost + self.flipped + self.doubled else 1)

    def delay_s(self) -> float:
        return self.pick.uniform(0, self.latest_s) if self.late and self.pick.random() < self.late else 0.0


class Port:
    """A pyserial port to a chip, as far as flashers use one. Nothing takes time but by its own clock."""

    def __init__(self, chip: Chip, line: Line) -> None:
        self.chip, self.line = chip, line
        self.timeout = 0.0
        self.now = 0.0
        self.presses_at: float | None = None  # when a person sets BOOT0 and presses RESET
        self.closed = False
        self._free = 0.0  # when the chip listens again
        self._coming: list[tuple[float, int]] = []
        self._levels = [False, False]

    def set_up(self, baud: int, parity: str, timeout: float, **rest: object) -> Port:
        assert (baud, parity) == (115200, serial.PARITY_EVEN), "the ROM wants 8E1"
        self.timeout = timeout
        return self

    def open(self) -> None:
        self.chip.lines(*self._levels)

    def close(self) -> None:
        self.closed = True

    def sleep(self, seconds: float) -> None:
        self._pass(self.now + seconds)

    def _pass(self, until: float) -> None:
        self.now = max(self.now, until)
        if self.presses_at is not None and self.now >= self.presses_at:
            self.presses_at = None
            self.chip.reset(True)

    def _set(self, line: int, level: bool) -> None:
        if line == 0 and level and self.line.carried == self.line.unplugged_at:
            raise serial.SerialException("gone")
        self._levels[line] = level
        self.chip.lines(*self._levels)

    dtr = property(lambda self: self._levels[0], lambda self, level: self._set(0, level))
    rts = property(lambda self: self._levels[1], lambda self, level: self._set(1, level))

    def write(self, data: bytes) -> int:
        for byte in data:
            self._pass(self.now + BYTE_S)
            for carried in self.line.carry(byte):
                if self.now < self._free:
                    continue  # a chip that erases does not listen
                for i, answer in enumerate(self.chip.feed(carried)):
                    for back in self.line.carry(answer):
                        ready = self.now + self.chip.busy_s + (i + 1) * BYTE_S + self.line.delay_s()
                        behind = self._coming[-1][0] if self._coming else 0.0
                        self._coming.append((max(ready, behind), back))  # late, but in order
                self._free = self.now + self.chip.busy_s
        return len(data)

    def read(self, count: int) -> bytes:
        if self.line.carried == self.line.unplugged_at:
            raise serial.SerialException("gone")
        until, data = self.now + self.timeout, bytearray()
        while len(data) < count and self._coming and self._coming[0][0] <= until:
            when, byte = self._coming.pop(0)
            self._pass(when)
            data.append(byte)
        if len(data) < count:
            self._pass(until)
        return bytes(data)

    def reset_input_buffer(self) -> None:
        self._coming = [(when, byte) for when, byte in self._coming if when > self.now]


@contextlib.contextmanager
def on_pty(chip: Chip, line: Line) -> Iterator[str]:
    """A chip behind a pseudoterminal, by its path."""
    master, slave = os.openpty()
    tty.setraw(slave)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            if not select.select([master], [], [], 0.05)[0]:
                continue
            for byte in os.read(master, 512):
                for carried in line.carry(byte):
                    answer = bytes(b for said in chip.feed(carried) for b in line.carry(said))
                    if answer:
                        os.write(master, answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        over.set()
        thread.join(5)
        os.close(master)
        os.close(slave)
