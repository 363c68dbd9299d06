"""`edge flash` from end to end on simulated hardware: a board on the bus runs the very bytes its flash was given."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from edge.measure.describe import describe
from edge.run import find, flash, soak, target
from edge.run.flash import NotVerified
from firmware_tools import boards, build, link, ports
from firmware_tools.build import Image
from firmware_tools.errors import LinkError, UserError
from firmware_tools.flashers import FlashError, State
from tests import simulated
from tests.simulated.bus import Bus, powered

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no ptys")
PLACE, OTHER_PLACE = "1-1.2", "1-1.3"


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    simulated.prepare(tmp_path / "bus")
    simulated.see(tmp_path / "bus", monkeypatch.setattr)
    monkeypatch.setattr(flash, "BACK_S", 2.5)
    monkeypatch.setattr(link, "BOOT_S", 1.5)
    monkeypatch.setattr(flash, "SETTLE_S", 0.5)
    with powered(tmp_path / "bus") as bus:
        yield bus


@pytest.fixture
def old(images: Path, bus: Bus) -> Image:
    return build.load(images / "old")


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def test_a_flash_is_verified_by_the_firmware_under_its_new_name(images: Path, bus: Bus, old: Image) -> None:
    board = bus.plug(PLACE, old)
    before = board.port
    done = flash.flash(flash.plan(images / "new", "bench-m4@auto", None), silent)
    new = build.load(images / "new")
    assert done.verified == "firmware" and done.port == board.port != before
    assert done.image == new.facts.identity and done.emulated
    assert [name for name, _ in done.steps] == ["erase", "write", "reset", "firmware back", "flash checked"]
    assert f"edge run MODEL --on bench-m4@{board.port}" in flash.text(done)


@pytest.mark.parametrize(
    ("fault", "kind", "state", "says"),
    [
        ("flipped_byte", "wrong CRC", State.WRONG, "reads .* bytes of flash with CRC"),
        ("no_return", "not back", State.UNVERIFIED, "did not come back within"),
        ("silent", "no answer", State.UNVERIFIED, "firmware does not answer"),
        ("lost_write", "another image", State.UNVERIFIED, "answers, but not with what was written"),
    ],
)
def test_what_does_not_come_to_life(
    images: Path, bus: Bus, old: Image, fault: str, kind: str, state: State, says: str
) -> None:
    board = bus.plug(PLACE, old)
    setattr(board.faults, fault, -1)
    if fault == "lost_write":
        board.faults.lost_erase = -1
    with pytest.raises(NotVerified, match=says) as caught:
        flash.flash(flash.plan(images / "new", None, None), silent)
    assert (caught.value.kind, caught.value.state) == (kind, state)
    assert "flash it again" in caught.value.hint


def test_the_probe_breaks_off(images: Path, bus: Bus, old: Image) -> None:
    bus.plug(PLACE, old).faults.broken_off = 1
    with pytest.raises(FlashError, match="simulated probe is gone") as caught:
        flash.flash(flash.plan(images / "new", None, None), silent)
    assert caught.value.state is State.HALF_WRITTEN and not caught.value.interrupted


def test_twins_with_equal_ids_are_told_apart_by_their_place(images: Path, bus: Bus, old: Image) -> None:
    first, second = (bus.plug(place, old, "TWIN") for place in (PLACE, OTHER_PLACE))
    with pytest.raises(LinkError, match="2 boards are plugged in that may be a bench-m4") as caught:
        flash.plan(images / "new", "bench-m4@auto", None)
    assert f"edge flash {images / 'new'} --to bench-m4@{first.port}" in caught.value.hint
    untouched = bytes(first.flash)
    done = flash.flash(flash.plan(images / "new", f"bench-m4@{second.port}", None), silent)
    assert done.port == second.port and done.verified == "firmware"
    assert first.flash == untouched and first.resets == 0


def test_a_port_that_another_program_has_taken(images: Path, bus: Bus, old: Image) -> None:
    board = bus.plug(PLACE, old)
    plan, taken = flash.plan(images / "new", None, None), []

    def steal(what: str, done: int, total: int) -> None:
        if what == "waiting for the firmware":
            taken.append(serial.Serial(board.port, exclusive=True))

    with pytest.raises(NotVerified, match="is busy: another program uses it") as caught:
        flash.flash(plan, steal)
    taken[0].close()
    assert caught.value.kind == "no answer" and "close the terminal" in caught.value.hint


def test_a_port_that_is_let_go_in_time_is_no_error(images: Path, bus: Bus, old: Image) -> None:
    """As ModemManager does with every new port."""
    board, taken = bus.plug(PLACE, old), []

    def steal(what: str, done: int, total: int) -> None:
        if what == "waiting for the firmware":
            taken.append(serial.Serial(board.port, exclusive=True))
            threading.Timer(0.5, taken[0].close).start()

    assert flash.flash(flash.plan(images / "new", None, None), steal).verified == "firmware"


def test_a_port_that_goes_while_it_is_opened_is_no_fault_of_ours(bus: Bus, old: Image, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """pyserial lets the error of its terminal through; where ports come and go it is met sooner or later."""
    import termios

    def gone(*what: object) -> None:
        raise termios.error(5, "Input/output error")

    port = bus.plug(PLACE, old).port
    monkeypatch.setattr(termios, "tcsetattr", gone)
    with pytest.raises(LinkError, match="cannot be opened: .*Input/output error"):
        link.SerialTransport(str(port))


def test_ctrl_c_while_the_firmware_is_awaited(images: Path, bus: Bus, old: Image) -> None:
    bus.plug(PLACE, old)

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "the firmware checks its flash":
            raise KeyboardInterrupt

    with pytest.raises(FlashError, match="its flash was written, but is not verified") as caught:
        flash.flash(flash.plan(images / "new", None, None), interrupt)
    assert caught.value.interrupted


def test_ctrl_c_while_it_is_written(images: Path, bus: Bus, old: Image) -> None:
    bus.plug(PLACE, old)

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "writing":
            raise KeyboardInterrupt

    with pytest.raises(FlashError, match="interrupted") as caught:
        flash.flash(flash.plan(images / "new", None, None), interrupt)
    assert caught.value.interrupted and caught.value.state is State.ERASED


def test_what_is_refused_before_anything_is_touched(images: Path, bus: Bus, old: Image) -> None:
    board = bus.plug(PLACE, old)
    bus.add_port("/dev/ttyUSB7", vid=0x1A86, pid=0x7523, location="2-1")
    new = images / "new"
    for to, by, says in (
        ("bench-m0@auto", None, "is an image for bench-m4, not for bench-m0"),
        ("toaster@auto", None, "no board is called 'toaster'"),
        ("bench-m4@unicorn", None, "has no flash that could be written: it is emulated"),
        (None, "magnet", "no flasher is called 'magnet'"),
    ):
        with pytest.raises(UserError, match=says):
            flash.plan(new, to, by)
    board.there = False
    board.stop()
    with pytest.raises(LinkError, match="no bench-m4 is plugged in") as caught:
        flash.plan(new, None, None)
    assert f"edge flash {new} --to bench-m4@/dev/ttyUSB7" in caught.value.hint


def test_without_a_port_the_flasher_alone_has_verified(images: Path, bus: Bus, old: Image) -> None:
    """A board that no serial port leads to, and a probe that reads back."""
    image = build.load(images / "new")
    board = dataclasses.replace(boards.load("bench-m4"), usb=())
    plan = flash.Plan(images / "new", image, board, ports.Device(location=PLACE), "simulated-probe")
    bus.plug(PLACE, old, starts=False)
    bus.boards[0].mute = True
    done = flash.flash(plan, silent)
    assert done.verified == "nothing" and done.port is None
    assert "not verified: nothing was read back" in flash.text(done)
    assert "not verified by the firmware" in flash.text(dataclasses.replace(done, verified="read-back"))


def test_a_probe_at_another_place_than_the_board(images: Path, bus: Bus, old: Image) -> None:
    """The board's own port is found where it is the only one; twins could not be told apart."""
    board = bus.plug(PLACE, old)
    probe = ports.Device(location="3-1", boards=())
    plan = dataclasses.replace(flash.plan(images / "new", None, None), device=probe)
    assert flash._ports_now(plan, {board.port}) == [board.port]
    bus.plug(OTHER_PLACE, old)
    assert flash._ports_now(plan, {board.port}) == []


