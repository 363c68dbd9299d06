"""The target `host`: the agent in its child process, asked over its pipes by the Link and by hand."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
from lite import RESOLVERS, Model

from edge.make import checkpoints, decoder
from edge.make.convert import convert, save
from edge.run.agent.session import MAX_PAYLOAD
from edge.run.host import TICKS, facts_of, open_host
from edge.tokenizer import from_card
from firmware_tools import graph
from firmware_tools.errors import BadFile, LinkError
from firmware_tools.frames import END, REPLY, SEED, WAKE, Kind, Packet, pack, unpack
from firmware_tools.link import Link, PipeTransport
from firmware_tools.sampler import Generator, Sampler

CONTEXT = tiny.SHAPE.context
TOKENS = [1, 7, 250, 3, 299, 12, 40, 41, 42, 43, 99, 5, 6]
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose prefill takes 8 tokens."""
    path = tmp_path_factory.mktemp("agent") / "tiny ü.tflite"
    save(convert(tiny.checkpoint(), prefill=8), path)
    return path


@pytest.fixture(scope="module")
def link(file: Path) -> Iterator[Link]:
    with open_host(file) as opened:
        yield opened


class Raw:
    """The agent's pipes without a Link."""

    def __init__(self, file: Path, **changes: object) -> None:
        facts = {**facts_of(file, graph.read(file)), **changes}
        command = [sys.executable, "-m", "edge.run.agent", str(file), "--facts", json.dumps(facts)]
        root = Path(__file__).parent.parent
        self.process = subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, cwd=root)
        self.waiting = b""

    def send(self, data: bytes) -> None:
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self) -> Packet:
        while END not in self.waiting:
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            assert data, self.process.stderr.read().decode()
            self.waiting += data
        raw, self.waiting = self.waiting.split(END, 1)
        return unpack(raw)

    def ask(self, sequence: int, kind: int, payload: bytes = b"") -> Packet:
        self.send(pack(Packet(sequence, kind, payload)))
        return self.receive()

    def close(self) -> int:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.stderr.close()
        return self.process.wait(20)


@pytest.fixture
def raw(file: Path) -> Iterator[Raw]:
    agent = Raw(file)
    yield agent
    assert agent.close() == 0


# ------------------------------------------------------------------------------------------------- what it says


def test_it_says_what_runs_where(file: Path, link: Link) -> None:
    info, model = link.hello(), graph.read(file)
    assert (info.board, info.emulated, info.can_encode) == ("host", False, False)
    assert (info.vocab_size, info.context, info.layers) == (300, CONTEXT, 2)
    assert (info.bos_id, info.stop_ids, info.name) == (1, (1, 2), "tiny")
    assert info.kv_cache_bytes == 4 * 2 * 2 * 2 * CONTEXT * 8
    parameters = sum(weight.size for weight in tiny.checkpoint().weights.values())
    assert parameters < info.weight_bytes < model.file_bytes
    assert info.arena_bytes is None and info.stack_bytes is None
    assert info.raw["kernels"] == "xnnpack" and info.raw["threads"] == 1 and info.raw["runtime"]
    link.expect_model(model.sha256)
    with pytest.raises(LinkError, match="another model"):
        link.expect_model("0" * 64)


# ------------------------------------------------------------------------------------------------ what it computes


@pytest.mark.parametrize("kernels", sorted(RESOLVERS))
def test_decode_and_prefill_are_those_of_litert(file: Path, kernels: str) -> None:
    """Bit for bit, whatever way the tokens come, and after going back in the text."""
    model = Model(file.read_bytes(), kernels)
    with open_host(file, kernels=kernels) as link:
        assert link.info.raw["kernels"] == kernels
        link.prefill(TOKENS[:11])  # 8 by prefill, 3 by prefill with padding
        model.prefill(TOKENS[:8], 0)
        np.testing.assert_array_equal(link.logits(), model.prefill(TOKENS[8:11], 8))
        link.forward(TOKENS[11], 11)
        np.testing.assert_array_equal(link.logits(), model.decode(TOKENS[11], 11))
        link.prefill(TOKENS[:2], 4)  # too few for prefill
        model.decode(TOKENS[0], 4)
        np.testing.assert_array_equal(link.logits(), model.decode(TOKENS[1], 5))


def test_greedy_text_to_the_end_of_the_context(file: Path, link: Link) -> None:
    model = Model(file.read_bytes(), "xnnpack")
    logits = model.prefill(TOKENS[:5], 0)
    link.prefill(TOKENS[:5])
    steps = link.generate(CONTEXT, Sampler(), seed=True)
    expected = []
    while 5 + len(expected) < CONTEXT:
        token = int(logits.argmax())
        expected.append(token)
        if token in (1, 2):
            break
        logits = model.decode(token, 4 + len(expected))
    assert [step.id for step in steps] == expected
    assert all(step.ticks and step.ticks > 0 for step in steps if step.id not in (1, 2))


