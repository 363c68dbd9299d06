"""Folders that pose as the /proc and /sys of Raspberry Pis, with the texts that real ones have given.

The texts are of public dumps (of serial numbers only the form is real). vcgencmd is a program of our own, a simulated
instrument: it prints what lies in files beside it, so that a test can change its answer between two calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

V8 = """processor\t: {n}
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x{variant}
CPU part\t: {part}
CPU revision\t: {revision}

"""
V7 = """processor\t: {n}
model name\t: ARMv7 Processor rev 4 (v7l)
BogoMIPS\t: 38.40
Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32
CPU implementer\t: 0x41
CPU architecture: 7
CPU variant\t: 0x0
CPU part\t: 0xd03
CPU revision\t: 4

"""
V6 = """processor\t: 0
model name\t: ARMv6-compatible processor rev 7 (v6l)
BogoMIPS\t: 697.95
Features\t: half thumb fastmult vfp edsp java tls
CPU implementer\t: 0x41
CPU architecture: 7
CPU variant\t: 0x0
CPU part\t: 0xb76
CPU revision\t: 7

"""
END = "{hardware}Revision\t: {revision}\nSerial\t\t: 10000000a1b2c3d4\nModel\t\t: {model}\n"
BCM2835 = "Hardware\t: BCM2835\n"
A53 = {"features": "fp asimd evtstrm crc32 cpuid", "variant": "0", "part": "0xd03", "revision": "4"}
A72 = {"features": "fp asimd evtstrm crc32 cpuid", "variant": "0", "part": "0xd08", "revision": "3"}
A76 = {
    "features": "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    "variant": "4",
    "part": "0xd0b",
    "revision": "1",
}
PMIC = """ 3V7_WL_SW_A current(0)=0.09466522A
   3V3_SYS_A current(1)=0.08197812A
   1V8_SYS_A current(2)=0.15029320A
  DDR_VDD2_A current(3)=0.00390372A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.20299340A
    0V8_SW_A current(6)=0.30546610A
  VDD_CORE_A current(7)=1.11625000A
   3V3_DAC_A current(17)=0.00000000A
   3V3_ADC_A current(18)=0.00018315A
   0V8_AON_A current(16)=0.00274725A
      HDMI_A current(22)=0.01660560A
 3V7_WL_SW_V volt(8)=3.62925200V
   3V3_SYS_V volt(9)=3.31652900V
   1V8_SYS_V volt(10)=1.79877700V
  DDR_VDD2_V volt(11)=1.10146400V
  DDR_VDDQ_V volt(12)=0.60622650V
   1V1_SYS_V volt(13)=1.10402800V
    0V8_SW_V volt(14)=0.79853400V
  VDD_CORE_V volt(15)=0.74944980V
   3V3_DAC_V volt(20)=3.31043600V
   3V3_ADC_V volt(21)=3.31684600V
   0V8_AON_V volt(19)=0.79794790V
      HDMI_V volt(23)=5.10138000V
     EXT5V_V volt(24)=5.08530000V
      BATT_V volt(25)=0.00000000V
