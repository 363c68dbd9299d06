"""The board tier: firmware as it is shipped, at the end of a line. The same bodies run on every bench.

Silicon, which is flashed and verified first:  pytest tests/test_silicon.py -m board --board pico [--port /dev/ttyACM0]
Without --board they run on a virtual board behind a pty and behind a socket, and on emulators of chips.
"""

from __future__ import annotations

import contextlib
import struct
import sys
import zlib
from collections.abc import Iterator

import benches
import numpy as np
import pytest
from benches import Bench
from link_device import Terminal

from edge.run.target import expect_board
from firmware_tools import bfp_program, fuse, interpret, vocabulary
from firmware_tools.frames import SEED, WAKE, Kind, Packet, pack, unpack
from firmware_tools.link import Link
from firmware_tools.sampler import Sampler
from tests.simulated.lines import Pty, Socket

PROMPT = [1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="there are no ptys")
# not b-l475e-iot01a@qemu: none of the chip's timers runs there, so that no time-out ends
EMULATED = ("virtual-m0@qemu", "netduinoplus2@qemu", "pico@rp2040js")
BENCHES = {
    "pty": pytest.param("pty", marks=POSIX),
    "socket": "socket",
    **{target: pytest.param(target, marks=pytest.mark.system) for target in EMULATED},
    "pico over USB": pytest.param("pico over USB", marks=pytest.mark.system),
    "silicon": pytest.param("silicon", marks=pytest.mark.board),
}


@pytest.fixture(scope="module", params=BENCHES.values(), ids=BENCHES)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A board that has the image of the tier and stays on; each test may leave it in any mode."""
    if request.param == "silicon":
        made = benches.silicon(request.config, tmp_path_factory.mktemp("silicon"))
    elif request.param == "pico over USB":
        made = benches.pico_over_usb()
    elif "@" in request.param:
        made = benches.emulated(request.param)
    else:
        made = benches.behind({"pty": Pty, "socket": Socket}[request.param])
    with made as bench:
        yield bench


@pytest.fixture
def link(bench: Bench) -> Iterator[Link]:
    with bench.link() as link:
        link.hello()
        yield link


@pytest.fixture
def terminal(bench: Bench) -> Iterator[Terminal]:
    """A terminal at a board in lines mode: a program has used it before, and left as it should."""
    with bench.link() as link:
        link.hello()
    with contextlib.closing(bench.open()) as line:
        terminal = Terminal(line)
        terminal.send(b"name%")
        terminal.read_until(b"m-ready\r\n")
        yield terminal


def name_of(bench: Bench) -> list[str]:
    return [f"m-name-dut-[{'EMULATED ' if bench.emulated else ''}{bench.board.name}]"]


def numpy_logits(bench: Bench, ids: list[int]) -> np.ndarray:
    program = bfp_program.for_board(fuse.program(bench.model), bench.board)
    run = interpret.start(program)
    for position, token in enumerate(ids):
        logits = interpret.step(program, run, token, position)
    return logits


def test_it_says_what_it_is(bench: Bench, link: Link) -> None:
    info = link.info
    assert info.image == bench.image.facts.identity and info.emulated == bench.emulated
    expect_board(f"{bench.board.name}@PORT", info)
    link.expect_model(bench.model.sha256)
    assert info.name == bench.model.name
    assert info.stack_bytes is not None and 0 < info.stack_bytes <= bench.board.stack_bytes


def test_silicon_runs_at_its_full_speed(bench: Bench, link: Link) -> None:
    """In emulators some clocks never become ready, and the board says so."""
    assert link.info.ticks_hz > 0
    if not bench.emulated:
        assert not link.info.trouble
        assert bench.board.clock_hz in (None, link.info.ticks_hz)


def test_flash_holds_the_image(bench: Bench, link: Link) -> None:
    content = bench.image.flash_content()
    assert link.check() == (len(content), zlib.crc32(content))


def test_answers_are_those_of_the_numpy_model(bench: Bench, link: Link) -> None:
    link.prefill(PROMPT)
    ids = [*PROMPT]
    logits = numpy_logits(bench, ids)
    assert np.array_equal(link.logits(), logits)
    for step in link.generate(6, Sampler(), seed=True):
        assert step.id == int(np.argmax(logits))
        ids.append(step.id)
        logits = numpy_logits(bench, ids)


def test_more_work_takes_more_ticks_and_a_repeat_the_same(bench: Bench, link: Link) -> None:
    short, long, again = link.prefill(PROMPT[:3]), link.prefill(PROMPT), link.prefill(PROMPT)
    if not link.clock.counting:
        assert (short, long, again) == (None, None, None)
        return
    assert short is not None and long is not None and again is not None and 0 < short < long
    coarse = 2 if bench.clock.per_tick > 1 else 0  # a tick of QEMU's is many instructions: the ends are rounded
    assert abs(again - long) <= bench.varies * long + coarse


def test_a_request_is_carried_out_once_and_answered_again(bench: Bench) -> None:
    """A packet that was damaged is not answered; the same one sent twice gives one token twice, and no next one."""
    with bench.link() as link:
        link.prefill(PROMPT)
    with contextlib.closing(bench.open()) as line:
        payload = struct.pack("<HHffQ", 1, SEED, 0.0, 1.0, 0)
        request = pack(Packet(77, Kind.GENERATE, payload))
        damaged = bytearray(request)
        damaged[5] ^= 0x40
        line.write(WAKE + bytes(damaged))
        ids = []
        for again in range(2):
            line.write((WAKE if not again else b"") + request)
            ids.append(answer_to(line, 77)[:4])
        line.write(pack(Packet(78, Kind.GENERATE, struct.pack("<HHffQ", 1, 0, 0.0, 1.0, 0))))
        ids.append(answer_to(line, 78)[:4])
    first = int(np.argmax(numpy_logits(bench, PROMPT)))
    second = int(np.argmax(numpy_logits(bench, [*PROMPT, first])))
    assert [int.from_bytes(id, "little") for id in ids] == [first, first, second]


def answer_to(line, sequence: int) -> bytes:  # type: ignore[no-untyped-def]
    """The payload of the answer to a request; everything else that comes is skipped."""
    seen = b""
    for _ in range(200):
        seen += line.read(0.1)
        for part in seen.split(b"\0"):
            packet = unpack(part)
            if packet and packet.sequence == sequence:
                return packet.payload
    raise AssertionError(f"no answer to {sequence}, only {seen!r}")


@pytest.mark.parametrize(
    "before",
    [
        b"na",
        b"x" * 81,
        b"\r",
        b"\rab\r",
        b"\r" + b"x" * 1000,
        b"frames%",
        b"frames%" + pack(Packet(7, Kind.HELLO, b""))[:20],
        b"infer 1000000 0%",
    ],
    ids=repr,
)
def test_handshake_works_from_every_mode(bench: Bench, terminal: Terminal, before: bytes) -> None:
    terminal.send(before)
    assert Link(terminal.line, bench.clock).hello().name == bench.model.name


def test_host_that_died_in_frames_leaves_a_terminal_that_works(bench: Bench, terminal: Terminal) -> None:
    """A packet half sent and then nothing: after 2 s of the board's time its terminal is back."""
    terminal.send(b"frames%")
    terminal.read_until(b"m-ready\r\n")
    terminal.send(pack(Packet(7, Kind.HELLO, b""))[:4])
    answer = b""
    while not answer:
        terminal.line.read(2.1)
        terminal.send(b"name%")
        answer = terminal.quiet()
    assert name_of(bench)[0].encode() in answer


