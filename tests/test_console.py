"""A Raspberry Pi at the other end of a serial line: edge-agent on a terminal, and `pi@PORT`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import serial
import tiny
from deployed import environment, lay_out, processes_in, until
from serial_line import Cable, cable

from edge.make.convert import convert, save
from edge.run import generate, reach
from edge.run.agent import console, keeper
from edge.run.host import facts_of
from edge.run.pi import places
from edge.run.target import open_target, parse
from firmware_tools import graph
from firmware_tools.errors import LinkError, UserError
from firmware_tools.frames import END, REPLY, WAKE, Kind, Packet, pack, unpack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a Pi runs Linux")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.tflite"
    # more logits than go into one answer on a terminal
    save(convert(tiny.checkpoint(vocab_size=700), prefill=8), path)
    return path


@pytest.fixture(scope="module")
def home(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    lay_out(folder, model)
    return folder


class Login:
    """edge-agent, or another program, started by somebody who logged in at the cable's second end."""

    def __init__(self, home: Path, line: Cable, *command: str) -> None:
        self.terminal = os.open(line.second, os.O_RDWR | os.O_NOCTTY)
        self.before = termios.tcgetattr(self.terminal)
        # setsid -c: the terminal is the session's own, so that a hangup is heard
        with open(line.second, "r+b", buffering=0) as end:
            self.process = subprocess.Popen(
                ["setsid", "-c", *(command or (str(home / places.HOME / places.AGENT),))],
                stdin=end,
                stdout=end,
                stderr=end,
                env=environment(home),
                cwd=home,
            )

    def raw(self) -> bool:
        return not termios.tcgetattr(self.terminal)[3] & termios.ICANON

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)


@pytest.fixture
def line() -> Iterator[Cable]:
    with cable() as made:
        yield made


@pytest.fixture
def login(home: Path, line: Cable) -> Iterator[Login]:
    there = Login(home, line)
    assert until(there.raw)
    yield there
    there.end()
    assert until(lambda: not agents(home))


def agents(home: Path) -> list[int]:
    """The processes of models; edge-agent itself is started by its path, too."""
    return processes_in(home, "from edge.run.agent.__main__ import main")


def heard(opened: serial.Serial, expected: bytes) -> bytes:
    """What comes, until it has something expected or nothing comes for long."""
    seen, deadline = b"", time.monotonic() + 20
    while expected not in seen and time.monotonic() < deadline:
        seen += opened.read(256)
    return seen


def test_the_same_text_as_on_the_host(login: Login, line: Cable, model: Path, home: Path) -> None:
    prompt, greedy = "hello", generate.sampler(True, None, None, None)
    with open_target("host", model) as near:
        expected = generate.answer(near, prompt, 8, greedy)
        logits = near.link.logits()
    for _ in range(2):  # the keeper goes on waiting
        with open_target(f"pi@{line.first}", model) as far:
            assert far.target == f"pi@{line.first}"
            assert (far.info.board, far.info.max_payload) == (keeper._board(), keeper.TERMINAL_PAYLOAD)
            assert generate.answer(far, prompt, 8, greedy) == expected
            assert np.array_equal(far.link.logits(), logits)
            assert agents(home)
        assert until(lambda: not agents(home))  # the host has left: the model is closed
        assert login.process.poll() is None and login.raw()


def test_a_slow_line(home: Path, model: Path) -> None:
    """Answers that take long are not asked for again while they come."""
    with cable(baud=38400) as line:
        login = Login(home, line)
        try:
            assert until(login.raw)
            with open_target(f"pi@{line.first}", model) as far:
                far.link.prefill([1, 7, 250])
                line.carried[1] = 0
                logits = far.link.logits()
                assert logits.nbytes <= line.carried[1] < 1.5 * logits.nbytes
        finally:
            login.end()


