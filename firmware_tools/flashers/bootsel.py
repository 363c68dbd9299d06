"""Copies a UF2 file to the volume that a boot ROM shows: that of Raspberry Pi's RP2040 and RP2350 in BOOTSEL mode.

A board gets there when its BOOTSEL button is held while it is plugged in, or when its own serial port is opened and
closed at 1200 baud. The ROM starts the image the moment it has the last block, so that the volume vanishes under who
writes it. The volume does not tell what flash holds: only the running firmware does (CHECK of docs/link.md).

Sources: the chapters on the bootrom's mass storage in the datasheets of RP2040 and RP2350 (INFO_UF2.TXT, restart after
the last block, what is ignored); https://github.com/microsoft/uf2 (Board-ID); what is known of the 1200 baud touch from
Arduino's boards.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import serial

from firmware_tools import uf2, volumes
from firmware_tools.errors import UserError
from firmware_tools.flashers import Flashed, Progress, State, Work
from firmware_tools.ports import UF2_INFO as INFO
from firmware_tools.ports import board_id
from firmware_tools.transports import clean
from firmware_tools.volumes import Unmounted, Volume

if TYPE_CHECKING:
    from firmware_tools.boards import Board
    from firmware_tools.build import Image
    from firmware_tools.ports import Device

NEEDS = "nothing; the board in BOOTSEL mode, or firmware of edge in it that goes there when asked"

FILE = "image.uf2"
TOUCH_BAUD = 1200
HOLD_S, SETTLE_S = 0.05, 0.1
VOLUME_S = 15.0  # from the touch to the mounted volume: a desktop takes its time
REBOOT_S = 15.0  # from the last block to the volume's end


def flash(image: Image, board: Board, device: Device, progress: Progress) -> Flashed:
    """Writes image to board, which is in BOOTSEL mode or gets there by its port; contract in flashers/__init__.py."""
    by_hand = f"hold BOOTSEL while you plug {board.name} in, and flash it again: the ROM cannot be overwritten"
    with Work(board.name, by_hand) as work:
        content = _encoded(image, board)
        with work.step("bootloader"):
            volume = _volume(board, device, progress)
        with work.step("write"):
            _write(volume, content, work, progress)
        with work.step("restart"):
            progress("restart", 0, 0)
            if not volumes.soon(lambda: not volume.there or None, REBOOT_S):
                raise UserError(
                    f"the bootloader has all {len(content):,} bytes, but is still there after {REBOOT_S:g} s",
                    "unplug the board",
                )
        return work.done(read_back=False)


def bootloaders() -> list[tuple[Volume, str]]:
    """All mounted volumes of UF2 bootloaders, with their Board-ID."""
    return [(volume, name) for volume in volumes.mounted() if (name := board_id(volume)) is not None]


def _encoded(image: Image, board: Board) -> bytes:
    if board.uf2_family is None or not board.programming.uf2_board:
        raise UserError(f"{board.name} has no UF2 bootloader", f"its flashers: {', '.join(board.flashers) or 'none'}")
    return uf2.encode(image.flash_content(), image.segments[0][0], board.uf2_family)


def _write(volume: Volume, content: bytes, work: Work, progress: Progress) -> None:
    """Copies the file; the state is what the ROM can have done with the bytes that went out."""
    last = uf2.BLOCK_BYTES

    def copied(done: int, total: int) -> None:
        if done >= total - last:
            work.state = State.UNVERIFIED
        else:
            work.state = State.HALF_WRITTEN if done else State.ERASING
        progress("write", done, total)

    copied(0, len(content))
    try:
        volumes.copy(volume, FILE, content, last, copied)
    except volumes.CopyError as error:
        if error.refused:
            work.state = State.UNTOUCHED
        if error.gone:
            error.hint = "was the board unplugged, or is the cable or hub bad?"
        raise


# --- the way to the volume


def _volume(board: Board, device: Device, progress: Progress) -> Volume:
    """The volume of the one bootloader that is meant; UserError where it is another board's, or which is not clear."""
    progress("bootloader", 0, 0)
    if device.volume is not None:
        path = device.volume.resolve()
        return _fitting(board, [one for one in bootloaders() if one[0].path.resolve() == path], str(device.volume))
    if device.port is None:
        found = volumes.soon(lambda: _here(device), 0) or _waited(board, device, 0)
        return _fitting(board, found, "")
    before = {volume.path for volume, _ in bootloaders()}
    if not device.location and before:
        paths = ", ".join(str(path) for path in sorted(before))
        raise UserError(
            f"a bootloader's volume is there already ({paths}), and nothing tells it from that of {device.port}",
            f"unplug the other board, or flash it by its volume: --to {board.name}@{min(before)}",
        )
    _touch(device.port)
    return _fitting(board, _waited(board, device, VOLUME_S), "")


