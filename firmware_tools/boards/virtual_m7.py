"""virtual-m7: a Cortex-M7F that exists in emulators only, with the memory map of QEMU's mps2-an500 (Arm DAI 0500)."""

from __future__ import annotations

from firmware_tools.boards import Board, Machine, Memory

BOARD = Board(
    name="virtual-m7",
    description="emulated Cortex-M7F, 4 MB flash, 4 MB RAM (QEMU's mps2-an500)",
    core="Cortex-M7F",
    target="thumb-freestanding-eabihf",
    cpu="cortex_m7+fp_armv8d16sp",  # the bare name is compiled for soft float, silently
    features=frozenset({"dsp", "fpu"}),
    flash=Memory(0x00000000, 4 << 20),
    ram=Memory(0x20000000, 4 << 20),
    stack_bytes=8 << 10,
    clock="instructions",
    emulators=("unicorn", "qemu"),
    machine=Machine(qemu="mps2-an500", unicorn="M7", uart=0x40004000, fpgaio=0x40028000, counter_hz=25_000_000),
    ran_on_silicon="never: it has no silicon",
    pins={"LED": 0, "P1": 1, "P2": 2, "P3": 3},  # bits of MISC, which lead nowhere: unicorn.py remembers them
    options=frozenset({"float-cache"}),
)
