"""What is known of a board, each fact with its source: for a terminal, as JSON, and for docs/boards.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.terminal import clean
from firmware_tools import boards, silicon
from firmware_tools.boards import Board, Memory

NAME_COLUMNS = 16


@dataclass(frozen=True)
class Fact:
    """A line about a board; source: where it is from, "" where it is our own choice or not said."""

    name: str
    value: str
    source: str = ""


def facts(board: Board) -> list[Fact]:
    """All facts of a board that a person can use, the most asked for first; what is not known is left out."""
    sources = board.sources
    lines = [
        ("core", "core", board.core),
        ("clock", "clock_hz", clock(board)),
        ("flash", "flash", memory(board.flash)),
        ("RAM", "ram", memory(board.ram)),
        *(("more RAM", "more_ram", memory(one)) for one in getattr(board, "more_ram", ())),
        ("other names", "aliases", ", ".join(board.aliases)),
        ("options", "options", ", ".join(f"{board.name}+{option}" for option in sorted(board.options))),
        ("link", "link", board.link),
        ("pins", "pins", ", ".join(board.pins)),
        ("high in prefill", "prefill_pin", board.prefill_pin),
        ("high in decode", "decode_pin", board.decode_pin),
        ("fed by", "supplies", "; ".join(board.supplies)),
        ("current", "current", board.current),
        ("cycle counter", "cycle_counter", board.cycle_counter),
        ("on USB", "usb", ", ".join(f"{u.vid:04X}:{u.pid:04X} ({u.role})" for u in board.usb)),
        ("flashers", "flashers", ", ".join(board.flashers)),
        ("UF2 family", "uf2_family", "" if board.uf2_family is None else f"0x{board.uf2_family:08X}"),
        ("emulators", "emulators", ", ".join(board.emulators)),
        ("support", "promised", promise(board)),
        ("checked", "checked", board.checked if board.clock == "seconds" else ""),
        ("run on silicon", "ran_on_silicon", silicon.ran(board)),
    ]
    told = [Fact(name, value, sources.get(field, "")) for name, field, value in lines if value]
    shown = {field for _, field, _ in lines}
    return told + [Fact(f"source of {field}", text) for field, text in sources.items() if field not in shown]


def promise(board: Board) -> str:
    """Whether it is supported: "" where that is no question, of what exists in emulators only."""
    if board.clock != "seconds":
        return ""
    return "promised" if board.promised else "experimental"


def clock(board: Board) -> str:
    """Its speed, and what is told of its time."""
    if board.clock == "instructions":
        return "instructions are counted, never seconds"
    return f"{board.clock_hz / 1e6:g} MHz" if board.clock_hz else "seconds"


def memory(part: Memory) -> str:
    """A stretch of memory in words."""
    speed = f", {part.bytes_per_s / 1e6:g} MB/s" if part.bytes_per_s else ""
    name = getattr(part, "name", "")
    named = f" ({name})" if name else ""
    return f"{part.size_bytes >> 10:,} KB from 0x{part.start:08X}{named}{speed}"


def as_json(board: Board) -> dict[str, Any]:
    """Everything about one board as JSON's types."""
    return {
        "name": board.name,
        "description": board.description,
        "facts": {fact.name: {"value": fact.value, "source": fact.source or None} for fact in facts(board)},
        "pins": dict(board.pins),
    }


def text(board: Board) -> str:
    """Everything about one board for a terminal."""
    lines = [f"{board.name}  {board.description}"]
    for fact in facts(board):
        lines.append(f"  {fact.name:{NAME_COLUMNS}} {fact.value}")
        if fact.source:
            lines.append(f"  {'':{NAME_COLUMNS}}   from: {fact.source}")
    return clean("\n".join(lines) + "\n")


# --- docs/boards.md


def markdown(names: Sequence[str]) -> str:
    """The part of docs/boards.md that is made from facts: a table of all boards, then one of each board of silicon."""
    known = [boards.load(name) for name in names]
    real = [board for board in known if board.clock == "seconds"]
    lines = [
        "| board | core and clock | flash, RAM, KB | flashers | how far it is checked | run on silicon | |",
        "|---|---|---|---|---|---|---|",
        *map(_row, real),
        *map(_row, (board for board in known if board.clock != "seconds")),
    ]
    for board in real:
        lines += ["", f"### {board.name}", "", cell(board.description), "", "| | | source |", "|---|---|---|"]
        lines += [f"| {fact.name} | {cell(fact.value)} | {cell(fact.source)} |" for fact in facts(board)]
    return "\n".join(lines) + "\n"


def _row(board: Board) -> str:
    name = f"[`{board.name}`](#{board.name})" if board.clock == "seconds" else f"`{board.name}`"
    ram = sum(part.size_bytes for part in (board.ram, *getattr(board, "more_ram", ())))
    speed = f", {clock(board)}" if board.clock == "seconds" else ""
    columns = (
        name,
        f"{board.core}{speed}",
        f"{board.flash.size_bytes >> 10:,}, {ram >> 10:,}",
        ", ".join(board.flashers) or "–",
        board.checked if board.clock == "seconds" else f"exists in {' and '.join(board.emulators)} alone",
        silicon.ran(board),
        promise(board),
    )
    return f"| {' | '.join(cell(column) if column != name else column for column in columns)} |"


def cell(text: str) -> str:
    """A text in a table of Markdown, as it is."""
    return clean(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").strip()
