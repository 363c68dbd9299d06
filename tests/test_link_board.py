"""The link to firmware as it is shipped: a small model compiled for virtual-m4, run by unicorn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tiny
from link_device import Terminal

from edge.make.convert import convert
from firmware_tools import boards, build, fuse, graph, interpret, vocabulary
from firmware_tools.compile import compile_model
from firmware_tools.emulators.unicorn import Device, UnicornTransport
from firmware_tools.frames import Kind, Packet, pack
from firmware_tools.link import Clock, Link
from firmware_tools.sampler import Sampler

CLOCK = Clock("instructions", 1.0)
NAME = ["m-name-dut-[EMULATED virtual-m4]"]
PROMPT = [1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]


@pytest.fixture(scope="module")
def model() -> graph.Graph:
    return graph.read(convert(tiny.checkpoint(card={"template": {"before": "a", "after": " b"}})))


@pytest.fixture(scope="module")
def image(model: graph.Graph) -> build.Image:
    board = boards.load("virtual-m4")
    return build.build(compile_model(model, board), board, None)


@pytest.fixture
def transport(image: build.Image) -> Iterator[UnicornTransport]:
    transport = UnicornTransport(Device(image, boards.load("virtual-m4"), True))
    yield transport
    transport.close()


@pytest.fixture
def terminal(transport: UnicornTransport) -> Terminal:
    terminal = Terminal(transport)
    terminal.read_until(b"m-ready\r\n")
    return terminal


def test_answers_are_those_of_the_numpy_model(model: graph.Graph, transport: UnicornTransport) -> None:
    link = Link(transport, CLOCK)
    assert link.hello().emulated
    link.expect_model(model.sha256)
    program = fuse.program(model)
    run = interpret.start(program)
    assert (link.prefill(PROMPT) or 0) > 0
    for position, token in enumerate(PROMPT):
        logits = interpret.step(program, run, token, position)
    assert np.array_equal(link.logits(), logits)
    for step in link.generate(6, Sampler(), seed=True):
        assert step.id == int(np.argmax(logits))
        logits = interpret.step(program, run, step.id, run.position + 1)


def test_more_work_takes_more_ticks_and_a_repeat_the_same(transport: UnicornTransport) -> None:
    link = Link(transport, CLOCK)
    short, long = link.prefill(PROMPT[:3]), link.prefill(PROMPT)
    assert short is not None and long is not None and 0 < short < long
    assert link.prefill(PROMPT) == long


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
def test_handshake_works_from_every_mode(transport: UnicornTransport, before: bytes) -> None:
    transport.write(before)
    assert Link(transport, CLOCK).hello().name == "tiny"


def test_host_that_died_in_frames_leaves_a_terminal_that_works(terminal: Terminal) -> None:
    """A packet half sent and then nothing: after 2 s of the board's time its terminal is back."""
    terminal.send(b"frames%")
    terminal.read_until(b"m-ready\r\n")
    terminal.send(pack(Packet(7, Kind.HELLO, b""))[:4])
    answer = b""
    while not answer:
        terminal.line.read(2.1)
        terminal.send(b"name%")
        answer = terminal.quiet()
    assert NAME[0].encode() in answer


def test_lines(terminal: Terminal) -> None:
    assert terminal.ask(b"name%") == NAME
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
    assert terminal.ask(b"results%") == answer[-1:]


def test_chat_gives_the_text_that_frames_give(model: graph.Graph, terminal: Terminal) -> None:
    text = b"100% is"
    terminal.send(b"\r")
    terminal.read_until(b"> ")
    terminal.send(text + b"\r\n")
    said = terminal.read_until(b"\r\n> ").removeprefix(b"\r\n")
    link = Link(terminal.line, CLOCK)
    prompt = [1, *link.encode(b"a" + text + b" b")]
    link.prefill(prompt)
    steps = link.generate(24, Sampler(), seed=True)
    pieces = vocabulary.read(model.tokenizer).pieces
    expected = b"".join(pieces[step.id] for step in steps if step.id not in link.info.stop_ids)
    ended = steps[-1].id in link.info.stop_ids
    assert said == expected + (b"" if ended else b"\r\n[the context is full]") + b"\r\n> "
