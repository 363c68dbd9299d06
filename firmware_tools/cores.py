"""The cores of boards: what instructions each one has beyond ARMv6-M, and how gcc calls it.

The key is what `zig cc` takes for -mcpu, which decides more than the core: a bare name may be compiled without its FPU.
"""

from __future__ import annotations

from dataclasses import dataclass

MAINLINE = frozenset({"ARMv7-M", "division"})
SINGLE = MAINLINE | {"DSP", "FPU"}
FPV5 = SINGLE | {"FPv5"}
ARMV8 = frozenset({"ARMv8-M"})
HELIUM = FPV5 | ARMV8 | {"ARMv8.1-M", "double precision", "half precision", "Helium"}


@dataclass(frozen=True)
class Core:
    """instructions: names as instructions.py has them; gcc: its flags for this core."""

    instructions: frozenset[str]
    gcc: tuple[str, ...]


CORES = {
    "cortex_m0plus": Core(frozenset(), ("-mcpu=cortex-m0plus", "-mfloat-abi=soft")),
    "cortex_m3": Core(MAINLINE, ("-mcpu=cortex-m3", "-mfloat-abi=soft")),
    "cortex_m4+vfp4d16sp": Core(SINGLE, ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard")),
    "cortex_m7+fp_armv8d16sp": Core(FPV5, ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard")),
    "cortex_m33+dsp+fp_armv8d16sp": Core(FPV5 | ARMV8, ("-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard")),
    "cortex_m55+mve_fp": Core(HELIUM, ("-mcpu=cortex-m55", "-mfloat-abi=hard")),
}
