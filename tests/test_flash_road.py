"""The whole road to a board with a boot loader in ROM: asked for it, written, started, verified by what runs then.

The boot loaders (BOOTSEL's volume with UF2, AN3155 over a UART) are simulated; the firmware is what has come into the
board's flash, run by unicorn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import random
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.run import flash, soak
from edge.run.flash import NotVerified
from firmware_tools import boards, build, graph, link, ports, volumes
from firmware_tools.build import Image
from firmware_tools.compile import compile_model
from firmware_tools.emulators.unicorn import Device as UnicornDevice
from firmware_tools.emulators.unicorn import UnicornTransport
from firmware_tools.errors import LinkError
from firmware_tools.flashers import FlashError, State, bootsel
from tests import simulated
from tests.simulated.bus import Board, Bus, powered, until
from tests.simulated.lines import Socket
from tests.simulated_an3155 import Chip
from tests.simulated_volumes import BootRom, Computer, Plug

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the simulated volumes are those of Linux")
PLACE, OTHER_PLACE = "1-1.2", "1-1.3"
INFO = "UF2 Bootloader v3.0\r\nModel: simulated\r\nBoard-ID: BENCH\r\n"
FLASH_BYTES = 1 << 20


class RomBoard:
    """A board whose ROM takes over when its port is opened at 1200 baud, and starts what it has got."""

    def __init__(self, bus: Bus, computer: Computer, board: Board, seed: int) -> None:
        self.board, self._bus, self._computer = board, bus, computer
        self.rom: BootRom | None = None
        self.plug: Plug | None = None
        self.unplugged_after: int | None = None
        self.deaf = False
        self._pick = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def _live(self) -> None:
        while not self._over.wait(0.02):
            terminal = self.board.terminal
            with contextlib.suppress(termios.error):
                if terminal and not self.deaf and terminal.baud == termios.B1200:
                    self._over.wait(0.2)  # what it takes to hear that the port was closed, and to restart
                    self.enter()
            if self.rom and self.rom.rebooted:
                self.board.flash[: len(self.rom.flash)] = self.rom.flash
                self.rom, self.plug = None, None
                self.board.start()

    def enter(self) -> None:
        """Into the ROM, as with BOOTSEL held."""
        self.board.stop()
        ids = (simulated.VID, simulated.LOADER_PID)
        self.plug = self._computer.plug("BENCH", self.board.location, {"INFO_UF2.TXT": INFO}, ids, name=self._name())
        old = bytes(self.board.flash[:FLASH_BYTES])
        self.rom = BootRom(
            self._computer, self.plug, family=simulated.FAMILY, start=0, old=old, size=FLASH_BYTES, pick=self._pick
        )
        self.rom.unplugged_after = self.unplugged_after

    def _name(self) -> str:
        """A desktop gives the second volume of a name another."""
        return "BENCH" if not (self._computer.media / "BENCH").exists() else f"BENCH{self.board.location[-1]}"

    def end(self) -> None:
        self._over.set()
        self._thread.join(5)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    simulated.prepare(tmp_path / "bus")
    simulated.see(tmp_path / "bus", monkeypatch.setattr)
    for module, name, value in (
        (flash, "BACK_S", 2.5), (flash, "SETTLE_S", 0.5), (link, "BOOT_S", 1.5),
        (bootsel, "VOLUME_S", 2.0), (volumes, "POLL_S", 0.02), (bootsel, "REBOOT_S", 2.0),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    with powered(tmp_path / "bus") as bus:
        yield bus


@pytest.fixture
def plug(images: Path, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """plug(place): a board with the old firmware."""
    computer, plugged = Computer(bus.folder, monkeypatch), []

    def one(place: str = PLACE) -> RomBoard:
        board = bus.plug(place, build.load(images / "old"), "E0C9125B0D9B")  # twins
        plugged.append(RomBoard(bus, computer, board, len(plugged)))
        return plugged[-1]

    yield one
    for each in plugged:
        each.end()


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def test_from_a_running_board_to_the_new_firmware(images: Path, bus: Bus, plug) -> None:  # type: ignore[no-untyped-def]
    one = plug()
    before = one.board.port
    done = flash.flash(flash.plan(images / "new", "bench-m4@auto", "bootsel"), silent)
    assert done.verified == "firmware" and done.port == one.board.port != before
    assert [name for name, _ in done.steps] == ["bootloader", "write", "restart", "firmware back", "flash checked"]
    content = build.load(images / "new").flash_content()
    assert one.board.flash[: len(content)] == content


def test_from_its_boot_loader_as_it_came_out_of_the_bag(images: Path, bus: Bus, plug) -> None:  # type: ignore[no-untyped-def]
    one = plug()
    one.enter()
    (device,) = ports.plugged()
    assert device.volume and device.port is None and device.location == PLACE
    assert "boot loader" in device.why and device.boards == tuple(sorted(simulated.BOARDS))
    assert flash.flash(flash.plan(images / "new", None, "bootsel"), silent).verified == "firmware"


def test_twins_in_their_boot_loaders(images: Path, bus: Bus, plug) -> None:  # type: ignore[no-untyped-def]
    first, second = plug(), plug(OTHER_PLACE)
    done = flash.flash(flash.plan(images / "new", f"bench-m4@{second.board.port}", "bootsel"), silent)
    assert done.port == second.board.port and first.rom is None and first.board.resets == 0
    first.enter(), second.enter()
    assert second.plug is not None
    done = flash.flash(flash.plan(images / "new", f"bench-m4@{second.plug.folder}", "bootsel"), silent)
    assert done.port == second.board.port and first.rom is not None and not first.rom.came


def test_a_bit_of_flash_that_keeps_no_one(images: Path, bus: Bus, plug) -> None:  # type: ignore[no-untyped-def]
    """The boot loader says nothing of it: only the firmware can."""
    one = plug()
    one.enter()
    content = build.load(images / "new").flash_content()
    one.rom.stuck = next(at for at in range(len(content) - 5000, len(content)) if content[at] & 1)
    with pytest.raises(NotVerified, match="reads .* bytes of flash with CRC") as caught:
        flash.flash(flash.plan(images / "new", None, "bootsel"), silent)
    assert caught.value.kind == "wrong CRC"


def test_unplugged_half_way_and_flashed_again(images: Path, bus: Bus, plug) -> None:  # type: ignore[no-untyped-def]
    one = plug()
    one.unplugged_after = 160
    with pytest.raises(FlashError, match="half written") as caught:
        flash.flash(flash.plan(images / "new", None, "bootsel"), silent)
    assert caught.value.state is State.HALF_WRITTEN and "hold BOOTSEL" in caught.value.hint
    one.unplugged_after = None
    one.enter()
    assert flash.flash(flash.plan(images / "new", None, "bootsel"), silent).verified == "firmware"


def test_firmware_that_does_not_hear_the_touch(images: Path, bus: Bus, plug) -> None:  # type: ignore[no-untyped-def]
    plug().deaf = True
    with pytest.raises(FlashError, match="no volume of a UF2 bootloader is mounted") as caught:
        flash.flash(flash.plan(images / "new", None, "bootsel"), silent)
    assert caught.value.state is State.UNTOUCHED and "hold BOOTSEL" in caught.value.hint


def test_soak_over_the_whole_road(images: Path, bus: Bus, plug) -> None:  # type: ignore[no-untyped-def]
    one = plug()
    found = soak.soak(flash.plan(images / "new", None, "bootsel"), 3, silent)
    assert [attempt.kind for attempt in found.attempts] == ["", "", ""], found.attempts
    until(lambda: one.board.port is not None)


# --- a chip whose ROM speaks over its UART


class RomThenFirmware:
    """What is at the end of a chip's UART: its ROM, and from when that jumps into flash, what flash holds."""

    name = "chip"

    def __init__(self, image: Image) -> None:
        self._image = image
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._firmware: UnicornTransport | None = None
        size = boards.load("bench-uart").flash.size_bytes
        self.chip = Chip(bytearray(random.Random(1).randbytes(size)), ((4, 16 << 10), (1, 64 << 10), (3, 128 << 10)))

    def press_reset(self) -> None:
        """With BOOT0 high."""
        firmware, self._firmware = self._firmware, None
        self.chip.reset(True)
        if firmware:
            firmware.close()

    def write(self, data: bytes) -> None:
        if self._firmware:
            return self._firmware.write(data)
        for at, byte in enumerate(data):
            self._answers.put(self.chip.feed(byte))
            if self.chip.started_at is not None:
                facts = boards.load("bench-uart")
                held = dataclasses.replace(self._image, segments=((facts.flash.start, bytes(self.chip.flash)),))
                self._firmware = UnicornTransport(UnicornDevice(held, facts, counting=False))
                return self._firmware.write(data[at + 1 :])

    def read(self, timeout_s: float) -> bytes:
        firmware = self._firmware
        with contextlib.suppress(queue.Empty):
            return self._answers.get(timeout=0.001 if firmware else timeout_s)
        with contextlib.suppress(LinkError):  # it was just reset
            return firmware.read(timeout_s) if firmware else b""
        return b""

    def send_break(self) -> None:
        """None comes through a socket."""

    def close(self) -> None:
        if self._firmware:
            self._firmware.close()


def test_over_the_uart_of_a_rom(images: Path, bus: Bus, tmp_path: Path) -> None:
    """Twice: the second time the firmware is running, and somebody is asked to bring the ROM back."""
    board = boards.load("bench-uart")
    image = build.build(compile_model(graph.read(images / "new.tflite"), board), board)
    build.save(image, tmp_path / "image")
    line = RomThenFirmware(image)
    asked = []

    def person(what: str, done: int, total: int) -> None:
        if "press RESET" in what and not asked:
            asked.append(what)
            line.press_reset()

    with contextlib.closing(Socket(line)) as port:
        plan = flash.plan(tmp_path / "image", f"bench-uart@{port.name}", None)
        assert plan.flasher == "stm32-uart"
        for _ in range(2):
            done = flash.flash(plan, person)
            assert done.verified == "firmware" and done.read_back and done.port == port.name
            assert "the flasher has read it back, too" in flash.text(done)
    assert len(asked) == 1
