"""The GNU Arm toolchain with newlib, as distributions and Arm ship it: `arm-none-eabi-gcc`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from firmware_tools.boards import Board
from firmware_tools.cores import CORES
from firmware_tools.errors import MissingTool

PROGRAM = "arm-none-eabi-gcc"
COMPILE = ("-mfp16-format=ieee",)  # or there is no _Float16
LINK = ("--specs=nano.specs",)  # the smaller build of newlib
LIBRARIES = ("-lm",)
HINT = "apt install gcc-arm-none-eabi libnewlib-arm-none-eabi, or use the toolchain zig, which pip brings"


def command(board: Board) -> list[str]:
    """The compiler for the board's core."""
    program = _program()
    if not Path(_ask(program, "-print-file-name=nano.specs")).is_absolute():  # gcc answers the bare name
        raise MissingTool(f"{PROGRAM} has no C library: newlib is not installed", HINT)
    return [program, "-mthumb", *CORES[board.cpu].gcc]


def version() -> str:
    """As it says itself."""
    return f"{PROGRAM} {_ask(_program(), '-dumpfullversion')}"


def _program() -> str:
    program = shutil.which(PROGRAM)
    if program is None:
        raise MissingTool(f"{PROGRAM} is not installed", HINT)
    return program


def _ask(program: str, question: str) -> str:
    return subprocess.run([program, question], capture_output=True, text=True, check=True).stdout.strip()
