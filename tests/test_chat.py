"""Chat mode: text in, text out, for a person at a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import link_device
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from link_device import CONTEXT, STOP, Device, Terminal, Twin, prompt_ids

from firmware_tools.link import Link
from firmware_tools.sampler import Sampler

pytestmark = pytest.mark.skipif(not link_device.can_compile(), reason="needs POSIX and gcc or clang")
ACTIONS = """
#include "answer.h"
#include "port.h"
const int edge_acts = 1;
void on_answer(const char *answer, size_t length) {
    char told[] = "heard 000";
    told[6] += (char)(length / 100), told[7] += (char)(length / 10 % 10), told[8] += (char)(length % 10);
    answer_tell(told);
    answer_tell(answer[length] ? "no end" : "end");
}
"""
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


def said(text: bytes) -> tuple[bytes, bool]:
    """The greedy text of the model, and whether it came to its end before the context did."""
    twin = Twin()
    twin.compute(prompt_ids(text), 0)
    ids = twin.greedy(CONTEXT)
    pieces = link_device.pieces()
    return b"".join(pieces[id] for id in ids if id != STOP), ids[-1:] == [STOP]


def answer(text: bytes, shown: bytes | None = None) -> bytes:
    """What the device prints from the line's first key to the next prompt; shown: of the line, if not text."""
    words, ended = said(text)
    return (text if shown is None else shown) + b"\r\n" + words + (b"" if ended else FULL) + b"\r\n> "


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
@pytest.mark.parametrize("text", [b"the thin man", b"turn it down to 20%", b"%frames%", "Küche".encode()])
def test_line_is_shown_and_answered_with_the_greedy_text(terminal: Terminal, text: bytes, end: bytes) -> None:
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


@pytest.mark.parametrize(
    "typed, text, shown",
    [
        (b"lamb\x08p", b"lamp", b"lamb\b \bp"),
        (b"lamb\x7fp", b"lamp", b"lamb\b \bp"),
        (b"\x7f\x7fa\x7f\x7fb", b"b", b"a\b \bb"),
        ("Kü".encode() + b"\x7fi", b"Ki", "Kü".encode() + b"\b \bi"),
        (b"a\x1b[A\x1b[1;5Cb\x1bOPc\x1bd", b"abc", b"abc"),
        (b"a\tb\x01\x15", b"a b", b"a b"),
        (b"a\x04b", b"ab", b"ab"),
    ],
)
def test_keys_that_are_no_text(terminal: Terminal, typed: bytes, text: bytes, shown: bytes) -> None:
    """What was typed can be taken back; arrows and control characters leave nothing in the line."""
    terminal.send(typed + b"\r")
    assert terminal.read_until(answer(text, shown)) == answer(text, shown)


def test_ctrl_c_begins_the_line_anew(terminal: Terminal) -> None:
    terminal.send(b"nonsense\x03a\r")
    expected = b"nonsense\r\n> " + answer(b"a")
    assert terminal.read_until(expected) == expected


@pytest.mark.parametrize("bytes_", [508, 509, 3000])
def test_line_that_is_too_long(terminal: Terminal, bytes_: int) -> None:
    """What does not fit is not shown, one bell tells; one message, and the next line is answered."""
    terminal.send(b"x" * bytes_ + b"\r")
    assert terminal.quiet() == b"x" * 507 + b"\a\r\n[The line is too long: at most 507 bytes]\r\n> "
    terminal.send(b"a\r")
    assert terminal.read_until(answer(b"a")) == answer(b"a")


def test_line_that_fills_the_context(terminal: Terminal) -> None:
    room = CONTEXT - len(prompt_ids(b""))
    terminal.send(b"x" * room + b"\r")
    assert (
        terminal.quiet()
        == b"x" * room + b"\r\n[The line is too long: 128 tokens, and the context has room for 127]\r\n> "
    )
    terminal.send(b"x" * (room - 1) + b"\r")
    assert terminal.read_until(b"> ") == answer(b"x" * (room - 1))