def test_break_leads_back_to_a_terminal(bench: Bench, terminal: Terminal) -> None:
    """From frames where the board can tell a BREAK; of the others it must not change what is typed next."""
    if bench.has_break:
        terminal.send(b"frames%")
        terminal.read_until(b"m-ready\r\n")
    terminal.line.send_break()
    terminal.send(b"name%")
    assert name_of(bench)[0].encode() in terminal.read_until(b"m-ready\r\n")


def test_port_that_is_closed_in_the_middle_and_opened_again(bench: Bench) -> None:
    """A program that ended while it waited for an answer."""
    line = bench.open()
    line.write(WAKE + pack(Packet(5, Kind.HELLO, b"")))
    line.close()
    with bench.link() as link:
        assert link.hello().name == bench.model.name


def test_lines(bench: Bench, terminal: Terminal) -> None:
    assert terminal.ask(b"name%") == name_of(bench)
    assert terminal.ask(b"x" * 81 + b"%") == ["e-[Command is longer than 80 bytes]"]
    assert terminal.ask(b"db load 3%") == ["m-[Expecting 3 bytes]"]
    assert terminal.ask(b"db 612061%") == ["m-load-done"]
    assert terminal.ask(b"db print%") == ["m-buffer-61-20-61"]
    answer = terminal.ask(b"infer 2 1%")
    assert [line for line in answer if "lap" not in line and "results" not in line] == [
        "m-warmup-start-1",
        "m-warmup-done",
        "m-infer-start-2",
        "m-infer-done",
    ]
    begin, end = (int(line.rpartition("-")[2]) for line in answer if "lap" in line)
    assert begin < end
    assert terminal.ask(b"results%") == answer[-1:]


def test_chat_gives_the_text_that_frames_give(bench: Bench, terminal: Terminal) -> None:
    text = b"100% is"
    terminal.send(b"\r")
    terminal.read_until(b"> ")
    terminal.send(text + b"\r\n")
    said = terminal.read_until(b"\r\n> ").removeprefix(text + b"\r\n")  # what is typed is echoed
    link = Link(terminal.line, bench.clock)
    prompt = [1, *link.encode(b"a" + text + b" b")]
    link.prefill(prompt)
    steps = link.generate(24, Sampler(), seed=True)
    pieces = vocabulary.read(bench.model.tokenizer).pieces
    expected = b"".join(pieces[step.id] for step in steps if step.id not in link.info.stop_ids)
    ended = steps[-1].id in link.info.stop_ids
    assert said == expected + (b"" if ended else b"\r\n[the context is full]") + b"\r\n> "


@POSIX
def test_trigger_pins_are_high_while_it_computes_and_one_at_a_time() -> None:
    """Where somebody sees them: silicon's are for a power meter, and the ticks between them are tested above."""
    with benches.behind(Pty) as bench, bench.link() as link:
        assert bench.gates is not None
        link.hello()
        for pin, compute in (
            (1, lambda: link.prefill(PROMPT)),
            (2, lambda: link.forward(5, len(PROMPT))),
            (2, lambda: link.generate(3, Sampler(), seed=True)),
        ):
            bench.gates.clear()
            compute()
            assert bench.gates and bench.gates == [pin, 0] * (len(bench.gates) // 2)
