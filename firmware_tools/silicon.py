"""Which boards have run on silicon: records of `edge selftest` that were accepted, `boards/silicon/BOARD.json`.

A record counts for the board that it names, if that is no emulated one and every check has passed. Its hash detects
accidents, not forgers: who accepts a record trusts who sent it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_tools import boards
from firmware_tools.boards import Board
from firmware_tools.content import record_digest
from firmware_tools.errors import BadFile, UserError

FOLDER = Path(boards.__file__).parent / "silicon"
MAJOR = "edge.selftest/1"
SCHEMA = f"{MAJOR}.0"
CHECKS = ("link", "identity", "flash", "clock", "logits", "time-outs", "stack", "hardware", "latency")
LARGEST_BYTES = 1 << 20
HEX = re.compile(r"[0-9a-f]{64}")
DATE = re.compile(r"20\d\d-[01]\d-[0-3]\d")
HINT = "`edge selftest --on BOARD@PORT` writes such records"


@dataclass(frozen=True)
class Accepted:
    """A record that counts, in short."""

    board: str
    date: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.date}, record {self.sha256[:12]}"


def read(path: Path) -> Accepted:
    """A record, if it can count; BadFile says why it cannot."""
    try:
        content = path.read_bytes()
        data: Any = json.loads(content) if len(content) <= LARGEST_BYTES else None
    except OSError as error:
        raise BadFile(f"cannot read {path}: {error.strerror}", HINT) from error
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{path} is not JSON", HINT) from error
    if why := _fault(data):
        raise BadFile(f"{path} does not show that a board has run on silicon: {why}", HINT)
    return Accepted(data["board"], data["date"], data["sha256"])


def _fault(data: Any) -> str:
    """Why a record does not count; "" if it does."""
    if not isinstance(data, dict) or not str(data.get("schema")).startswith(f"{MAJOR}."):
        return f"its schema is not {MAJOR}"
    if not HEX.fullmatch(str(data.get("sha256"))) or data["sha256"] != record_digest(data):
        return "its hash is not that of its content"
    if data.get("emulated") is not False:
        return "the board was emulated"
    if not isinstance(data.get("date"), str) or not DATE.fullmatch(data["date"]):
        return "it has no date"
    try:
        board = boards.load(str(data.get("board")))
    except UserError as error:
        return error.message
    if board.clock != "seconds":
        return f"{board.name} has no silicon"
    if data.get("says") != board.name:
        return f"what answered says that it is a {data.get('says')!r}"
    found = data.get("checks")
    checks = {c.get("name"): c.get("state") for c in found if isinstance(c, dict)} if isinstance(found, list) else {}
    failed = [name for name in CHECKS if checks.get(name) != "passed"]
    return f"these checks have not passed: {', '.join(failed)}" if failed else ""


def accepted(folder: Path | None = None) -> dict[str, Accepted]:
    """Every accepted record by its board; BadFile where one cannot count, or is not named like its board."""
    found = {}
    for path in sorted((folder or FOLDER).glob("*.json")):
        record = read(path)
        if path.stem != record.board:
            raise BadFile(f"{path} is a record of {record.board}", f"its name is {record.board}.json")
        found[record.board] = record
    return found


def ran(board: Board) -> str:
    """What the column `run on silicon` says of a board."""
    record = accepted().get(board.name)
    return str(record) if record else board.ran_on_silicon
