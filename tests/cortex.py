"""Runs C functions on an emulated Cortex-M core: compiled, called by setting registers, instructions counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import unicorn
from unicorn import arm_const as arm

from firmware_tools import elf
from firmware_tools.build import FREESTANDING, LANGUAGE, WARNINGS
from firmware_tools.toolchains import zig

CODE, RAM, RAM_BYTES = 0x0, 0x20000000, 4 << 20
STACK_BYTES = 16 << 10
STOP = CODE + 0x3FFF00  # a mapped address that no code lies at
SCRIPT = """\
PHDRS { all PT_LOAD FLAGS(7); }
SECTIONS
{
    . = 0x100;
    .text : { KEEP(*(.text.call_*)) *(.text .text.*) *(.rodata .rodata.*) } :all
    .data : { *(.data .data.* .bss .bss.* COMMON) }
    /DISCARD/ : { *(.ARM.exidx* .ARM.extab* .comment) }
}
"""
ARGUMENTS = (arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3)
GUARD = b"\xa5" * 16  # around every block of memory a function is given


@dataclass(frozen=True)
class Core:
    """A core, and the command of a compiler for it; the rest of the command all compilers understand."""

    name: str
    compiler: tuple[str, ...]
    unicorn: int
    features: frozenset[str]


ZIG = (sys.executable, "-m", "ziglang", "cc", *FREESTANDING, *zig.COMPILE, "-target")
GCC = (
    "arm-none-eabi-gcc",
    "-ffreestanding",
    "-ffunction-sections",
    "-nostartfiles",
    "-mthumb",
    "-fno-math-errno",
    "-mfp16-format=ieee",
)
GCC_M4 = ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-mfp16-format=ieee")
DSP = frozenset({"dsp", "fpu"})
M4_ZIG = (*ZIG, "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp")
M4 = Core("m4", M4_ZIG, arm.UC_CPU_ARM_CORTEX_M4, DSP)
M4_GCC = replace(M4, name="m4-gcc", compiler=(*GCC, *GCC_M4))
M0_ZIG = (*ZIG, "thumb-freestanding-eabi", "-mcpu=cortex_m0plus")
M0 = Core("m0", M0_ZIG, arm.UC_CPU_ARM_CORTEX_M0, frozenset())
M3_ZIG = (*ZIG, "thumb-freestanding-eabi", "-mcpu=cortex_m3")
M3 = Core("m3", M3_ZIG, arm.UC_CPU_ARM_CORTEX_M3, frozenset())


class Cortex:
    """A core with the functions `call_…` of the given C files in its memory, and all that these use.

    Memory is given out by `put` and read by `get`; `call` checks that no function wrote around what it was given.
    """

    def __init__(self, core: Core, files: Sequence[Path], includes: Sequence[Path], folder: Path) -> None:
        (folder / "kernel.ld").write_text(SCRIPT, encoding="utf-8")
        linked = folder / f"{core.name}.elf"
        flags = ["-O2", *LANGUAGE, *WARNINGS, *(f"-I{path}" for path in includes)]
        link = ["-Wl,--gc-sections", "-Wl,-e,0", f"-Wl,-T,{folder / 'kernel.ld'}"]
        subprocess.run([*core.compiler, *flags, *map(str, files), *link, "-o", str(linked)], check=True)
        parts = elf.read(linked.read_bytes())
        functions = [symbol for symbol in parts.symbols if symbol.is_function]
        self.variables = {symbol.name: symbol.address for symbol in parts.symbols if not symbol.is_function}
        self.symbols = {symbol.name: symbol for symbol in functions}
        self.kernel_bytes = sum(f.size_bytes for f in functions if f.name.startswith("edge_"))
        self.machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self.machine.ctl_set_cpu_model(core.unicorn)
        self.machine.mem_map(CODE, 4 << 20)
        self.machine.mem_map(RAM, RAM_BYTES)
        for address, content in parts.segments:
            self.machine.mem_write(address, content)
        self.blocks: dict[int, bytes] = {}
        self.free = RAM + STACK_BYTES
        self.hooked = False

    def put(self, content: bytes) -> int:
        """Address of a copy of content in RAM, 16-byte aligned, with a guard before and after."""
        address = self.free + len(GUARD)
        self.machine.mem_write(self.free, GUARD + content + GUARD)
        self.blocks[address] = content
        self.free = (address + len(content) + len(GUARD) + 15) // 16 * 16
        assert self.free < RAM + RAM_BYTES, "the core's RAM is full"
        return address

    def get(self, address: int, size: int) -> bytes:
        return bytes(self.machine.mem_read(address, size))

    def release(self) -> None:
        """Forgets all blocks."""
        self.blocks.clear()
        self.free = RAM + STACK_BYTES

    def call(self, name: str, *arguments: int, count: bool = False) -> int:
        """Calls a function with up to four integers or addresses; returns how many instructions it took, if counted."""
        for register, value in zip(ARGUMENTS[: len(arguments)], arguments, strict=True):
            self.machine.reg_write(register, value)
        self.machine.reg_write(arm.UC_ARM_REG_SP, RAM + STACK_BYTES)
        self.machine.reg_write(arm.UC_ARM_REG_LR, STOP | 1)
        executed = [0]

        def tick(machine: unicorn.Uc, address: int, size: int, data: object) -> None:
            executed[0] += 1

        if count != self.hooked:
            self.machine.ctl_flush_tb()  # code translated without the hook runs without it
            self.hooked = count
        hook = self.machine.hook_add(unicorn.UC_HOOK_CODE, tick) if count else None
        self.machine.emu_start(self.symbols[name].address | 1, STOP)
        if hook is not None:
            self.machine.hook_del(hook)
        for address, content in self.blocks.items():
            assert self.get(address - len(GUARD), len(GUARD)) == GUARD, f"{name} wrote below a block it was given"
            assert self.get(address + len(content), len(GUARD)) == GUARD, f"{name} wrote above a block it was given"
        return executed[0]
