"""Ops: one stem each. `X.py` explains, computes in numpy and lowers; `X.c` computes on the device.

The compiler walks a `Program` (fuse.py): a list of `Call`s in order. For a call whose `op` is X it uses from X.py:

    reference(call, inputs, run) -> outputs    the device's arithmetic in numpy, equal to the C bit for bit
    kernel(call, features) -> str              name of the C function for these constants' types and this core
    layout(call) -> dict[str, array]           the constants as they lie in flash (packed, padded); others as they are
    statement(call, features, c) -> str        one C statement that calls the kernel; c maps names to C expressions:
                                               each constant's name, in0…, out0…, their lengths in0_count…,
                                               out0_count…, and token, position, workspace, cache
    workspace_bytes(call) -> int               scratch the kernel needs while it runs (0: none)
    cache_bytes(call, context) -> int          state it keeps between steps, its part of the KV cache (0: none)
    IN_PLACE                                   optional: pairs (output, input) where the output may take the memory of
                                               an input that nobody needs afterwards

`X.h` declares the kernels; `X_dsp.c` and the like hold the faster ways of some cores, compiled where Board.features has
the name. The docstring of X.py gives shapes, units and the source of the formula. To add an op, write the stem, a
pattern in fuse.py, and name it in the README.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Call:
    """One op at one place of the program.

    inputs and outputs are indices into Program.values (all float32 vectors, in the arena); an output that is also an
    input is computed in place. constants are numpy arrays, those shared between calls the same object; attributes are
    numbers that become literals in C.
    """

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: Mapping[str, Array] = field(default_factory=dict)
    attributes: Mapping[str, float | int] = field(default_factory=dict)


@dataclass
class Run:
    """What changes from step to step when a program is computed in numpy; caches: a call's `layer` -> its arrays."""

    token: int = 0
    position: int = 0
    context: int = 0
    caches: dict[int, dict[str, Array]] = field(default_factory=dict)


def names() -> tuple[str, ...]:
    """Every op's name, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> ModuleType:
    """The module of the op called name."""
    return importlib.import_module(f"{__name__}.{name}")
