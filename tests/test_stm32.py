"""The STM32 boards' port functions, as they are shipped, on an emulated core with simulated registers (stm32_chip.py).

Undefined behaviour traps there, and nothing may wait for ever. What the firmware says of its clock is compared with
what the registers make of it.
"""

from __future__ import annotations

import dataclasses
import re

import firmware
import pytest
from stm32_chip import CCR, NEVER, Chip
from stm32_families import F4_FLASH, F4_RCC, FAMILIES, H7_FLASH, H7_PWR, H7_RCC, L4_FLASH, L4_RCC

from firmware_tools import boards, build
from firmware_tools.toolchains import zig

PROGRAM = """
static void say(const char *text) { print(text); print("\\n"); }
void serve(int byte) {
    if (byte == PORT_BREAK) say("break");
    if (byte == 't') say(port_trouble());
    if (byte == 'h') print_number(port_ticks_hz());
    if (byte == 'm') print_number(port_millis());
    if (byte == 'c') print_number(port_ticks());
    if (byte == 'x') {
        uint64_t before = port_ticks();
        print_number(port_ticks() - before);
    }
    if (byte == 'n') say(port_name());
    if (byte == 'p') port_gate(PORT_GATE_PREFILL, 1);
    if (byte == 'P') port_gate(PORT_GATE_PREFILL, 0);
    if (byte == 'd') port_gate(PORT_GATE_DECODE, 1);
    if (byte == 'D') port_gate(PORT_GATE_DECODE, 0);
    if (byte >= 128) port_pin((unsigned)byte - 128, 1);
}
"""
NAMES = sorted(FAMILIES)
FULL = {name: boards.load(name).clock_hz for name in NAMES}
RESET = {"f4": 16_000_000, "l4": 4_000_000, "h7": 64_000_000}
KIND = {
    "netduinoplus2": "f4",
    "nucleo-f446re": "f4",
    "nucleo-l4r5zi": "l4",
    "b-l475e-iot01a": "l4",
    "nucleo-h743zi": "h7",
}
# TX, RX and their alternate function, from the chips' datasheets
PINS = {
    "netduinoplus2": ("PC6", "PC7", 8),
    "nucleo-f446re": ("PA2", "PA3", 7),
    "nucleo-l4r5zi": ("PG7", "PG8", 8),
    "b-l475e-iot01a": ("PB6", "PB7", 7),
    "nucleo-h743zi": ("PD8", "PD9", 7),
}
# what does not come, what is said of it, and the clock that is left where it is not that of a reset
FAILURES = {
    "f4": {
        "HSE": "8 MHz|25 MHz",
        "VOS": "voltage",
        "ACR": "wait states",
        "PLL": "the PLL",
        "SWS": "the switch to the PLL",
    },
    "f446": {"OD": "over-drive", "ODSW": "over-drive's switch"},
    "l4": {"VOS changes": "voltage", "HSI": "16 MHz", "ACR": "wait", "PLL": "the PLL", "SWS": "the switch to the PLL"},
    "h7": {
        **{"supply": "supply", "VOS": "voltage", "HSE": "8 MHz", "PLL": "the PLL", "ACR": "wait states"},
        "SWS": "the switch to the PLL",
    },
}
AFTER_HSI = {("l4", "PLL"), ("l4", "SWS")}
CASES = [
    (name, what, said)
    for name in NAMES
    for kind in ("f4", "f446", "l4", "h7")
    if kind == KIND[name] or (kind == "f446" and name == "nucleo-f446re")
    for what, said in FAILURES[kind].items()
]


@pytest.fixture(scope="module")
def images() -> dict[str, build.Image]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zig, "COMPILE", ("-fsanitize=undefined", "-fsanitize-trap=undefined", "-fstack-size-section"))
        return {name: firmware.image(PROGRAM, boards.load(name)) for name in NAMES}


def chip(name: str, images: dict[str, build.Image], **others: object) -> Chip:
    made = Chip(FAMILIES[name], boards.load(name), images[name], **others)  # type: ignore[arg-type]
    if name == "nucleo-l4r5zi":
        made.count_loops()  # its switch to full speed waits without an access
    made.run()
    return made


def assert_true(made: Chip, hz: int) -> None:
    """The clock that runs is the one that is told, and the UART's too; nothing is beyond a limit, or ever was."""
    assert made.tree().cpu == pytest.approx(hz)
    assert int(made.ask(b"h")) == hz
    assert made.baud() == pytest.approx(115200, rel=0.01)
    assert made.violations() == []


