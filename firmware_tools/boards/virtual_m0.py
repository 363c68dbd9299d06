"""virtual-m0: a Cortex-M0+ that exists in emulators only, with the memory map of QEMU's mps2-an385 (Arm DAI 0385).

QEMU's machine with a Cortex-M0 has 16 KB of RAM, and its mps2-an385 refuses `-cpu cortex-m0`. So unicorn runs the image
on its Cortex-M0, which has the same instructions as an M0+, and QEMU on a Cortex-M3, which has more. instructions.py
refuses an image with any of those; unaligned accesses, which an M0+ does not allow either, the tests look for.
"""

from __future__ import annotations

from firmware_tools.boards import Board, Machine, Memory

BOARD = Board(
    name="virtual-m0",
    description="emulated Cortex-M0+, 4 MB flash, 4 MB RAM (QEMU's mps2-an385, whose core is a Cortex-M3)",
    core="Cortex-M0+",
    target="thumb-freestanding-eabi",
    cpu="cortex_m0plus",
    features=frozenset({"v6m"}),
    flash=Memory(0x00000000, 4 << 20),
    ram=Memory(0x20000000, 4 << 20),
    stack_bytes=8 << 10,
    clock="instructions",
    emulators=("unicorn", "qemu"),
    machine=Machine(qemu="mps2-an385", unicorn="M0", uart=0x40004000, fpgaio=0x40028000, counter_hz=25_000_000),
    ran_on_silicon="never: it has no silicon",
    pins={"LED": 0, "P1": 1, "P2": 2, "P3": 3},  # bits of MISC, which lead nowhere: unicorn.py remembers them
    options=frozenset({"wide"}),
)
