"""What is plugged in: serial ports, boot loaders and probes, and which board each is likely to be, in words.

Serial ports are pyserial's, volumes are those of volumes.py. On Linux the tree of USB tells of boot loaders and probes
that have neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serial.tools import list_ports

from firmware_tools import boards, usb_tree, volumes
from firmware_tools.boards import Board, Usb
from firmware_tools.transports import clean
from firmware_tools.volumes import Volume

# what is no board by itself, or not for certain; of the Linux USB id list and of the udev rules of OpenOCD and probe-rs
OTHERS = {
    (0x2E8A, 0x0003): "the RP2040's boot loader",
    (0x2E8A, 0x000F): "the RP2350's boot loader",
    (0x2E8A, 0x0005): "MicroPython on an RP2040 or RP2350",
    (0x2E8A, 0x0004): "a Picoprobe, a debug probe for any board",
    (0x2E8A, 0x000C): "Raspberry Pi's Debug Probe, for any board",
    (0x0483, 0x3748): "an ST-LINK/V2, a debug probe for any STM32",
    (0x0483, 0x374B): "an ST-LINK/V2-1, the probe of Nucleos and Discovery kits",
    (0x0483, 0x3752): "an ST-LINK/V2-1 without its volume, the probe of Nucleos",
    (0x0483, 0x374D): "an ST-LINK/V3 in its own boot loader",
    (0x0483, 0x374E): "an ST-LINK/V3, the probe of newer Nucleos",
    (0x0483, 0x374F): "an ST-LINK/V3, the probe of newer Nucleos",
    (0x0483, 0x3753): "an ST-LINK/V3, the probe of newer Nucleos",
    (0x0483, 0xDF11): "the USB boot loader (DFU) of an STM32",
    (0x0D28, 0x0204): "a DAPLink, a debug probe for many boards",
    (0x0403, 0x6001): "a serial adapter (FT232): any board's UART may be behind it",
    (0x0403, 0x6010): "a serial adapter (FT2232): any board's UART may be behind it",
    (0x0403, 0x6015): "a serial adapter (FT230X): any board's UART may be behind it",
    (0x10C4, 0xEA60): "a serial adapter (CP210x): any board's UART may be behind it",
    (0x1A86, 0x7523): "a serial adapter (CH340): any board's UART may be behind it",
    (0x067B, 0x2303): "a serial adapter (PL2303): any board's UART may be behind it",
}
SEGGER = 0x1366
UF2_INFO, MBED_PAGE = "INFO_UF2.TXT", "MBED.HTM"
MBED_CODE = re.compile(r"code=([0-9A-Fa-f]{4})")
ROLES = {
    "port": "the port of firmware on a {}",
    "probe": "the debug probe on a {}",
    "bootloader": "the boot loader of a {}",
}


@dataclass(frozen=True)
class Device:
    """One thing that is plugged in, or a port that somebody named.

    port: a serial port's name, or any pyserial URL. volume: where a bootloader's or probe's volume is mounted.
    location: the place on the USB bus (as `1-2.3`), which stays while a board comes and goes under other names.
    serial_number: what the device says of itself, which twins may share. boards: names of those that it can be, the
    likeliest first; why: in words.
    """

    port: str | None = None
    volume: Path | None = None
    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None
    location: str | None = None
    product: str = ""
    boards: tuple[str, ...] = ()
    why: str = ""

    @property
    def place(self) -> str:
        """What to type behind the `@`: its port, or its volume, or its place on the bus."""
        return self.port or (str(self.volume) if self.volume else self.location or "")


def plugged() -> list[Device]:
    """All that can be reached: serial ports first, in the order of their names; then what has none."""
    ports, known = _serial_ports(), _known_ids()
    have = {device.location for device in ports}
    others = [
        Device(vid=usb.vid, pid=usb.pid, serial_number=usb.serial_number, location=usb.location, product=usb.product)
        for usb in usb_tree.listed()
        if usb.location not in have and ((usb.vid, usb.pid) in known or usb.vid == SEGGER)
    ]
    found: list[tuple[Device, Volume | None]] = [(device, None) for device in (*ports, *others)]
    for volume in volumes.mounted():
        _add(volume, found)
    return [recognised(device, volume) for device, volume in found]


def board_id(volume: Volume) -> str | None:
    """The `Board-ID` of a UF2 bootloader's volume; None for any other volume. Asks nothing but its INFO_UF2.TXT."""
    text = volume.text(UF2_INFO)
    if text is None or "UF2" not in text:
        return None
    pairs = (line.partition(":") for line in text.splitlines())
    told = {key.strip().lower(): value.strip() for key, _, value in pairs}
    return clean(told.get("board-id", ""))


def mbed_code(volume: Volume) -> str:
    """The code of the board that a debug probe is on, "" where its volume tells none."""
    found = MBED_CODE.search(volume.text(MBED_PAGE) or "")
    return found[1].upper() if found else ""