def test_what_is_plugged_in_is_listed_with_its_reason(bus: Bus, old: Image) -> None:
    board, loader = bus.plug(PLACE, old, "E6"), bus.plug(OTHER_PLACE, old, starts=False)
    bus.add_port("/dev/ttyUSB7", vid=0x10C4, pid=0xEA60, location="2-1", product="CP2102 \x1b[31mred")
    bus.add_port("/dev/ttyS0")
    found = {device.port or device.location: device for device in ports.plugged()}
    assert found[board.port].boards == ("bench-m4",) and found[board.port].location == PLACE
    assert found[OTHER_PLACE].boards == tuple(sorted(simulated.BOARDS)) and found[OTHER_PLACE].port is None
    assert "serial adapter (CP210x)" in found["/dev/ttyUSB7"].why and not found["/dev/ttyUSB7"].boards
    assert "no USB device" in found["/dev/ttyS0"].why
    text = find.text(list(found.values()))
    assert "\x1b" not in text and "serial number E6" in text
    assert [row["location"] for row in find.rows(list(found.values()))].count(PLACE) == 1
    assert loader.port is None


def test_auto_is_the_one_plugged_in(images: Path, bus: Bus, old: Image) -> None:
    model = images / "old.tflite"
    with pytest.raises(LinkError, match="no bench-m4 is plugged in"):
        target.parse("bench-m4@auto")
    assert target.parse("bench-m4").emulator == "unicorn"  # from pip, and none is plugged in
    board = bus.plug(PLACE, old)
    with target.open_target("bench-m4@auto", model) as running:
        assert running.target == f"bench-m4@{board.port}"
        assert [note for note in running.notes if "EMULATED" in note]
        assert describe(running).emulated
    with pytest.raises(UserError, match="bench-m4 alone does not say which") as caught:
        target.parse("bench-m4")
    assert caught.value.hint.startswith(f"--on bench-m4@{board.port} or --on bench-m4@unicorn")
    bus.plug(OTHER_PLACE, old)
    with pytest.raises(LinkError, match="2 boards are plugged in that may be"):
        target.parse("bench-m4@auto")


