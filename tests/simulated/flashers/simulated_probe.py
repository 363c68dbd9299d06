"""Simulated debug probe: what a simulated board's flash is written by, over a socket of the simulated bus."""

from __future__ import annotations

import json
import socket
from typing import IO, Any

from firmware_tools import volumes
from firmware_tools.boards import Board
from firmware_tools.build import Image
from firmware_tools.errors import LinkError
from firmware_tools.flashers import Flashed, Progress, State, Work
from firmware_tools.ports import Device

NEEDS = "a simulated bus"
BLOCK_BYTES = 1 << 16


class Probe:
    def __init__(self, location: str) -> None:
        port = int((volumes.ROOT / "probes").read_text(encoding="utf-8"))
        self._line: IO[Any] = socket.create_connection(("127.0.0.1", port), timeout=20).makefile("rw", encoding="utf-8")
        self._location = location

    def order(self, order: str, at: int = 0, text: str = "") -> bytes:
        self._line.write(json.dumps([self._location, order, at, text]) + "\n")
        self._line.flush()
        answer = self._line.readline()
        if not answer.endswith("\n"):
            raise LinkError("the simulated probe is gone", "plug it in again")
        return bytes.fromhex(answer)


def flash(image: Image, board: Board, device: Device, progress: Progress) -> Flashed:
    content = image.flash_content()
    with Work(board.name, "flash it again") as work:
        probe = Probe(str(device.location))
        with work.step("erase"):
            progress("erasing", 0, 0)
            probe.order("halt")
            work.state = State.ERASING
            probe.order("erase")
            work.state = State.ERASED
        with work.step("write"):
            for at in range(0, len(content), BLOCK_BYTES):
                progress("writing", at, len(content))
                work.state = State.HALF_WRITTEN
                probe.order("write", at, content[at : at + BLOCK_BYTES].hex())
            work.state = State.UNVERIFIED
        with work.step("reset"):
            probe.order("reset")
    return work.done(read_back=False)
