"""Facts of boards of silicon: each has a source, and what chips decide is what vendors say (tests/registers)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import register_facts

from firmware_tools import boards
from firmware_tools.boards import Board, Memory, Usb

SOURCED = ("flash", "ram", "clock_hz", "usb", "uf2_family", "pins", "link", "supplies", "current")
LEDS = re.compile(r"LED|LD\d")
PIN = re.compile(r"\b(?:GP(?P<gp>\d+)|P(?P<port>[A-K])(?P<place>\d+)|P(?P<number>\d)\.(?P<bit>\d+))\b")
OWN_FLASH = {"rp2040", "rp2350"}  # flash is another chip, of the board's choice


@pytest.fixture(params=register_facts.silicon())
def board(request: pytest.FixtureRequest) -> Board:
    return boards.load(request.param)


def chip(board: Board) -> str:
    return next(name for name in register_facts.of_board(board.name) if name != register_facts.SHARED)


def vendor(board: Board) -> dict[str, Any]:
    return register_facts.load(chip(board))


def pin_number(text: str) -> int:
    """The number that a pin's name stands for, by the rule of its family."""
    found = PIN.search(text)
    assert found, f"{text!r} names no pin"
    if found["gp"]:
        return int(found["gp"])
    if found["port"]:
        return 16 * (ord(found["port"]) - ord("A")) + int(found["place"])
    return 32 * int(found["number"]) + int(found["bit"])


def test_every_fact_has_a_source(board: Board) -> None:
    """What cannot be seen in the C; whose sources has no fact would mislead, too."""
    missing = {fact for fact in SOURCED if getattr(board, fact) and fact not in board.sources}
    assert not missing, f"{board.name} does not say where it has these from: {', '.join(sorted(missing))}"
    assert all(len(source) > 10 for source in board.sources.values())


def test_memory_is_the_chips(board: Board) -> None:
    """No stretch is larger than the vendor's, begins elsewhere, or lies in another."""
    known = vendor(board)["memory"]
    assert all(region["is"] for region in known.values())
    stretches = [board.flash, *board.rams]
    for memory in stretches:
        regions = [region for region in known.values() if region["start"] == memory.start]
        assert len(regions) == 1, f"nothing of the chip begins at {memory.start:#x}"
        assert 0 < memory.size_bytes <= regions[0]["size"]
    ordered = sorted(stretches, key=lambda memory: memory.start)
    assert all(a.start + a.size_bytes <= b.start for a, b in zip(ordered, ordered[1:], strict=False))
    if chip(board) not in OWN_FLASH:
        assert board.flash.size_bytes == known["flash"]["size"]


def test_pins_are_the_chips_and_have_one_name(board: Board) -> None:
    """But for LEDs, which have a pin's number too, or that and 128 where a low level lights them."""
    count = vendor(board)["pins"]["count"]
    assert "LED" in board.pins
    plain = {name: number for name, number in board.pins.items() if not LEDS.match(name)}
    assert all(times == 1 for times in Counter(plain.values()).values())
    assert all(0 <= number < count for number in plain.values())
    assert all(0 <= number < count or 0 <= number - 128 < count < 128 for number in board.pins.values())
    for name, number in plain.items():
        if PIN.fullmatch(name):
            assert pin_number(name) == number


def test_trigger_pins_are_those_of_the_c(board: Board) -> None:
    """Of the nRF52840-DK, whose C has them otherwise, test_nrf52840_dk.py sees which pins rise."""
    prefill, decode = pin_number(board.prefill_pin), pin_number(board.decode_pin)
    assert prefill != decode and max(prefill, decode) < vendor(board)["pins"]["count"]
    folder = Path(boards.__file__).parent
    macros = {"PREFILL_PIN": prefill, "DECODE_PIN": decode}
    if register_facts.macros(board, folder).keys() >= macros.keys():
        found = register_facts.evaluated(board, folder, list(macros))
        assert {name: value for name, (_, value) in found.items()} == macros
    else:
        assert board.name == "nrf52840-dk" and (prefill, decode) == (33, 34)


def test_full_speed_is_that_of_the_c(board: Board) -> None:
    folder = Path(boards.__file__).parent
    names = [name for name in ("FULL_SPEED_HZ", "FULL_HZ") if name in register_facts.macros(board, folder)]
    if names:
        assert register_facts.evaluated(board, folder, names)[names[0]][1] == board.clock_hz
    else:
        assert board.name == "nrf52840-dk" and board.clock_hz == 64_000_000, "the chip has no other"


def test_every_usb_id_is_one(board: Board) -> None:
    ids = [(usb.vid, usb.pid, usb.role) for usb in board.usb]
    assert len(ids) == len(set(ids))
    for vid, pid, role in ids:
        assert 0 < vid < 0x10000 and 0 < pid < 0x10000 and role in {"port", "probe", "bootloader"}


# --- the tests see what they look for

F446 = boards.load("nucleo-f446re")
CHANGES: dict[str, tuple[Callable[[Board], None], Board]] = {
    "no source": (test_every_fact_has_a_source, replace(F446, sources={**F446.sources, "link": ""})),
    "a source that is gone": (
        test_every_fact_has_a_source,
        replace(F446, sources={fact: where for fact, where in F446.sources.items() if fact != "ram"}),
    ),
    "too much RAM": (test_memory_is_the_chips, replace(F446, ram=Memory(0x20000000, 192 << 10))),
    "RAM elsewhere": (test_memory_is_the_chips, replace(F446, ram=Memory(0x24000000, 64 << 10))),
    "RAM twice": (test_memory_is_the_chips, replace(F446, more_ram=(F446.ram,))),
    "half of flash": (test_memory_is_the_chips, replace(F446, flash=Memory(0x08000000, 256 << 10))),
    "a pin of no port": (test_pins_are_the_chips_and_have_one_name, replace(F446, pins={**F446.pins, "PI0": 128})),
    "a pin twice": (test_pins_are_the_chips_and_have_one_name, replace(F446, pins={**F446.pins, "D16": 10})),
    "a pin's wrong number": (test_pins_are_the_chips_and_have_one_name, replace(F446, pins={"LED": 5, "PA6": 7})),
    "no LED": (test_pins_are_the_chips_and_have_one_name, replace(F446, pins={"D2": 10})),
    "another trigger pin": (test_trigger_pins_are_those_of_the_c, replace(F446, prefill_pin="D6 (PB10)")),
    "another speed": (test_full_speed_is_that_of_the_c, replace(F446, clock_hz=168_000_000)),
    "an id twice": (test_every_usb_id_is_one, replace(F446, usb=(Usb(1, 2, "port"), Usb(1, 2, "port")))),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_what_is_wrong_is_found(change: str) -> None:
    check, wrong = CHANGES[change]
    check(F446)
    with pytest.raises(AssertionError):
        check(wrong)
