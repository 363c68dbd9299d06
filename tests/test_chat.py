"""Chat mode: text in, text out, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import link_device
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from link_device import CONTEXT, STOP, Device, Terminal, Twin, prompt_ids

from firmware_tools.link import Link

pytestmark = pytest.mark.skipif(not link_device.can_compile(), reason="needs POSIX and gcc or clang")
FULL = b"\r\n[the context is full]"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_device.compile_device(tmp_path_factory.mktemp("device"))


@pytest.fixture
def terminal(program: Path) -> Iterator[Terminal]:
    """A device in chat, at its first prompt."""
    with link_device.powered_on(program) as terminal:
        terminal.send(b"\r")
        assert terminal.read_until(b"> ") == b"[hash; Ctrl-D leaves]\r\n> "
        yield terminal


def answer(text: bytes) -> bytes:
    """What the device prints after the line: the greedy text of the model, and why it ended where it is the context."""
    twin = Twin()
    twin.compute(prompt_ids(text), 0)
    ids = twin.greedy(CONTEXT)
    pieces = link_device.pieces()
    text = b"".join(pieces[id] for id in ids if id != STOP)
    return b"\r\n" + text + (b"" if ids and ids[-1] == STOP else FULL) + b"\r\n> "


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
@pytest.mark.parametrize(
    "text", [b"the thin man", b"turn it down to 20%", b"%frames%", "Küche".encode(), b"\x7f\x1b[A"]
)
def test_line_is_answered_with_the_greedy_text(terminal: Terminal, text: bytes, end: bytes) -> None:
    """A percent sign is text here, and the answer is the same for any line end: CRLF is one."""
    terminal.send(text + end)
    assert terminal.read_until(answer(text)) == answer(text)
    assert terminal.quiet() == b""


def test_every_line_starts_anew(terminal: Terminal) -> None:
    for text in (b"a", b"b", b"a"):
        terminal.send(text + b"\r")
        assert terminal.read_until(answer(text)) == answer(text)


def test_empty_line_is_a_new_prompt(terminal: Terminal) -> None:
    terminal.send(b"\r\n\n\r")
    assert terminal.quiet() == b"\r\n> " * 3


@pytest.mark.parametrize("bytes_", [508, 509, 3000])
def test_line_that_is_too_long(terminal: Terminal, bytes_: int) -> None:
    """One message, and the next line is answered."""
    terminal.send(b"x" * bytes_ + b"\r")
    assert terminal.quiet() == b"\r\n[The line is too long: at most 507 bytes]\r\n> "
    terminal.send(b"a\r")
    assert terminal.read_until(answer(b"a")) == answer(b"a")


def test_line_that_fills_the_context(terminal: Terminal) -> None:
    room = CONTEXT - len(prompt_ids(b""))
    terminal.send(b"x" * room + b"\r")
    assert terminal.quiet() == b"\r\n[The line is too long: 128 tokens, and the context has room for 127]\r\n> "
    terminal.send(b"x" * (room - 1) + b"\r")
    assert terminal.read_until(b"> ") == answer(b"x" * (room - 1))


@pytest.mark.parametrize("way_out", [b"\x04", b"\0", b"half a line\0"])
def test_leaving(terminal: Terminal, way_out: bytes) -> None:
    terminal.send(way_out)
    assert terminal.read_until(b"m-ready\r\n") == b"\r\nm-ready\r\n"
    assert terminal.ask(b"name%") == ["m-name-dut-[EMULATED host-port]"]


def test_ctrl_d_within_a_line_is_text(terminal: Terminal) -> None:
    terminal.send(b"a\x04b\r")
    assert terminal.read_until(answer(b"a\x04b")) == answer(b"a\x04b")


def test_break_leads_out(program: Path) -> None:
    device = Device(program)
    terminal = Terminal(device.transport())
    terminal.read_until(b"m-ready\r\n")
    try:
        terminal.send(b"\nsome text")
        terminal.read_until(b"> ")
        assert terminal.quiet() == b""
        device.send_break()
        assert terminal.read_until(b"m-ready\r\n") == b"\r\nm-ready\r\n"
    finally:
        device.end()


def test_byte_stops_the_answer_and_begins_the_next_line(terminal: Terminal) -> None:
    """All is sent at once, so that the byte after the line waits already when the answer would begin."""
    terminal.send(b"the thin man\rab\r")
    expected = b"\r\n\r\n> " + answer(b"ab")
    assert terminal.read_until(expected) == expected


@pytest.mark.parametrize("stop", [b"\r", b"\n\n", b"\x03"])
def test_enter_and_ctrl_c_only_stop(terminal: Terminal, stop: bytes) -> None:
    """CR, then LF is one line end; LF, then LF is an end and a byte that stops the answer."""
    line_end = b"" if stop == b"\n\n" else b"\r"
    terminal.send(b"the thin man" + line_end + stop)
    assert terminal.quiet() == b"\r\n\r\n> "


def test_host_takes_over_in_mid_answer(terminal: Terminal) -> None:
    terminal.send(b"the thin man\r\0%name%")
    assert b"m-name-dut-[" in terminal.quiet()


def test_device_without_encoder_says_so_and_stays_in_lines(tmp_path: Path) -> None:
    device = Device(link_device.compile_device(tmp_path, byte_fallback=False))
    terminal = Terminal(device.transport())
    terminal.read_until(b"m-ready\r\n")
    try:
        assert terminal.ask(b"\r\n") == ["e-[No chat: this model's tokenizer runs on the host only]"]
        assert terminal.ask(b"infer 1 0%") == ["e-[This model's tokenizer runs on the host only: use frames]"]
        assert terminal.ask(b"name%") == ["m-name-dut-[EMULATED host-port]"]
    finally:
        device.end()


@settings(deadline=None, max_examples=100)
@given(lines=st.lists(st.binary(max_size=600), max_size=4))
def test_any_bytes_leave_a_device_that_answers(chatting: Terminal, lines: list[bytes]) -> None:
    chatting.send(b"\r" + b"\r".join(lines) + b"\r")
    link = Link(chatting.line, link_device.CLOCK)
    assert link.hello().name == "hash"
    assert link.command("name") == ["m-name-dut-[EMULATED host-port]"]


@pytest.fixture(scope="module")
def chatting(program: Path) -> Iterator[Terminal]:
    device = Device(program)
    terminal = Terminal(device.transport())
    terminal.read_until(b"m-ready\r\n")
    yield terminal
    device.end()