def _here(device: Device) -> list[tuple[Volume, str]] | None:
    """The bootloaders that are mounted at the device's place, or anywhere where it has none."""
    found = [
        one for one in bootloaders() if not device.location or volumes.same_place(one[0].location, device.location)
    ]
    return found or None


def _waited(board: Board, device: Device, patience_s: float) -> list[tuple[Volume, str]]:
    """The same, as soon as they are there; a volume that nobody mounts is mounted, or the error says how."""
    if found := volumes.soon(lambda: _here(device), patience_s):
        return found
    ids = [(usb.vid, usb.pid) for usb in board.usb if usb.role == "bootloader"]
    waiting = [
        one
        for one in volumes.unmounted(ids)
        if not device.location or volumes.same_place(one.location, device.location)
    ]
    if waiting and not (len(waiting) == 1 and volumes.mount(waiting[0])):
        raise _not_mounted(board, waiting)
    if found := _here(device):
        return found
    where = f" at USB {device.location}" if device.location else ""
    raise UserError(
        f"no volume of a UF2 bootloader is mounted{where}" + (f" in {patience_s:g} s" if patience_s else ""),
        f"hold BOOTSEL while you plug {board.name} in; its volume has a file {INFO}",
    )


def _not_mounted(board: Board, waiting: list[Unmounted]) -> UserError:
    sources = ", ".join(one.source for one in waiting)
    return UserError(
        f"{board.name} is in its bootloader, whose volume ({sources}) is not mounted",
        f"{waiting[0].hint}, then --to {board.name}@FOLDER",
    )


def _fitting(board: Board, found: list[tuple[Volume, str]], named: str) -> Volume:
    """The one of found that is board's; found by another board's ROM, or several, are refused by their paths."""
    if not found:
        raise UserError(f"{named} is not the volume of a UF2 bootloader: it has no {INFO}", "name the volume's folder")
    if len(found) > 1:
        paths = ", ".join(f"{volume.path} ({name or 'of no name'})" for volume, name in found)
        raise UserError(
            f"{len(found)} bootloaders are plugged in: {paths}", f"name one: --to {board.name}@{found[0][0].path}"
        )
    volume, name = found[0]
    if name != board.programming.uf2_board:
        raise UserError(
            f"{volume.path} is another board's: its Board-ID is {name or 'missing'}, "
            f"that of {board.name} {board.programming.uf2_board}",
            "build the image for the board that is plugged in",
        )
    return volume


def _touch(port: str) -> None:
    """Opens and closes a port at 1200 baud, at which the firmware behind it restarts into its bootloader."""
    try:
        touched = serial.serial_for_url(port, baudrate=TOUCH_BAUD, timeout=0.1, exclusive=True)
    except (serial.SerialException, OSError, ValueError) as error:
        hint = "is another program using it? Or hold BOOTSEL while you plug the board in"
        raise UserError(f"{port} cannot be opened: {clean(str(error))}", hint) from None
    with contextlib.suppress(serial.SerialException, OSError):  # the board may go while its port is open
        touched.dtr = True
        time.sleep(HOLD_S)
        touched.dtr = False
        time.sleep(SETTLE_S)
    with contextlib.suppress(serial.SerialException, OSError):
        touched.close()