"""
PRINTS = """#!/bin/sh
file="$(dirname "$0")/answers/$(echo "$*" | tr ' ' '-')"
[ -f "$file" ] && exec cat "$file"
echo 'error=1 error_msg="Command not registered"'
"""


@dataclass(frozen=True)
class Pi:
    """What a model's files and its firmware say. Clocks in kHz, as the kernel's files have them."""

    model: str
    revision: str
    cpuinfo: str
    architecture: str
    kernel: str
    memory_kb: int
    clocks: tuple[int, int]  # least, most
    vcgencmd: dict[str, str] = field(default_factory=dict)
    place: str = "usr/bin/vcgencmd"
    max_current: int | None = None  # mA


def _cpuinfo(core: str, cores: int, model: str, revision: str, hardware: str = BCM2835, **values: str) -> str:
    parts = [core.format(n=n, **values) for n in range(cores)]
    return "".join(parts) + END.format(hardware=hardware, revision=revision, model=model)


def _firmware(clock: int, temperature: str = "48.3") -> dict[str, str]:
    return {
        "get_throttled": "throttled=0x0\n",
        "measure_temp": f"temp={temperature}'C\n",
        "measure_clock-arm": f"frequency(48)={clock}\n",
        "get_config-temp_limit": "temp_limit=85\n",
    }


def _pi(model: str, revision: str, core: str, cores: int, hardware: str = BCM2835, **values: object) -> Pi:
    cpu = {key: str(values.pop(key)) for key in ("features", "variant", "part") if key in values}
    cpu_revision = str(values.pop("cpu_revision", ""))
    core = core.replace("CPU revision\t: {revision}", f"CPU revision\t: {cpu_revision}") if cpu_revision else core
    return Pi(model, revision, _cpuinfo(core, cores, model, revision, hardware, **cpu), **values)  # type: ignore[arg-type]


def _v8(core: dict[str, str]) -> dict[str, str]:
    return {**{key: core[key] for key in ("features", "variant", "part")}, "cpu_revision": core["revision"]}


PIS = {
    "zero-w": _pi(
        "Raspberry Pi Zero W Rev 1.1", "9000c1", V6, 1,
        architecture="armv6l", kernel="6.12.25+rpt-rpi-v6", memory_kb=440108, clocks=(700000, 1000000),
        vcgencmd=_firmware(1000000000, "38.5"),
    ),
    "zero-2": _pi(
        "Raspberry Pi Zero 2 W Rev 1.0", "902120", V8, 4,
        **_v8(A53), architecture="aarch64", kernel="6.6.20+rpt-rpi-v8", memory_kb=435600, clocks=(600000, 1000000),
        vcgencmd=_firmware(1000000000),
    ),
    "3b+": _pi(  # a 32-bit system of before 11, where vcgencmd lay elsewhere
        "Raspberry Pi 3 Model B Plus Rev 1.3", "a020d3", V7, 4,
        architecture="armv7l", kernel="5.10.103-v7+", memory_kb=945364, clocks=(600000, 1400000),
        vcgencmd={**_firmware(1400000000, "55.8"), "get_throttled": "throttled=0x80008\n"}, place="opt/vc/bin/vcgencmd",
    ),
    "4": _pi(
        "Raspberry Pi 4 Model B Rev 1.4", "c03114", V8, 4,
        **_v8(A72), architecture="aarch64", kernel="6.1.21-v8+", memory_kb=3885396, clocks=(600000, 1800000),
        vcgencmd=_firmware(1800457088, "51.1"),
    ),
    "5": _pi(
        "Raspberry Pi 5 Model B Rev 1.0", "d04170", V8, 4, "",
        **_v8(A76), architecture="aarch64", kernel="6.6.31+rpt-rpi-2712", memory_kb=8254976, clocks=(1500000, 2400000),
        vcgencmd={**_firmware(2400030976), "pmic_read_adc": PMIC}, max_current=5000,
    ),
}  # fmt: skip


def put(root: Path, name: str, content: str | bytes) -> None:
    """A file below the root."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def program(root: Path, script: str, place: str = "usr/bin/vcgencmd") -> None:
    """A vcgencmd of our own."""
    put(root, place, script)
    (root / place).chmod(0o755)


def answers(root: Path, place: str = "usr/bin/vcgencmd", **said: str) -> None:
    """What vcgencmd says from now on: a name for each command, its spaces as dashes."""
    for command, answer in said.items():
        put(root, str(Path(place).parent / "answers" / command), answer)


def pose(root: Path, pi: Pi) -> Path:
    """Writes everything that a Pi shows below the root; returns it."""
    put(root, "proc/self/status", "Name:\tpython3\n")
    put(root, "proc/cpuinfo", pi.cpuinfo)
    put(root, "proc/loadavg", "0.52 0.58 0.59 1/189 4711\n")
    put(root, "proc/sys/kernel/osrelease", pi.kernel + "\n")
    put(root, "proc/device-tree/model", pi.model + "\0")
    memory = {"MemTotal": pi.memory_kb, "MemFree": 100000, "MemAvailable": 300000, "SwapTotal": 102396, "SwapFree": 0}
    put(root, "proc/meminfo", "".join(f"{name + ':':16}{kb:8} kB\n" for name, kb in memory.items()))
    put(root, "etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\n')
    put(root, "sys/devices/system/cpu/online", f"0-{pi.cpuinfo.count('processor') - 1}\n".replace("0-0", "0"))
    policy = "sys/devices/system/cpu/cpufreq/policy0"
    names = ("cpuinfo_min_freq", "cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq")
    for name, clock in zip(names, (*pi.clocks, pi.clocks[1], pi.clocks[0]), strict=True):
        put(root, f"{policy}/{name}", f"{clock}\n")
    put(root, f"{policy}/scaling_governor", "ondemand\n")
    put(root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    put(root, "sys/class/thermal/thermal_zone0/temp", "48312\n")
    if pi.max_current is not None:
        put(root, "proc/device-tree/chosen/power/max_current", pi.max_current.to_bytes(4, "big"))
    program(root, PRINTS, pi.place)
    answers(root, pi.place, **pi.vcgencmd)
    return root
