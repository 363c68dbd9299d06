"""Lines mode, word for word: MLPerf Tiny's commands, its error texts, and what its reference firmware gets wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import link_device
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from link_device import CONTEXT, Device, Terminal, Twin, prompt_ids

from firmware_tools.link import Link

pytestmark = pytest.mark.skipif(not link_device.can_compile(), reason="needs POSIX and gcc or clang")
ROOM = 512 - len(link_device.BEFORE) - len(link_device.AFTER)  # bytes of a prompt's text
TEXT = b"the thin 100% man"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_device.compile_device(tmp_path_factory.mktemp("device"))


@pytest.fixture
def terminal(program: Path) -> Iterator[Terminal]:
    with link_device.powered_on(program) as terminal:
        yield terminal


def load(terminal: Terminal, text: bytes) -> None:
    """Loads a prompt as MLPerf Tiny's host does, 31 bytes at a time."""
    assert terminal.ask(b"db load %d%%" % len(text)) == [f"m-[Expecting {len(text)} bytes]"]
    for first in range(0, len(text), 31):
        last = first + 31 >= len(text)
        chunk = text[first : first + 31].hex().encode()
        assert terminal.ask(b"db " + chunk + b"%") == (["m-load-done"] if last else [])


def test_banner(program: Path) -> None:
    device = Device(program)
    try:
        banner = Terminal(device.transport()).read_until(b"m-ready\r\n")
    finally:
        device.end()
    assert banner == b"m-timestamp-mode-performance\r\nm-lap-us-0\r\nm-init-done\r\nm-ready\r\n"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("name", ["m-name-dut-[EMULATED host-port]"]),
        (
            "profile",
            [
                "m-profile-[ULPMark for tinyML Firmware V0.0.1]",
                "m-model-[hash]",
                "m-ext-[edge 1 frames cobs crc16]",
            ],
        ),
        ("timestamp", ["m-lap-us-0"]),
        ("", []),
        ("   ", []),
        ("NAME", ["e-[Unknown command: NAME]"]),
        ("names x", ["e-[Unknown command: names]"]),
        ("infer 0", ["e-[Inference iterations must be >0]"]),
        ("infer -3 1", ["e-[Inference iterations must be >0]"]),
        ("infer x", ["e-[Inference iterations must be >0]"]),
        ("infer 1 -1", ["e-[Inference warmup must be >=0]"]),
        ("results", ["e-[No results: infer first]"]),
        ("db", ["e-[Command 'db' requires a subcommand]"]),
        ("db load", ["e-[Command 'db load' requires the # of bytes]"]),
        ("db load 0", ["e-[Command 'db load' must be >0 bytes]"]),
        ("db load -5", ["e-[Command 'db load' must be >0 bytes]"]),
        ("db load many", ["e-[Command 'db load' must be >0 bytes]"]),
        (f"db load {ROOM + 1}", [f"Supplied buffer size {ROOM + 1} exceeds maximum of {ROOM}"]),
        ("db 1", ["e-[Insufficent number of hex digits]"]),
        ("db 4g", ["e-[Invalid hex digit '4g']"]),
        ("db 00", ["e-[Command 'db' needs 'db load' first]"]),
        ("db print", []),
    ],
)
def test_command(terminal: Terminal, command: str, answer: list[str]) -> None:
    assert terminal.ask(command.encode() + b"%") == answer


def test_help_names_every_command(terminal: Terminal) -> None:
    text = "\n".join(terminal.ask(b"help%"))
    assert all(word in text for word in ("name", "profile", "timestamp", "infer", "results", "db load", "frames"))


def test_prompt_is_loaded_and_printed(terminal: Terminal) -> None:
    load(terminal, TEXT)
    rows = [TEXT[i : i + 8].hex("-") for i in range(0, len(TEXT), 8)]
    assert terminal.ask(b"db print%") == [f"m-buffer-{row}" for row in rows]


def test_largest_prompt_and_not_a_byte_more(terminal: Terminal) -> None:
    load(terminal, b"a" * ROOM)
    assert terminal.ask(b"db 61%") == ["e-[Command 'db' needs 'db load' first]"]
    assert "".join(terminal.ask(b"db print%")).count("61") == ROOM


def test_digits_left_over_are_disregarded(terminal: Terminal) -> None:
    assert terminal.ask(b"db load 2%") == ["m-[Expecting 2 bytes]"]
    assert terminal.ask(b"db 6162636465%") == ["m-load-done"]
    assert terminal.ask(b"db print%") == ["m-buffer-61-62"]


def test_refused_load_leaves_nothing_to_write_to(terminal: Terminal) -> None:
    """The reference firmware keeps the size it has just refused, and writes past its buffer."""
    terminal.ask(b"db load 100000%")
    for _ in range(30):
        assert terminal.ask(b"db " + b"41" * 31 + b"%") == ["e-[Command 'db' needs 'db load' first]"]


def test_infer_computes_prompt_and_one_token(terminal: Terminal) -> None:
    """N inferences after W; each computes the prompt and one decode step, and takes 1000 us a token on this clock."""
    load(terminal, TEXT)
    tokens = len(prompt_ids(TEXT)) + 1
    assert terminal.ask(b"infer 3 2%")[:-1] == [
        "m-warmup-start-2",
        "m-warmup-done",
        "m-infer-start-3",
        f"m-lap-us-{1000 * 2 * tokens}",
        f"m-lap-us-{1000 * 5 * tokens}",
        "m-infer-done",
    ]


def test_warmup_is_ten_where_it_is_not_said(terminal: Terminal) -> None:
    assert terminal.ask(b"infer 1%")[0] == "m-warmup-start-10"


