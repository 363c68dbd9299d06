"""What a computer tells of itself: a Raspberry Pi, or any other that runs Linux.

`facts` gathers it from /proc, /sys, the device tree and vcgencmd. What cannot be told is absent, never 0; a serial
number is not told. Numbers end in their SI unit. It runs beside the model, so: only the standard library, Python from
3.9 on. docs/pi.md has the list of all keys.
"""

from __future__ import annotations

import platform
import re
import struct
from pathlib import Path
from typing import Any

from edge.run.agent import emulation, vcgencmd
from edge.run.agent.emulation import device_tree, text
from edge.run.agent.vcgencmd import Vcgencmd

ROOT = Path("/")
MOST_CHARACTERS = 160  # of a name
# what the kernels of a runtime are chosen by
FEATURES = re.compile(
    r"neon|asimd\w*|fphp|vfpv[34]|half|edsp|sve\w*|sme(?!p)\w*|i8mm|bf16|crc32|atomics"
    r"|sse4_[12]|ssse3|avx\w*|fma|f16c|amx\w*|gfni"
)
PARTS = {  # of Arm's (implementer 0x41): CPU part -> its name
    "0xb76": "ARM1176",
    "0xc07": "Cortex-A7",
    "0xc08": "Cortex-A8",
    "0xc09": "Cortex-A9",
    "0xc0f": "Cortex-A15",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd0d": "Cortex-A77",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}


def facts(root: Path | None = None, architecture: str = "") -> dict[str, Any]:
    """Everything that can be told now, as JSON's types; flat, but for lists and the rails.

    root and architecture: of another place than this computer, which a folder may pose as.
    """
    root = ROOT if root is None else root
    program = Vcgencmd(root)
    told = {
        **_identity(root, architecture or platform.machine()),
        **_processor(root),
        **_clocks(root, program),
        **_temperatures(root, program),
        **_throttling(root, program),
        **_memory(root),
        **_power(root, program),
    }
    return {key: value for key, value in told.items() if value is not None and value not in ("", [], {})}


def emulated(root: Path | None = None, architecture: str = "") -> str | None:
    """By what it can be told that this computer is emulated, so that its seconds mean nothing; None on hardware."""
    return emulation.emulated(ROOT if root is None else root, architecture)


def _identity(root: Path, architecture: str) -> dict[str, Any]:
    release = text(root / "etc/os-release") or text(root / "usr/lib/os-release")
    system = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
    return {
        "model": _name(text(device_tree(root, "model")) or _bios(root)),
        "revision": _revision(root),
        "system": _name(system[1]) if system else None,
        "kernel": _name(text(root / "proc/sys/kernel/osrelease") or platform.release()),
        "architecture": _name(architecture),
        "userland_bits": 8 * struct.calcsize("P"),
        "emulated_because": emulated(root, architecture),
        "virtual": emulation.virtual(root),
    }


def _bios(root: Path) -> str:
    """Maker and product of a computer that has a BIOS."""
    folder = root / "sys/class/dmi/id"
    return " ".join(filter(None, (text(folder / "sys_vendor"), text(folder / "product_name"))))


def _revision(root: Path) -> str | None:
    """The board's revision code, hexadecimal: Raspberry Pi's documentation has what its bits mean."""
    match = re.search(r"^Revision\s*:\s*([0-9a-f]{4,8})$", text(root / "proc/cpuinfo"), re.MULTILINE)
    number = _cell(device_tree(root, "system/linux,revision"))
    return match[1] if match else None if number is None else f"{number:x}"


def _processor(root: Path) -> dict[str, Any]:
    cpuinfo = text(root / "proc/cpuinfo")
    features = re.search(r"^(?:Features|flags)\s*:(.*)$", cpuinfo, re.MULTILINE)
    found = [word for word in features[1].split() if FEATURES.fullmatch(word)] if features else []
    load = text(root / "proc/loadavg").split()
    return {
        "cpu": _name(_cpu(cpuinfo)),
        "cpu_features": found[:100],
        "cores": _cores(root) or len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)) or None,
        "load_1min": _number(load[0]) if load else None,
    }


def _cpu(cpuinfo: str) -> str:
    """The processor's cores by name: Arm's by their numbers, which /proc/cpuinfo has instead of names."""
    makers = re.findall(r"^CPU implementer\s*:\s*(0x[0-9a-f]+)$", cpuinfo, re.MULTILINE)
    parts = re.findall(r"^CPU part\s*:\s*(0x[0-9a-f]+)$", cpuinfo, re.MULTILINE)
    names = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if not parts or len(parts) != len(makers):
        return ", ".join(dict.fromkeys(names))
    known = [
        PARTS.get(part, "") if maker == "0x41" else ""
        for maker, part in dict.fromkeys(zip(makers, parts))  # noqa: B905
    ]
    unknown = ", ".join(dict.fromkeys(names)) or f"implementer {makers[0]}, part {parts[0]}"
    return ", ".join(known) if all(known) else unknown


def _cores(root: Path) -> int:
    """How many are online; 0 where that is not told."""
    ranges = re.findall(r"(\d{1,5})(?:-(\d{1,5}))?", text(root / "sys/devices/system/cpu/online"))
    return sum(max(int(last or first) - int(first) + 1, 0) for first, last in ranges)