def test_auto_says_of_a_board_in_its_boot_loader_how_to_flash_it(bus: Bus, old: Image) -> None:
    bus.plug(PLACE, old, starts=False)
    with pytest.raises(LinkError, match="bench-m4 is plugged in, but has no serial port now") as caught:
        target.parse("bench-m4@auto")
    assert f"edge flash DIR --to bench-m4@{PLACE}" in caught.value.hint


def test_the_soak_goes_on_after_a_failed_flash(images: Path, bus: Bus, old: Image) -> None:
    board = bus.plug(PLACE, old)
    plan = flash.plan(images / "new", None, None)

    def spoil(what: str, done: int, total: int) -> None:
        if what == "2 of 4: erasing":
            board.faults.flipped_byte = 1
        if what == "3 of 4: erasing":
            board.faults.broken_off = 1

    found = soak.soak(plan, 4, spoil)
    assert [attempt.kind for attempt in found.attempts] == ["", "wrong CRC", "while flashing, half written", ""]
    record = soak.as_json(found)
    assert (record["well"], record["flashed"]) == (2, 4) and record["failures"]["wrong CRC"] == 1
    assert record["share_95"] == pytest.approx([0.150, 0.850], abs=5e-4)  # 2 of 4: z² / n and the middle by hand
    assert set(record["steps_s"]) == {"erase", "write", "reset", "firmware back", "flash checked", "all"}
    json.dumps(record, allow_nan=False)
    assert "2 of 4 flashes went well and were verified: 50.0 %" in soak.text(found).replace("50.0%", "50.0 %")
