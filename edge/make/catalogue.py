"""What comes along: the models of the zoo and the boards, as rows of plain data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge import zoo
from edge.make.inspect import summarize
from edge.terminal import one_line
from firmware_tools import boards as known_boards
from firmware_tools import silicon

Row = dict[str, Any]


def models() -> list[Row]:
    """name, description, parameters, file_bytes, quantization, context and tasks of every model of the zoo."""
    return [_model(entry) for entry in zoo.entries()]


def _model(entry: zoo.Entry) -> Row:
    summary = summarize(entry.model)
    return {
        "name": entry.name,
        "parameters": summary.parameters,
        "file_bytes": summary.file_bytes,
        "quantization": summary.card["quantization"],
        "context": summary.card["architecture"]["context"],
        "tasks": list(entry.tasks),
        "licence": summary.card["licence"],
        "description": f"{summary.card.get('input', 'text')} -> {summary.card.get('output', 'text')}",
    }


def models_text(rows: Sequence[Row]) -> str:
    """Two lines for each model."""
    lines = []
    for row in rows:
        tasks = f", tasks: {', '.join(row['tasks'])}" if row["tasks"] else ""
        lines.append(
            f"{row['name']}  {row['parameters']:,} parameters, {row['quantization']}, {row['file_bytes']:,} bytes, "
            f"context {row['context']}{tasks}"
        )
        lines.append(f"  {one_line(row['description'])}")
    return "\n".join(lines) + "\n"


def boards() -> list[Row]:
    """What can be said of every board in a few words; `board_facts` has the rest."""
    return [_board(known_boards.load(name)) for name in known_boards.names()]


def _board(board: known_boards.Board) -> Row:
    return {
        "name": board.name,
        "aliases": list(board.aliases),
        "description": board.description,
        "core": board.core,
        "clock_hz": board.clock_hz,
        "flash_bytes": board.flash.size_bytes,
        "ram_bytes": board.ram.size_bytes,
        "clock": board.clock,
        "emulators": list(board.emulators),
        "flashers": list(board.flashers),
        "link": board.link or None,
        "options": sorted(board.options),
        "promised": board.promised if board.clock == "seconds" else None,
        "checked": board.checked,
        "ran_on_silicon": silicon.ran(board),
    }


def boards_text(rows: Sequence[Row]) -> str:
    """Three or four lines for each board."""
    lines = []
    for row in rows:
        aliases = f" (also {', '.join(row['aliases'])})" if row["aliases"] else ""
        lines.append(f"{row['name']}{aliases}  {one_line(row['description'])}")
        hz = f" at {row['clock_hz'] / 1e6:g} MHz" if row["clock_hz"] else ""
        flashers = f", flashers: {', '.join(row['flashers'])}" if row["flashers"] else ""
        lines.append(
            f"  {row['core']}{hz}, flash {row['flash_bytes'] >> 10:,} KB, RAM {row['ram_bytes'] >> 10:,} KB, "
            f"clock: {row['clock']}, emulators: {', '.join(row['emulators']) or 'none'}{flashers}"
        )
        lines += [f"  link: {one_line(row['link'])}"] if row["link"] else []
        options = ", ".join(f"{row['name']}+{option}" for option in row["options"])
        promise = "" if row["promised"] is None else "promised; " if row["promised"] else "experimental; "
        checked = "" if row["promised"] is None else f"checked: {one_line(row['checked'])}; "
        lines.append(
            f"  {promise}{checked}run on silicon: {row['ran_on_silicon']}"
            + (f"; options: {options}" if options else "")
        )
    return "\n".join(lines) + "\n"
