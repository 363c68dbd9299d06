"""The Pico's USB serial port in rp2040js, by two hosts: the package's own, and one of ours that can do more.

The package's host (USBCDC) takes every packet at once and enumerates in its own way. Ours, in usb_bus.mjs, keeps to
what a bus does: it asks for packets when it wants to, counts DATA0 and DATA1, stops reading, resets, and goes away.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from link_device import Terminal

from edge.make.convert import convert
from firmware_tools import boards, build, graph
from firmware_tools.build import Image
from firmware_tools.compile import compile_model
from firmware_tools.emulators import rp2040js
from firmware_tools.emulators.rp2040js import Rp2040Transport
from firmware_tools.errors import MissingTool
from firmware_tools.link import Clock, Link

pytestmark = pytest.mark.system
BUS = Path(__file__).with_name("usb_bus.mjs")
CLOCK = Clock("instructions", 1.0)
PROMPT = [1, 5, 6, 7, 8, 9, 10]
RESET_USB_BOOT = 0x100  # in usb_bus.mjs's boot ROM
FROM_DEVICE, CLASS_TO_INTERFACE = 0x80, 0x21
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Image:
    try:
        rp2040js.command()
    except MissingTool as missing:
        pytest.skip(f"{missing.message}: {missing.hint}")
    model = graph.read(convert(tiny.checkpoint(card={"template": {"before": "a", "after": " b"}}), "int8"))
    facts = boards.load("pico")
    return build.build(compile_model(model, facts), facts)


class Bus:
    """The host in usb_bus.mjs, and a Transport for what goes over the serial port."""

    name = "pico@rp2040js over USB"
    boot_s = 60.0

    def __init__(self, image: Image) -> None:
        self._line = Rp2040Transport(image, port=str(BUS))
        self._rest = b""
        self._came: list[dict[str, Any]] = []
        self.packets: list[bytes] = []  # all that came from the data endpoint

    def tell(self, **what: Any) -> None:
        self._line.write(json.dumps(what).encode() + b"\n")

    def wait_for(self, key: str, timeout_s: float = TIMEOUT_S) -> Any:
        """The next thing of that kind that the host tells, or None after timeout_s."""
        deadline = time.monotonic() + timeout_s
        while True:
            for index, one in enumerate(self._came):
                if key in one:
                    return self._came.pop(index)[key]
            if time.monotonic() > deadline:
                return None
            *lines, self._rest = (self._rest + self._line.read(0.05)).split(b"\n")
            self._came += map(json.loads, lines)

    def control(self, kind: int, request: int, value: int, index: int, asked: int = 0, data: bytes = b"") -> bytes:
        setup = struct.pack("<BBHHH", kind, request, value, index, len(data) or asked)
        self.tell(control=[setup.hex(), data.hex()])
        answer = self.wait_for("control")
        assert answer is not None and answer != "timeout", (kind, request)
        if answer == "stall":
            raise ConnectionRefusedError
        return bytes.fromhex(answer)

    def enumerate(self) -> None:
        """As an operating system does it: reset, who are you, address, configuration; then a program opens the port."""
        self.tell(reset=True)
        assert len(self.control(FROM_DEVICE, 6, 0x100, 0, 64)) == 18
        self.control(0, 5, 9, 0)
        self.tell(address=9)
        head = self.control(FROM_DEVICE, 6, 0x200, 0, 9)
        assert len(self.control(FROM_DEVICE, 6, 0x200, 0, struct.unpack_from("<H", head, 2)[0])) == 75
        self.control(0, 9, 1, 0)
        self.tell(configured=True)
        self.open()
        self.tell(read=True)

    def open(self, baud: int = 115200) -> None:
        self.control(CLASS_TO_INTERFACE, 0x20, 0, 0, data=struct.pack("<IBBB", baud, 0, 0, 8))
        self.control(CLASS_TO_INTERFACE, 0x22, 3, 0)

    def close_port(self) -> None:
        self.control(CLASS_TO_INTERFACE, 0x22, 0, 0)

    # the Transport

    def write(self, data: bytes) -> None:
        self.tell(out=data.hex())

    def read(self, timeout_s: float) -> bytes:
        packet = self.wait_for("in", timeout_s)
        if packet is None:
            return b""
        self.packets.append(bytes.fromhex(packet))
        return self.packets[-1]

    def send_break(self) -> None:
        self.control(CLASS_TO_INTERFACE, 0x23, 0xFFFF, 0)
        self.control(CLASS_TO_INTERFACE, 0x23, 0, 0)

    def close(self) -> None:
        self._line.close()


@pytest.fixture
def bus(pico: Image) -> Iterator[Bus]:
    bus = Bus(pico)
    try:
        bus.enumerate()
        yield bus
    finally:
        bus.close()


def text(bus: Bus, index: int) -> str:
    return bus.control(FROM_DEVICE, 6, 0x300 | index, 0x409, 255)[2:].decode("utf-16-le")


def test_over_the_packages_host_the_frames_are_those_of_the_uart(pico: Image) -> None:
    """An independent host: it enumerates, and HELLO, PREFILL, FORWARD, LOGITS and CHECK go through its packets."""

    def answers(port: str) -> list[Any]:
        with Link(Rp2040Transport(pico, port=port), CLOCK) as link:
            info = link.hello()
            counts = [link.prefill(PROMPT), link.forward(3, len(PROMPT))]
            return [info, counts, link.logits().tobytes(), link.check()]

    over_usb = answers("usb")
    assert over_usb == answers("uart")
    content = pico.flash_content()
    assert over_usb[-1] == (len(content), zlib.crc32(content))


def test_the_host_sees_an_edge_pico_without_a_number(bus: Bus) -> None:
    device = bus.control(FROM_DEVICE, 6, 0x100, 0, 18)
    assert struct.unpack_from("<HH", device, 8) == (0x1209, 0x0001)
    assert [text(bus, index) for index in (1, 2)] == ["edge", "edge pico serial"]
    assert device[16] == 0
    assert ("edge pico serial", 0x1209, 0x0001) in [(u.product, u.vid, u.pid) for u in boards.load("pico").usb]
    for unknown in ((FROM_DEVICE, 6, 0x303, 0x409, 255), (FROM_DEVICE, 6, 0x600, 0, 10), (0xC0, 1, 0, 4, 16)):
        with pytest.raises(ConnectionRefusedError):
            bus.control(*unknown)
    coding = struct.pack("<IBBB", 57600, 0, 2, 7)
    bus.control(CLASS_TO_INTERFACE, 0x20, 0, 0, data=coding)
    assert bus.control(0xA1, 0x21, 0, 0, 7) == coding


def test_frames_go_over_usb(bus: Bus, pico: Image) -> None:
    """Answers of more than a packet, of full ones, and a wake from whatever mode it was in, by a BREAK too."""
    with Link(bus, CLOCK) as link:
        assert link.hello().board == "EMULATED pico"
        count = link.prefill(PROMPT)
        logits = link.logits()
        bus.send_break()  # back to lines; the link wakes it again
        assert link.prefill(PROMPT) == count
        assert np.array_equal(link.logits(), logits)
        assert link.check() == (len(pico.flash_content()), zlib.crc32(pico.flash_content()))
    assert max(map(len, bus.packets)) == 64


def test_an_answer_of_any_size_ends_with_a_packet_that_is_not_full(bus: Bus) -> None:
    """What is wrong with a command of n letters takes n + 23 bytes, and the line behind it 9."""
    terminal = Terminal(bus)
    for letters in (1, 20, 31, 32, 33, 60):
        bus.packets.clear()
        assert terminal.ask(b"x" * letters + b"%") == [f"e-[Unknown command: {'x' * letters}]"]
        while len(bus.packets[-1]) == 64:
            bus.read(20)
        assert sum(map(len, bus.packets)) == letters + 32
    assert terminal.ask(b"x" * 32 + b"%")
    bus.packets.clear()
    assert bus.read(20) == b"" and bus.packets == [b""]  # the empty packet behind 64 bytes


def test_lines_and_chat_go_over_usb(bus: Bus) -> None:
    terminal = Terminal(bus)
    assert terminal.ask(b"name%") == ["m-name-dut-[EMULATED pico]"]
    terminal.send(b"\r")
    assert b"Ctrl-D leaves" in terminal.read_until(b"> ")
    terminal.send(b"abc\r")
    terminal.read_until(b"> ")
    terminal.send(b"\x04")
    terminal.read_until(b"m-ready\r\n")


def test_a_host_that_stops_reading_does_not_stop_the_board(bus: Bus) -> None:
    """It is asleep or the cable is out: no frames come. What was asked is carried out, the answers are lost."""
    terminal = Terminal(bus)
    terminal.ask(b"name%")
    bus.tell(read=False, frames=False)
    for _ in range(3):
        terminal.send(b"help%")
        assert bus.wait_for("out")
    bus.tell(read=True, frames=True)
    terminal.quiet()
    assert terminal.ask(b"name%")[-1].endswith("m-name-dut-[EMULATED pico]")


def test_a_host_that_goes_away_in_an_answer_leaves_a_board_that_the_next_can_use(bus: Bus) -> None:
    terminal = Terminal(bus)
    terminal.ask(b"name%")
    bus.tell(read=False)
    terminal.send(b"help%")
    assert bus.wait_for("out")
    bus.close_port()
    bus.open()
    bus.tell(read=True)
    with Link(bus, CLOCK) as link:
        assert link.hello().board == "EMULATED pico"


def test_a_reset_of_the_bus_in_an_answer(bus: Bus) -> None:
    terminal = Terminal(bus)
    bus.tell(read=False)
    terminal.send(b"help%")
    assert bus.wait_for("out")
    bus.enumerate()
    with Link(bus, CLOCK) as link:
        assert link.hello().board == "EMULATED pico"
        assert link.prefill(PROMPT)


def test_closing_at_1200_baud_calls_the_boot_rom(bus: Bus) -> None:
    bus.open(1200)
    bus.close_port()
    address, activity_pins, disabled_interfaces = bus.wait_for("rom")
    assert address & ~3 == RESET_USB_BOOT
    assert (activity_pins, disabled_interfaces) == (0, 0)


def test_without_a_boot_rom_it_knows_the_board_goes_on(bus: Bus) -> None:
    bus.tell(rom=2)  # another version than an RP2040's
    bus.open(1200)
    bus.close_port()
    bus.open()
    assert Terminal(bus).ask(b"name%") == ["m-name-dut-[EMULATED pico]"]
