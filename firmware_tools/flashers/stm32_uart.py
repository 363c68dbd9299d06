"""The bootloader in the ROM of STM32s, over a UART: with an adapter of 3.3 V and three wires, and no probe.

The chip starts it where BOOT0 is high at reset. A port whose DTR is wired to RESET and whose RTS is wired to BOOT0 gets
there by itself, whatever their polarity; else a person is asked to press. Everything is read back. The ROM listens on
UARTs of its own (AN2606), which the serial port of a Nucleo's probe is wired to on few boards.

Sources: AN3155 (firmware_tools/an3155.py); AN2606 (product ids, UARTs); sectors: the chapters on flash of RM0090,
RM0390, RM0383, RM0368, RM0402, RM0351, RM0432, RM0433, RM0008 and RM0360. That an erase has reached the image's own
sectors is seen by reading, so that a wrong map ends in an error.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import serial

from firmware_tools import an3155
from firmware_tools.an3155 import MOST_BYTES, MOST_PAGES, Dirty, Refused, Rom, Silent
from firmware_tools.errors import LinkError, UserError
from firmware_tools.flashers import Flashed, Progress, State, Work
from firmware_tools.transports import TERMINAL_FAULTS, clean

if TYPE_CHECKING:
    from firmware_tools.boards import Board
    from firmware_tools.build import Image
    from firmware_tools.ports import Device

NEEDS = "a serial adapter at a UART of the chip's ROM, and BOOT0"

K = 1024
F4 = ((4, 16 * K), (1, 64 * K))
# product id: the chips, and (how many, bytes) of their sectors in order of addresses; None: all of flash is erased
CHIPS: dict[int, tuple[str, tuple[tuple[int, int], ...] | None]] = {
    0x410: ("STM32F103x8/xB", ((128, 1 * K),)),
    0x413: ("STM32F405/F407", (*F4, (7, 128 * K))),
    0x415: ("STM32L475/L476", ((512, 2 * K),)),
    0x419: ("STM32F42x/F43x", (*F4, (7, 128 * K), *F4, (7, 128 * K))),
    0x421: ("STM32F446", (*F4, (3, 128 * K))),
    0x423: ("STM32F401xB/xC", (*F4, (1, 128 * K))),
    0x431: ("STM32F411", (*F4, (3, 128 * K))),
    0x433: ("STM32F401xD/xE", (*F4, (3, 128 * K))),
    0x440: ("STM32F051/F030x8", ((64, 1 * K),)),
    0x441: ("STM32F412", (*F4, (7, 128 * K))),
    0x450: ("STM32H742/H743", ((16, 128 * K),)),
    0x470: ("STM32L4R5/L4S5", None),  # pages of 4 or 8 KiB, by an option byte
}
ROUNDS = 3  # erase, write and verify; the next where a block was spoilt on the way
READINGS = 7
WORD = 4
LOOK_BYTES = 64  # of each sector, to see that it is erased
PATIENCE_S = 60.0  # for the person who presses
RESET_S, START_S, POLL_S = 0.05, 0.15, 0.4
WIRINGS = tuple((reset, boot) for reset in (True, False) for boot in (False, True))  # DTR, RTS as the ROM wants them
sleep = time.sleep


@dataclass(frozen=True)
class Wiring:
    """How DTR resets the chip, and which RTS means BOOT0 high."""

    reset: bool
    boot: bool


def flash(image: Image, board: Board, device: Device, progress: Progress) -> Flashed:
    """Writes image over the ROM's UART protocol; contract in flashers/__init__.py."""
    again = "its ROM cannot be overwritten: set BOOT0 to 1, press RESET and flash it again"
    with Work(board.name, again) as work:
        start, content = image.segments[0][0], _padded(image.flash_content())
        with _opened(board, device) as port:
            rom = Rom(port, device.port or "")
            with work.step("bootloader"):
                wiring = _enter(port, rom, progress)
                rom.troubles = 0  # what was said before was not the ROM's
                erase = _meet(rom, board, start, len(content))
            _program(Job(rom, work, progress, start, content, erase), lambda: _revived(port, rom, wiring))
            with work.step("start"):
                progress("start", 0, 0)
                _start(port, rom, wiring, start)
        return work.done(read_back=True)


