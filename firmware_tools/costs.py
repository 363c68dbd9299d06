"""The two costs of a token's step: weight bytes read, and instructions, predicted from the graph alone.

A kernel's instructions are a sum over what its op's `work` names (calls, elements, rows, blocks of products …), each
times a factor. costs.json has the factors by core and kernel; of work that two cores share, those of the first. They
were found by least squares from profiles of small random models on the emulators (tests/bench/fit_costs.py), none of
which is a model that anybody uses. A kernel that nobody has measured on a core has no prediction, and neither has a
model with one of its calls.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path

from firmware_tools import ops
from firmware_tools.boards import Board
from firmware_tools.program import Program

TABLE = Path(__file__).parent / "costs.json"


def core(board: Board) -> str:
    """The name of a board's core in the table."""
    return board.cpu.partition("+")[0]


@functools.cache
def table() -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """core -> kernel -> what the work is called -> instructions for each of it."""
    read: Mapping[str, Mapping[str, Mapping[str, float]]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return read


def work(program: Program, index: int, position: int) -> dict[str, float]:
    """What call number `index` has to do for a token at a position; empty where its op does not say."""
    call = program.calls[index]
    stem = ops.load(call.op)
    if not hasattr(stem, "work"):
        return {}
    sizes = {f"in{i}": program.values[value].size for i, value in enumerate(call.inputs)}
    sizes |= {f"out{i}": program.values[value].size for i, value in enumerate(call.outputs)}
    return dict(stem.work(call, sizes, position))


def predict(program: Program, board: Board, position: int = 0) -> int | None:
    """Instructions of a step at a position (of an invocation); None where a kernel's cost is not known."""
    total = 0.0
    for index, call in enumerate(program.calls):
        factors = table().get(core(board), {}).get(ops.load(call.op).kernel(call, board.features))
        amounts = work(program, index, position)
        if factors is None or not amounts:
            return None
        total += sum(factors.get(name, 0.0) * amount for name, amount in amounts.items())
    return round(total)


def weight_bytes(program: Program, board: Board) -> int:
    """Bytes of weights, scales and tables that a step reads from flash."""
    return sum(ops.weight_bytes(call, board.features) for call in program.calls)
