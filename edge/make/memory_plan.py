"""What lives where in the arena, and when: as data, in characters, and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge.drawing import Drawing, colours
from firmware_tools import ops
from firmware_tools.boards import Board
from firmware_tools.plan import lifetimes, plan, row_bytes
from firmware_tools.program import Program

COLUMNS, LINES = 64, 16  # of the map in characters, at most
SIGNS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
FREE, SCRATCH = "·", "#"
WORKSPACE = "workspace"


@dataclass(frozen=True)
class Region:
    """Bytes of the arena that are in use from call `first` to call `last` (those from 0 on; -1: an input).

    name is the op that computes them, or whose workspace they are.
    """

    name: str
    kind: str  # result or workspace
    offset_bytes: int
    size_bytes: int
    first: int
    last: int


def regions(program: Program, board: Board, rows: int) -> tuple[Region, ...]:
    """All results and workspaces, in the order of the calls."""
    layout = plan(program, board.features, rows)
    sizes, lives = row_bytes(program, rows), lifetimes(program)
    found = []
    for index, call in enumerate(program.calls):
        for value in call.outputs:
            if lives[value][0] == index and value not in program.kept:
                found.append(Region(call.op, "result", layout.offsets_bytes[value], sizes[value], *lives[value]))
        offset = layout.workspace_offsets_bytes[index]
        if offset is not None:
            size = ops.workspace_bytes(call, board.features, rows if index < program.head else 1)
            found.append(Region(call.op, WORKSPACE, offset, size, index, index))
    inputs = [Region("input", "result", layout.offsets_bytes[v], sizes[v], *lives[v]) for v in program.inputs]
    return (*inputs, *found)


def text(plan: Sequence[Region]) -> str:
    """A map, calls from left to right and addresses from top to bottom, and a table of what is in it.

    Where calls repeat what earlier ones do, as layers, only the first of them are drawn.
    """
    shown = [region for region in plan if region.first < COLUMNS]
    calls = min(COLUMNS, 1 + max(region.last for region in shown))
    end = max(region.offset_bytes + region.size_bytes for region in plan)
    line_bytes = max(16, -(-end // LINES // 16) * 16)
    names = list(dict.fromkeys(region.name for region in shown if region.kind != WORKSPACE))
    sign = {name: SIGNS[i % len(SIGNS)] for i, name in enumerate(names)}
    lines = [f"memory plan of the arena, {end:,} bytes: the first {calls} calls from left to right"]
    for start in range(0, end, line_bytes):
        lines.append(f"  {start:>7,} " + "".join(_cells(shown, sign, calls, start, start + line_bytes)))
    lines += ["  " + ", ".join(f"{sign[name]} {name}" for name in names) + f", {SCRATCH} {WORKSPACE}, {FREE} free"]
    return "\n".join(lines)


def _cells(shown: Sequence[Region], sign: dict[str, str], calls: int, start: int, end: int) -> Iterator[str]:
    for call in range(calls):
        inside = [
            region
            for region in shown
            if region.first <= call <= region.last
            and region.offset_bytes < end
            and region.offset_bytes + region.size_bytes > start
        ]
        newest = max(inside, key=lambda region: region.first, default=None)
        yield FREE if newest is None else SCRATCH if newest.kind == WORKSPACE else sign[newest.name]


def svg(plan: Sequence[Region], title: str) -> str:
    """The same as a picture, to scale; a title on each region says what it is."""
    width, height, left, top = 960.0, 420.0, 70.0, 64.0
    end = max(region.offset_bytes + region.size_bytes for region in plan)
    calls = 1 + max(region.last for region in plan)
    across, down = (width - left - 10) / (calls + 1), (height - top - 30) / end
    of_name = colours([*(region.name for region in plan if region.kind != WORKSPACE), WORKSPACE])
    drawing = Drawing(width, height, f"{title}: {end:,} bytes of arena")
    drawing.text(10, 20, f"{title}: {end:,} bytes of arena, calls from left to right")
    drawing.legend(10, 44, list(of_name.items()), step=(width - 20) / len(of_name))
    for part in range(5):
        drawing.text(left - 6, top + end * down * part / 4 + 4, f"{end * part // 4:,}", anchor="end")
    for region in plan:
        what = f"{region.name} {region.kind}, {region.size_bytes:,} bytes at {region.offset_bytes:,}"
        about = f"{what}, calls {region.first} to {region.last}"
        drawing.rectangle(
            left + (region.first + 1) * across,
            top + region.offset_bytes * down,
            (region.last - region.first + 1) * across,
            region.size_bytes * down,
            of_name[WORKSPACE if region.kind == WORKSPACE else region.name],
            about,
        )
    drawing.text(width - 10, height - 10, f"call {calls - 1}", anchor="end")
    return drawing.svg()
