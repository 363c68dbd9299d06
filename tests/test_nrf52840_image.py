"""The nRF52840-DK's image, as it would be flashed, on a simulated chip (nrf52840_chip.py): no emulator has this one."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import tiny
from chip_uart import Uart, started
from nrf52840_chip import Chip

from edge.make.convert import convert
from firmware_tools import boards, build, graph
from firmware_tools.build import Image
from firmware_tools.compile import compile_model
from firmware_tools.emulators import unicorn
from firmware_tools.link import Clock, Link

CLOCK = Clock("seconds", 1.0)
PROMPT = [1, 5, 6, 7, 8, 9, 10]
PREFILL, DECODE = 33, 34  # P1.01, P1.02
TOO_LONG = 3000  # sleeps


@pytest.fixture(scope="module")
def model() -> graph.Graph:
    return graph.read(convert(tiny.checkpoint(card={"template": {"before": "a", "after": " b"}}), "int8"))


@pytest.fixture(scope="module")
def image(model: graph.Graph) -> Image:
    facts = boards.load("nrf52840-dk")
    return build.build(compile_model(model, facts), facts)


def test_the_stack_has_a_bound(image: Image) -> None:
    assert image.sizes.stack_deepest_bytes is not None
    assert image.sizes.stack_deepest_bytes <= image.sizes.stack_bytes


def test_it_computes_as_virtual_m4_does(image: Image, model: graph.Graph) -> None:
    virtual = boards.load("virtual-m4")
    with unicorn.open(build.build(compile_model(model, virtual), virtual)) as link:
        link.prefill(PROMPT)
        link.forward(3, len(PROMPT))
        expected = link.logits()
    chip = started(Chip(image))
    with Link(Uart(chip, "nrf52840-dk", TOO_LONG, must_answer=True), CLOCK) as link:
        info = link.hello()
        assert (info.board, info.emulated, info.trouble, info.ticks_hz) == ("nrf52840-dk", False, "", 64_000_000)
        assert (chip.registers[0x4001E540], chip.registers[0x40000578], chip.registers[0x40000558]) == (
            1,
            1,
            0xFFFFFF5A,
        )
        link.prefill(PROMPT)
        link.forward(3, len(PROMPT))
        assert np.array_equal(link.logits(), expected)
        content = image.flash_content()
        assert link.check() == (len(content), zlib.crc32(content))
    seen = [(pin, level) for pin, level in chip.pins if pin in (PREFILL, DECODE)]
    assert seen[-4:] == [(PREFILL, 1), (PREFILL, 0), (DECODE, 1), (DECODE, 0)]


def test_without_its_crystal_it_goes_on(image: Image) -> None:
    with Link(Uart(started(Chip(image, crystal=False)), "nrf52840-dk", TOO_LONG, must_answer=True), CLOCK) as link:
        assert link.hello().trouble == "the 32 MHz crystal"
        assert link.prefill(PROMPT) is not None


def test_the_ring_goes_round(image: Image) -> None:
    """It holds 512 bytes; each request here begins elsewhere in it, and each byte of it counts."""
    chip = started(Chip(image))
    with Link(Uart(chip, "nrf52840-dk", TOO_LONG, must_answer=True), CLOCK) as link:
        for length in (200, 190, 180, 170, 160):
            text = bytes(32 + (7 * i + length) % 90 for i in range(length))
            ids = link.encode(text)
            assert ids != link.encode(text[:-1] + bytes([text[-1] ^ 1]))
            assert ids == link.encode(text)
    assert chip.counted > 4 * 512
