"""What another computer told of itself, checked and bounded, and whether a runtime is there for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.terminal import one_line
from firmware_tools.errors import UserError

OLDEST, NEWEST = (3, 10), (3, 14)  # of Python, where ai-edge-litert has wheels
NEWEST_32_BIT = (3, 11)  # where tflite-runtime has
OLDEST_GLIBC = {64: (2, 27), 32: (2, 34)}
GLIBC = re.compile(r"glibc (\d{1,2})\.(\d{1,3})")
NUMPY_1 = re.compile(r"1\.\d+\.\d+")
NEW_SYSTEM = "write the 64-bit Raspberry Pi OS (Bookworm or newer, Lite will do) to its card with Raspberry Pi Imager"
NUMPY_LINE = "on it: sudo apt install python3-numpy"
# bits of get_throttled that say what is so now; the same 16 bits higher: was so since it started
THROTTLED = ("under-voltage", "clock capped", "throttled", "at its temperature limit")
HOT_C = 80.0
MB = 1_000_000


@dataclass(frozen=True)
class Computer:
    """Facts of a computer; None or empty where it does not tell them. Texts are safe to print.

    Attributes:
        architecture: aarch64, x86_64 or armv7l, by what its Python is, not its kernel; "" where it is none of these.
        throttled: bits of THROTTLED, and those 16 bits higher.
    """

    model: str
    system: str
    machine: str
    bits: int
    python: tuple[int, int, int]
    implementation: str
    libc: str
    os: str
    kernel: str
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    disk_free_bytes: int | None
    home_writable: bool
    temperature_c: float | None
    throttled: int | None
    numpy: str

    @property
    def architecture(self) -> str:
        if self.bits == 64:
            return {"aarch64": "aarch64", "arm64": "aarch64", "x86_64": "x86_64"}.get(self.machine, "")
        return "armv7l" if self.machine in ("armv7l", "armv8l", "aarch64") else ""

    @property
    def glibc(self) -> tuple[int, int] | None:
        found = GLIBC.fullmatch(self.libc)
        return (int(found[1]), int(found[2])) if found else None

    def title(self) -> str:
        """One line that says what it is."""
        parts = [self.model or f"{self.system} {self.machine}", f"{self.bits}-bit", self.os]
        parts.append("Python " + ".".join(map(str, self.python)))
        if self.memory_total_bytes is not None:
            free = self.memory_available_bytes
            parts.append(f"{_mb(self.memory_total_bytes)} of memory" + (f", {_mb(free)} free" if free else ""))
        if self.temperature_c is not None:
            parts.append(f"{self.temperature_c:.1f} °C")
        return ", ".join(parts)


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / MB:,.0f} MB"


def understand(told: Mapping[str, Any]) -> Computer:
    """A Computer of what `probe` sent, which may be anything."""
    python = told.get("python")
    numbers = [n for n in python if _is_count(n)] if isinstance(python, list) else []
    major, minor, micro = (numbers + [0, 0, 0])[:3]
    temperature = told.get("temperature_c")
    return Computer(
        model=_line(told, "model"),
        system=_line(told, "system"),
        machine=_line(told, "machine"),
        bits=64 if told.get("bits") == 64 else 32,
        python=(major, minor, micro),
        implementation=_line(told, "implementation"),
        libc=_line(told, "libc"),
        os=_line(told, "os"),
        kernel=_line(told, "kernel"),
        memory_total_bytes=_count(told, "memory_total_bytes"),
        memory_available_bytes=_count(told, "memory_available_bytes"),
        disk_free_bytes=_count(told, "disk_free_bytes"),
        home_writable=told.get("home_writable") is True,
        temperature_c=float(temperature) if isinstance(temperature, int | float) else None,
        throttled=_count(told, "throttled"),
        numpy=_line(told, "numpy"),
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60


def _count(told: Mapping[str, Any], name: str) -> int | None:
    value = told.get(name)
    return value if _is_count(value) else None


def _line(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    return one_line(value)[:100] if isinstance(value, str) else ""


@dataclass(frozen=True)
class Trouble:
    """What keeps a computer from running models, or makes it slow; and what is done about it."""

    what: str
    hint: str


def obstacles(computer: Computer) -> list[Trouble]:
    """Why nothing can be deployed to a computer; none where it can."""
    found = list(_system_obstacles(computer))
    if not found:
        found += _python_obstacles(computer)
    if not computer.home_writable:
        found.append(Trouble("its home folder cannot be written", "on it: look at `ls -ld ~` and `mount`"))
    return found


def _system_obstacles(computer: Computer) -> list[Trouble]:
    if computer.system != "Linux":
        hint = "a Raspberry Pi or another Linux computer; for this very machine: --on host"
        return [Trouble(f"it runs {computer.system or 'an unknown system'}, and only Linux is deployed to", hint)]
    if computer.machine.startswith("armv6"):
        hint = "a Raspberry Pi 2 or newer, or a Zero 2"
        return [Trouble("its processor (ARMv6: Raspberry Pi 1 and Zero) has no runtime", hint)]
    if not computer.architecture:
        hint = "an aarch64, armv7l or x86_64 computer"
        return [Trouble(f"there is no runtime for its processor ({computer.machine}, {computer.bits}-bit)", hint)]
    if computer.glibc is None:
        return [Trouble(f"its C library is not glibc ({computer.os})", "Raspberry Pi OS, Debian or Ubuntu")]
    oldest = OLDEST_GLIBC[computer.bits]
    if computer.glibc < oldest:
        needed = ".".join(map(str, oldest))
        return [Trouble(f"its C library is {computer.libc}, and the runtime needs {needed}", NEW_SYSTEM)]
    return []


def _python_obstacles(computer: Computer) -> list[Trouble]:
    version = "Python " + ".".join(map(str, computer.python))
    if computer.implementation != "CPython":
        return [Trouble(f"its python3 is {computer.implementation}, not CPython", "on it: sudo apt install python3")]
    if computer.python[:2] < OLDEST:
        return [Trouble(f"its {version} is too old: 3.10 is the oldest that will do", NEW_SYSTEM)]
    if computer.bits == 32:
        if computer.python[:2] > NEWEST_32_BIT:
            what = f"its system is 32-bit with {version}, for which there is no runtime (3.11 is the newest)"
            return [Trouble(what, NEW_SYSTEM)]
        if not computer.numpy:
            return [Trouble("it has no numpy, which no wheel brings to a 32-bit system", NUMPY_LINE)]
        if not NUMPY_1.fullmatch(computer.numpy):
            what = f"its numpy is {computer.numpy}, and the 32-bit runtime needs numpy 1"
            return [Trouble(what, f"{NUMPY_LINE}, and remove the newer one: pip uninstall numpy")]
    elif computer.python[:2] > NEWEST:
        what = f"its {version} is newer than what the runtime has wheels for (3.14)"
        return [Trouble(what, "a newer edge may know it: pip install -U edge-tinyml")]
    return []


def warnings(computer: Computer) -> list[Trouble]:
    """What makes measurements of a computer worth less."""
    found = []
    bits = computer.throttled or 0
    for number, name in enumerate(THROTTLED):
        hint = "its own power supply, 5.1 V" if number == 0 else "a heat sink or a fan"
        if bits >> number & 1:
            found.append(Trouble(f"it is {_state(name)} now", hint))
        elif bits >> (16 + number) & 1:
            found.append(Trouble(f"it has been {_state(name)} since it was started", hint))
    if computer.temperature_c is not None and computer.temperature_c >= HOT_C:
        found.append(
            Trouble(f"it has {computer.temperature_c:.1f} °C: it slows itself down soon", "a heat sink or a fan")
        )
    return found


def _state(name: str) -> str:
    return {"under-voltage": "under-supplied (under-voltage)", "clock capped": "capped in its clock"}.get(name, name)


def refuse(computer: Computer, name: str) -> None:
    """UserError with the first obstacle."""
    for trouble in obstacles(computer)[:1]:
        raise UserError(f"cannot deploy to {name}: {trouble.what}", trouble.hint)
