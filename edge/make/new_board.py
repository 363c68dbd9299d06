"""A board of the user's own, begun from one that is known: facts to edit, and C on the same chip header."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.replacing import replacing
from firmware_tools import boards
from firmware_tools.boards import Board
from firmware_tools.errors import UserError

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
HEX = {"start", "vid", "pid", "uart", "fpgaio", "uf2_family", "rom_id"}  # read more easily so
# what to look up for a field, and where it is found
EXPLAINED = {
    "name": "as in `--board`; the two files have the same name, with _ for -",
    "description": "one line for people",
    "core": "datasheet, first page",
    "target": "eabihf: a core with FPU; eabi: without",
    "cpu": "what `zig cc` takes for -mcpu; firmware_tools/cores.py lists those that are known",
    "features": "what kernels may use: dsp (M4 and up), fpu, mve (Helium), v6m (Cortex-M0 and M0+)",
    "flash": "datasheet, memory map; bytes_per_s: how fast the core reads it, left out where not known",
    "ram": "the same; the part that is contiguous",
    "more_ram": "other RAM that is on at reset, the best first",
    "code_in": "flash, or ram where kernels run faster from there",
    "stack_bytes": "8 KB are plenty: `edge build` says what the image can need",
    "clock": "seconds for silicon",
    "clock_hz": "full speed, as port_init sets it",
    "emulators": "of this board; none for a chip that no emulator has",
    "machine": "what emulators must know of a virtual board",
    "options": "wide: 2 bytes a weight on cores without DSP; float-cache: on cores with FPU",
    "aliases": "other names for it",
    "flashers": "ways to flash it, the default first (docs/flashing.md)",
    "programming": "what the flashers must know",
    "usb": "how a computer sees it: `edge ports` lists what is plugged in",
    "uf2_family": "of chips with a UF2 bootloader",
    "pins": "output pins by the names on the board, for `edge build --actions`; LED is the one that it has",
    "cycle_counter": "for people: what counts",
    "link": "for people: which port and pins, at what speed",
    "prefill_pin": "for people: which pin port_gate raises while a prompt is read",
    "decode_pin": "for people: and while a token is computed",
    "supplies": "for people: how it can be fed",
    "current": "for people: where its current can be measured",
    "promised": "your own judgement",
    "checked": "where it has run",
    "ran_on_silicon": "no, or when",
}
# facts of the board it is like that do not become those of another by themselves
FRESH = {"aliases": (), "promised": False, "checked": "built only"}


def write(like: str, name: str, folder: Path) -> tuple[Path, Path]:
    """Writes NAME.py and NAME.c into folder, which is made where it is missing; returns their paths.

    UserError for a name that is taken or cannot be one, and where the files exist or cannot be written.
    """
    board = boards.load(like)
    if not NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be the name of a board", "letters a to z and digits, with - between, as my-board"
        )
    if name in boards.shipped():
        raise UserError(f"edge brings a board {name}", "choose another name")
    facts, port = (folder / f"{name.replace('-', '_')}{suffix}" for suffix in (".py", ".c"))
    for path in (facts, port):
        if path.exists():
            raise UserError(f"{path} exists", "choose another name, or edit that file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}", "give a folder that you may write") from error
    for path, text in ((port, port_text(board, name)), (facts, facts_text(board, name))):
        with replacing(path) as file:
            file.write(text.encode())
    return facts, port


def port_text(board: Board, name: str) -> str:
    """The C of a board that has another's port functions: what it defines is to be edited, its header is ours."""
    text = boards.port_source(board.name).read_text(encoding="utf-8")
    text = re.sub(rf'"(EMULATED )?{re.escape(board.name)}"', rf'"\g<1>{name}"', text)
    return (
        f"/* {name}: begun as {board.name}. What is defined here is the wiring: edit it by the board's schematic.\n"
        f" * The header has the chip; a copy of it in this folder would take its place. */\n{text}"
    )


def facts_text(board: Board, name: str) -> str:
    """The file of facts."""
    kinds = sorted({type(one).__name__ for one in _parts(board)} | {"Board"})
    lines = [
        f'"""{name}: begun as {board.name}. Every fact is that of {board.name} until you edit it."""',
        "",
        "from __future__ import annotations",
        "",
        f"from firmware_tools.boards import {', '.join(kinds)}",
        "",
        "BOARD = Board(",
    ]
    new = dataclasses.replace(board, name=name, description=f"{name}: begun as {board.name}", **FRESH)  # type: ignore[arg-type]
    told = tuple(dataclasses.replace(one, product=one.product.replace(board.name, name)) for one in board.usb)
    new = dataclasses.replace(new, usb=told)  # firmware that brings a port of its own tells BOARD_NAME there
    if not board.machine:
        new = dataclasses.replace(new, emulators=())
    for field in dataclasses.fields(Board):
        if field.name == "sources":
            continue
        lines += [f"    # {EXPLAINED[field.name]}"] if field.name in EXPLAINED else []
        if source := board.sources.get(field.name):
            lines.append(f"    # (that of {board.name} is from: {' '.join(source.split())})")
        lines.append(f"    {field.name}={source_of(getattr(new, field.name), field.name)},")
    lines += ["    # where each fact is from, by the field's name: who reads it can check it", "    sources={},", ")"]
    return "\n".join(lines) + "\n"


def _parts(board: Board) -> list[Any]:
    """Dataclasses in the fields of a board."""
    values = [getattr(board, field.name) for field in dataclasses.fields(Board)]
    flat = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    return [one for one in flat if dataclasses.is_dataclass(one)]


def source_of(value: Any, field: str = "") -> str:
    """Python that gives the value, as a person would write it."""
    if dataclasses.is_dataclass(value):
        parts = [
            f"{part.name}={source_of(getattr(value, part.name), part.name)}"
            for part in dataclasses.fields(value)
            if getattr(value, part.name) != part.default
        ]
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, bool):
        return repr(value)
    if isinstance(value, int):
        if field in HEX:
            return f"0x{value:08X}" if value > 0xFFFF or field != "vid" and field != "pid" else f"0x{value:04X}"
        return f"{value >> 10} << 10" if field.endswith("_bytes") and value and not value % 1024 else f"{value:_}"
    if isinstance(value, tuple):
        inner = ", ".join(source_of(one, field) for one in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, frozenset):
        return f"frozenset({{{', '.join(map(_quoted, sorted(value)))}}})" if value else "frozenset()"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(key)}: {source_of(one)}" for key, one in value.items()) + "}"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """A text in double quotes, where that takes no escapes."""
    return repr(text) if '"' in text or "\\" in text or not text.isprintable() else f'"{text}"'
