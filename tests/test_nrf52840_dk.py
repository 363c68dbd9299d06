"""The port of the nRF52840-DK around a simulated chip (simulated_nrf52840.c), under ASan and UBSan."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from link_device import can_compile

from firmware_tools import boards
from firmware_tools.build import RUNTIME, build_host_program

HERE = Path(__file__).parent
BOARDS = Path(boards.__file__).parent
PORT = BOARDS / "nrf52840_dk.c"
RING = 512
FRAME_US = 87
MHZ = 64
pytestmark = pytest.mark.skipif(not can_compile(), reason="needs clang or gcc on a POSIX machine")


def chip(folder: Path, port: str | None = None) -> Path:
    """The program: the port, or another text of it, with the simulated chip."""
    if port is not None:
        (folder / PORT.name).write_text(port, encoding="utf-8")
    return build_host_program([HERE / "simulated_nrf52840.c"], [folder, BOARDS, RUNTIME], folder / "chip")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chip(tmp_path_factory.mktemp("chip"))


def run(program: Path, *commands: str) -> list[str]:
    """What the program answers to commands; numbers in them are hexadecimal."""
    script = "".join(f"{command}\n" if " " in command else f"{command} 0\n" for command in commands)
    result = subprocess.run([str(program)], input=script, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-500:] + result.stderr[-2000:]
    return result.stdout.splitlines()


def sends(content: bytes) -> list[str]:
    return [f"sends {byte:x}" for byte in content]


def loops(us: int) -> str:
    return f"loops {us:x}"


def computes(us: int) -> str:
    return f"computes {us:x}"


def pause(us: int) -> str:
    return f"pause {us:x}"


def read(lines: Sequence[str]) -> bytes:
    """The bytes that main loops have read, BREAKs aside."""
    return bytes.fromhex("".join(lines).replace("BREAK ", ""))


CONTENT = bytes((7 * i + i // 256) % 256 for i in range(4000))


# --- start


def test_everything_starts(program: Path) -> None:
    answer = run(
        program, "init", "says", "get 4001e540", "get 40000578", "get 4000040c", "get 4000250c", "get 40002514"
    )
    assert answer == ["nrf52840-dk||64000000", "1", "1", "10001", "6", "8"]


def test_without_its_crystal_it_goes_on_and_says_so(program: Path) -> None:
    answer = run(program, "crystal 0", "init", "says", *sends(b"hi"), loops(1000), "writes 5")
    assert answer == ["nrf52840-dk|the 32 MHz crystal|64000000", b"hi".hex(), b"flash".hex()]


def test_a_chip_with_other_facts_is_emulated(program: Path) -> None:
    assert run(program, "set 10000100 0", "init", "says") == ["EMULATED nrf52840-dk||64000000"]


@pytest.mark.parametrize(
    ("revision", "uicr", "opened", "kept"),
    [
        (5, 0xFFFFFFFF, 0xFFFFFF5A, 0xFFFFFF5A),  # erased: nobody has chosen
        (6, 0xFFFFFFFF, 0xFFFFFF5A, 0xFFFFFF5A),
        (5, 0xFFFFFF5A, 0xFFFFFF5A, 0xFFFFFF5A),
        (5, 0xFFFFFF00, 0xFFFFFF00, 0xFFFFFF00),  # locked on purpose
        (4, 0xFFFFFFFF, 0x1234, 0xFFFFFFFF),  # older: open when erased, and locked by what opens newer ones
        (0, 0xFFFFFF00, 0x1234, 0xFFFFFF00),
    ],
)
def test_the_debug_port_stays_open_where_nobody_locked_it(
    program: Path, revision: int, uicr: int, opened: int, kept: int
) -> None:
    given_ = ("set 40000558 1234", f"set 10000134 {revision:x}", f"uicr {uicr:x}")
    answer = run(program, *given_, "init", "get 40000558", "get 10001208", "get 4001e504", "says")
    assert answer == [f"{opened:x}", f"{kept:x}", "0", "nrf52840-dk||64000000"]


def test_another_product_of_the_family_has_other_revisions(program: Path) -> None:
    assert run(program, "set 40000558 1234", "set 10000130 d", "init", "get 40000558") == ["1234"]


# --- the line


def test_all_that_comes_while_a_model_computes_is_read_afterwards(program: Path) -> None:
    busy = computes(RING * FRAME_US)
    assert read(run(program, "init", *sends(CONTENT[:RING]), busy, loops(1000))) == CONTENT[:RING]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 10000), st.booleans()), max_size=12), st.integers(0, 1))
def test_bursts_are_read_whole_and_in_order(program: Path, bursts: list[tuple[int, int, bool]], bad: int) -> None:
    commands, at = [f"counts_bad {bad}", "init"], 0
    for count, gap, breaks in bursts:
        commands += [*sends(CONTENT[at : at + count]), pause(gap), *(["sends_break"] if breaks else [])]
        commands += [computes(20000), loops(12000)]
        at += count
    lines = run(program, *commands, loops(60000))
    assert read(lines) == CONTENT[:at]
    assert "".join(lines).count("BREAK") == sum(breaks for *_, breaks in bursts)


def test_the_ring_begins_again_as_often_as_it_must(program: Path) -> None:
    commands = [*sends(CONTENT), *[command for _ in range(40) for command in (computes(5000), loops(5000))]]
    assert read(run(program, "init", *commands)) == CONTENT


def test_of_too_many_bytes_the_oldest_are_lost(program: Path) -> None:
    busy = computes(1000 * FRAME_US)
    lines = run(program, "init", *sends(CONTENT[:700]), busy, loops(1000), *sends(b"next"), loops(1000))
    assert read(lines) == CONTENT[700 - RING : 700] + b"next"


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1), st.lists(st.integers(0, 4000), min_size=1, max_size=8))
def test_noise_costs_its_own_byte_alone(program: Path, counts_bad: int, gaps: list[int]) -> None:
    """Whether or not the chip counts a byte with a wrong stop bit, and whenever the next ones come."""
    commands, expected = [f"counts_bad {counts_bad}", "init"], b""
    for number, gap in enumerate(gaps):
        part = CONTENT[number * 8 : number * 8 + 8]
        commands += [*sends(part[:4]), "sends_bad", pause(gap), *sends(part[4:]), loops(6000)]
        expected += part
    lines = run(program, *commands, loops(30000))
    assert read(lines) == expected and "BREAK" not in "".join(lines)


def test_what_comes_while_the_receiver_stops_is_not_lost(program: Path) -> None:
    """It stops after a quiet millisecond, for the time of five bytes: it keeps four, and loses more."""
    for gap in range(900, 1900, 50):
        commands = [*sends(b"ab"), "sends_bad", pause(gap), *sends(b"cdef"), loops(10000)]
        assert read(run(program, "init", *commands)) == b"abcdef"


def test_a_break_is_told_before_what_waits(program: Path) -> None:
    commands = [*sends(b"old"), "sends_break", pause(2000), *sends(b"new"), computes(5000), loops(15000)]
    assert run(program, "init", *commands) == [f"BREAK {b'oldnew'.hex()}"]


@pytest.mark.parametrize("count", [0, 1, RING - 1, RING])
def test_a_break_costs_nothing_of_what_waits(program: Path, count: int) -> None:
    """Wherever in the ring that is."""
    before = [*sends(CONTENT[:300]), loops(300 * FRAME_US + 1000)]
    commands = [*before, *sends(CONTENT[300 : 300 + count]), "sends_break", computes(60000), loops(15000)]
    assert read(run(program, "init", *commands)) == CONTENT[: 300 + count]


@pytest.mark.parametrize("count", [1, 256, 257, 2048])
def test_constants_reach_the_line(program: Path, count: int) -> None:
    """They lie in flash, which EasyDMA does not reach: the simulated chip stops at any address outside RAM."""
    lines = run(program, "init", f"writes {count:x}")
    assert read(lines) == (b"flash".ljust(2047, b"\0") + b".")[:count]


# --- time and pins


def test_time_is_true_through_sleep_and_wraps_of_the_counter(program: Path) -> None:
    """67 s are a wrap of the cycle counter, which stands still in sleep."""
    steps = [
        loops(1),
        loops(9000),
        computes(1000),
        loops(500000),
        computes(70_000_000),
        computes(40_000_000),
        loops(10),
    ]
    lines = run(program, "init", *[command for step in steps for command in (step, "time")])
    times = [tuple(map(int, line.split())) for line in lines if line]
    start = times[0][2] - times[0][0]
    for ticks, millis, now in times:
        assert -2048 <= ticks - (now - start) <= 2048, "less than one count of the coarse timer"
        assert abs(millis - (now - start) / MHZ / 1000) <= 2


def test_pins_are_where_the_facts_say(program: Path) -> None:
    """LED is lit by a low level; P0.13 is the bare pin. A gate's pin is an output from the start."""
    pins = boards.load("nrf52840-dk").pins
    outset, outclr, dirset = "get 50000508", "get 5000050c", "get 50000518"
    led = f"{1 << 13:x}"
    assert run(program, f"pin {pins['LED'] << 1 | 1:x}", outclr, outset, dirset) == [led, "0", led]
    assert run(program, f"pin {pins['LED'] << 1:x}", outclr, outset) == ["0", led]
    assert run(program, f"pin {pins['P0.13'] << 1 | 1:x}", outclr, outset) == ["0", led]
    high = run(program, f"pin {pins['P1.15'] << 1 | 1:x}", "get 50000808", "get 50000818")
    assert high == ["8000", "8000"]
    assert run(program, "init", "gate 1", "get 50000808", "gate 3", "get 50000808", "get 50000818") == ["2", "4", "4"]


