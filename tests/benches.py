"""Where the board tier runs: silicon at a port, and the same image on emulated boards behind ports of every kind.

A bench is a board that stays on from one test to the next, as silicon does, and may be opened again and again.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tiny

from edge.make.convert import convert
from edge.run import flash
from firmware_tools import boards, build, emulators, graph
from firmware_tools.boards import Board
from firmware_tools.build import Image
from firmware_tools.compile import compile_model
from firmware_tools.emulators import rp2040js
from firmware_tools.emulators.unicorn import FPGAIO_LED, Device, UnicornTransport
from firmware_tools.errors import MissingTool
from firmware_tools.link import Clock, Link, SerialTransport
from firmware_tools.transports import Transport
from tests.simulated.lines import Pty, Socket

COUNTED = Clock("instructions", 1.0)
SILICON_VARIES = 0.02  # of a step's ticks: caches, refills of flash's prefetch, USB's share of the bus


@dataclass
class Bench:
    """A board with an image of the tier's model. open: its line, for one host at a time.

    varies: how much its ticks may. gates: the trigger pins as they were set, where somebody sees them. has_break: the
    board can tell a BREAK.
    """

    board: Board
    image: Image
    model: graph.Graph
    open: Callable[[], Transport]
    clock: Clock
    name: str
    emulated: bool = True
    varies: float = 0.0
    has_break: bool = False
    gates: list[int] | None = None

    def link(self) -> Link:
        return Link(self.open(), self.clock)


@dataclass
class Kept:
    """A line that stays open when a host lets go of it: that of an emulator, which would end."""

    line: Transport
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.line.name

    def write(self, data: bytes) -> None:
        self.line.write(data)

    def read(self, timeout_s: float) -> bytes:
        return self.line.read(timeout_s)

    def send_break(self) -> None:
        self.line.send_break()

    def close(self) -> None:
        """It stays."""


class Watched(Device):
    """A virtual board that notes what its trigger pins are set to."""

    def __init__(self, image: Image, board: Board) -> None:
        self.gates: list[int] = []
        super().__init__(image, board, counting=True)

    def _write_fpgaio(self, core, offset: int, size: int, value: int, user) -> None:  # type: ignore[no-untyped-def]
        if offset == FPGAIO_LED:
            self.gates.append(value)
        super()._write_fpgaio(core, offset, size, value, user)


@functools.cache
def image_for(name: str) -> tuple[Image, graph.Graph]:
    """The tier's model, compiled for a board: tiny, with a template, so that it can chat."""
    model = graph.read(convert(tiny.checkpoint(card={"template": {"before": "a", "after": " b"}})))
    board = boards.load(name)
    return build.build(compile_model(model, board), board), model


@contextlib.contextmanager
def behind(port: type[Pty] | type[Socket], name: str = "virtual-m4") -> Iterator[Bench]:
    """A virtual board in unicorn behind a port that is opened as silicon's is."""
    image, model = image_for(name)
    device = Watched(image, boards.load(name))
    served = port(UnicornTransport(device))
    try:
        yield Bench(
            boards.load(name), image, model, lambda: SerialTransport(served.name), COUNTED, served.name,
            gates=device.gates,
        )  # fmt: skip
    finally:
        served.close()


@contextlib.contextmanager
def emulated(target: str) -> Iterator[Bench]:
    """The image of a board of silicon, or of a virtual one, in one of its emulators."""
    name, _, emulator = target.partition("@")
    image, model = image_for(name)
    try:
        link = emulators.load(emulator).open(image, True)
    except MissingTool as error:
        pytest.skip(error.message)
    line = Kept(link._transport)
    try:
        yield Bench(boards.load(name), image, model, lambda: line, link.clock, target)
    finally:
        line.line.close()


@contextlib.contextmanager
def pico_over_usb() -> Iterator[Bench]:
    """The Pico's image in rp2040js, at the package's USB host."""
    try:
        rp2040js.command()
    except MissingTool as missing:
        pytest.skip(f"{missing.message}: {missing.hint}")
    image, model = image_for("pico")
    line = Kept(rp2040js.Rp2040Transport(image, port="usb"))
    try:
        yield Bench(boards.load("pico"), image, model, lambda: line, COUNTED, "pico@rp2040js over USB")
    finally:
        line.line.close()


@contextlib.contextmanager
def silicon(config: pytest.Config, folder: Path) -> Iterator[Bench]:
    """The board of --board at --port, flashed with the tier's image and verified."""
    name = boards.load(config.getoption("--board")).name
    image, model = image_for(name)
    build.save(image, folder / "image")
    to = f"{name}@{config.getoption('--port') or 'auto'}"
    plan = flash.plan(folder / "image", to, config.getoption("--by"))
    done = flash.flash(plan, lambda what, done, total: print(f"{what} {done:,} of {total:,}"))
    assert done.verified == "firmware" and done.port
    clock = Clock("seconds", 1.0)
    yield Bench(
        boards.load(name), image, model, lambda: SerialTransport(str(done.port)), clock, str(done.port),
        emulated=False, varies=SILICON_VARIES, has_break=True,
    )  # fmt: skip
