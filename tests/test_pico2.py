"""The Pico 2's image, read as its boot ROM does and run on a simulated RP2350: no emulator has this chip.

The simulated chip is rp2350_chip.py's. What runs is the image as it would be flashed, on unicorn's Cortex-M33.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import tiny
from chip_uart import Uart, started
from rp2350_chip import CHIP_ID, Chip, image_definition

from edge.make.convert import convert
from firmware_tools import boards, build, elf, graph, uf2
from firmware_tools.build import Image
from firmware_tools.compile import compile_model
from firmware_tools.emulators import unicorn
from firmware_tools.link import Clock, Link

CLOCK = Clock("seconds", 1.0)
PROMPT = [1, 5, 6, 7, 8, 9, 10]
PREFILL, DECODE = 2, 3  # pins
SLEEPS = 10  # of 10 ms, before nothing has come


@pytest.fixture(scope="module")
def model() -> graph.Graph:
    return graph.read(convert(tiny.checkpoint(card={"template": {"before": "a", "after": " b"}}), "int8"))


@pytest.fixture(scope="module")
def pico2(model: graph.Graph) -> Image:
    facts = boards.load("pico2")
    return build.build(compile_model(model, facts), facts)


# --- the image


def test_the_boot_rom_finds_a_secure_arm_image_behind_the_vectors(pico2: Image) -> None:
    content = pico2.flash_content()
    items = image_definition(content)
    assert {kind: struct.unpack(f"<{len(item) // 4}I", item) for kind, item in items.items()} == {0x42: (0x10210142,)}
    stack, entry = struct.unpack_from("<II", content)
    ram = boards.load("pico2").ram
    assert ram.start < stack <= ram.start + ram.size_bytes and stack % 8 == 0
    assert entry == pico2.entry | 1


def test_the_volume_gets_a_file_of_its_family_with_the_block_that_early_chips_want(pico2: Image) -> None:
    facts = boards.load("pico2")
    assert facts.uf2_family is not None
    file = uf2.decode(uf2.encode(pico2.flash_content(), facts.flash.start, facts.uf2_family))
    assert (file.family, file.start, file.absolute_block) == (0xE48BFF59, 0x10000000, True)
    assert file.content.startswith(pico2.flash_content())


def test_the_stack_has_a_bound(pico2: Image) -> None:
    assert pico2.sizes.stack_deepest_bytes is not None
    assert pico2.sizes.stack_deepest_bytes <= pico2.sizes.stack_bytes


# --- the image on a simulated chip


def test_it_starts_at_full_speed_and_computes_as_virtual_m33_does(pico2: Image, model: graph.Graph) -> None:
    virtual = boards.load("virtual-m33")
    with unicorn.open(build.build(compile_model(model, virtual), virtual)) as link:
        link.prefill(PROMPT)
        link.forward(3, len(PROMPT))
        expected = link.logits()
    chip = started(Chip(pico2, ()))
    with Link(Uart(chip, "pico2", SLEEPS), CLOCK) as link:
        info = link.hello()
        assert (info.board, info.emulated, info.trouble, info.ticks_hz) == ("pico2", False, "", 150_000_000)
        assert (chip.sys_hz, chip.usb_hz) == (150e6, 48e6)
        assert chip.baud == pytest.approx(115200, rel=0.0005)
        link.prefill(PROMPT)
        link.forward(3, len(PROMPT))
        assert np.array_equal(link.logits(), expected)
        content = pico2.flash_content()
        assert link.check() == (len(content), zlib.crc32(content))
    seen = [(pin, level) for pin, level in chip.pins if pin in (PREFILL, DECODE)]
    assert [one for one in seen if one[1]] == [(PREFILL, 1), (DECODE, 1)]
    assert seen[-4:] == [(PREFILL, 1), (PREFILL, 0), (DECODE, 1), (DECODE, 0)]


@pytest.mark.parametrize(
    ("never", "trouble", "hz"),
    [
        (["pll_sys"], "the PLL", 12_000_000),
        (["xosc"], "the crystal", 6_500_000),
        (["pll_usb"], "USB's PLL", 150_000_000),
    ],
)
def test_what_does_not_start_is_told_and_the_rest_goes_on(
    pico2: Image, never: list[str], trouble: str, hz: int
) -> None:
    chip = started(Chip(pico2, never))
    with Link(Uart(chip, "pico2", SLEEPS), CLOCK) as link:
        info = link.hello()
        assert (info.trouble, info.ticks_hz, chip.sys_hz) == (trouble, hz, hz)
        assert link.prefill(PROMPT) is not None


def test_time_goes_on_while_the_core_sleeps_and_its_cycle_counter_does_not(pico2: Image) -> None:
    """Longer than half of what 32 bits hold at 150 MHz: who trusts the counter alone is 28 s off."""
    chip = started(Chip(pico2, ()))
    with Link(Uart(chip, "pico2", SLEEPS), CLOCK) as link:
        before, slept = lap_us(link), chip.slept_us
        while chip.slept_us < slept + 40_000_000:
            chip.run()
        passed = lap_us(link) - before
        assert passed == pytest.approx(chip.slept_us - slept, rel=0.01)
        counts = [link.prefill(PROMPT), link.prefill(PROMPT)]
        while chip.slept_us < slept + 60_000_000:
            chip.run()
        counts += [link.prefill(PROMPT)]
    assert all(count is not None and 0 < count < 1000 for count in counts)  # what the looks at the counter take


def lap_us(link: Link) -> int:
    line = next(line for line in link.command("timestamp") if line.startswith("m-lap-us-"))
    return int(line.removeprefix("m-lap-us-"))


# --- its USB port, with a host in a few lines


def setup(chip: Chip, kind: int, request: int, value: int, asked: int = 0) -> None:
    chip.dpram[:8] = struct.pack("<BBHHH", kind, request, value, 0, asked)
    chip.usb[0x68] = 0
    chip.usb[0x50] = chip.usb.get(0x50, 0) | 1 << 17
    chip.run()


def fetch(chip: Chip, endpoint: int = 0) -> bytes:
    """A packet of endpoint 0 or 2."""
    at, buffer = 0x80 + 8 * endpoint, 0x200 if endpoint else 0x100
    control = int.from_bytes(chip.dpram[at : at + 4], "little")
    assert control & 1 << 10 and control & 1 << 15, f"nothing to fetch: {control:#x}"
    chip.dpram[at : at + 4] = (control & ~(1 << 10 | 1 << 15)).to_bytes(4, "little")
    chip.usb[0x58] = chip.usb.get(0x58, 0) | 1 << 2 * endpoint
    packet = bytes(chip.dpram[buffer : buffer + (control & 0x3FF)])
    chip.run()
    return packet


def test_the_usb_port_tells_the_chips_own_number(pico2: Image) -> None:
    chip = started(Chip(pico2, ()))
    assert chip.usb[0x4C] >> 16 & 1 and chip.usb[0x40] == 1  # pulled up; on, and the PHY not isolated
    chip.usb[0x50] = 1 << 19
    chip.run()
    setup(chip, 0x80, 6, 0x100, 18)
    device = fetch(chip)
    assert device[:2] == b"\x12\x01" and device[16] == 3
    texts = []
    for index in (1, 2, 3):
        setup(chip, 0x80, 6, 0x300 | index, 255)
        texts.append(fetch(chip)[2:].decode("utf-16-le"))
    assert texts == ["edge", "edge pico2 serial", f"{CHIP_ID:016X}"]


def configured(chip: Chip) -> None:
    chip.usb[0x50] = 1 << 19
    chip.run()
    setup(chip, 0x00, 9, 1)
    fetch(chip)


def test_a_fault_is_reported_where_the_last_byte_came_from(pico2: Image) -> None:
    """Over USB too, whose last packet somebody must still hand over; and with a stack that is all but full."""
    chip = started(Chip(pico2, ()))
    configured(chip)
    chip.dpram[0x1C0:0x1C2] = b"x%"
    chip.dpram[0x94:0x98] = (1 << 15 | 2).to_bytes(4, "little")
    chip.usb[0x58] = 1 << 5
    chip.run()
    answer = fetch(chip, endpoint=2)
    while b"m-ready" not in answer:
        answer += fetch(chip, endpoint=2)
    linked = elf.read(pico2.elf)
    handler, bottom = linked.address_of("edge_fault"), linked.address_of("edge_stack_bottom")
    assert handler is not None and bottom is not None
    chip.fault(handler, bottom + 64, 0x10001234)
    report = fetch(chip, endpoint=2)
    while b"]" not in report:
        report += fetch(chip, endpoint=2)
    assert report == b"\r\ne-[fault at 0x10001234]\r\n"
    assert not chip.sent
    setup(chip, 0x80, 6, 0x302, 255)  # it still answers, so that closing at 1200 baud helps
    assert "pico2" in fetch(chip).decode("utf-16-le")


def test_closing_at_1200_baud_reboots_into_the_boot_loader(pico2: Image) -> None:
    chip = started(Chip(pico2, ()))
    configured(chip)
    chip.dpram[:8] = struct.pack("<BBHHH", 0x21, 0x20, 0, 0, 7)
    chip.usb[0x50] = 1 << 17
    chip.run()
    chip.dpram[0x100:0x107] = struct.pack("<IBBB", 1200, 0, 0, 8)
    chip.dpram[0x84:0x88] = (1 << 15 | 7).to_bytes(4, "little")
    chip.usb[0x58] = 2
    chip.run()
    fetch(chip)
    for state in (1, 0):
        setup(chip, 0x21, 0x22, state)
        assert not chip.reboots
        fetch(chip)
    assert chip.reboots == [(0x102, 10, 0, 0)]