# --- the chip sees what it looks for

CHANGES = {
    "a constant is sent from flash": ("(uintptr_t)out;", "(uintptr_t)(bytes - part);"),
    "the ring does not begin again": ("UARTE0_SHORTS = UARTE0_SHORTS_ENDRX_STARTRX;", ""),
    "the count is read before the byte is in RAM": ("i < 32", "i < 0"),
    "what comes while the receiver stops is not counted": ("start = count;", "start = timer_value(COUNT);"),
    "the sleep's timer is not enabled": ("nvic_enable(TIMER0_IRQ);", ""),
    "flash is written without leave": ("NVMC_CONFIG = NVMC_CONFIG_WEN_WEN;", ""),
    "the counter stays behind after sleep": ("slept = ticks_after_sleep(before,", "(void)ticks_after_sleep(before,"),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_what_is_wrong_is_found(change: str, tmp_path: Path) -> None:
    before, after = CHANGES[change]
    text = PORT.read_text(encoding="utf-8")
    assert text.count(before) == 1
    wrong = chip(tmp_path, text.replace(before, after))
    with pytest.raises(AssertionError):
        test_constants_reach_the_line(wrong, 5)
        test_the_ring_begins_again_as_often_as_it_must(wrong)
        test_what_comes_while_the_receiver_stops_is_not_lost(wrong)
        test_time_is_true_through_sleep_and_wraps_of_the_counter(wrong)
