"""virtual-m3: a Cortex-M3 that exists in emulators only, with the memory map of QEMU's mps2-an385 (Arm DAI 0385)."""

from __future__ import annotations

from firmware_tools.boards import Board, Machine, Memory

BOARD = Board(
    name="virtual-m3",
    description="emulated Cortex-M3, 4 MB flash, 4 MB RAM (QEMU's mps2-an385)",
    core="Cortex-M3",
    target="thumb-freestanding-eabi",
    cpu="cortex_m3",
    features=frozenset({"v6m"}),
    flash=Memory(0x00000000, 4 << 20),
    ram=Memory(0x20000000, 4 << 20),
    stack_bytes=8 << 10,
    clock="instructions",
    emulators=("unicorn", "qemu"),
    machine=Machine(qemu="mps2-an385", unicorn="M3", uart=0x40004000, fpgaio=0x40028000, counter_hz=25_000_000),
    ran_on_silicon="never: it has no silicon",
    pins={"LED": 0, "P1": 1, "P2": 2, "P3": 3},  # bits of MISC, which lead nowhere: unicorn.py remembers them
    options=frozenset({"wide"}),
)
