"""The link: right answers over pipes, a pty and a socket, on a bad line too; one clear error where there is none."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import link_device
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_device import BOS, CLOCK, CONTEXT, MODEL, STOP, TICKS_A_STEP, VOCAB_SIZE, Device, Twin

from firmware_tools.errors import LinkError
from firmware_tools.frames import Kind, Packet, pack
from firmware_tools.info import read_info
from firmware_tools.link import Clock, Info, Link, PipeTransport, SerialTransport, Transport
from firmware_tools.sampler import Generator, Sampler

needs_device = pytest.mark.skipif(not link_device.can_compile(), reason="needs POSIX and gcc or clang")
needs_pty = pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pty")
PROMPT = [BOS, *range(3, 40)]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not link_device.can_compile():
        pytest.skip("needs POSIX and gcc or clang")
    return link_device.compile_device(tmp_path_factory.mktemp("device"))


@pytest.fixture
def device(program: Path) -> Iterator[Device]:
    device = Device(program)
    yield device
    device.end()


@pytest.fixture
def link(device: Device) -> Link:
    return device.link()


def greedy_after(prompt: list[int], count: int) -> list[int]:
    twin = Twin()
    twin.compute(prompt, 0)
    return twin.greedy(count)


def check_conversation(link: Link) -> None:
    """A prompt in several requests, a given token, a text, logits, ids: all as the model computes them."""
    twin = Twin()
    assert link.prefill(PROMPT) == TICKS_A_STEP * len(PROMPT)
    twin.compute(PROMPT, 0)
    assert np.array_equal(link.logits(), twin.logits())
    assert link.forward(77, len(PROMPT)) == TICKS_A_STEP
    twin.compute([77], len(PROMPT))
    assert np.array_equal(link.logits(), twin.logits())
    assert [step.id for step in link.generate(20, Sampler(), seed=True)] == twin.greedy(20)
    assert link.encode(b"the man\0") == link_device.encode(b"the man\0")


# --- right answers


def test_facts(link: Link) -> None:
    info = link.hello()
    assert (info.board, info.emulated, info.model, info.name) == ("EMULATED host-port", True, MODEL, "hash")
    assert (info.vocab_size, info.context, info.bos_id, info.stop_ids) == (VOCAB_SIZE, CONTEXT, BOS, (STOP,))
    assert (info.ticks_hz, info.max_payload, info.stack_bytes, info.can_encode) == (1_000_000, 512, None, True)
    link.expect_model(MODEL)


def test_conversation(link: Link) -> None:
    check_conversation(link)


def test_clock_in_seconds_takes_the_devices_frequency(device: Device) -> None:
    link = Link(device.transport(), Clock("seconds", 1.0))
    link.hello()
    assert link.clock == Clock("seconds", 1e-6, counting=False), "it says that it is emulated, and so has no seconds"
    assert link.prefill(PROMPT) is None


def test_clock_that_does_not_count_gives_no_ticks(device: Device) -> None:
    link = Link(device.transport(), Clock("instructions", 1.0, counting=False))
    assert link.prefill(PROMPT) is None and link.forward(5, len(PROMPT)) is None
    assert [step.ticks for step in link.generate(2, Sampler(), seed=False)] == [None, None]


def test_going_back_forgets_what_lay_behind(link: Link) -> None:
    link.prefill(PROMPT)
    link.forward(9, 10)
    twin = Twin()
    twin.compute([*PROMPT[:10], 9], 0)
    assert np.array_equal(link.logits(), twin.logits())
    with pytest.raises(LinkError, match="the last allowed, is 11"):
        link.forward(9, 12)


def test_sampler_is_that_of_the_host(link: Link) -> None:
    sampler = Sampler(temperature=0.8, top_p=0.9, seed=2**63 + 5)
    twin, generator = Twin(), Generator(sampler)
    link.prefill(PROMPT)
    twin.compute(PROMPT, 0)
    for step in link.generate(30, sampler, seed=True):
        assert step.id == generator.choose(twin.logits())
        twin.compute([step.id], len(twin.states))


def test_text_goes_on_where_it_ended(link: Link) -> None:
    """Without seed the random numbers go on: ten and ten are twenty at once."""
    sampler = Sampler(temperature=1.0, seed=3)
    link.prefill(PROMPT)
    whole = link.generate(20, sampler, seed=True)
    link.prefill(PROMPT)
    parts = link.generate(10, sampler, seed=True) + link.generate(10, sampler, seed=False)
    assert parts == whole


def test_text_ends_with_a_stop_token(link: Link) -> None:
    """A prompt whose greedy text stops before the context does; the stop token is told, and not computed."""
    prompt = next([BOS, a] for a in range(VOCAB_SIZE) if STOP in greedy_after([BOS, a], 60))
    expected = greedy_after(prompt, 60)
    link.prefill(prompt)
    steps = link.generate(60, Sampler(), seed=True)
    assert [step.id for step in steps] == expected and expected[-1] == STOP
    assert [step.ticks for step in steps] == [TICKS_A_STEP] * (len(expected) - 1) + [None]


def test_text_ends_with_the_context(link: Link) -> None:
    prompt = [BOS] + [5] * (CONTEXT - 4)
    link.prefill(prompt)
    steps = link.generate(60, Sampler(), seed=True)
    assert [step.id for step in steps] == greedy_after(prompt, 60) and len(steps) == 3
    assert link.generate(5, Sampler(), seed=False) == []


def test_late_answers_are_not_taken(program: Path) -> None:
    """Every request is repeated at once, so that answers come twice: each is used for its own request."""
    device = Device(program)
    try:
        link = Link(device.transport(), CLOCK, resend_s=0.001)
        link.hello()
        for _ in range(5):
            link.prefill(PROMPT)
            assert [step.id for step in link.generate(8, Sampler(), seed=True)] == greedy_after(PROMPT, 8)
    finally:
        device.end()


def test_lines_and_frames_take_turns(link: Link) -> None:
    """What frames have computed outlasts commands, but not those that compute: the host is told, not misled."""
    link.prefill(PROMPT)
    assert link.command("name") == ["m-name-dut-[EMULATED host-port]"]
    assert link.command("timestamp") == [f"m-lap-us-{1000 * len(PROMPT)}"]
    link.forward(4, len(PROMPT))
    assert link.command("infer 1 0")[-2] == "m-infer-done"
    with pytest.raises(LinkError, match="refuses: .* is 0"):
        link.forward(4, len(PROMPT) + 1)


@pytest.mark.parametrize("line", ["name%", "infer\n1", "x" * 81, "caf\u00e9"])
def test_what_is_no_command(link: Link, line: str) -> None:
    with pytest.raises(LinkError, match="not a command"):
        link.command(line)


def test_close_gives_the_device_back_to_terminals(device: Device) -> None:
    """The process is kept: another line to it sees lines mode at once, without any silence."""
    transport = device.transport()
    transport.close = lambda: None  # type: ignore[method-assign]  # the line stays open for the terminal
    with Link(transport, CLOCK) as link:
        link.hello()
    transport.write(b"name%")
    seen = b""
    while b"m-ready" not in seen:
        seen += transport.read(10.0)
    assert b"m-name-dut-[EMULATED host-port]" in seen


# --- from every mode


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"name",
        b"x" * 500,
        b"db load 5%db 61",
        b"\r",
        b"\r half a line",
        b"\rthe thin man\r",
        b"\r" + b"x" * 3000,
        b"frames%",
        b"frames%" + pack(Packet(7, Kind.HELLO, b"")),
        b"frames%\x20 half a packet",
        b"frames%" + b"x" * 3000,
        b"infer 1000000 0%",
    ],
    ids=repr,
)
@needs_device
def test_handshake_works_from_every_mode(device: Device, before: bytes) -> None:
    transport = device.transport()
    transport.write(before)
    link = Link(transport, CLOCK)
    assert link.hello().name == "hash"
    link.prefill([BOS, 4])


def test_device_that_fell_back_is_woken(program: Path) -> None:
    """Time-outs run 200 times as fast: the device is back in lines between requests, and WAKE comes by the resend."""
    device = Device(program, time_scale=200)
    try:
        link = Link(device.transport(), CLOCK, resend_s=0.05)
        twin = Twin()
        for position in range(20):
            assert link.forward(position + 3, position) == TICKS_A_STEP
            twin.compute([position + 3], position)
        assert np.array_equal(link.logits(), twin.logits())
        assert link.command("timestamp") == [f"m-lap-us-{1000 * 20}"], "no step was computed twice"
    finally:
        device.end()


# --- a bad line


class Lossy:
    """A line that drops, flips and doubles bytes of both directions, as often as told, by a seed."""

    def __init__(self, inner: Transport, per_byte: float, seed: int) -> None:
        self.name, self.inner, self.per_byte, self.pick = inner.name, inner, per_byte, random.Random(seed)

    def spoil(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            fault = self.pick.random() / self.per_byte if self.per_byte else 3.0
            if fault >= 1.0:
                out.append(byte)
            elif fault >= 0.66:
                out.append(byte ^ 1 << self.pick.randrange(8))
            elif fault >= 0.33:
                out += bytes([byte, byte])
        return bytes(out)

    def write(self, data: bytes) -> None:
        self.inner.write(self.spoil(data))

    def read(self, timeout_s: float) -> bytes:
        return self.spoil(self.inner.read(timeout_s))

    def send_break(self) -> None:
        self.inner.send_break()

    def close(self) -> None:
        self.inner.close()


@pytest.mark.parametrize("seed", range(4))
def test_faults_neither_spoil_an_answer_nor_repeat_a_step(device: Device, seed: int) -> None:
    """With a fault in every 800 bytes or so most packets of logits are spoiled; every answer is right all the same."""
    lossy = Lossy(device.transport(), 1 / 800, seed)
    link, twin, steps = Link(lossy, CLOCK, resend_s=0.01), Twin(), 0
    for round_ in range(10):
        prompt = [BOS, *np.random.default_rng((seed, round_)).integers(3, VOCAB_SIZE, 30).tolist()]
        assert link.prefill(prompt) == TICKS_A_STEP * len(prompt)
        twin.compute(prompt, 0)
        assert np.array_equal(link.logits(), twin.logits())
        expected = twin.greedy(20)
        assert [step.id for step in link.generate(20, Sampler(), seed=True)] == expected
        steps += len(prompt) + len(expected) - expected.count(STOP)
    lossy.per_byte = 0.0
    assert link.command("timestamp") == [f"m-lap-us-{1000 * steps}"], "every step was computed once"


def test_worst_line_ends_in_an_answer_or_a_link_error(device: Device) -> None:
    lossy = Lossy(device.transport(), 0.0, 5)
    link = Link(lossy, CLOCK, 0.3, resend_s=0.01)
    link.hello()
    lossy.per_byte = 1 / 12
    outcomes = set()
    for token in range(3, 30):
        try:
            outcomes.add(link.prefill([token]))
        except LinkError as error:
            outcomes.add("does not answer" in error.message)
    assert outcomes <= {TICKS_A_STEP, True} and TICKS_A_STEP in outcomes


def test_garbage_before_between_and_behind(device: Device) -> None:
    transport = device.transport()
    link = Link(transport, CLOCK)
    twin = Twin()
    for position in range(5):
        transport.write(bytes(random.Random(position).randrange(256) for _ in range(50)))
        link.forward(9, position)
        twin.compute([9], position)
    assert np.array_equal(link.logits(), twin.logits())


# --- other lines


@needs_pty
@needs_device
def test_over_a_pty(program: Path) -> None:
    import tty

    theirs, ours = os.openpty()
    tty.setraw(ours)
    device = Device(program, stdin=theirs, stdout=theirs)
    try:
        with Link(SerialTransport(os.ttyname(ours)), CLOCK) as link:
            check_conversation(link)
            with pytest.raises(LinkError, match="busy"):
                SerialTransport(os.ttyname(ours))
        with Link(SerialTransport(os.ttyname(ours)), CLOCK) as link:  # the port is free again
            assert link.command("name") == ["m-name-dut-[EMULATED host-port]"]
    finally:
        device.end()
        os.close(theirs)
        os.close(ours)


def over_socket(program: Path) -> tuple[Device, SerialTransport]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = SerialTransport(f"socket://127.0.0.1:{server.getsockname()[1]}")
        connection, _ = server.accept()
    with connection:
        return Device(program, stdin=connection.fileno(), stdout=connection.fileno()), transport


def test_over_a_socket(program: Path) -> None:
    device, transport = over_socket(program)
    try:
        with Link(transport, CLOCK) as link:
            check_conversation(link)
    finally:
        device.end()


def test_socket_whose_other_end_goes(program: Path) -> None:
    device, transport = over_socket(program)
    with Link(transport, CLOCK) as link:
        link.hello()
        device.end()
        with pytest.raises(LinkError, match="is gone"):
            link.forward(3, 0)


# --- one clear error


def test_refusals_are_in_words(link: Link) -> None:
    link.prefill([BOS])
    for attempt, words in (
        (lambda: link.forward(VOCAB_SIZE, 1), "no such token: ids end at 299"),
        (lambda: link.forward(3, CONTEXT), "the last allowed, is 1"),
        (lambda: link.prefill([3] * CONTEXT, 1), "the context is full: positions end before 128"),
        (lambda: link.generate(1, Sampler(float("nan")), True), "temperature is from 0"),
        (lambda: link.generate(1, Sampler(0.0, 1.5), True), "top_p above 0 and at most 1"),
        (lambda: link.encode(b"x" * 300), "fewer tokens than the text has: 300"),
    ):
        with pytest.raises(LinkError, match=words):
            attempt()
    assert link.forward(3, CONTEXT - 1 - 119) == TICKS_A_STEP  # 8 tokens went well before the context was full


def test_nothing_to_go_on_from(link: Link) -> None:
    with pytest.raises(LinkError, match="PREFILL or FORWARD first"):
        link.generate(1, Sampler(), True)
    with pytest.raises(LinkError, match="PREFILL or FORWARD first"):
        link.logits()


def test_another_model(link: Link) -> None:
    with pytest.raises(LinkError, match="holds another model: hash") as error:
        link.expect_model("f" * 64)
    assert "flash the image" in error.value.hint


def test_text_that_fits_no_request(link: Link) -> None:
    with pytest.raises(LinkError, match="at most 512 bytes"):
        link.encode(b"x" * 513)


def child(code: str) -> PipeTransport:
    """A program that is no device; code runs with `out` for its output in bytes."""
    prelude = "import sys, time; out = sys.stdout.buffer\n"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", prelude + code], **pipes)  # type: ignore[call-overload]
    return PipeTransport(process, "the child", boot_s=1.5)


def test_silent_device() -> None:
    with Link(child("sys.stdin.read()"), CLOCK) as link, pytest.raises(LinkError, match="does not answer") as error:
        link.hello()
    assert "is it flashed" in error.value.hint


def test_garbage_only() -> None:
    code = "for i in range(100): out.write(bytes(range(i, i + 50))); out.flush()\nsys.stdin.read()"
    with Link(child(code), CLOCK) as link, pytest.raises(LinkError, match=r"\d+ bytes came, none of them valid"):
        link.hello()


def test_firmware_that_only_knows_lines() -> None:
    """It answers every % with a line, as the reference firmware of MLPerf Tiny does to what it does not know."""
    code = """
