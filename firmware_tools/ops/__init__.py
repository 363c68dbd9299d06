"""Ops: one stem each. `X.py` explains, computes in numpy and lowers; `X.c` computes on the device.

The compiler walks a `Program` (program.py): a list of `Call`s in order. For a call whose `op` is X it uses from X.py:

    reference(call, inputs, run) -> outputs    the device's arithmetic in numpy, equal to the C bit for bit
    kernel(call, features) -> str              name of the C function for these constants' types and this core
    statement(call, features, c) -> str        one C statement that calls the kernel; c maps names to C expressions:
                                               each constant's name, in0…, out0…, their lengths in0_count…,
                                               out0_count…, and tokens, position, count, workspace, cache

and, where it has them:

    layout(call, features) -> dict[str, array] the constants as they lie in flash (packed, padded); else as they are
    workspace_bytes(call, features, rows)      scratch the kernel needs while it runs, for so many rows at once
    cache_bytes(call)                          state it keeps between steps, its part of the KV cache
    USES                                       names of other ops whose kernels its statement calls
    weight_bytes(call, features)               constants that a token's step reads, where that is not all of the layout
    USES                                       names of other ops whose kernels its statement calls
    work(call, sizes, position)                numbers that the kernel's instructions grow with, by name, for a token at
                                               a position (costs.py has the factors); sizes: elements of in0…, out0…
    IN_PLACE                                   pairs (output, input) where the output may take the memory of an input
                                               that nobody needs afterwards

A decoder computes `count` tokens at once, the rows of its values: row r is the token tokens[r] at position + r. The
reference is of one token, and a kernel gives the same bits however many rows it is asked for.

Ops of any .tflite, beside those of decoders, also say which operators of a file they are:

    OPERATORS                                  names of builtin operators in the schema, as ("CONV_2D",)
    lower(operator, subgraph) -> Call          the call; its inputs and outputs are indices of computed tensors, what
                                               the file stores is among its constants; raises Unsupported

The cache of these is zeros before the first invocation, and clearing it is what TFLite's reset of variables is.

`X.h` declares the kernels; `X_dsp.c` and the like hold the faster ways of some cores, compiled where Board.features has
the name. The docstring of X.py gives shapes, units and the source of the formula. To add an op, write the stem, a
pattern in fuse.py or a `lower`, and name it in the README.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from firmware_tools.graph import Operator, Subgraph

Array = NDArray[Any]
# what a lowering raises where a file's operator has not the inputs or options that its kind has
MALFORMED = (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError, ZeroDivisionError)


class Unsupported(Exception):
    """Why an op does not take an operator of a file, as a clause, and what may help."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Call:
    """One op at one place of the program.

    inputs and outputs are indices into Program.values; an output that is also an input is computed in place. constants
    are numpy arrays, those shared between calls the same object; attributes are numbers that become literals in C.
    """

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: Mapping[str, Array] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


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


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    """The call of the first op, by name, that takes an operator of a file.

    Raises:
        Unsupported: none does; tells each one's reason.
    """
    refusals: list[Unsupported] = []
    for name in names():
        stem = load(name)
        if operator.op in getattr(stem, "OPERATORS", ()):
            try:
                call: Call = stem.lower(operator, subgraph)
                return call
            except Unsupported as error:
                refusals.append(error)
            except MALFORMED:
                refusals.append(Unsupported(f"its inputs, outputs or options are not those of {operator.op}"))
    if not refusals:
        raise Unsupported(f"no op computes {operator.op}")
    raise Unsupported("; or ".join(dict.fromkeys(error.reason for error in refusals)), refusals[-1].hint)


def used(call: Call) -> tuple[str, ...]:
    """The ops whose kernels a call needs."""
    return (call.op, *getattr(load(call.op), "USES", ()))


def fastest(features: frozenset[str], *ways: str) -> str:
    """The ending of a kernel's name: the first of these ways that a core has, in the order given, or none."""
    return next((f"_{way}" for way in ways if way in features), "")


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    """The constants of a call as they lie in flash on a core with these features."""
    stem = load(call.op)
    laid_out: dict[str, Array] = stem.layout(call, features) if hasattr(stem, "layout") else dict(call.constants)
    return laid_out


def workspace_bytes(call: Call, features: frozenset[str], rows: int = 1) -> int:
    """Scratch that the kernel of a call needs while it computes so many rows at once."""
    stem = load(call.op)
    return int(stem.workspace_bytes(call, features, rows)) if hasattr(stem, "workspace_bytes") else 0


def cache_bytes(call: Call) -> int:
    """What a call keeps from step to step."""
    stem = load(call.op)
    return int(stem.cache_bytes(call)) if hasattr(stem, "cache_bytes") else 0


def weight_bytes(call: Call, features: frozenset[str]) -> int:
    """Bytes of constants that the kernel of a call reads from flash for one token."""
    stem = load(call.op)
    if hasattr(stem, "weight_bytes"):
        return int(stem.weight_bytes(call, features))
    return sum(array.nbytes for array in layout(call, features).values())
