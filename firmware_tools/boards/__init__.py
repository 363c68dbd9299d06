"""Boards: one stem each. `X.py` holds the facts as `BOARD = Board(...)`, `X.c` the functions of `runtime/port.h`.

The file name is the board's name with `_` for `-`: `virtual_m4.py` is `virtual-m4`. To add a board, write the two files
and name it in the README.

Boards of the user's own are such stems, too, in the folder that the environment variable EDGE_BOARDS (or
`edge --boards DIR`) names. They find our headers; nothing of ours is replaced by them.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from firmware_tools import facts_file
from firmware_tools.cores import CORES
from firmware_tools.errors import UserError

FOLDER = "EDGE_BOARDS"
OWN_HINT = "`edge boards --like BOARD --new NAME` writes a board to begin with (docs/boards.md)"


@dataclass(frozen=True)
class Memory:
    """One stretch of address space; bytes_per_s: how fast the core can read it in order, where that is known.

    name: what people call it, where a board has several of the kind.
    """

    start: int
    size_bytes: int
    bytes_per_s: int | None = None
    name: str = ""


@dataclass(frozen=True)
class Usb:
    """How a computer that a board is plugged into sees it; product: part of the product's name, "" for any.

    role: `port`, the firmware's own serial port; `probe`, the serial port of the debug probe on the board, which many
    boards may have; `bootloader`, what takes an image (no serial port).
    """

    vid: int
    pid: int
    role: str
    product: str = ""


@dataclass(frozen=True)
class Programming:
    """What flashers must know of a board. A board has only what is for its own flashers.

    uf2_board: what INFO_UF2.TXT says in `Board-ID`. volumes: labels that the volume of its debug probe may have, and
    mbed_codes the first four characters of the code in that volume's MBED.HTM. rom_id: the product id that the UART
    bootloader in an STM32's ROM tells (AN2606). pyocd: its target; openocd: configuration files, in order.
    """

    uf2_board: str = ""
    volumes: tuple[str, ...] = ()
    mbed_codes: tuple[str, ...] = ()
    rom_id: int | None = None
    pyocd: str = ""
    openocd: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """What emulators must know of a board.

    qemu is the name of QEMU's machine, since the version that had it first, more_ram_since that which had the board's
    more_ram first; serial is the place of the board's UART among the machine's; counter_hz is what the firmware's ticks
    are there, 0 where it has nothing that counts them; boots_at_zero: the machine looks there for the first stack
    pointer and instruction, wherever flash is.

    A board that unicorn can be has the peripherals of Arm's MPS2 FPGA images: unicorn is the ending of its
    `UC_CPU_ARM_CORTEX_` model, uart and fpgaio are the addresses of a CMSDK UART and of the FPGA I/O block, whose
    COUNTER counts ticks.
    """

    qemu: str
    unicorn: str = ""
    uart: int = 0
    fpgaio: int = 0
    counter_hz: int = 0
    boots_at_zero: bool = False
    since: tuple[int, int] = (7, 2)
    more_ram_since: tuple[int, int] = (7, 2)
    serial: int = 0


@dataclass(frozen=True)
class Board:
    """The facts of a board that the compiler, the linker and the link need.

    target and cpu are what `zig cc` takes for -target and -mcpu; features name what kernels may use (`dsp`: SMLAD,
    `fpu`: without it int8 models are computed in integers, `v6m`: Armv6-M assembly); options are features that a user
    may add (`wide`: 2 bytes a weight for fewer instructions, `float-cache`: a float32 KV cache); clock is
    `instructions` on an emulated board, `seconds` on silicon; emulators are stems of `emulators/`, the default first;
    machine is for these. more_ram: where buffers and weights may lie besides ram, in order of preference; it must be
    there at reset, or `port_start` switches it on. code_in: `ram` where kernels run faster from there than from flash.

    Of boards of silicon: aliases are other names; clock_hz is full speed; flashers are stems of `flashers/`, the
    default first, programming what these must know; usb is how the board is recognised; uf2_family is the number of its
    chip in UF2 files; pins are names of output pins and their numbers for `port_pin`; cycle_counter, link, prefill_pin,
    decode_pin, supplies and current are for people: what counts cycles, how to connect, which pin is high when, how the
    board can be fed, where its current can be measured. sources: where each fact is from, by the field's name.
    promised: False is experimental. checked: `built only`, or in which emulator of this chip or of a relative its image
    runs in the tests.
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
    more_ram: tuple[Memory, ...] = ()
    code_in: str = "flash"
    emulators: tuple[str, ...] = ()
    machine: Machine | None = None
    ran_on_silicon: str = "no"
    options: frozenset[str] = frozenset()
    aliases: tuple[str, ...] = ()
    clock_hz: int | None = None
    flashers: tuple[str, ...] = ()
    programming: Programming = Programming()
    usb: tuple[Usb, ...] = ()
    uf2_family: int | None = None
    pins: Mapping[str, int] = field(default_factory=dict)
    cycle_counter: str = ""
    link: str = ""
    prefill_pin: str = ""
    decode_pin: str = ""
    supplies: tuple[str, ...] = ()
    current: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    promised: bool = False
    checked: str = "built only"

    @property
    def rams(self) -> tuple[Memory, ...]:
        """Every RAM, the one with stack and variables first."""
        return (self.ram, *self.more_ram)

    @property
    def full_name(self) -> str:
        """The name that `load` takes: with the options that were added."""
        return "+".join((self.name, *sorted(self.options & self.features)))


