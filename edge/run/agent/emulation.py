"""Is this computer real? An emulator computes the right numbers, but in a time that says nothing about any hardware.

qemu-user runs the programs of another architecture on this machine's kernel, qemu-system (TCG) a whole machine. A
virtual machine whose instructions the silicon itself executes (KVM and its like) is no emulator: that is told, too, but
its seconds are seconds. Only the standard library; Python from 3.9 on.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

MOST_BYTES = 1 << 18  # of a file; /proc/cpuinfo of 128 cores has 200,000
X86 = re.compile(r"^vendor_id\s*:\s*(Genuine|Authentic|Hygon|Centaur|Shanghai)", re.MULTILINE)
ARM = re.compile(r"^CPU implementer\s*:\s*(0x[0-9a-f]+)", re.MULTILINE)
# processors that only emulators have: QEMU's `max` of x86 and of ARM, and Rosetta's
NO_SILICON = re.compile(r"QEMU TCG|^CPU implementer\s*:\s*0x00$|VirtualApple", re.MULTILINE)
QEMU_MODELS = ("linux,dummy-virt", "QEMU")
EMULATED_IMPLEMENTERS = ("0x00", "0x41", "0x46")  # QEMU's own, Arm's, Fujitsu's: TCG has cores of no other maker


def text(path: Path) -> str:
    """The beginning of a file without what surrounds it; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode("utf-8", "replace").strip("\0\n\t ")
    except (OSError, ValueError):
        return ""


def device_tree(root: Path, name: str) -> Path:
    """A property of the device tree, which kernels show at one of two places."""
    short = root / "proc/device-tree" / name
    return short if short.exists() else root / "sys/firmware/devicetree/base" / name


def emulated(root: Path, architecture: str = "", environment: Mapping[str, str] | None = None) -> str | None:
    """By what an emulator was recognized; None on what may be taken for hardware.

    architecture: that of the programs (by default this one's); environment: by default this process's.
    """
    if sys.platform != "linux":
        return None
    environment = os.environ if environment is None else environment
    kind = family(architecture or platform.machine())
    cpuinfo = text(root / "proc/cpuinfo")
    interpreter = _interpreter(root)
    if interpreter.startswith("qemu-"):
        return f"its programs run in {interpreter[:40]}"
    if kind == "arm" and "QEMU_CPU" in environment:
        return "QEMU_CPU is set"
    if kind == "arm" and not os.path.lexists(root / "proc/self"):
        return "there is no /proc, as on every real one"
    silicon = "x86" if X86.search(cpuinfo) else "arm" if ARM.search(cpuinfo) else ""
    if kind and silicon and kind != silicon:
        return f"its programs are for {kind}, its processor is {silicon}"
    if NO_SILICON.search(cpuinfo):
        return "its processor is one that emulators have"
    if any(name in told for told in _says(root, cpuinfo) for name in QEMU_MODELS) and not _on_silicon(root, cpuinfo):
        return "it is a machine of QEMU's"
    return None


def virtual(root: Path) -> str | None:
    """What kind of virtual machine this is, where it says that it is one."""
    cpuinfo = text(root / "proc/cpuinfo")
    if _kvm(root):
        return "kvm"
    kind = text(root / "sys/hypervisor/type")
    product = text(root / "sys/class/dmi/id/product_name")
    if kind or re.search(r"virtual|KVM|HVM", product, re.IGNORECASE) or _says(root, cpuinfo)[0] == QEMU_MODELS[0]:
        return (kind or product or QEMU_MODELS[0])[:100]
    return "hypervisor" if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) else None


def family(architecture: str) -> str:
    """arm or x86; "" for what is neither."""
    if re.match(r"arm|aarch64", architecture.lower()):
        return "arm"
    return "x86" if re.fullmatch(r"x86_64|amd64|i[3-6]86", architecture.lower()) else ""


def _interpreter(root: Path) -> str:
    """The program that the kernel runs for this thread: qemu-user hides itself in /proc/self, but not there."""
    try:
        return Path(os.readlink(root / "proc/thread-self/exe")).name
    except OSError:
        return ""


def _says(root: Path, cpuinfo: str) -> list[str]:
    """Where a machine of QEMU's has its name: the device tree, the BIOS, the processor."""
    name = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    bios = [text(root / "sys/class/dmi/id" / key) for key in ("sys_vendor", "product_name")]
    return [text(device_tree(root, "model")), *bios, name[1] if name else ""]


def _kvm(root: Path) -> bool:
    clocks = text(root / "sys/devices/system/clocksource/clocksource0/available_clocksource")
    product = text(root / "sys/class/dmi/id/product_name")
    hypervisor = text(device_tree(root, "hypervisor/compatible"))
    shared = [text(path) for path in sorted((root / "sys/class/ptp").glob("ptp*/clock_name"))]
    return "kvm" in clocks or "KVM" in product or "kvm" in hypervisor or any("KVM" in name for name in shared)


def _on_silicon(root: Path, cpuinfo: str) -> bool:
    """Does a machine with QEMU's name execute on the processor itself?"""
    maker = ARM.search(cpuinfo)
    return _kvm(root) or maker is not None and maker[1] not in EMULATED_IMPLEMENTERS