@contextlib.contextmanager
def _opened(board: Board, device: Device) -> Iterator[Any]:
    """The port: 8 bits, even parity, DTR and RTS released."""
    if device.port is None or board.programming.rom_id is None:
        what = "has no UART bootloader in its ROM" if device.port else "needs the name of a serial port"
        raise UserError(f"{board.name} {what}", f"--to {board.name}@PORT, or one of {', '.join(board.flashers)}")
    try:
        port = serial.serial_for_url(
            device.port,
            an3155.BAUD,
            parity=serial.PARITY_EVEN,
            timeout=an3155.TICK_S,
            write_timeout=5.0,
            exclusive=True,
            do_not_open=True,
        )
        port.dtr = port.rts = False
        port.open()
    except (serial.SerialException, ValueError, *TERMINAL_FAULTS) as error:
        hint = "is it the right port, does another program use it, and may you (dialout)?"
        raise UserError(f"{device.port} cannot be opened: {clean(str(error))}", hint) from None
    try:
        yield port
    except TERMINAL_FAULTS as error:
        raise LinkError(f"{device.port} is gone: {clean(str(error))}", "was it unplugged?") from None
    finally:
        with contextlib.suppress(serial.SerialException, OSError):
            port.close()


# --- into the ROM


def _enter(port: Any, rom: Rom, progress: Progress) -> Wiring | None:
    """Has the ROM answer; returns the wiring that led there, None where it listened already or somebody pressed."""
    progress("bootloader", 0, 0)
    if _answers(rom):
        return None
    for reset, boot in WIRINGS:
        wiring = Wiring(reset, boot)
        if not _reset(port, wiring, boot):
            break
        if _answers(rom):
            return wiring
    for _ in range(int(PATIENCE_S / POLL_S)):
        progress("set BOOT0 to 1 and press RESET", 0, 0)
        if _answers(rom):
            return None
        sleep(POLL_S)
    raise LinkError(
        f"no STM32 bootloader answers in {PATIENCE_S:g} s",
        "BOOT0 to 1 (3.3 V), then RESET; TX to RX, RX to TX, GND to GND; it must be a UART of the ROM (AN2606)",
    )


def _answers(rom: Rom) -> bool:
    """Is it the ROM that is there? Firmware may send what looks like an ACK, but no list of commands."""
    try:
        return rom.sync() and {an3155.GET, an3155.READ, an3155.WRITE} <= rom.commands()
    except LinkError:
        return False


def _revived(port: Any, rom: Rom, wiring: Wiring | None) -> bool:
    """Resets a ROM that does not answer any more, where the wires are there; does it answer now?"""
    return wiring is not None and _reset(port, wiring, wiring.boot) and _answers(rom)


def _reset(port: Any, wiring: Wiring, rts: bool) -> bool:
    """Pulls RESET with RTS so; False where the port has no such lines."""
    try:
        port.rts = rts
        port.dtr = wiring.reset
        sleep(RESET_S)
        port.dtr = not wiring.reset
        sleep(START_S)
    except serial.SerialException:
        raise
    except (OSError, AttributeError, NotImplementedError):
        return False
    return True


@dataclass(frozen=True)
class Erase:
    """How to erase: with which of the two commands, and which sectors (number, first address); None: all of flash."""

    extended: bool
    sectors: list[tuple[int, int]] | None


def _meet(rom: Rom, board: Board, start: int, size: int) -> Erase:
    """Refuses another chip and a locked one; tells how this one is erased for size bytes from start on."""
    found, wanted = rom.product_id(), board.programming.rom_id
    if found != wanted:
        name = CHIPS[found][0] if found in CHIPS else "an unknown chip"
        raise UserError(
            f"the chip is no {board.name}: its product id is {found:#x} ({name}), that of the board is {wanted:#x}",
            "build the image for the board that is plugged in",
        )
    commands = rom.commands()
    try:
        rom.read(start, 4)
    except Refused:
        raise UserError(
            "the chip is protected against reading (RDP level 1), and its ROM refuses to read and write flash",
            "only removing that helps, which erases all of flash: STM32_Programmer_CLI -c port=SWD -ob RDP=0xAA",
        ) from None
    layout = CHIPS[found][1] if found in CHIPS else None
    sectors = _sectors(layout, board.flash.start, start, size) if layout else None
    return Erase(an3155.EXTENDED_ERASE in commands, sectors)


def _sectors(layout: tuple[tuple[int, int], ...], flash: int, start: int, size: int) -> list[tuple[int, int]]:
    """(number, first address) of the sectors that size bytes from start on lie in."""
    found, number, address = [], 0, flash
    for count, sector_bytes in layout:
        for _ in range(count):
            if address < start + size and start < address + sector_bytes:
                found.append((number, address))
            number, address = number + 1, address + sector_bytes
    return found


# --- flash


