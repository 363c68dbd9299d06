"""The flasher `stm32_uart` and a simulated ROM: the right flash or an error that says what is there, on any line."""

from __future__ import annotations

import random

import pytest
from flash_states import Told, board, check, firmware, image, outcome
from simulated_an3155 import Chip, Line, Port, on_pty

from firmware_tools.boards import Programming
from firmware_tools.flashers import State, stm32_uart
from firmware_tools.ports import Device

F446 = ((4, 16 * 1024), (1, 64 * 1024), (3, 128 * 1024))
SMALL = ((16, 1024),)
BOARD = board(programming=Programming(rom_id=0x421), flashers=("stm32-uart",))
SEEDS = 150


def chip(layout: tuple[tuple[int, int], ...] = F446, seed: int = 1, **facts: object) -> Chip:
    size = sum(count * each for count, each in layout)
    return Chip(bytearray(firmware(seed + 1000, 20_000).ljust(size, b"\xff")[:size]), layout, **facts)  # type: ignore[arg-type]


def flash(monkeypatch: pytest.MonkeyPatch, port: Port, content: bytes, rom_id: int = 0x421) -> Told:
    monkeypatch.setattr(stm32_uart.serial, "serial_for_url", lambda url, baud, **set_to: port.set_up(baud, **set_to))
    monkeypatch.setattr(stm32_uart, "sleep", port.sleep)
    one = board(programming=Programming(rom_id=rom_id))
    told = outcome(lambda: stm32_uart.flash(image(content), one, Device(port="sim"), lambda what, done, total: None))
    assert port.closed
    return told


def padded(content: bytes) -> bytes:
    return content + b"\xff" * (-len(content) % 32)


def test_an_image_arrives_and_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    one, content = chip(), firmware(1, 40_001)
    old = bytes(one.flash)
    told = flash(monkeypatch, Port(one, Line()), content)
    assert told.flashed and told.flashed.read_back and one.started_at == 0
    assert [name for name, _ in told.flashed.steps] == ["bootloader", "erase", "write", "verify", "start"]
    assert one.flash[: len(content)] == content
    assert one.flash[3 * 16384 :] == old[3 * 16384 :]  # sectors that the image does not need are left alone


@pytest.mark.parametrize(("rom_id", "layout"), [(0x470, ((512, 4096),)), (0x410, ((128, 1024),)), (0x999, SMALL)])
@pytest.mark.parametrize("extended", [True, False])
def test_both_erases_by_page_and_of_all(
    monkeypatch: pytest.MonkeyPatch, rom_id: int, layout: tuple[tuple[int, int], ...], extended: bool
) -> None:
    one, content = chip(layout, product_id=rom_id, extended=extended), firmware(1, 9_000)
    assert flash(monkeypatch, Port(one, Line()), content, rom_id).flashed
    assert one.flash[:9000] == content
    erased_all = set(one.flash[12 * 1024 :]) == {0xFF}
    assert erased_all == (rom_id != 0x410)


@pytest.mark.parametrize("wiring", [(True, False), (True, True), (False, False), (False, True)])
def test_dtr_and_rts_lead_there_and_back_however_they_are_wired(
    monkeypatch: pytest.MonkeyPatch, wiring: tuple[bool, bool]
) -> None:
    one = chip(wiring=wiring, in_rom=False, chatter=b"m-ready\r\n")
    assert flash(monkeypatch, Port(one, Line()), firmware(1, 3000)).flashed
    assert one.flash[:3000] == firmware(1, 3000) and not one.in_rom and one.started_at is None  # by a reset


def test_a_person_is_asked_to_press(monkeypatch: pytest.MonkeyPatch) -> None:
    one = chip(in_rom=False)
    port = Port(one, Line())
    port.presses_at = 20.0
    monkeypatch.setattr(stm32_uart.serial, "serial_for_url", lambda url, baud, **set_to: port.set_up(baud, **set_to))
    monkeypatch.setattr(stm32_uart, "sleep", port.sleep)
    asked: list[str] = []
    stm32_uart.flash(image(firmware(1, 3000)), BOARD, Device(port="sim"), lambda what, done, total: asked.append(what))
    assert "set BOOT0 to 1 and press RESET" in asked and one.started_at == 0
    monkeypatch.setattr(stm32_uart, "PATIENCE_S", 4.0)
    told = flash(monkeypatch, Port(chip(in_rom=False, chatter=b"\x79\x1f"), Line()), firmware(1, 3000))
    assert told.error and told.error.state is State.UNTOUCHED and "no STM32 bootloader answers" in told.error.message


def test_another_chip_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = chip(product_id=0x415)
    before = bytes(one.flash)
    told = flash(monkeypatch, Port(one, Line()), firmware(1, 3000))
    assert told.error and told.error.state is State.UNTOUCHED and bytes(one.flash) == before
    assert "0x415 (STM32L475/L476)" in told.error.message and "0x421" in told.error.message


@pytest.mark.parametrize("nacks", [1, 2])
def test_a_chip_protected_against_reading_is_told_from_a_bad_line(monkeypatch: pytest.MonkeyPatch, nacks: int) -> None:
    one = chip(protected=True, nacks=nacks)
    told = flash(monkeypatch, Port(one, Line()), firmware(1, 3000))
    assert told.error and told.error.state is State.UNTOUCHED and "RDP level 1" in told.error.message


