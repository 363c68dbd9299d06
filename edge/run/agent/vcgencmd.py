"""The program by which a Raspberry Pi's firmware tells of itself, and how its answers are read.

vcgencmd is called by its absolute path, without a shell, with an end to its time and to what it may say: a Pi whose
firmware hangs must not hang us, and on other computers a program of that name may be anything. What is missing, fails
or makes no sense is None. Only the standard library; Python from 3.9 on.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PLACES = ("usr/bin/vcgencmd", "opt/vc/bin/vcgencmd")  # Raspberry Pi OS from 11 on, and before
TIMEOUT_S = 2.0
MOST_BYTES = 1 << 14  # of an answer; the longest is below 2,000
# bits of get_throttled: what is so now, and 16 bits higher what has been so since boot
FLAGS = ("under-voltage", "frequency-capped", "throttled", "soft-temperature-limit")
SINCE_BOOT = 16
RAIL = re.compile(r"^\s*([A-Za-z0-9_]{1,32})_([AV])(?: (?:current|volt)\(\d{1,3}\))?=(\d{1,6}\.?\d{0,12})([AV])\s*$")
MOST_RAILS = 64


@dataclass(frozen=True)
class Rail:
    """A supply rail of a Pi 5's PMIC at one moment; None where the PMIC has no converter for it."""

    name: str
    v: float | None = None
    a: float | None = None


class Vcgencmd:
    """The program below a root, if it is there. After one answer that did not come in time it is not asked again."""

    def __init__(self, root: Path) -> None:
        found = [root / place for place in PLACES if os.access(root / place, os.X_OK) and (root / place).is_file()]
        self._program = str(found[0].absolute()) if found else None

    def ask(self, *arguments: str) -> str:
        """What it prints; "" where it is missing, fails, hangs, or says more than it ever should."""
        if self._program is None:
            return ""
        try:
            return self._run([self._program, *arguments])
        except (OSError, ValueError):
            return ""

    def number(self, pattern: str, *arguments: str) -> float | None:
        """The number in group 1 of a pattern that fits the whole answer."""
        match = re.fullmatch(pattern, self.ask(*arguments).strip())
        return float(match[1]) if match else None

    def _run(self, command: list[str]) -> str:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            data, ended = _read(process.stdout.fileno(), TIMEOUT_S)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(TIMEOUT_S if ended else 0)
            if process.returncode is None and len(data) <= MOST_BYTES:
                self._program = None
            return data.decode("ascii", "replace") if process.returncode == 0 and ended else ""
        finally:
            with contextlib.suppress(OSError):  # whatever it started goes with it
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()
            process.wait()


def _read(descriptor: int, timeout_s: float) -> tuple[bytes, bool]:
    """What comes until the end, at most a little more than MOST_BYTES; and whether it ended in time."""
    deadline, data = time.monotonic() + timeout_s, b""
    while len(data) <= MOST_BYTES:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return data, False
        part = os.read(descriptor, 4096)
        if not part:
            return data, True
        data += part
    return data, False


def throttled(text: str) -> int | None:
    """The bits of `vcgencmd get_throttled` (`throttled=0x50005`), or of the kernel's file of them (`50005`)."""
    match = re.fullmatch(r"(?:throttled=0x)?([0-9a-fA-F]{1,8})", text.strip())
    return int(match[1], 16) if match else None


def flags(bits: int) -> tuple[list[str], list[str]]:
    """Names of what throttles now, and of what has since boot."""
    now = [name for at, name in enumerate(FLAGS) if bits >> at & 1]
    return now, [name for at, name in enumerate(FLAGS) if bits >> at + SINCE_BOOT & 1]


def pmic(text: str) -> tuple[Rail, ...]:
    """The rails in the answer of `vcgencmd pmic_read_adc`, in its order; none in any other text."""
    volts: dict[str, float] = {}
    amperes: dict[str, float] = {}
    for line in text.splitlines():
        match = RAIL.match(line)
        if match and match[2] == match[4] and math.isfinite(value := float(match[3])):
            (volts if match[2] == "V" else amperes)[match[1]] = value
    names = list(dict.fromkeys([*amperes, *volts]))[:MOST_RAILS]
    return tuple(Rail(name, volts.get(name), amperes.get(name)) for name in names)


def rails_w(rails: tuple[Rail, ...]) -> float | None:
    """The sum of V * A over the rails that have both; None where there is none.

    It is what the PMIC hands on, not what the board takes: its own losses, USB devices and the 5 V pins are not in it.
    """
    powers = [rail.v * rail.a for rail in rails if rail.v is not None and rail.a is not None]
    return sum(powers) if powers else None
