"""virtual-m33: a Cortex-M33F that exists in emulators only, with the memory map of QEMU's mps2-an505 (Arm DAI 0505)."""

from __future__ import annotations

from firmware_tools.boards import Board, Machine, Memory

BOARD = Board(
    name="virtual-m33",
    description="emulated Cortex-M33F, 4 MB flash, 4 MB RAM (QEMU's mps2-an505, secure side)",
    core="Cortex-M33F",
    target="thumb-freestanding-eabihf",
    cpu="cortex_m33+dsp+fp_armv8d16sp",  # the bare name has neither DSP nor FPU
    features=frozenset({"dsp", "fpu"}),
    flash=Memory(0x10000000, 4 << 20),
    ram=Memory(0x38000000, 4 << 20),
    stack_bytes=8 << 10,
    clock="instructions",
    emulators=("unicorn", "qemu"),
    machine=Machine(qemu="mps2-an505", unicorn="M33", uart=0x50200000, fpgaio=0x50302000, counter_hz=20_000_000),
    ran_on_silicon="never: it has no silicon",
    pins={"LED": 0, "P1": 1, "P2": 2, "P3": 3},  # bits of MISC, which lead nowhere: unicorn.py remembers them
    options=frozenset({"float-cache"}),
)