@pytest.mark.parametrize("late", [0, 100])
@pytest.mark.parametrize("name", NAMES)
def test_full_speed(name: str, late: int, images: dict[str, build.Image]) -> None:
    names = [*(rule.name for rule in FAMILIES[name].rules), "SWS"]
    made = chip(name, images, slow=dict.fromkeys(names, late))
    assert made.ask(b"t") == "\n"
    assert made.ask(b"n") == f"{name}\n"
    full = FULL[name]
    assert full is not None
    assert_true(made, full)


@pytest.mark.parametrize("name", NAMES)
def test_flash_is_as_fast_as_it_may_be(name: str, images: dict[str, build.Image]) -> None:
    """One wait state fewer, and the chip's table is not kept; prefetch and caches are on."""
    made = chip(name, images)
    acr = FAMILIES[name].acr
    if KIND[name] != "h7":
        assert made.bits(acr, 8, 3) == 7
    made.registers[acr] -= 1
    assert any(what.startswith("flash is") for what in made.family.limits(made))


@pytest.mark.parametrize(("name", "what", "said"), CASES)
def test_what_never_comes_is_told(name: str, what: str, said: str, images: dict[str, build.Image]) -> None:
    made = chip(name, images, slow={what: 1 if what == "VOS changes" else NEVER})
    trouble = made.ask(b"t")
    assert re.fullmatch(rf"[^,]*({said})[^,]*\n", trouble), trouble
    kind = KIND[name]
    assert_true(made, 16_000_000 if (kind, what) in AFTER_HSI else RESET[kind])


@pytest.mark.parametrize("name", NAMES)
def test_a_switch_that_comes_too_late_is_believed(name: str, images: dict[str, build.Image]) -> None:
    made = chip(name, images, stuck_late=True)
    assert made.ask(b"t") == "the switch to the PLL, the switch back\n"
    full = FULL[name]
    assert full is not None
    assert_true(made, full)


