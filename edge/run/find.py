"""Which of the things that are plugged in is meant: a table of them, and the one board that `auto` stands for."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.terminal import one_line
from firmware_tools import ports
from firmware_tools.boards import Board
from firmware_tools.errors import LinkError
from firmware_tools.ports import Device

CABLE = "a cable that only charges looks the same from outside: try another"
ADVICE = f"{CABLE}; `edge doctor` looks at permissions and at programs that grab ports"
ROOT = Path("/")
PLACE = re.compile(r"\d+-\d+(\.\d+)*")


def rows(devices: Sequence[Device]) -> list[dict[str, Any]]:
    """Plain data of what is plugged in."""
    return [
        {
            "port": device.port,
            "volume": str(device.volume) if device.volume else None,
            "usb": f"{device.vid:04X}:{device.pid:04X}" if device.vid is not None and device.pid is not None else None,
            "location": device.location,
            "serial_number": device.serial_number,
            "product": device.product,
            "boards": list(device.boards),
            "why": device.why,
        }
        for device in devices
    ]


def text(devices: Sequence[Device]) -> str:
    """Two lines for each; what to check where there is nothing on USB."""
    lines = []
    for device in devices:
        names = [part for part in (device.port, str(device.volume) if device.volume else None) if part]
        what = " and ".join(names) or f"USB {device.location}, without a port or a mounted volume"
        lines.append(one_line(f"{what}  {' or '.join(device.boards) or 'no board that edge knows'}"))
        facts = [
            device.why,
            f"USB place {device.location}" if device.location and names else "",
            f"serial number {device.serial_number}" if device.serial_number else "",
            f"“{device.product}”" if device.product else "",
        ]
        lines.append("  " + one_line("; ".join(fact for fact in facts if fact)))
    if all(device.vid is None for device in devices):
        lines += ["nothing is plugged into USB that edge knows", *(f"  {hint}" for hint in nothing_hints())]
    return "\n".join(lines) + "\n"


def nothing_hints(root: Path = ROOT) -> list[str]:
    """What to check where nothing is plugged in; what this system is decides some of it."""
    hints = [f"is the board plugged in? {CABLE}"]
    if "microsoft" in _read(root / "proc/sys/kernel/osrelease").lower():
        hints.append("Windows keeps USB from WSL: in an administrator's PowerShell `usbipd list`, then attach one")
    elif (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        hints.append("this is a container: it has the host's USB only with `--device /dev/ttyACM0` or `--privileged`")
    elif "hypervisor" in _read(root / "proc/cpuinfo"):
        hints.append("this is a virtual machine: its settings must give it the USB device")
    if platform.system() == "Linux":
        hints.append("`sudo dmesg --follow` shows what the kernel says while it is plugged in")
    elif platform.system() == "Windows":
        hints.append("the Device Manager shows what Windows says of it")
    return hints


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def of_board(board: Board) -> list[Device]:
    """What is plugged in and can be this board."""
    return ports.of_board(board, ports.plugged()) if board.usb else []


def the_one(board: Board, line: str, *, with_port: bool = False) -> Device:
    """The one board of this kind that is plugged in; LinkError where there is none, or several.

    line: what to type before BOARD@PORT. with_port: only what has a serial port counts.
    """
    devices = ports.plugged()
    found = ports.of_board(board, devices)
    usable = [device for device in found if device.port] if with_port else found
    if len(usable) == 1:
        return usable[0]
    if usable:
        ways = " or ".join(f"{line}{board.name}@{device.place}" for device in usable)
        raise LinkError(f"{len(usable)} boards are plugged in that may be a {board.name}", f"name one: {ways}")
    if found:
        raise _without_port(board, found[0])
    raise LinkError(f"no {board.name} is plugged in", _instead(board, line, devices))


def _without_port(board: Board, device: Device) -> LinkError:
    return LinkError(
        f"{board.name} is plugged in, but has no serial port now: {device.why}",
        f"flash it: edge flash DIR --to {board.name}@{device.place}",
    )


def _instead(board: Board, line: str, devices: Sequence[Device]) -> str:
    """What to do where no such board is found: what else is there may still be it."""
    others = [device for device in devices if device.port and device.vid is not None and not device.boards]
    if not others:
        return ADVICE if any(device.vid is not None for device in devices) else "; ".join(nothing_hints())
    ways = " or ".join(f"{line}{board.name}@{device.port}" for device in others)
    return f"if it is at one of these ports, name that: {ways}; else: {ADVICE}"


def port_at(board: Board, where: str) -> str:
    """The port that somebody named, or that of the board at a place on the bus."""
    if not PLACE.fullmatch(where):
        return where
    device = named(board, where)
    if device.port is None:
        raise _without_port(board, device)
    return device.port


def named(board: Board, where: str) -> Device:
    """What somebody named by its port, any pyserial URL, its volume's folder, or its place on the bus."""
    devices = ports.plugged()
    for device in devices:
        if where == device.location or _same_file(device.port, where):
            return device
        if device.volume is not None and Path(where) == device.volume:
            return device
    if PLACE.fullmatch(where):
        raise LinkError(f"nothing that edge knows is plugged in at USB place {where}", "`edge ports` shows what is")
    if Path(where).is_dir():
        return Device(volume=Path(where), boards=(board.name,), why="named by you")
    return Device(port=where, boards=(board.name,), why="named by you")


def _same_file(port: str | None, where: str) -> bool:
    """Links of udev, as /dev/serial/by-id/…, name ports too; on Windows com5 is COM5."""
    if port is None:
        return False
    return os.path.normcase(where) == os.path.normcase(port) or (
        where.startswith("/dev/") and os.path.realpath(where) == port
    )