def test_results_are_the_most_probable_tokens(terminal: Terminal) -> None:
    load(terminal, TEXT)
    answer = terminal.ask(b"infer 1 0%")[-1]
    assert terminal.ask(b"results%") == [answer]
    twin = Twin()
    twin.compute(prompt_ids(TEXT), 0)
    twin.compute([int(np.argmax(twin.logits()))], len(twin.states))
    logits = twin.logits().astype(np.float64)
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    best = np.argsort(-logits, kind="stable")[:5]
    assert re.fullmatch(r"m-results-\[[0-9.,]+\]", answer), "as hosts of this protocol match it"
    numbers = [float(number) for number in answer[len("m-results-[") : -1].split(",")]
    assert numbers[0::2] == list(best)
    assert numbers[1::2] == pytest.approx(p[best], abs=0.00051)


def test_prompt_that_fills_the_context_is_refused(terminal: Terminal) -> None:
    text = b"b" * (CONTEXT - len(prompt_ids(b"")))
    load(terminal, text)
    assert terminal.ask(b"infer 1 0%") == ["e-[Prompt fills the context]"]
    load(terminal, text[1:])
    assert terminal.ask(b"infer 1 0%")[-2] == "m-infer-done"


def test_infer_waits_for_the_whole_prompt(terminal: Terminal) -> None:
    terminal.ask(b"db load 3%")
    terminal.ask(b"db 6162%")
    assert terminal.ask(b"infer 1 0%") == ["e-[Load is not done]"]


def test_infer_is_interrupted_by_nul(terminal: Terminal) -> None:
    terminal.send(b"infer 100000000 0%")
    terminal.read_until(b"m-lap-us-0\r\n")
    assert terminal.ask(b"\0") == ["e-[Interrupted]"]


@pytest.mark.parametrize("length", [81, 82, 200, 5000])
def test_command_that_is_too_long(terminal: Terminal, length: int) -> None:
    """One error, and the next command is understood."""
    assert terminal.ask(b"x" * length + b"%") == ["e-[Command is longer than 80 bytes]"]
    assert terminal.ask(b"name%") == ["m-name-dut-[EMULATED host-port]"]
    assert terminal.quiet() == b""


def test_command_of_80_bytes_is_understood(terminal: Terminal) -> None:
    assert terminal.ask(b"name".rjust(80) + b"%") == ["m-name-dut-[EMULATED host-port]"]
    assert terminal.ask(b"y" * 80 + b"%") == ["e-[Unknown command: " + "y" * 80 + "]"]


def test_unknown_command_is_printed_without_control_characters(terminal: Terminal) -> None:
    assert terminal.ask(b"\x1b[2J\x07\xff%") == ["e-[Unknown command: ?[2J??]"]


def test_enter_after_text_is_no_command(terminal: Terminal) -> None:
    answer = ["e-[Commands end with %, a lone Enter is for chat]"]
    assert terminal.ask(b"name\r\n") == answer
    assert terminal.ask(b"name\n") == answer
    assert terminal.ask(b"name%") == ["m-name-dut-[EMULATED host-port]"]


def test_nul_and_break_drop_what_was_typed(program: Path) -> None:
    device = Device(program)
    terminal = Terminal(device.transport())
    terminal.read_until(b"m-ready\r\n")
    try:
        assert terminal.ask(b"garbage\0name%") == ["m-name-dut-[EMULATED host-port]"]
        terminal.send(b"x" * 100)
        assert terminal.quiet() == b""
        device.send_break()
        assert terminal.quiet() == b""
        assert terminal.ask(b"name%") == ["m-name-dut-[EMULATED host-port]"]
    finally:
        device.end()


def test_host_that_died_in_frames_leaves_a_terminal_that_works(program: Path) -> None:
    """Nobody says LINES or BREAK: after 2 s (here 0.1) of silence the next command is a command."""
    device = Device(program, time_scale=20)
    terminal = Terminal(device.transport())
    terminal.read_until(b"m-ready\r\n")
    try:
        terminal.ask(b"frames%")
        while not (answer := terminal.quiet()):
            terminal.send(b"name%")
        assert answer.endswith(b"m-ready\r\n") and b"name" in answer
    finally:
        device.end()


def test_break_leads_out_of_frames(program: Path) -> None:
    device = Device(program)
    terminal = Terminal(device.transport())
    terminal.read_until(b"m-ready\r\n")
    try:
        terminal.ask(b"frames%")
        terminal.send(b"name%")
        assert terminal.quiet() == b""
        device.send_break()
        terminal.quiet()
        assert terminal.ask(b"name%") == ["m-name-dut-[EMULATED host-port]"]
    finally:
        device.end()


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_any_commands_leave_a_device_that_answers(program_running: Terminal, data: st.DataObject) -> None:
    """Words of the protocol and any bytes, in any order; ASan and UBSan watch."""
    words = st.sampled_from([b"db", b"load", b"print", b"infer", b"1", b"0", b"7", b"510", b"-1", b"6162", b"results"])
    part = words | st.binary(max_size=90)
    commands = data.draw(st.lists(st.lists(part, max_size=4).map(b" ".join), max_size=8))
    program_running.send(b"%".join(commands) + b"%")
    link = Link(program_running.line, link_device.CLOCK)
    assert link.hello().name == "hash"
    assert link.command("name") == ["m-name-dut-[EMULATED host-port]"]


@pytest.fixture(scope="module")
def program_running(program: Path) -> Iterator[Terminal]:
    device = Device(program)
    terminal = Terminal(device.transport())
    terminal.read_until(b"m-ready\r\n")
    yield terminal
    device.end()