def _clocks(root: Path, program: Vcgencmd) -> dict[str, Any]:
    """Of the fastest cores where they differ; the kernel's files are in kHz.

    clock_hz is what the governor asked for, clock_measured_hz what the firmware measured.
    """
    policies = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    governors = dict.fromkeys(_name(text(policy / "scaling_governor")) for policy in policies)

    def hz(name: str) -> int | None:
        kilo = [value for policy in policies if (value := _number(text(policy / name)))]
        return int(1000 * max(kilo)) if kilo else None

    measured = program.number(r"frequency\(\d+\)=(\d{1,12})", "measure_clock", "arm")
    return {
        "clock_min_hz": hz("cpuinfo_min_freq"),
        "clock_max_hz": hz("cpuinfo_max_freq"),
        "clock_limit_hz": hz("scaling_max_freq"),
        "clock_hz": hz("scaling_cur_freq"),
        "clock_measured_hz": int(measured) if measured else None,
        "governors": [governor for governor in governors if governor][:16],
    }


def _temperatures(root: Path, program: Vcgencmd) -> dict[str, Any]:
    """temperature_c is the processor's, by the kernel or else by the firmware; limit: where it is slowed down."""
    zones: dict[str, float] = {}
    limits = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*"))[:64]:
        milli = _number(text(zone / "temp"))
        name = _name(text(zone / "type")) or zone.name
        if milli is None or not -273_150 <= milli < 1_000_000:
            continue
        main = not zones or not _of_processor(next(iter(zones)))
        if main and _of_processor(name):
            zones, limits = {name: milli / 1000, **zones}, _trips(zone)
        else:
            zones[name if name not in zones else f"{name} {zone.name}"] = milli / 1000
    firmware = program.number(r"temp=(-?\d{1,3}(?:\.\d{1,3})?)'C", "measure_temp")
    stated = program.number(r"temp_limit=(\d{1,3})", "get_config", "temp_limit")
    limits += [stated] if stated else []
    first = next(iter(zones), "")
    return {
        "temperature_c": zones[first] if _of_processor(first) else firmware,
        "temperature_limit_c": min(limits) if limits else None,
        "temperatures_c": {**zones, **({} if firmware is None else {"vcgencmd": firmware})},
    }


def _of_processor(zone: str) -> bool:
    return bool(re.search(r"cpu|soc|x86_pkg", zone, re.IGNORECASE))


def _trips(zone: Path) -> list[float]:
    """Temperatures from which the kernel slows the processor down; those that are switched off are 0 or less."""
    kinds = {path: text(path) for path in sorted(zone.glob("trip_point_*_type"))[:32]}
    slowing = [path for path, kind in kinds.items() if kind in ("passive", "hot")]
    found = [_number(text(path.with_name(path.name.replace("_type", "_temp")))) for path in slowing]
    return [milli / 1000 for milli in found if milli is not None and milli > 0]


def _throttling(root: Path, program: Vcgencmd) -> dict[str, Any]:
    """By the firmware's program, or by the kernel's file where the user may not call that (group video)."""
    bits = vcgencmd.throttled(program.ask("get_throttled"))
    if bits is None:
        files = sorted((root / "sys/devices/platform").glob("soc*/soc*:firmware/get_throttled"))
        bits = vcgencmd.throttled(text(files[0])) if files else None
    if bits is None:
        return {}
    now, since_boot = vcgencmd.flags(bits)
    # empty lists are told here: that nothing throttles is a fact
    return {"throttled": f"{bits:#x}", "throttled_now": tuple(now), "throttled_since_boot": tuple(since_boot)}


def _memory(root: Path) -> dict[str, Any]:
    kilo = dict(re.findall(r"^(\w+):\s+(\d{1,15}) kB$", text(root / "proc/meminfo"), re.MULTILINE))
    names = {
        "memory_bytes": "MemTotal",
        "memory_available_bytes": "MemAvailable",
        "swap_bytes": "SwapTotal",
        "swap_free_bytes": "SwapFree",
    }
    return {key: 1024 * int(kilo[name]) for key, name in names.items() if name in kilo}


def _power(root: Path, program: Vcgencmd) -> dict[str, Any]:
    """What a Pi 5 tells: the current its supply promised at boot, and the rails of its PMIC at this moment."""
    promised = _cell(device_tree(root, "chosen/power/max_current"))
    rails = vcgencmd.pmic(program.ask("pmic_read_adc"))
    told = [{k: v for k, v in vars(rail).items() if v is not None} for rail in rails]
    return {"supply_a": promised / 1000 if promised else None, "rails": told, "rails_w": vcgencmd.rails_w(rails)}


def _cell(path: Path) -> int | None:
    """A number of the device tree: 4 bytes, the highest first."""
    try:
        with path.open("rb") as file:
            data = file.read(5)
    except (OSError, ValueError):
        return None
    return int.from_bytes(data, "big") if len(data) == 4 else None


def _number(found: str) -> float | None:
    return float(found) if re.fullmatch(r"-?\d{1,15}(\.\d{1,9})?", found) else None


def _name(found: str) -> str:
    """Text on one line, printable and not too long."""
    return "".join(c for c in " ".join(found.split()) if c.isprintable())[:MOST_CHARACTERS]
