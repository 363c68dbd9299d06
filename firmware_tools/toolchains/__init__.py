"""Toolchains: C compilers with their linker and library, one stem each. `X.py` has

    command(board) -> list[str]     how its C compiler is called for the board's core; raises MissingTool, with a hint
    version() -> str                its name and version, as records have it
    COMPILE, LINK, LIBRARIES        its own flags for compiling, before what is linked, and behind it

All flags that mean the same everywhere are in build.py. Whichever is used, kernels compute the same bits. To add one,
write the stem and name it in the README.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from firmware_tools.errors import UserError

DEFAULT = "zig"


def names() -> tuple[str, ...]:
    """Every toolchain's name, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> ModuleType:
    """The module of the toolchain called name; UserError where there is none."""
    if name not in names():
        raise UserError(f"no toolchain is called {name!r}", f"toolchains: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")
