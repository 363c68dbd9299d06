"""virtual-m55: a Cortex-M55 that exists in QEMU only, with the memory map of its mps3-an547 (Arm DAI 0547).

Code and weights lie in the 2 MB of SRAM for code, values in the other SRAM. The board would boot from there as it is
configured; QEMU's always begins at address 0.
"""

from __future__ import annotations

from firmware_tools.boards import Board, Machine, Memory

BOARD = Board(
    name="virtual-m55",
    description="emulated Cortex-M55 with Helium, 2 MB flash, 4 MB RAM (QEMU's mps3-an547)",
    core="Cortex-M55",
    target="thumb-freestanding-eabihf",
    cpu="cortex_m55+mve_fp",  # the bare name has neither Helium nor FPU
    features=frozenset({"dsp", "fpu", "mve"}),
    flash=Memory(0x01000000, 2 << 20),
    ram=Memory(0x21000000, 4 << 20),
    stack_bytes=8 << 10,
    clock="instructions",
    emulators=("qemu",),
    machine=Machine(
        qemu="mps3-an547", unicorn="", uart=0x49303000, fpgaio=0x49302000, counter_hz=20_000_000, boots_at_zero=True
    ),
    ran_on_silicon="never: it has no silicon",
    pins={"LED": 0, "P1": 1, "P2": 2, "P3": 3},  # bits of MISC, which lead nowhere: unicorn.py remembers them
    options=frozenset({"float-cache"}),
)