STARTED = {
    # 84 MHz from HSI, buses divided otherwise
    "f4": {F4_RCC: 0x03000083, F4_RCC + 4: 0x24012A08, F4_RCC + 8: 0x0000140A, F4_FLASH: 0x703},
    # 80 MHz from HSI16
    "l4": {L4_RCC: 0x03000563, L4_RCC + 0xC: 0x01000A02, L4_RCC + 8: 0x0000000F, L4_FLASH: 0x704},
    # 64 MHz of PLL1 from HSI, as fast as scale 3 bears; the supply is chosen
    "h7": {
        **{H7_RCC: 0x03000025, H7_RCC + 0x28: 0x02020040, H7_RCC + 0x2C: 0x0001000C, H7_RCC + 0x30: 0x0101060F},
        **{H7_RCC + 0x10: 0x0000001B, H7_FLASH: 0x37, H7_PWR + 0xC: 0x2, H7_PWR + 4: 0x2000, H7_RCC + 0x18: 0x48},
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_a_boot_loader_may_leave_the_pll_on(name: str, images: dict[str, build.Image]) -> None:
    made = chip(name, images, started=STARTED[KIND[name]])
    assert made.ask(b"t") == "\n"
    full = FULL[name]
    assert full is not None
    assert_true(made, full)


def number(pin: str) -> int:
    """PB3 is 19."""
    return 16 * (ord(pin[1]) - ord("A")) + int(pin[2:])


@pytest.mark.parametrize("name", NAMES)
def test_pins(name: str, images: dict[str, build.Image]) -> None:
    made, board = chip(name, images), boards.load(name)
    tx, rx, function = PINS[name]
    assert made.pin(number(tx))[:2] == made.pin(number(rx))[:2] == (2, function)
    assert tx in board.link or "ST-LINK" in board.link
    for gate, told in ((b"p", board.prefill_pin), (b"d", board.decode_pin)):
        found = re.fullmatch(r"(D\d+) \((P[A-K]\d+)\)", told)
        assert found and board.pins[found[1]] == number(found[2])
        levels = [made.pin(number(found[2]))]
        for command in (gate, gate.upper()):
            made.ask(command)
            levels.append(made.pin(number(found[2])))
        assert [(mode, level) for mode, _function, level in levels] == [(1, 0), (1, 1), (1, 0)]
    for pin in board.pins.values():
        made.ask(bytes([128 + pin]))
        assert made.pin(pin)[0::2] == (1, 1)
    assert not {number(tx), number(rx)} & set(board.pins.values()), "a pin of the link is none to switch"
    assert made.violations() == []


def told(made: Chip, byte: bytes) -> tuple[int, float]:
    """A number, and the second it is asked in."""
    at = made.seconds
    return int(made.ask(byte)), at


@pytest.mark.parametrize("name", NAMES)
def test_time(name: str, images: dict[str, build.Image]) -> None:
    """Asleep, where the cycle counter stands still, and awake for longer than its 32 bits last."""
    made = chip(name, images)
    hz = FULL[name] or 0
    for pass_time in (
        lambda: made.run(300),
        lambda: made.compute(30.0),
        lambda: made.run(1),
        lambda: made.compute(0.002),
    ):
        before = told(made, b"c"), told(made, b"m")
        pass_time()
        for (number, at), byte, a_second in zip(before, (b"c", b"m"), (hz, 1000), strict=True):
            later, now = told(made, byte)
            assert later - number == pytest.approx((now - at) * a_second, abs=0.002 * a_second)
    asked = [int(made.ask(b"c")) for _ in range(30)]
    assert asked == sorted(asked)


@pytest.mark.parametrize("name", NAMES)
def test_cycles_are_exact_while_it_computes(name: str, images: dict[str, build.Image]) -> None:
    """Without a sleep between them two reads differ by the cycles of the accesses, however the slow timer stands."""
    made = chip(name, images)
    apart = {made.ask(b"x") for _ in range(50)}
    assert len(apart) == 1 and 0 < int(apart.pop()) <= 10 * 10


@pytest.mark.parametrize("name", NAMES)
def test_reception_never_sticks(name: str, images: dict[str, build.Image]) -> None:
    made = chip(name, images)
    for _ in range(40):
        made.receive(0)  # more than any FIFO holds: an overrun
    assert made.overrun
    made.run(2)
    assert not made.overrun
    while made.received:
        made.run()
    assert made.ask(b"n") == f"{name}\n"
    made.receive(0, framing_error=True)
    made.sent.clear()
    made.run(2)
    assert made.sent == b"break\n"
    made.receive(ord("t"), framing_error=True)  # a byte that a wrong baud rate made, perhaps: no BREAK
    made.sent.clear()
    made.run(2)
    assert made.sent == b"\n"
    assert made.ask(b"n") == f"{name}\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_chip_without_identity_is_emulated(name: str, images: dict[str, build.Image]) -> None:
    family = FAMILIES[name]
    nobody = dataclasses.replace(family, idcode=(family.idcode[0], 0))
    made = Chip(nobody, boards.load(name), images[name])
    made.run()
    assert made.ask(b"n") == f"EMULATED {name}\n"


def test_a_faulty_revision_goes_without_caches(images: dict[str, build.Image]) -> None:
    """Revision A of the STM32F405 says that it is something else."""
    family = dataclasses.replace(FAMILIES["netduinoplus2"], idcode=(0xE0042000, 0x20006411))
    made = Chip(family, boards.load("netduinoplus2"), images["netduinoplus2"])
    made.run()
    assert made.registers[F4_FLASH] == 5
    assert_true(made, 168_000_000)


def test_caches_of_the_m7_are_emptied_and_on(images: dict[str, build.Image]) -> None:
    made = chip("nucleo-h743zi", images)
    assert made.bits(CCR, 16, 2) == 3
    assert made.sets_cleaned == {line << 5 | way << 30 for line in range(128) for way in range(4)}


def test_port_g_has_its_supply(images: dict[str, build.Image]) -> None:
    assert chip("nucleo-l4r5zi", images).bits(0x40007004, 9, 1)


def test_the_simulation_sees_what_is_wrong(images: dict[str, build.Image]) -> None:
    """Too few wait states, a PLL changed while it runs, a port without its clock."""
    made = chip("nucleo-f446re", images)
    made._write(F4_FLASH, 0x704)
    made._write(F4_RCC + 4, made.registers[F4_RCC + 4] - (1 << 6))
    made._write(0x40021C00, 0)
    found = made.violations()
    assert any("flash is 180 MHz, more than 150" in what for what in found)
    assert any("0x40023804 changed" in what for what in found)
    assert any("0x40021c00 was used without its clock" in what for what in found)