def test_somebody_who_types(line: Cable, home: Path) -> None:
    with serial.Serial(line.first, timeout=0.1) as opened:
        login = Login(home, line)
        assert console.GREETING in heard(opened, console.GREETING)
        opened.write(b"ls -l\r")
        assert console.HELP in heard(opened, console.HELP)
        facts = pack(Packet(3, Kind.FACTS, b""))  # its first bytes are Ctrl-C and others that may be typed
        opened.write(facts[:2])
        time.sleep(0.1)
        opened.write(facts[2:])
        assert b'"kernel"' in heard(opened, b'"kernel"')
        opened.write(b"oh\x03")
        assert login.process.wait(20) == 0
    assert termios.tcgetattr(login.terminal) == login.before
    login.end()


def test_a_line_that_hangs_up(home: Path) -> None:
    master, slave = os.openpty()
    there = Login(home, Cable("", os.ttyname(slave), []))
    assert until(there.raw)
    os.close(there.terminal)
    os.close(slave)
    os.close(master)
    assert there.process.wait(20) is not None
    assert until(lambda: not agents(home))


def test_a_shell_is_told_nothing(home: Path, line: Cable, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "GREET_S", 1.0)
    login = Login(home, line, "sh", "-i")
    try:
        with pytest.raises(LinkError) as caught:
            open_target(f"pi@{line.first}", model)
    finally:
        login.end()
    assert ".local/share/edge/edge-agent" in caught.value.hint and "log in there" in caught.value.hint


def test_nothing_of_a_file_is_sent_before_a_keeper_answers(
    line: Cable, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "GREET_S", 1.0)
    silent = os.open(line.second, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(silent)
    with pytest.raises(LinkError, match="does not answer"):
        open_target(f"pi@{line.first}", model)
    sent = os.read(silent, 1 << 16)
    os.close(silent)
    requests = {unpack(stretch) for stretch in sent.replace(WAKE, END).split(END) if stretch}
    assert len(requests) == 1 and requests.pop().kind == Kind.FACTS


def test_short_answers_and_a_model_nobody_asks_for(home: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(keeper, "IDLE_S", 1.0)
    monkeypatch.setattr(keeper, "KEEP_ALIVE_S", 0.1)
    requests, ask = os.pipe()
    answer, answers = os.pipe()
    serving = threading.Thread(target=keeper.Keeper(requests, answers, terminal=True).run)
    serving.start()
    facts = graph.read(model)
    what = {"file_sha256": facts.file_sha256, "facts": facts_of(model, facts)}
    what["runtime"] = places.code_digest(places.code(keeper.ROOT))
    os.write(ask, pack(Packet(1, Kind.OPEN, json.dumps(what).encode())))
    assert received(answer, b"").kind == Kind.OPEN | REPLY
    os.write(ask, pack(Packet(2, Kind.PREFILL, bytes(8))))
    assert received(answer, b"").kind == Kind.PREFILL | REPLY
    os.write(ask, pack(Packet(3, Kind.LOGITS, bytes(4))))
    assert len(received(answer, b"").payload) == keeper.TERMINAL_ANSWER
    assert agents(home)
    assert until(lambda: not agents(home))
    os.write(ask, pack(Packet(4, Kind.HELLO, b"")))
    assert b"closed after" in received(answer, b"").payload
    os.close(ask)
    serving.join(20)
    assert not serving.is_alive()
    for descriptor in (requests, answer, answers):
        os.close(descriptor)


def received(answer: int, data: bytes) -> Packet:
    """The next packet behind what is there already."""
    while True:
        *whole, data = data.split(END)
        for stretch in whole:
            if packet := unpack(stretch):
                return packet
        data += os.read(answer, 1 << 16)


def test_what_was_typed() -> None:
    cases = {b"": "", b"ls": "", b"ls\r": "help", b"\x03": "leave", b"l\x04": "leave", b"\xc3\r": "", b"\x01\x03": ""}
    assert {stretch: console.typed(stretch) for stretch in cases} == cases


@pytest.mark.parametrize("text", ["pi", "pi@", "pi@auto", "pi@qemu"])
def test_a_port_is_named(text: str) -> None:
    with pytest.raises(UserError, match="does not name a port") as caught:
        parse(text)
    assert "ssh:pi@" in caught.value.hint
