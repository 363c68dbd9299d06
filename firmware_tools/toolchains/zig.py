"""`zig cc` from pip's ziglang: clang, lld and a compiler library for every core. https://ziglang.org"""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata

from firmware_tools.boards import Board
from firmware_tools.errors import MissingTool

COMPILE = ("-fno-sanitize=undefined", "-fstack-size-section")
# without -g the linker drops all symbols, not those of debuggers alone
LINK = ("-g",)
LIBRARIES = ()


def command(board: Board) -> list[str]:
    """The compiler for the board's core."""
    return [*host_command(), "-target", board.target, f"-mcpu={board.cpu}"]


def host_command() -> list[str]:
    """The compiler for this machine."""
    if importlib.util.find_spec("ziglang") is None:
        raise MissingTool("the C compiler is missing: the Python package ziglang", "pip install ziglang")
    return [sys.executable, "-m", "ziglang", "cc"]


def version() -> str:
    """As pip knows it."""
    return f"zig {metadata.version('ziglang')}"
