"""Debug probes: which of those that are plugged in reaches the board that is meant."""

from __future__ import annotations

from firmware_tools import ports
from firmware_tools.boards import Board
from firmware_tools.errors import UserError
from firmware_tools.ports import Device

# probes that are on no board, and may be wired to any; USB ids as in ports.py
SINGLE = {(0x2E8A, 0x000C), (0x2E8A, 0x0004), (0x0D28, 0x0204), (0x0483, 0x3748), (0x0483, 0x374E), (0x0483, 0x374F)}


def chosen(board: Board, device: Device) -> Device | None:
    """The probe that is meant: the device itself, or the one that is plugged in; UserError where there are several.

    None: nobody knows of any, since not every system tells of probes without a serial port.
    """
    ids = SINGLE | {(usb.vid, usb.pid) for usb in board.usb if usb.role == "probe"}
    if (device.vid, device.pid) in ids or (device.vid is None and device.serial_number):
        return device
    found = [one for one in ports.plugged() if (one.vid, one.pid) in ids]
    if len(found) > 1:
        names = ", ".join(f"{one.place} (serial number {one.serial_number or 'none'})" for one in found)
        raise UserError(
            f"{len(found)} debug probes are plugged in: {names}", f"name one: --to {board.name}@{found[0].place}"
        )
    return found[0] if found else None
