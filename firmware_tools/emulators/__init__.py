"""Emulators: boards without hardware. One stem each: `X.py` has `open(image, counting=False) -> Link`.

counting asks for exact ticks of every prefill and decode step, which may take the emulator longer; without it a Link
may answer None. Time on an emulator is instructions, never seconds. An emulator that is not installed raises
MissingTool. To add one, write the stem, name it in the `emulators` of the boards it can be, and name it in the README.

    trace(image, functions, request) -> passes
        Starts image, carries out request(link), and returns (name, instructions until then) for each time that one of
        the functions was entered while a step computed, in order.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from firmware_tools.errors import UserError

# the Python package that brings an emulator; those not named here are programs of their own
FROM_PIP = {"unicorn": "unicorn"}


def names() -> tuple[str, ...]:
    """Every emulator's name, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> ModuleType:
    """The module of the emulator called name; UserError where there is none."""
    if name not in names():
        raise UserError(f"no emulator is called {name!r}", f"emulators: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")