def test_sampling_goes_on_where_it_stopped(file: Path, link: Link) -> None:
    """Two requests with one seed choose what one generator chooses; other settings keep the random numbers."""
    warm, hot = Sampler(1.5, 0.9, seed=7), Sampler(3.0, 1.0)
    link.prefill(TOKENS[:3])
    ids = [step.id for step in (*link.generate(3, warm, seed=True), *link.generate(3, hot, seed=False))]
    model, generator, expected = Model(file.read_bytes(), "xnnpack"), Generator(warm), []
    logits = model.prefill(TOKENS[:3], 0)
    while len(expected) < 6 and not {1, 2} & set(expected):
        if len(expected) == 3:
            generator.follow(hot.temperature, hot.top_p)
        expected.append(generator.choose(logits))
        logits = model.decode(expected[-1], 2 + len(expected))
    assert ids == expected and len(set(ids)) > 1


def test_a_stop_token_is_reported_and_not_computed(tmp_path: Path) -> None:
    path = tmp_path / "stop.tflite"
    save(convert(tiny.checkpoint(card={"stop_ids": list(range(16))})), path)
    with open_host(path) as link:
        seen = []
        for seed in range(200):
            link.prefill([3])
            seen = link.generate(20, Sampler(2.0, 1.0, seed), seed=True)
            if len(seen) < 20:
                break
        assert seen[-1].id < 16 and seen[-1].ticks is None
        assert all(step.id >= 16 for step in seen[:-1])
        with pytest.raises(LinkError, match=f"not computed is {len(seen)}"):
            link.forward(3, len(seen) + 1)


def test_a_smaller_context(file: Path) -> None:
    with open_host(file, context=6) as link:
        assert link.info.context == 6
        link.prefill(TOKENS[:5])
        with pytest.raises(LinkError, match="context ends at position 6"):
            link.prefill(TOKENS[:2], 5)
        assert len(link.generate(5, Sampler(), seed=True)) == 1


def test_stories_go_on_in_english(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "stories.tflite"
    save(convert(checkpoints.load(shared_data / "stories260K" / "stories260K.bin"), "float32", context=128), path)
    model = graph.read(path)
    tokenizer = from_card(model.tokenizer, model.card)
    for kernels in sorted(RESOLVERS):
        with open_host(path, kernels=kernels) as link:
            link.prefill(tokenizer.prompt("Once upon a time"))
            text = tokenizer.decode([step.id for step in link.generate(40, Sampler(), seed=True)])
        assert text.startswith(", there was a little girl named Lily. She loved to play outside in the park.")


# ------------------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [
        (Kind.FORWARD, struct.pack("<II", 1, 5), "position 1 is too far"),
        (Kind.FORWARD, struct.pack("<II", 0, 300), "ids end at 299"),
        (Kind.FORWARD, b"1234", "kind 3 has 4 bytes"),
        (Kind.PREFILL, struct.pack("<I", 0), "kind 2 has 4 bytes"),
        (Kind.PREFILL, struct.pack("<4I", 0, 1, 2, 2**32 - 1), "ids end at 299"),
        (Kind.PREFILL, struct.pack(f"<{CONTEXT + 2}I", *[0] * (CONTEXT + 2)), f"ends at position {CONTEXT}"),
        (Kind.GENERATE, struct.pack("<HHffQ", 1, SEED, 0, 1, 0), "nothing to go on from"),
        (Kind.LOGITS, struct.pack("<I", 0), "no logits"),
        (Kind.ENCODE, b"text", "the host encodes"),
        (Kind.HELLO, b"?", "kind 1 has 1 bytes"),
        (99, b"", "kind 99"),
    ],
)
def test_requests_that_cannot_be(raw: Raw, kind: int, payload: bytes, words: str) -> None:
    answer = raw.ask(5, kind, payload)
    assert (answer.sequence, answer.kind) == (5, Kind.ERROR)
    assert words in answer.payload.decode()


def test_settings_that_cannot_be(raw: Raw) -> None:
    raw.ask(1, Kind.FORWARD, struct.pack("<II", 0, 5))
    for sequence, (count, temperature, top_p) in enumerate(
        [(0, 0.0, 1.0), (9999, 0.0, 1.0), (1, -1.0, 1.0), (1, float("nan"), 1.0), (1, 1.0, 0.0), (1, 1.0, float("nan"))]
    ):
        payload = struct.pack("<HHffQ", count, SEED, temperature, top_p, 0)
        assert raw.ask(10 + sequence, Kind.GENERATE, payload).kind == Kind.ERROR
    assert raw.ask(90, Kind.LOGITS, struct.pack("<I", 300)).kind == Kind.ERROR
    assert raw.ask(91, Kind.LOGITS, struct.pack("<I", 299)).kind == Kind.LOGITS | REPLY


# --------------------------------------------------------------------------------------------------- the line


