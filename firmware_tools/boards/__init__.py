"""Boards: one stem each. `X.py` holds the facts as `BOARD = Board(...)`, `X.c` the functions of `runtime/port.h`.

The file name is the board's name with `_` for `-`: `virtual_m4.py` is `virtual-m4`. To add a board, write the two files
and name it in the README.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, replace
from pathlib import Path

from firmware_tools.errors import UserError


@dataclass(frozen=True)
class Memory:
    """One stretch of address space."""

    start: int
    size_bytes: int


@dataclass(frozen=True)
class Machine:
    """What emulators must know of an emulated board; its peripherals are those of Arm's MPS2 FPGA images.

    qemu is the name of QEMU's machine, unicorn the ending of unicorn's `UC_CPU_ARM_CORTEX_` model; uart and fpgaio are
    the addresses of a CMSDK UART and of the FPGA I/O block, counter_hz what its COUNTER counts; boots_at_zero: the
    machine looks there for the first stack pointer and instruction, wherever flash is.
    """

    qemu: str
    unicorn: str
    uart: int
    fpgaio: int
    counter_hz: int
    boots_at_zero: bool = False


@dataclass(frozen=True)
class Board:
    """The facts of a board that the compiler, the linker and the link need.

    target and cpu are what `zig cc` takes for -target and -mcpu; features name what kernels may use (`dsp`: SMLAD,
    `fpu`: without it int8 models are computed in integers, `v6m`: Armv6-M assembly); options are features that a user
    may add (`wide`: 2 bytes a weight for fewer instructions, `float-cache`: a float32 KV cache); clock is
    `instructions` on an emulated board, `seconds` on silicon; emulators are stems of `emulators/`, the default first;
    machine is for these.
    """

    name: str
    description: str
    core: str
    target: str
    cpu: str
    features: frozenset[str]
    flash: Memory
    ram: Memory
    stack_bytes: int
    clock: str
    emulators: tuple[str, ...] = ()
    machine: Machine | None = None
    ran_on_silicon: str = "no"
    options: frozenset[str] = frozenset()

    @property
    def full_name(self) -> str:
        """The name that `load` takes: with the options that were added."""
        return "+".join((self.name, *sorted(self.options & self.features)))


def names() -> tuple[str, ...]:
    """Every board's name, sorted."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Board:
    """The facts of the board called name, as virtual-m0 or, with an option, virtual-m0+wide; UserError for others."""
    name, *options = name.split("+")
    if name not in names():
        raise UserError(f"no board is called {name!r}", f"boards: {', '.join(names())} (`edge boards` describes them)")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    board: Board = module.BOARD
    for option in options:
        if option not in board.options:
            known = ", ".join(f"{name}+{known}" for known in sorted(board.options)) or "it has none"
            raise UserError(f"{name} has no option {option!r}", f"its options: {known}")
    return replace(board, features=board.features | set(options))


def port_source(name: str) -> Path:
    """The C file with the board's port functions."""
    return Path(__file__).parent / f"{name.replace('-', '_')}.c"