@pytest.mark.parametrize("way_out", [b"\x04", b"\0", b"half a line\0"])
def test_leaving(terminal: Terminal, way_out: bytes) -> None:
    terminal.send(way_out)
    assert terminal.read_until(b"m-ready\r\n") == way_out.strip(b"\x04\0") + b"\r\nm-ready\r\n"
    assert terminal.ask(b"name%") == ["m-name-dut-[EMULATED host-port]"]


def test_break_leads_out(program: Path) -> None:
    device = Device(program)
    terminal = Terminal(device.transport())
    terminal.read_until(b"m-ready\r\n")
    try:
        terminal.send(b"\nsome text")
        terminal.read_until(b"> ")
        assert terminal.quiet() == b"some text"
        device.send_break()
        assert terminal.read_until(b"m-ready\r\n") == b"\r\nm-ready\r\n"
    finally:
        device.end()


def test_byte_stops_the_answer_and_begins_the_next_line(terminal: Terminal) -> None:
    """All is sent at once, so that the byte after the line waits already when the answer would begin."""
    terminal.send(b"the thin man\rab\r")
    expected = b"the thin man\r\n\r\n> " + answer(b"ab")
    assert terminal.read_until(expected) == expected


@pytest.mark.parametrize("stop", [b"\r", b"\n\n", b"\x03"])
def test_enter_and_ctrl_c_only_stop(terminal: Terminal, stop: bytes) -> None:
    """CR, then LF is one line end; LF, then LF is an end and a byte that stops the answer."""
    line_end = b"" if stop == b"\n\n" else b"\r"
    terminal.send(b"the thin man" + line_end + stop)
    assert terminal.quiet() == b"the thin man\r\n\r\n> "


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


# --- on_answer


def complete(ended: bool) -> bytes:
    """A text that the model answers, up to its own end or up to that of the context."""
    for letters in itertools.product(b"abcdefghijkl", repeat=3):
        words, has_ended = said(bytes(letters))
        if has_ended == ended and len(words) < 400:
            return bytes(letters)
    raise AssertionError("the model has no such answer")


@pytest.fixture(scope="module")
def acting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_device.compile_device(tmp_path_factory.mktemp("acting"), actions=ACTIONS)


def told(text: bytes) -> str:
    return f"heard {len(said(text)[0]):03}"


def test_complete_answer_goes_to_on_answer(acting: Path) -> None:
    text = complete(True)
    with link_device.powered_on(acting) as terminal:
        terminal.send(b"\r")
        terminal.read_until(b"> ")
        terminal.send(text + b"\r")
        expected = f"\r\n[{told(text)}]\r\n[end]\r\n> ".encode()
        assert terminal.read_until(b"\r\n> ").endswith(expected)


def test_answer_that_is_cut_off_does_not(acting: Path) -> None:
    """By the end of the context, or by a key: half a command must switch nothing."""
    with link_device.powered_on(acting) as terminal:
        terminal.send(b"\r")
        terminal.read_until(b"> ")
        for typed in (complete(False) + b"\r", complete(True) + b"\r\x03"):
            terminal.send(typed)
            assert b"heard" not in terminal.read_until(b"\r\n> ")


def test_host_that_asks_for_it(acting: Path) -> None:
    """GENERATE acts only with its flag, in as many requests as it takes, and tells what was done."""
    text = complete(True)
    device = Device(acting)
    with Link(device.transport(), link_device.CLOCK) as link:
        assert link.hello().acts
        for act in (False, True):
            link.prefill(prompt_ids(text))
            assert link.acted() == ""
            while link.generate(1, Sampler(), seed=True, act=act)[-1].id != STOP:
                assert link.acted() == ""
            assert link.acted() == (f"{told(text)},end" if act else "")
    device.end()


def test_device_that_does_nothing_is_not_asked_to(program: Path) -> None:
    device = Device(program)
    with Link(device.transport(), link_device.CLOCK) as link:
        link.prefill(prompt_ids(complete(True)))
        assert not link.info.acts
        assert link.generate(CONTEXT, Sampler(), seed=True, act=True)[-1].id == STOP
        assert link.acted() == ""
    device.end()
