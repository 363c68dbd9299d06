"""Image -> board: find it, write, wait until its firmware is back, and have that tell what it is and what it reads.

A flash is done when the running firmware tells the identity of the image (HELLO) and the CRC of its own flash (CHECK).
Where no serial port leads to the firmware, the result says what is known instead: what the flasher has read back.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import zoo
from edge.run import find
from firmware_tools import boards, build, emulators, flashers, ports
from firmware_tools.boards import Board
from firmware_tools.build import Image
from firmware_tools.errors import LinkError, UserError
from firmware_tools.flashers import Flashed, FlashError, Progress, State
from firmware_tools.info import Info
from firmware_tools.link import Clock, Link, SerialTransport
from firmware_tools.ports import Device

BACK_S = 20.0  # for the firmware to start, the system to make its port, and others to let go of that
SETTLE_S = 3.0  # how long the firmware before may still answer
POLL_S = 0.2


class NotVerified(FlashError):
    """What was written has not come to life as it should. kind: in a word, for counting."""

    def __init__(self, kind: str, message: str, hint: str, state: State) -> None:
        super().__init__(message, hint, state)
        self.kind = kind


@dataclass(frozen=True)
class Plan:
    """What is to be flashed, where, and by what. folder: where the image lies, for lines to type."""

    folder: Path
    image: Image
    board: Board
    device: Device
    flasher: str


@dataclass(frozen=True)
class Done:
    """A flash that went well. port: where the firmware is now; None where none leads there.

    verified: `firmware`, its identity and the CRC of its flash are right; `read-back`, all bytes were read again by
    the flasher; or `nothing`. steps: seconds of each, in order; the last ones are ours.
    """

    board: str
    model: str
    image: str
    flash_bytes: int
    flasher: str
    port: str | None
    steps: tuple[tuple[str, float], ...]
    read_back: bool
    verified: str
    emulated: bool = False
    trouble: str = ""

    @property
    def total_s(self) -> float:
        return sum(seconds for _, seconds in self.steps)


def plan(folder: Path, to: str | None, by: str | None) -> Plan:
    """What a command line means. Nothing is touched; UserError, and its family, where it cannot be.

    to: BOARD, BOARD@auto or BOARD@PORT, or None for the image's own board. by: a stem of flashers/, or the board's.
    """
    image = build.load(folder)
    board, where = _place(image, folder, to)
    flasher = _flasher(board, by)
    line = f"edge flash {folder} --to "
    device = find.the_one(board, line) if where in ("", "auto") else find.named(board, where)
    if device.boards and board.name not in device.boards:
        raise UserError(
            f"{device.place} is no {board.name}: {device.why}",
            f"boards that it can be: {', '.join(device.boards)}; `edge ports` shows what else is plugged in",
        )
    return Plan(folder, image, board, device, flasher)


def _place(image: Image, folder: Path, to: str | None) -> tuple[Board, str]:
    named, _, where = (to or image.board).partition("@")
    board, own = boards.load(named), boards.load(image.board)
    if board.name != own.name:
        raise UserError(
            f"{folder} is an image for {own.name}, not for {board.name}",
            f"edge build MODEL --board {board.name} -o DIR makes one; nothing has been touched",
        )
    if where == "emulator" or where in emulators.names() or not board.flashers:
        ways = " or ".join(f"--on {board.name}@{name}" for name in board.emulators)
        raise UserError(
            f"{to or board.name} has no flash that could be written: it is emulated",
            f"edge run MODEL {ways} builds too",
        )
    return board, where


def _flasher(board: Board, by: str | None) -> str:
    if by is None:
        return board.flashers[0]
    flashers.load(by)
    if by not in board.flashers:
        raise UserError(f"{by} does not flash a {board.name}", f"--by {' or --by '.join(board.flashers)}")
    return by


def flash(what: Plan, progress: Progress) -> Done:
    """Writes the image and has the firmware verify it. Raises FlashError, which says in what state the board is."""
    before = {device.port for device in ports.plugged()}
    flashed: Flashed = flashers.load(what.flasher).flash(what.image, what.board, what.device, progress)
    try:
        return _verify(what, flashed, before, progress)
    except KeyboardInterrupt:
        state = _written(flashed)
        raise FlashError(
            f"interrupted while the firmware was to verify itself: {state.value}", _again(what), state, True
        ) from None


def _verify(what: Plan, flashed: Flashed, before: set[str | None], progress: Progress) -> Done:
    if not _has_port(what):
        return _done(what, flashed, flashed.steps, None, None)
    start = time.monotonic()
    progress("waiting for the firmware", 0, 0)
    port, link, info = _meet(what, flashed, before)
    back = time.monotonic()
    with link:
        progress("the firmware checks its flash", 0, 0)
        _check(what, link, port)
    steps = (*flashed.steps, ("firmware back", back - start), ("flash checked", time.monotonic() - back))
    return _done(what, flashed, steps, port, info)


def _done(
    what: Plan, flashed: Flashed, steps: tuple[tuple[str, float], ...], port: str | None, info: Info | None
) -> Done:
    facts = what.image.facts
    return Done(
        board=what.board.name,
        model=facts.name,
        image=facts.identity,
        flash_bytes=len(what.image.flash_content()),
        flasher=what.flasher,
        port=port,
        steps=steps,
        read_back=flashed.read_back,
        verified="firmware" if info else "read-back" if flashed.read_back else "nothing",
        emulated=bool(info and info.emulated),
        trouble=info.trouble if info else "",
    )


def _has_port(what: Plan) -> bool:
    """May a serial port lead to the firmware? One of the board's own, or that of the probe it was reached by."""
    own = any(usb.role == "port" for usb in what.board.usb)
    beside = what.device.location is not None and any(
        device.port for device in ports.plugged() if device.location == what.device.location
    )
    return own or beside or what.device.port is not None


