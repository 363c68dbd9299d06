"""The host's end of the UART of a simulated chip, which runs while it is read."""

from __future__ import annotations

from collections import deque
from typing import Protocol, TypeVar

from firmware_tools.errors import LinkError


class Running(Protocol):
    """A simulated chip: bytes on their way to and from it; run goes on to its next sleep."""

    received: deque[int]
    sent: bytearray

    def run(self) -> None: ...


Chip = TypeVar("Chip", bound=Running)


def started(chip: Chip) -> Chip:
    """A chip whose firmware has said that it is ready."""
    while not chip.sent.endswith(b"m-ready\r\n"):
        chip.run()
    chip.sent.clear()
    return chip


class Uart:
    """sleeps: of the chip, before nothing has come; must_answer: then that is an error."""

    def __init__(self, chip: Running, name: str, sleeps: int, must_answer: bool = False) -> None:
        self.chip, self.name = chip, f"{name}, simulated"
        self.sleeps, self.must_answer = sleeps, must_answer

    def write(self, data: bytes) -> None:
        self.chip.received.extend(data)

    def read(self, timeout_s: float) -> bytes:
        for _ in range(self.sleeps):
            if self.chip.sent:
                break
            self.chip.run()
        data = bytes(self.chip.sent)
        self.chip.sent.clear()
        if self.must_answer and not data:
            raise LinkError("nothing comes")
        return data

    def send_break(self) -> None:
        """Not needed."""

    def close(self) -> None:
        """Nothing is held."""