def is_on(volume: Volume, board: Board) -> bool:
    """Is it the volume of a probe on such a board? Its code says so, and where it has none its label."""
    told, facts = mbed_code(volume), board.programming
    if told and facts.mbed_codes:
        return told in facts.mbed_codes
    return volume.label.upper() in facts.volumes


def _add(volume: Volume, found: list[tuple[Device, Volume | None]]) -> None:
    """Gives a volume to the device that it belongs to; or adds it, where its content or its label tells a board.

    Windows and macOS do not tell where a volume is: there it goes to the one probe that can be that board.
    """
    names = _boards_of_volume(volume)
    for i, (device, _) in enumerate(found):
        if volumes.same_place(device.location, volume.location):
            found[i] = replace(device, volume=volume.path), volume
            return
    if not names:
        return
    probes = [i for i, (device, _) in enumerate(found) if not device.volume and set(names) & _probe_of(device)]
    if volume.location is None and len(probes) == 1:
        found[probes[0]] = replace(found[probes[0]][0], volume=volume.path), volume
        return
    uf2 = board_id(volume)
    why = f"its {UF2_INFO} says Board-ID: {uf2}" if uf2 else _of_probe(volume)
    device = Device(volume=volume.path, serial_number=volume.serial_number, location=volume.location)
    found.append((replace(device, boards=names, why=why), volume))


def _boards_of_volume(volume: Volume) -> tuple[str, ...]:
    uf2 = board_id(volume)
    known = [boards.load(name) for name in boards.names()]
    if uf2 is not None:
        return tuple(board.name for board in known if uf2 and board.programming.uf2_board == uf2)
    return tuple(board.name for board in known if is_on(volume, board))


def _probe_of(device: Device) -> set[str]:
    """The boards on which a device can be the probe."""
    return {board.name for board, usb in _fitting(device) if usb.role == "probe"}


def of_board(board: Board, devices: Iterable[Device]) -> list[Device]:
    """Those that can be a board."""
    return [device for device in devices if board.name in device.boards]


def recognised(device: Device, volume: Volume | None = None) -> Device:
    """The device with what its ids, its product's name and its volume say of it."""
    if device.vid is None or device.pid is None:
        return device if device.why else replace(device, why="no USB device: a port of the computer itself")
    ids = f"USB {device.vid:04X}:{device.pid:04X}"
    fitting = _fitting(device)
    told = [(board, usb) for board, usb in fitting if volume and usb.role == "probe" and is_on(volume, board)]
    fitting = told or fitting
    names = tuple(board.name for board, _ in fitting)
    if not fitting:
        other = "a J-Link, a debug probe" if device.vid == SEGGER else OTHERS.get((device.vid, device.pid))
        return replace(device, why=f"{ids} is {other}" if other else f"{ids} is nothing that edge knows")
    role = fitting[0][1].role
    what = OTHERS.get((device.vid, device.pid)) or ROLES[role].format(_either(names))
    why = f"{ids} is {what}"
    if told and volume:
        why += f"; {_of_probe(volume)}"
    elif len(names) > 1 and role == "probe":
        why += f": {_either(names)}; which one its volume tells"
    elif role == "bootloader" and device.volume is None:
        waiting = [one for one in volumes.unmounted([(device.vid, device.pid)]) if one.location == device.location]
        why += f"; its volume is not mounted: {waiting[0].hint}" if waiting else "; its volume is not mounted"
    return replace(device, boards=names, why=why)


def _of_probe(volume: Volume) -> str:
    told = mbed_code(volume)
    return f"its volume is called {volume.label}" + (f" and has the code {told}" if told else "")


def _fitting(device: Device) -> list[tuple[Board, Usb]]:
    known = [boards.load(name) for name in boards.names()]
    fitting = [
        (board, usb)
        for board in known
        for usb in board.usb
        if (usb.vid, usb.pid) == (device.vid, device.pid)
        and (not device.product or usb.product.lower() in device.product.lower())  # Windows does not tell it
    ]
    first = {board.name: (board, usb) for board, usb in reversed(fitting)}
    return [first[name] for name in sorted(first)]


def _either(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _known_ids() -> set[tuple[int, int]]:
    return set(OTHERS) | {(usb.vid, usb.pid) for name in boards.names() for usb in boards.load(name).usb}


def _serial_ports() -> list[Device]:
    try:
        ports = list_ports.comports()
    except (OSError, TypeError, ValueError):  # one was pulled while pyserial read of it
        ports = list_ports.comports()
    return sorted(
        (
            Device(
                port=port.device,
                vid=port.vid,
                pid=port.pid,
                serial_number=port.serial_number,
                location=port.location.partition(":")[0] if port.location else None,  # without the interface
                product=port.product or "",
            )
            for port in ports
        ),
        key=lambda device: device.port or "",
    )