def test_a_repeated_request_is_answered_from_memory(raw: Raw) -> None:
    raw.ask(1, Kind.FORWARD, struct.pack("<II", 0, 5))
    step = struct.pack("<HHffQ", 2, SEED, 1.0, 1.0, 3)
    first = raw.ask(2, Kind.GENERATE, step)
    assert raw.ask(2, Kind.GENERATE, step) == first, "ticks and all"
    assert raw.ask(3, Kind.FORWARD, struct.pack("<II", 4, 5)).kind == Kind.ERROR, "only two tokens were computed"


def test_garbage_between_requests(raw: Raw) -> None:
    request = pack(Packet(9, Kind.HELLO, b""))
    raw.send(WAKE + END + b"\xff" * 300 + END + request[:-3] + END + b"x" * (3 * MAX_PAYLOAD) + END + request)
    answer = raw.receive()
    assert (answer.sequence, answer.kind) == (9, Kind.HELLO | REPLY)
    for byte in pack(Packet(10, Kind.LINES, b"")):
        raw.send(bytes([byte]))
    assert raw.receive() == Packet(10, Kind.LINES | REPLY, b"")


def test_what_libraries_print_does_not_reach_the_frames() -> None:
    code = (
        "import os, edge.run.agent.streams as a; f = a.take_stdout(); print('noise', flush=True); os.write(1, b'more')"
    )
    code += "; f.write(b'\\r\\nframe'); f.flush()"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=root, check=True)
    assert done.stdout == b"\r\nframe"
    assert b"noise" in done.stderr and b"more" in done.stderr


def test_chatter_is_held_back_and_what_matters_is_not() -> None:
    code = """if True:
        import os
        from edge.run.agent.streams import HeldBack
        held = HeldBack()
        os.write(2, "INFO: [a.cc:1] x\\nWARNING: y\\n└ z\\nERROR: It broke.\\n\\nI0000 00:00 w\\nplain\\n".encode())
        held.say(held.errors())
        held.release()
        os.write(2, b"later\\n")
        held.hold()
        os.write(2, b"INFO: bye\\n")
        held.say("last")"""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=root, check=True)
    assert done.stderr.decode().splitlines() == ["It broke.", "ERROR: It broke.", "plain", "later", "last"]


def test_an_agent_that_does_well_says_nothing(file: Path) -> None:
    agent = Raw(file)
    agent.ask(1, Kind.HELLO)
    agent.process.stdin.close()
    assert agent.process.wait(20) == 0 and agent.process.stderr.read() == b""
    agent.close()


# ------------------------------------------------------------------------------------------------------- harm


def test_only_models_of_ours_run(tmp_path: Path, file: Path) -> None:
    for name, content in (("text", b"hello"), ("cut", file.read_bytes()[:-1000]), ("empty", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BadFile):
            open_host(path)
    with pytest.raises(BadFile):
        open_host(tmp_path / "missing")


def test_a_file_that_changed_since_it_was_read(file: Path) -> None:
    agent = Raw(file, file_sha256="0" * 64)
    with Link(PipeTransport(agent.process), TICKS) as link, pytest.raises(LinkError, match="not the one the host has"):
        link.hello()


def test_a_file_that_litert_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "PER_CHANNEL_VERSION", 99)
    path = tmp_path / "future.tflite"
    save(convert(tiny.checkpoint()), path)
    with open_host(path) as link, pytest.raises(LinkError, match="cannot run .*FULLY_CONNECTED"):
        link.hello()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_a_model_that_wants_too_much_memory(tmp_path: Path) -> None:
    """6.4 GB of KV cache, where the agent may add 4.2."""
    path = tmp_path / "greedy.tflite"
    size = {"layers": 24, "heads": 16, "kv_heads": 16, "context": 1 << 20, "hidden_dim": 2}
    save(convert(tiny.checkpoint(**size), context=1 << 20, prefill=2), path)
    with open_host(path) as link, pytest.raises(LinkError, match="cannot run .*memory may be short"):
        link.hello()


@posix
def test_a_child_that_crashes(file: Path) -> None:
    agent = Raw(file)
    with Link(PipeTransport(agent.process), TICKS) as link:
        link.prefill(TOKENS)
        agent.process.send_signal(signal.SIGSEGV)
        with pytest.raises(LinkError, match="ended with code -11"):
            link.forward(3, len(TOKENS))


@posix
def test_a_child_that_hangs(file: Path) -> None:
    agent = Raw(file)
    with Link(PipeTransport(agent.process), TICKS, timeout_s=0.5) as link:
        link.prefill(TOKENS)
        agent.process.send_signal(signal.SIGSTOP)
        with pytest.raises(LinkError, match="does not answer"):
            link.forward(3, len(TOKENS))
    assert agent.process.poll() is not None, "closing the link ends a child that hangs"


@posix
def test_ctrl_c_is_for_the_host(raw: Raw) -> None:
    assert raw.ask(1, Kind.HELLO).kind == Kind.HELLO | REPLY
    raw.process.send_signal(signal.SIGINT)
    assert raw.ask(2, Kind.HELLO).kind == Kind.HELLO | REPLY