def names() -> tuple[str, ...]:
    """Every board's name, sorted."""
    return tuple(sorted((*shipped(), *_own())))


def shipped() -> tuple[str, ...]:
    """The names of our own boards."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def own_folder() -> Path | None:
    """The folder of the user's own boards, where one is named."""
    return Path(os.environ[FOLDER]) if os.environ.get(FOLDER) else None


def _own() -> dict[str, Path]:
    """The user's own boards: their files of facts by name. UserError for a name that is taken or cannot be one."""
    folder = own_folder()
    if folder is None:
        return {}
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder", f"--boards or {FOLDER} says that boards of your own are there")
    found = {}
    for path in sorted(folder.glob("*.py")):
        name = path.stem.replace("_", "-")
        if name in shipped():
            raise UserError(f"{path} has the name of a board that edge brings", "give its two files another name")
        if not path.stem.isidentifier() or path.stem != path.stem.lower() or name.strip("-") != name:
            raise UserError(f"{path} cannot be the name of a board", "letters a to z, digits, and _ for -")
        found[name] = path
    return found


def load(name: str) -> Board:
    """The facts of the board called name, as virtual-m0 or, with an option, virtual-m0+wide; UserError for others."""
    name, *options = name.split("+")
    known = names()
    if name not in known:
        own = {alias: one for one in _own() for alias in _read(one).aliases}
        name = {**own, **_aliases()}.get(name, name)
    if name not in known:
        raise UserError(f"no board is called {name!r}", f"boards: {', '.join(known)} (`edge boards` describes them)")
    board = _read(name)
    for option in options:
        if option not in board.options:
            options_it_has = ", ".join(f"{name}+{one}" for one in sorted(board.options)) or "it has none"
            raise UserError(f"{name} has no option {option!r}", f"its options: {options_it_has}")
    return replace(board, features=board.features | set(options))


def _read(name: str) -> Board:
    path = _own().get(name)
    if path is None:
        board: Board = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").BOARD
        return board
    board = facts_file.read(path, "BOARD", Board, OWN_HINT)
    if board.name != name:
        raise UserError(f"{path}: its name is {board.name!r}", f"a board in a file of this name is {name!r}")
    _check(board, path)
    if taken := {*board.aliases} & {*shipped(), *_aliases()}:
        raise UserError(f"{path}: the alias {sorted(taken)[0]!r} is taken", "leave it out of aliases")
    return board


def _check(board: Board, path: Path) -> None:
    """UserError for facts that nothing here could use."""
    emulated = [one.stem for one in (Path(__file__).parent.parent / "emulators").glob("[a-z]*.py")]
    for fact, values, known in (
        ("cpu", (board.cpu,), list(CORES)),
        ("clock", (board.clock,), ["seconds", "instructions"]),
        ("emulators", board.emulators, emulated),
    ):
        for value in values:
            if value not in known:
                raise UserError(f"{path}: {fact} has {value!r}", f"what is known: {', '.join(sorted(known))}")
    if board.emulators and board.machine is None and board.clock == "instructions":
        raise UserError(f"{path}: it has emulators, but no machine that they could be", "leave emulators empty")
    if min(board.flash.size_bytes, board.ram.size_bytes - board.stack_bytes, board.stack_bytes) <= 0:
        raise UserError(f"{path}: there is no room in flash, or none in RAM beside the stack", OWN_HINT)


@functools.cache
def _aliases() -> Mapping[str, str]:
    """Other names of our own boards."""
    return {alias: name for name in shipped() for alias in _read(name).aliases}


def port_source(name: str) -> Path:
    """The C file with the board's port functions. UserError where a board of the user's own has none."""
    own = _own().get(name)
    path = (own or Path(__file__).parent / name.replace("-", "_")).with_suffix(".c")
    if own and not path.is_file():
        raise UserError(f"{path} is missing: the board's port functions", OWN_HINT)
    return path