while c := sys.stdin.buffer.read(1):
    if c == b"%": out.write(b"e-[Unknown command: frames]\\r\\nm-ready\\r\\n"); out.flush()
"""
    with Link(child(code), CLOCK) as link:
        with pytest.raises(LinkError, match="does not answer") as error:
            link.hello()
        assert "MLPerf Tiny" in error.value.hint
        assert link.command("name") == ["e-[Unknown command: frames]"]


def test_process_that_ends_says_why() -> None:
    code = "print('no room for the model\\x1b[2J', file=sys.stderr); sys.exit(3)"
    with Link(child(code), CLOCK) as link, pytest.raises(LinkError) as error:
        link.hello()
    assert error.value.message == "the child ended with code 3: no room for the model[2J"


def test_device_that_dies_in_mid_conversation(device: Device) -> None:
    with device.link() as link:
        link.prefill(PROMPT)
        device.process.kill()
        with pytest.raises(LinkError, match="ended with code"):
            link.generate(50, Sampler(), True)


def test_missing_port() -> None:
    with pytest.raises(LinkError, match="there is no port") as error:
        SerialTransport("COM99" if sys.platform == "win32" else "/dev/no-such-port")
    assert "ports of this machine" in error.value.hint


def test_address_that_is_no_port() -> None:
    with pytest.raises(LinkError, match="cannot be opened"):
        SerialTransport("nonsense://x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    with pytest.raises(LinkError, match="cannot be opened"):
        SerialTransport(f"socket://127.0.0.1:{free}")


@needs_pty
def test_permission_denied() -> None:
    theirs, ours = os.openpty()
    os.chmod(os.ttyname(ours), 0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may open everything
    try:
        with pytest.raises(LinkError, match="permission") as error:
            SerialTransport(os.ttyname(ours))
    finally:
        os.seteuid(user)
        os.close(theirs)
        os.close(ours)
    assert "dialout" in error.value.hint


# --- what a device says of itself is not trusted

FACTS = {
    "model": MODEL,
    "name": "n",
    "board": "b",
    "emulated": False,
    "vocab_size": 300,
    "context": 128,
    "layers": 1,
    "bos_id": 1,
    "stop_ids": [2],
    "arena_bytes": None,
    "can_encode": True,
    "ticks_hz": 1,
    "max_payload": 512,
}


def facts(**changed: object) -> Info:
    return read_info("the board", json.dumps({**FACTS, **changed}).encode())


def test_facts_that_are_right() -> None:
    info = facts(bos_id=None)
    assert info.bos_id is None and info.arena_bytes is None and info.stack_bytes is None and info.stop_ids == (2,)


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "short"},
        {"model": MODEL.upper()[:-1] + "G"},
        {"model": None},
        {"name": 5},
        {"vocab_size": 0},
        {"vocab_size": True},
        {"vocab_size": 1e3},
        {"context": "128"},
        {"context": 2**40},
        {"bos_id": 300},
        {"stop_ids": [300]},
        {"stop_ids": [True]},
        {"stop_ids": 2},
        {"arena_bytes": -1},
        {"emulated": 1},
        {"can_encode": "yes"},
        {"ticks_hz": 0},
        {"max_payload": 3},
    ],
    ids=repr,
)
def test_facts_that_are_wrong(changed: dict[str, object]) -> None:
    with pytest.raises(LinkError, match="describes itself wrongly: .*" + next(iter(changed))):
        facts(**changed)


def test_names_lose_what_a_terminal_obeys() -> None:
    info = facts(name="\x1b[31mred\r\n\x9b", board="b\x00\u202e" + "x" * 500)
    assert info.name == "[31mred" and info.board == "b" + "x" * 199


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_answer_to_hello_is_facts_or_a_link_error(answer: bytes) -> None:
    with pytest.raises(LinkError, match="describes itself wrongly"):
        read_info("the board", answer)


@given(st.sampled_from(sorted(FACTS)), json_values)
def test_any_fact_is_checked_or_refused(key: str, value: object) -> None:
    try:
        info = facts(**{key: value})
    except LinkError:
        return
    for field in dataclasses.fields(info):
        value = getattr(info, field.name)
        assert not isinstance(value, str) or value.isprintable() or value == ""
        assert type(value) is not int or value >= 0