@dataclass(frozen=True)
class Job:
    """What all parts of a flash share."""

    rom: Rom
    work: Work
    progress: Progress
    start: int
    content: bytes
    erase: Erase


def _program(job: Job, revive: Callable[[], bool]) -> None:
    """Erases, writes and reads back; again where a block was spoilt on its way, or revive had the ROM answer again."""
    for left in reversed(range(ROUNDS)):
        try:
            with job.work.step("erase"):
                _erase(job)
            with job.work.step("write"):
                _write(job)
            with job.work.step("verify"):
                for _ in range(1 + bool(job.rom.troubles)):  # a bad line might also turn what is wrong into right
                    _verify(job)
            job.work.state = State.VERIFIED
            return
        except Dirty:
            if not left:
                raise
        except Silent:
            if not left or not revive():
                raise


def _erase(job: Job) -> None:
    """Erases what the image needs, and looks whether it is erased: the ROM does not tell of protected sectors."""
    sectors, end = job.erase.sectors, job.start + len(job.content)
    if job.work.state is State.UNTOUCHED:
        job.work.state = State.ERASING
    for first in range(0, len(sectors or [0]), MOST_PAGES):
        job.progress("erase", first, len(sectors or [0]))
        numbers = [number for number, _ in sectors[first : first + MOST_PAGES]] if sectors else None
        job.rom.erase(numbers, job.erase.extended)
    for _, begin in sectors or [(0, job.start)]:
        begin = max(begin, job.start)
        count = min(LOOK_BYTES, end - begin)
        if not any(job.rom.read(begin, count) == b"\xff" * count for _ in range(READINGS)):
            raise UserError(
                f"the flash at {begin:#010x} is not erased, although the ROM says so",
                "are its sectors protected against writing? STM32_Programmer_CLI -c port=SWD -ob displ tells",
            )
    job.work.state = State.ERASED


def _write(job: Job) -> None:
    """The state is HALF_WRITTEN until the last block goes out that is not as erased flash is."""
    last = len(job.content.rstrip(b"\xff")) - MOST_BYTES
    for at in range(0, len(job.content), MOST_BYTES):
        job.progress("write", at, len(job.content))
        job.work.state = State.HALF_WRITTEN if at < last else State.UNVERIFIED
        job.rom.write(job.start + at, job.content[at : at + MOST_BYTES])
    job.progress("write", len(job.content), len(job.content))


def _verify(job: Job) -> None:
    """Reads everything. Dirty where flash is wrong, LinkError where the line lets nobody know."""
    rom, size = job.rom, len(job.content)
    for at in range(0, size, MOST_BYTES):
        job.progress("verify", at, size)
        wanted, address = job.content[at : at + MOST_BYTES], job.start + at
        if rom.read(address, len(wanted)) == wanted:
            continue
        troubles = rom.troubles
        right = _is_right(rom, address, wanted)
        if right is None:
            raise LinkError("what is read back differs each time", "the line is bad: another cable, a shorter one")
        rom.troubles = troubles + right
        if not right:
            job.work.state = State.WRONG
            raise Dirty(f"the flash at {address:#010x} reads back wrong", "a worn or faulty chip, if it stays so")
    job.progress("verify", size, size)


def _is_right(rom: Rom, address: int, wanted: bytes) -> bool | None:
    """Is it the flash that differs, or what the line made of it? None where nobody can know.

    A whole block is spoilt more often than one word, and in a run of equal bytes many ways to spoil it look the same:
    only the same wrong word in READINGS of it shows that flash is wrong.
    """
    for _ in range(READINGS):
        rom.recover()
        seen = rom.read(address, len(wanted))
        if seen == wanted:
            return True
        at = next(i for i in range(0, len(wanted), WORD) if seen[i : i + WORD] != wanted[i : i + WORD])
        words = {rom.read(address + at, WORD) for _ in range(READINGS)}
        if len(words) == 1 and words != {wanted[at : at + WORD]}:
            return False
    return None


def _padded(content: bytes) -> bytes:
    """Whole flash words: of 32 bytes in an H7, 16 in an L5, 8 in an L4."""
    return content + b"\xff" * (-len(content) % 32)


def _start(port: Any, rom: Rom, wiring: Wiring | None, start: int) -> None:
    """By a reset where the wires are there, which leaves no trace of the ROM; else the ROM jumps."""
    if wiring and _reset(port, wiring, not wiring.boot):
        return
    try:
        rom.go(start)
    except LinkError as error:
        raise LinkError(error.message, "set BOOT0 to 0 and press RESET") from None