def test_sectors_protected_against_writing_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    one = chip(locked=frozenset({1}))
    told = flash(monkeypatch, Port(one, Line()), firmware(1, 40_000))
    assert told.error and told.error.state is State.ERASING and "0x08004000 is not erased" in told.error.message


def test_a_stuck_bit_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    content = firmware(1, 40_000)
    one = chip(stuck=next(i for i in range(30_000, 40_000) if content[i] & 1))
    told = flash(monkeypatch, Port(one, Line()), content)
    assert told.error and told.error.state is State.WRONG and "reads back wrong" in told.error.message
    assert "set BOOT0 to 1" in told.error.hint


def test_a_port_that_is_not_there() -> None:
    told = outcome(lambda: stm32_uart.flash(image(b"1234"), BOARD, Device(port="/dev/none"), lambda *step: None))
    assert told.error and told.error.state is State.UNTOUCHED and "/dev/none" in told.error.message
    told = outcome(lambda: stm32_uart.flash(image(b"1234"), BOARD, Device(), lambda *step: None))
    assert told.error and "--to simulated@PORT" in told.error.hint


def test_over_a_real_terminal_device() -> None:
    one, content = chip(), firmware(1, 20_000)
    with on_pty(one, Line()) as path:
        done = stm32_uart.flash(image(content), BOARD, Device(port=path), lambda what, done, total: None)
    assert done.read_back and one.flash[:20_000] == content and one.started_at == 0


def test_over_a_real_terminal_device_that_loses_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    for patience in ("QUICK_S", "PROGRAM_S", "PAGE_S"):
        monkeypatch.setattr(stm32_uart.an3155, patience, 0.1)
    one, content = chip(), firmware(1, 6000)
    with on_pty(one, Line(random.Random(4), lost=0.0005)) as path:
        told = outcome(lambda: stm32_uart.flash(image(content), BOARD, Device(port=path), lambda *step: None))
    check(told, bytes(one.flash[:6000]), firmware(1001, 20_000)[:6000], content)


def length(monkeypatch: pytest.MonkeyPatch, content: bytes) -> int:
    """How many bytes go to and fro in a flash without any fault."""
    line = Line()
    assert flash(monkeypatch, Port(chip(SMALL), line), content).flashed
    return line.carried


@pytest.mark.parametrize(("what", "step"), [("unplugged_at", 1), ("interrupted_at", 7)])
def test_every_byte_it_can_end_at(monkeypatch: pytest.MonkeyPatch, what: str, step: int) -> None:
    content = padded(firmware(1, 290))
    states = set()
    for at in range(1, length(monkeypatch, content), step):
        one = chip(SMALL)
        before = bytes(one.flash[: len(content)])
        told = flash(monkeypatch, Port(one, Line(**{what: at})), content)  # type: ignore[arg-type]
        check(told, bytes(one.flash[: len(content)]), before, content)
        assert told.error and told.error.interrupted == (what == "interrupted_at")
        states.add(told.error.state)
    assert states == set(State) - {State.ERASED, State.WRONG}


@pytest.mark.parametrize("kind", ["lost", "flipped", "doubled", "late"])
def test_a_bad_line_is_survived_without_another_erase(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """One byte in 2,500: some ten troubles in each flash."""
    content, erases, right = padded(firmware(1, 6000)), 0, 0
    for seed in range(8):
        one = chip()
        told = flash(monkeypatch, Port(one, Line(random.Random(seed), latest_s=0.5, **{kind: 0.0004})), content)  # type: ignore[arg-type]
        if told.flashed:
            right += one.flash[: len(content)] == content
            erases += sum(name == "erase" for name, _ in told.flashed.steps)
    assert right >= 7 and erases == right


def campaign(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """One flash over a bad line to a chip that may be faulty; soak.py runs many."""
    pick = random.Random(seed)
    rom_id, layout = pick.choice([(0x421, F446), (0x410, ((128, 1024),)), (0x470, ((256, 4096),))])
    content = padded(firmware(seed, pick.randint(1, 6000)))
    one = chip(
        layout,
        seed,
        product_id=rom_id,
        extended=rom_id != 0x410,
        stuck=pick.choice([None] * 4 + [pick.randrange(len(content))]),
        locked=frozenset(pick.choice([[], [], [], [0], [1]])),
        counts_pages=pick.random() < 0.8,
        wiring=pick.choice([None, (True, False)]),
        protected=pick.random() < 0.05,
    )
    rate = pick.choice([0.0, 0.0002, 0.001, 0.004, 0.02])
    line = Line(pick, **{kind: rate for kind in ("lost", "flipped", "doubled", "late") if pick.random() < 0.5})
    if pick.random() < 0.2:
        setattr(line, pick.choice(["unplugged_at", "interrupted_at"]), pick.randint(1, 4 * len(content)))
    before = bytes(one.flash[: len(content)])
    told = flash(monkeypatch, Port(one, line), content, rom_id)
    check(told, bytes(one.flash[: len(content)]), before, content, one.stuck)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_faults_never_end_in_a_false_success(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    campaign(monkeypatch, seed)
