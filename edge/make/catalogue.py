"""What comes along: the models of the zoo and the boards, as rows of plain data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge import zoo
from edge.make.inspect import summarize
from edge.terminal import one_line
from firmware_tools import boards as known_boards

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
    """name, core, memory, clock, emulators, options and ran_on_silicon of every board."""
    return [_board(known_boards.load(name)) for name in known_boards.names()]


def _board(board: known_boards.Board) -> Row:
    return {
        "name": board.name,
        "description": board.description,
        "core": board.core,
        "flash_bytes": board.flash.size_bytes,
        "ram_bytes": board.ram.size_bytes,
        "clock": board.clock,
        "emulators": list(board.emulators),
        "options": sorted(board.options),
        "ran_on_silicon": board.ran_on_silicon,
    }


def boards_text(rows: Sequence[Row]) -> str:
    """Three lines for each board."""
    lines = []
    for row in rows:
        lines.append(f"{row['name']}  {row['description']}")
        lines.append(
            f"  {row['core']}, flash {row['flash_bytes'] >> 10:,} KB, RAM {row['ram_bytes'] >> 10:,} KB, "
            f"clock: {row['clock']}, emulators: {', '.join(row['emulators']) or 'none'}"
        )
        options = ", ".join(f"{row['name']}+{option}" for option in row["options"])
        lines.append(f"  run on silicon: {row['ran_on_silicon']}" + (f"; options: {options}" if options else ""))
    return "\n".join(lines) + "\n"
