"""A simulated USB bus and the boards on it: flash, a probe that writes it, and firmware in unicorn behind a pty."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from firmware_tools import boards, usb_tree
from firmware_tools.build import Image
from firmware_tools.emulators.unicorn import Device, UnicornTransport
from tests.simulated import LOADER_PID, PORT_PID, PORTS, VID
from tests.simulated.lines import Pty

ERASED = b"\xff"


@dataclasses.dataclass
class Faults:
    """What is wrong with a board, each for so many times: times of -1 is for ever."""

    flipped_byte: int = 0  # one byte of what is written is another one in flash
    no_return: int = 0  # after a reset it never comes back to the bus
    lost_write: int = 0  # flash keeps what it had, and nobody is told
    lost_erase: int = 0
    silent: int = 0  # it is back on the bus, and its firmware says nothing
    broken_off: int = 0  # the probe ends in the middle of writing

    def take(self, name: str) -> bool:
        left: int = getattr(self, name)
        if left > 0:
            setattr(self, name, left - 1)
        return left != 0


class Board:
    """A board on the bus: its flash, and the firmware in it while it runs. Told by the probe at its place."""

    def __init__(self, bus: Bus, location: str, image: Image, serial_number: str | None, starts: bool) -> None:
        self.location, self.serial_number = location, serial_number
        self.faults = Faults()
        self.resets = 0
        self.mute = False  # its firmware has no line to the bus
        self._bus, self._image = bus, image
        self.flash = bytearray(boards.load(image.board).flash.size_bytes * ERASED)
        self.flash[: len(image.flash_content())] = image.flash_content()
        self._terminal: Pty | None = None
        self._ends = os.openpty()
        self.there = True
        if starts:
            self.start()

    @property
    def name(self) -> str:
        return self._image.board

    @property
    def terminal(self) -> Pty | None:
        return self._terminal

    @property
    def port(self) -> str | None:
        return self._terminal.name if self._terminal else None

    def stop(self) -> None:
        if self._terminal:
            self._ends = os.openpty()  # before the old name is free: the board comes back under another
            self._terminal.close()
            self._terminal = None
        self._bus.show()

    def reset(self) -> None:
        """Goes from the bus and comes back with what its flash holds now, under another name."""
        self.resets += 1
        self.there = False
        self.stop()
        if self.mute:
            self.there = True
        elif not self.faults.take("no_return"):
            self.start()

    def start(self) -> None:
        facts = boards.load(self._image.board)
        running = dataclasses.replace(self._image, segments=((facts.flash.start, bytes(self.flash)),))
        line = UnicornTransport(Device(running, facts, counting=False))
        self._terminal = Pty(line, self._ends)
        if self.faults.take("silent"):
            line.close()
        self.there = True
        self._bus.show()

    def erase(self) -> None:
        if not self.faults.take("lost_erase"):
            self.flash[:] = ERASED * len(self.flash)

    def write(self, at: int, data: bytes) -> None:
        if self.faults.take("broken_off"):
            raise ConnectionError
        if not self.faults.take("lost_write"):
            self.flash[at : at + len(data)] = data
            if data and self.faults.take("flipped_byte"):
                self.flash[at + len(data) // 2] ^= 0x10


class Bus:
    """What is plugged in. `show` tells it to everybody who looks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boards: list[Board] = []
        self._other_ports: list[dict[str, object]] = []
        self._probes = socket.create_server(("127.0.0.1", 0))
        (folder / "probes").write_text(str(self._probes.getsockname()[1]), encoding="utf-8")
        threading.Thread(target=self._serve, daemon=True).start()

    def plug(self, location: str, image: Image, serial_number: str | None = None, starts: bool = True) -> Board:
        board = Board(self, location, image, serial_number, starts)
        self.boards.append(board)
        self.show()
        return board

    def unplug(self, location: str) -> None:
        """Takes a board away."""
        board = next(board for board in self.boards if board.location == location)
        board.there = False
        board.stop()
        self.boards.remove(board)

    def add_port(self, device: str, **facts: object) -> None:
        """Any other serial port, of which the facts are told."""
        self._other_ports.append({"device": device, **facts})
        self.show()

    def show(self) -> None:
        listed = [*self._other_ports]
        for board in self.boards:
            place = self.folder / usb_tree.DEVICES / board.location
            pid = PORT_PID if board.port else LOADER_PID
            if board.there:
                place.mkdir(exist_ok=True)
                facts = {"idVendor": f"{VID:04x}", "idProduct": f"{pid:04x}", "product": board.name}
                for name, text in {**facts, "serial": board.serial_number or ""}.items():
                    (place / name).write_text(text, encoding="utf-8")
            else:
                for path in [*place.glob("*"), place] if place.exists() else []:
                    path.rmdir() if path.is_dir() else path.unlink()
            if board.there and board.port:
                listed.append(
                    {
                        "device": board.port,
                        "vid": VID,
                        "pid": pid,
                        "serial_number": board.serial_number,
                        "location": f"{board.location}:1.0",
                        "product": board.name,
                    }
                )
        new = self.folder / (PORTS + ".new")
        new.write_text(json.dumps(listed), encoding="utf-8")
        new.replace(self.folder / PORTS)

    def close(self) -> None:
        self._probes.close()
        for board in self.boards:
            board.stop()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._probes.accept()
                with connection, contextlib.suppress(ConnectionError, ValueError):
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        """A line of JSON for each order: [location, order, address, hex]; the answer is hex, too."""
        for line in connection.makefile("r", encoding="utf-8"):
            location, order, at, text = json.loads(line)
            board = next(board for board in self.boards if board.location == location)
            answer = b""
            if order == "halt":
                board.stop()
            elif order == "erase":
                board.erase()
            elif order == "write":
                board.write(at, bytes.fromhex(text))
            elif order == "read":
                answer = bytes(board.flash[at : at + int(text)])
            elif order == "reset":
                board.reset()
            connection.sendall(answer.hex().encode() + b"\n")


@contextlib.contextmanager
def powered(folder: Path) -> Iterator[Bus]:
    """A bus in a prepared folder, its boards switched off afterwards."""
    bus = Bus(folder)
    try:
        yield bus
    finally:
        bus.close()


def until(true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it has not come"
        time.sleep(0.01)