def _ports_now(what: Plan, before: set[str | None]) -> list[str]:
    """Where the firmware may be: at the same place on the bus; where that is unknown, at the named or a new port.

    A probe that is wired to the board has another place than the board's own port: the only board of its kind is it
    then. Of several nobody could tell, and one that was flashed before would answer rightly.
    """
    devices = [device for device in ports.plugged() if device.port]
    boards_now = ports.of_board(what.board, devices)
    if what.device.location is not None:
        here = [device for device in devices if device.location == what.device.location]
        wired = boards_now if what.board.name not in what.device.boards and len(boards_now) == 1 else []
        return list(dict.fromkeys(device.port for device in (*here, *wired) if device.port))
    new = [device.port for device in boards_now if device.port not in before and device.port]
    return [what.device.port, *new] if what.device.port else new


def _meet(what: Plan, flashed: Flashed, before: set[str | None]) -> tuple[str, Link, Info]:
    """The firmware with the identity of the image, at the port that it has now."""
    start = time.monotonic()
    seen: str | None = None
    why: LinkError | None = None
    other: Info | None = None
    first_answer = 0.0
    while time.monotonic() - start < BACK_S and not (other and time.monotonic() - first_answer > SETTLE_S):
        for port in _ports_now(what, before):
            seen = port
            try:
                link, info = _ask(port)
            except LinkError as error:
                why = error
                continue
            if info.image == what.image.facts.identity:
                return port, link, info
            link.close()
            first_answer, other = first_answer or time.monotonic(), info
        time.sleep(POLL_S)
    raise _not_met(what, flashed, seen, why, other)


def _ask(port: str) -> tuple[Link, Info]:
    link = Link(SerialTransport(port), Clock("seconds", 1.0))
    try:
        return link, link.hello()
    except BaseException:
        link.close()
        raise


