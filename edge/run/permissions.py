"""What keeps boards from being reached on this machine, and the line that changes it; nothing is changed here.

Linux decides by groups and udev rules who may open a port or a probe, and two of its programs open ports by themselves:
ModemManager asks every new one whether it is a modem (https://modemmanager.org/docs/modemmanager/port-and-device-detection),
and brltty before version 6.5 took serial adapters for braille displays (https://github.com/arduino/arduino-ide/issues/1788).
What is said of Windows and macOS is from their documentation: it has not been tried there.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from edge.run.finding import Finding
from firmware_tools import boards, flashers, ports
from firmware_tools.ports import Device

ROOT = Path("/")
RULES = ("etc/udev/rules.d", "run/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d")  # the first wins
GROUPS = ("dialout", "uucp")  # who may open serial ports: of Debian and Fedora, of Arch
ADAPTERS = ("0403", "10c4", "1a86", "067b")
CLAIMED_BY_BRLTTY = re.compile("1a86/7523|10c4/ea60", re.IGNORECASE)
PROGRAMS = {"openocd": "apt install openocd"}
PACKAGES = {"pyocd": "pip install 'edge-tinyml[swd]'"}


def examine(root: Path = ROOT) -> Iterator[Finding]:
    """Ports and who may open them, probes, programs that grab ports, and the tools of flashers."""
    devices = ports.plugged()
    yield from _ports(devices)
    system = platform.system()
    if system == "Linux":
        yield from _group(devices, root)
        yield from _probes(devices, root)
        yield from _modem_manager(root)
        yield from _brltty(root)
    elif system == "Darwin":
        yield Finding("ok", "macOS lets everybody open serial ports; use those called /dev/cu.… (not tried by us)")
    else:
        yield Finding("ok", "Windows lets everybody open serial ports, one program at a time (not tried by us)")
    yield from _flashers()


def _ports(devices: list[Device]) -> Iterator[Finding]:
    with_port = [device for device in devices if device.port]
    if not with_port:
        yield Finding("ok", "serial ports: none is there now")
    for device in with_port:
        port, board = str(device.port), f" ({' or '.join(device.boards)})" if device.boards else ""
        if os.name == "nt" or os.access(port, os.R_OK | os.W_OK):
            yield Finding("ok", f"serial port {port}{board}")
        else:
            yield Finding("warning", f"serial port {port}{board}: you may not open it", _join(_owner(port)))


def _owner(port: str) -> str:
    try:
        return Path(port).group()
    except (OSError, KeyError, NotImplementedError):
        return GROUPS[0]


def _join(group: str) -> str:
    return f"sudo usermod -aG {group} $USER, then log out and in again"


def _group(devices: list[Device], root: Path) -> Iterator[Finding]:
    """Where no port is there to try, the group that a port would have decides."""
    if any(device.vid is not None and device.port for device in devices) or os.geteuid() == 0:
        return
    numbers = _group_numbers(root)
    group = next((name for name in GROUPS if name in numbers), None)
    if group and numbers[group] not in (*os.getgroups(), os.getegid()):
        yield Finding("warning", f"serial ports: you are not in the group {group}, which may open them", _join(group))


def _group_numbers(root: Path) -> dict[str, int]:
    """What /etc/group says; the groups of a network are not asked."""
    fields = [line.split(":") for line in _text(root / "etc/group").splitlines()]
    return {each[0]: int(each[2]) for each in fields if len(each) > 2 and each[2].isdigit()}


def _probes(devices: list[Device], root: Path) -> Iterator[Finding]:
    """Debug probes are opened as USB devices (pyOCD, OpenOCD), which takes a udev rule; volumes and ports do not."""
    vendors = sorted({f"{usb.vid:04x}" for _, usb in _usb() if usb.role == "probe"})
    rules = "\n".join(_rules(root).values()).lower()
    lacking = [vendor for vendor in vendors if f'"{vendor}"' not in rules]
    if not lacking or os.geteuid() == 0:
        return
    group = ', GROUP="plugdev"' if "plugdev" in _group_numbers(root) else ""
    rule = f'SUBSYSTEM=="usb", ATTR{{idVendor}}=="{"|".join(lacking)}", MODE="0660"{group}, TAG+="uaccess"'
    here = any(device.vid is not None and f"{device.vid:04x}" in lacking for device in devices)
    yield Finding(
        "warning" if here else "absent",
        f"debug probes (flashers pyocd and openocd): no udev rule lets you open those of {', '.join(lacking)}",
        _write_rule("70-edge-probes.rules", rule),
    )


def _usb() -> list[tuple[str, boards.Usb]]:
    return [(name, usb) for name in boards.names() for usb in boards.load(name).usb]


def _write_rule(name: str, rule: str) -> str:
    return (
        f"echo '{rule}' | sudo tee /etc/udev/rules.d/{name} && sudo udevadm control --reload && sudo udevadm trigger; "
        "then plug the board in again"
    )


def _modem_manager(root: Path) -> Iterator[Finding]:
    """Running, and not told to leave the vendors of boards alone."""
    if not any(_text(comm).strip() == "ModemManager" for comm in (root / "proc").glob("[0-9]*/comm")):
        return
    vendors = sorted({f"{usb.vid:04x}" for _, usb in _usb()} | set(ADAPTERS))
    told = [
        line for text in _rules(root).values() for line in text.lower().splitlines() if "id_mm_device_ignore" in line
    ]
    lacking = [vendor for vendor in vendors if not any(vendor in line for line in told)]
    if lacking:
        rule = f'ATTRS{{idVendor}}=="{"|".join(lacking)}", ENV{{ID_MM_DEVICE_IGNORE}}="1"'
        yield Finding(
            "warning",
            "ModemManager is running: it may open the port of a board that is plugged in, for some seconds",
            _write_rule("77-edge-no-modems.rules", rule),
        )
    else:
        yield Finding("ok", "ModemManager is running, and told to leave boards alone")


def _brltty(root: Path) -> Iterator[Finding]:
    """A rule, not commented out, that gives a common serial adapter to brltty whoever made the device."""
    for name, rules in _rules(root).items():
        lines = [line for line in rules.splitlines() if not line.lstrip().startswith("#")]
        if "brltty" in name and any(CLAIMED_BY_BRLTTY.search(line) and "anufacturer" not in line for line in lines):
            yield Finding(
                "warning",
                f"brltty ({name}) takes serial adapters (CH340, CP210x) for braille displays: their ports vanish",
                f"if nobody here reads braille: sudo ln -s /dev/null /etc/udev/rules.d/{name} && "
                "sudo udevadm control --reload, then plug the adapter in again",
            )


def _rules(root: Path) -> dict[str, str]:
    """The udev rules in force, by their files' names: a name in an earlier folder hides that in a later one."""
    found: dict[str, str] = {}
    for folder in RULES:
        for path in sorted((root / folder).glob("*.rules")):
            found.setdefault(path.name, _text(path))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _flashers() -> Iterator[Finding]:
    """What each way of flashing needs, and whether this machine has it."""
    for name in flashers.names():
        package, program = PACKAGES.get(name), PROGRAMS.get(name)
        if package and importlib.util.find_spec(name) is None:
            yield Finding("absent", f"flasher {name}: the Python package is not installed", package)
        elif program and shutil.which(name) is None:
            yield Finding("absent", f"flasher {name}: the program is not installed", program)
        else:
            yield Finding(
                "ok",
                f"flasher {name}: needs {flashers.load(name).NEEDS}" if not (package or program) else f"flasher {name}",
            )
