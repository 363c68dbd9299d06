"""What hangs on this computer's USB, where the system tells it in files: Linux. Elsewhere nothing is told here.

A device without a serial port is found by this alone: a boot loader or a probe whose volume nobody has mounted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from firmware_tools import volumes

DEVICES = "sys/bus/usb/devices"
MAX_TEXT = 200  # of a device's own words


@dataclass(frozen=True)
class UsbDevice:
    """One device: its place on the bus (as `1-2.3`) and what it says of itself."""

    location: str
    vid: int
    pid: int
    serial_number: str | None
    product: str


def listed() -> list[UsbDevice]:
    """Every device but the computer's own hubs, in order of its place; one that goes meanwhile is left out."""
    try:
        folders = (volumes.ROOT / DEVICES).iterdir()
        places = sorted(path for path in folders if ":" not in path.name and not path.name.startswith("usb"))
    except OSError:
        return []
    return [device for device in map(_device, places) if device is not None]


def _device(place: Path) -> UsbDevice | None:
    try:
        vid, pid = (int(_line(place / name), 16) for name in ("idVendor", "idProduct"))
    except ValueError:
        return None
    return UsbDevice(place.name, vid, pid, _line(place / "serial") or None, _line(place / "product"))


def _line(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return "".join(c for c in text if c.isprintable())[:MAX_TEXT]