def _not_met(what: Plan, flashed: Flashed, port: str | None, why: LinkError | None, other: Info | None) -> NotVerified:
    """Why nobody with the right identity has answered, the best known reason first."""
    state, board = _written(flashed), what.board.name
    if other is not None:
        held = f"image {other.image[:12]}" if other.image else "an image of an edge too old to tell which"
        return NotVerified(
            "another image",
            f"{port} answers, but not with what was written: it is a {other.board} with {held} of {other.name}, "
            f"not image {what.image.facts.identity[:12]}",
            f"is {port} the board that was flashed? then its flash still holds what it held; {_again(what, port)}",
            State.UNVERIFIED,
        )
    if port is None:
        return NotVerified(
            "not back",
            f"{board} was written, but did not come back within {BACK_S:g} s; {state.value}",
            f"unplug it and plug it in again: `edge ports` should show it; else {_again(what)}",
            state,
        )
    return NotVerified(
        "no answer",
        f"{board} was written, but its firmware does not answer: {why.message if why else port}; {state.value}",
        f"press its reset button, then edge run MODEL --on {board}@{port}; else {_again(what, port)}"
        + (f" ({why.hint})" if why and why.hint and "busy" in why.message else ""),
        state,
    )


def _check(what: Plan, link: Link, port: str) -> None:
    """CHECK must tell the size and the CRC-32 of what was to be written."""
    content = what.image.flash_content()
    expected = len(content), zlib.crc32(content)
    try:
        found = link.check()
    except LinkError as error:
        raise NotVerified(
            "no answer",
            f"{port} runs the new firmware, which does not check its flash: {error.message}; {State.UNVERIFIED.value}",
            _again(what, port),
            State.UNVERIFIED,
        ) from error
    if found != expected:
        raise NotVerified(
            "wrong CRC",
            f"the firmware at {port} reads {found[0]:,} bytes of flash with CRC {found[1]:08x}, not {expected[0]:,} "
            f"with {expected[1]:08x}: a byte or more in its flash is wrong, so do not rely on it",
            f"{_again(what, port)}; if that happens again, try another cable and USB port: the supply may be weak, or "
            "the flash worn out",
            State.WRONG,
        )


def _written(flashed: Flashed) -> State:
    return State.VERIFIED if flashed.read_back else State.UNVERIFIED


def _again(what: Plan, port: str | None = None) -> str:
    """How to get the board back. port: where it is now, if that is known."""
    usb = [usb for usb in what.board.usb if usb.role == "bootloader"]
    hold = "hold BOOTSEL while you plug it in, then " if usb and what.flasher == "bootsel" else ""
    place = "auto" if hold else port or what.device.location or what.device.place
    return f"{hold}flash it again: edge flash {what.folder} --to {what.board.name}@{place}"


def text(done: Done) -> str:
    """What was done, what is known of it, and the line to type next."""
    at = f" at {done.port}" if done.port else ""
    lines = [f"flashed {done.model} to {done.board}{at} by {done.flasher} in {done.total_s:.1f} s"]
    if done.verified == "firmware":
        also = "; the flasher has read it back, too" if done.read_back else ""
        lines.append(
            f"verified: the firmware tells that it is image {done.image[:12]}, and reads {done.flash_bytes:,} bytes of "
            f"flash with the right CRC{also}"
        )
    elif done.verified == "read-back":
        lines.append(f"verified by the flasher alone: all {done.flash_bytes:,} bytes were read back and are right")
        lines.append("not verified by the firmware: no serial port leads to it, so whether it runs is not known")
    else:
        lines.append("not verified: nothing was read back, and no serial port leads to the firmware")
    if done.emulated:
        lines.append("this board says that it is EMULATED: it is no silicon")
    if done.trouble:
        lines.append(f"it runs slower than it should, since this did not start: {done.trouble}")
    model = done.model if done.model in (entry.name for entry in zoo.entries()) else "MODEL"
    lines.append(f"next: edge run {model} --on {done.board}@{done.port or 'PORT'}")
    return "\n".join(lines) + "\n"


def as_json(done: Done) -> dict[str, Any]:
    return {
        "board": done.board,
        "model": done.model,
        "image": done.image,
        "flash_bytes": done.flash_bytes,
        "flasher": done.flasher,
        "port": done.port,
        "steps": {name: round(seconds, 3) for name, seconds in done.steps},
        "read_back": done.read_back,
        "verified": done.verified,
        "emulated": done.emulated,
        "trouble": done.trouble,
    }
