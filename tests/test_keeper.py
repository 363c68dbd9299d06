"""The keeper, which opens deployed models on a Raspberry Pi, over pipes: what it answers, relays, survives and ends."""

from __future__ import annotations

import inspect
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from deployed import children, environment, lay_out, processes_in, until

from edge.make.convert import convert, save
from edge.run import reach
from edge.run.agent import keeper
from edge.run.host import TICKS, facts_of, open_host
from edge.run.pi import places
from firmware_tools import graph
from firmware_tools.errors import LinkError
from firmware_tools.frames import END, REPLY, SEED, WAKE, Kind, Packet, pack, unpack
from firmware_tools.link import Link, PipeTransport

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a keeper runs on Linux")
TOKENS = [1, 7, 250, 3, 299, 12, 40]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models of the same shapes and other weights."""
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / "one.tflite", folder / "two.tflite"]
    for path, quantize in zip(paths, ("int8", "float32"), strict=True):
        save(convert(tiny.checkpoint(), quantize, prefill=8), path)
    return paths


@pytest.fixture(scope="module")
def home(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    lay_out(folder, *models)
    return folder


def asked(model: Path, **changes: Any) -> dict[str, Any]:
    facts = graph.read(model)
    what = {"file_sha256": facts.file_sha256, "facts": facts_of(model, facts), "runtime": reach.code_digest()}
    return {**what, **changes}


def start(home: Path) -> subprocess.Popen[bytes]:
    source = inspect.getsource(places) + reach.START_KEEPER
    command = [sys.executable, "-I", "-u", "-X", "utf8", "-c", source]
    return subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, env=environment(home), cwd="/")


class Raw:
    """A keeper's pipes without a Link."""

    def __init__(self, home: Path) -> None:
        self.process = start(home)
        self.waiting = b""

    def send(self, data: bytes) -> None:
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self) -> Packet:
        while True:
            while END not in self.waiting:
                data = os.read(self.process.stdout.fileno(), 1 << 16)
                assert data, self.process.stderr.read().decode()
                self.waiting += data
            raw, self.waiting = self.waiting.split(END, 1)
            if raw:
                return unpack(raw)

    def ask(self, sequence: int, kind: int, payload: bytes = b"") -> Packet:
        self.send(pack(Packet(sequence, kind, payload)))
        return self.receive()

    def open(self, model: Path, sequence: int = 1, **changes: Any) -> Packet:
        return self.ask(sequence, Kind.OPEN, json.dumps(asked(model, **changes)).encode())

    def agents(self) -> list[int]:
        return children(self.process.pid)


@pytest.fixture
def raw(home: Path) -> Iterator[Raw]:
    keeper = Raw(home)
    yield keeper
    keeper.process.kill()
    keeper.process.communicate()
    assert until(lambda: not processes_in(home))


def test_the_same_answers_as_the_host(home: Path, models: list[Path]) -> None:
    with Link(PipeTransport(start(home)), TICKS) as far, open_host(models[0]) as near:
        assert far.facts()["kernel"]
        far.open(asked(models[0]))
        info = far.hello()
        assert (info.raw["facts"], info.kind, info.context) == (True, "decoder", tiny.SHAPE.context)
        assert info.board == keeper._board() and info.board != "host"
        far.expect_model(graph.read(models[0]).sha256)
        for link in (far, near):
            assert link.prefill(TOKENS) > 0
        assert np.array_equal(far.logits(), near.logits())


def test_one_model_at_a_time(raw: Raw, models: list[Path]) -> None:
    assert raw.open(models[0]).kind == Kind.OPEN | REPLY
    (first,) = raw.agents()
    logits = [raw.ask(2, Kind.PREFILL, struct.pack("<2I", 0, 7)), raw.ask(3, Kind.LOGITS, bytes(4))]
    assert raw.open(models[1], 4).kind == Kind.OPEN | REPLY
    (second,) = raw.agents()
    assert first != second and not Path(f"/proc/{first}").exists()
    assert raw.ask(5, Kind.LOGITS, bytes(4)).kind == Kind.ERROR  # nothing is computed
    raw.ask(6, Kind.PREFILL, struct.pack("<2I", 0, 7))
    assert raw.ask(7, Kind.LOGITS, bytes(4)).payload != logits[1].payload


def test_what_is_refused(raw: Raw, models: list[Path], tmp_path: Path) -> None:
    assert raw.ask(1, Kind.HELLO).payload == b"no model is open"
    assert raw.ask(2, Kind.PREFILL, bytes(8)).payload == b"no model is open"
    assert raw.ask(3, Kind.LINES) == Packet(3, Kind.LINES | REPLY, b"")
    unknown = raw.open(models[0], 4, file_sha256="0" * 64)
    assert unknown.kind == Kind.ERROR and unknown.payload.startswith(places.NOT_DEPLOYED.encode())
    other = raw.open(models[0], 5, runtime="0" * 64)
    assert other.kind == Kind.ERROR and b"another version" in other.payload
    assert raw.agents() == []


@pytest.mark.parametrize(
    "changes",
    [{"file_sha256": "../../x"}, {"file_sha256": None}, {"facts": []}, {"kernels": "--help"}, {"kernels": []}]
    + [{"threads": -1}, {"threads": "1"}, {"threads": True}, {"context": 1e9}, {"context": 1 << 40}, {"runtime": 1}],
)
def test_malformed_openings(raw: Raw, models: list[Path], changes: dict[str, Any]) -> None:
    assert raw.open(models[0], **changes) == Packet(1, Kind.ERROR, b"OPEN is malformed")
    for sequence, payload in enumerate((b"", b"[]", b"{}", b"\xff", b"[" * 100_000), 2):
        assert raw.ask(sequence, Kind.OPEN, payload).payload == b"OPEN is malformed"


def test_a_model_that_does_not_load_is_told(raw: Raw, models: list[Path], home: Path) -> None:
    damaged = home / places.HOME / places.MODELS / f"{'1' * 64}.tflite"
    damaged.write_bytes(models[0].read_bytes()[:-9])
    facts = {**asked(models[0])["facts"], "file_sha256": "1" * 64}
    refused = raw.open(models[0], file_sha256="1" * 64, facts=facts)
    assert refused.kind == Kind.ERROR and b"cannot run" in refused.payload
    assert raw.ask(2, Kind.HELLO).kind == Kind.ERROR
    assert raw.open(models[0], 3).kind == Kind.OPEN | REPLY


@pytest.mark.parametrize("computing", [False, True])
def test_a_model_that_crashes(raw: Raw, models: list[Path], computing: bool) -> None:
    raw.open(models[0])
    (agent,) = raw.agents()
    if computing:
        os.kill(agent, signal.SIGSTOP)
        raw.send(pack(Packet(2, Kind.PREFILL, struct.pack("<2I", 0, 7))))
        time.sleep(0.2)
    os.kill(agent, signal.SIGKILL)
    told = raw.receive() if computing else raw.ask(2, Kind.PREFILL, struct.pack("<2I", 0, 7))
    assert told.kind == Kind.ERROR and told.sequence == 2 and b"Killed; memory may be short" in told.payload
    assert b"process ended" in raw.ask(3, Kind.HELLO).payload
    assert raw.open(models[0], 4).kind == Kind.OPEN | REPLY
    assert raw.ask(5, Kind.PREFILL, struct.pack("<2I", 0, 7)).kind == Kind.PREFILL | REPLY


def test_nothing_is_computed_twice(raw: Raw, models: list[Path]) -> None:
    opening = pack(Packet(1, Kind.OPEN, json.dumps(asked(models[0])).encode()))
    raw.send(opening * 3)  # a host repeats itself while the model is being loaded
    assert raw.receive().kind == Kind.OPEN | REPLY
    (agent,) = raw.agents()
    raw.send(opening)
    assert raw.receive().kind == Kind.OPEN | REPLY and raw.agents() == [agent]
    generate = pack(Packet(2, Kind.GENERATE, struct.pack("<HHffQ", 1, SEED, 0.0, 1.0, 0)))
    raw.ask(9, Kind.PREFILL, struct.pack("<2I", 0, 7))
    raw.send(generate)
    first = raw.receive()
    raw.send(b"garbage" + END + generate[:5])
    time.sleep(0.1)
    raw.send(END + WAKE + generate)
    assert raw.receive() == first  # its ticks, too


def test_while_it_computes_others_wait(raw: Raw, models: list[Path]) -> None:
    raw.open(models[0])
    (agent,) = raw.agents()
    os.kill(agent, signal.SIGSTOP)
    prefill = pack(Packet(2, Kind.PREFILL, struct.pack("<2I", 0, 7)))
    raw.send(prefill * 3)
    assert raw.ask(3, Kind.LOGITS, bytes(4)).kind == Kind.ERROR
    assert raw.ask(4, Kind.FACTS).kind == Kind.FACTS | REPLY  # the computer itself is well
    os.kill(agent, signal.SIGCONT)
    assert raw.receive().kind == Kind.PREFILL | REPLY
    assert raw.ask(5, Kind.LOGITS, bytes(4)).kind == Kind.LOGITS | REPLY


@pytest.mark.parametrize("end", ["eof", "term", "hup", "int", "kill", "reader"])
def test_it_leaves_nothing_running(home: Path, models: list[Path], end: str) -> None:
    raw = Raw(home)
    raw.open(models[0])
    (agent,) = raw.agents()
    if end != "kill":  # without its keeper, an agent that computes ends once it has
        os.kill(agent, signal.SIGSTOP)
    if end == "eof":
        raw.process.stdin.close()
    elif end == "reader":
        raw.process.stdout.close()
        raw.send(pack(Packet(2, Kind.FACTS, b"")))
    else:
        raw.process.send_signal({"term": signal.SIGTERM, "hup": signal.SIGHUP, "int": signal.SIGINT}.get(end, 9))
    assert raw.process.wait(20) == (-9 if end == "kill" else 0)
    assert until(lambda: not processes_in(home))
    assert raw.process.stderr.read() == b""


def test_where_nothing_was_deployed(tmp_path: Path) -> None:
    process = start(tmp_path)
    link = Link(PipeTransport(process, explain=lambda code, said: LinkError(f"{code} {said.decode()}")), TICKS)
    with link, pytest.raises(LinkError, match="1 not deployed: nothing of edge is installed"):
        link.facts()


def test_a_runtime_that_is_damaged(models: list[Path], tmp_path: Path) -> None:
    root = lay_out(tmp_path, models[0])
    (root / "edge" / "run" / "agent" / "__main__.py").write_text("")
    damaged = Raw(tmp_path)
    assert b"another version" in damaged.open(models[0]).payload
    damaged.process.communicate()
    (root / "edge" / "run" / "agent" / "keeper.py").unlink()
    assert b"not deployed: what is installed there is of another" in start(tmp_path).communicate()[1]


def test_packages_that_this_python_cannot_use(models: list[Path], tmp_path: Path) -> None:
    package = lay_out(tmp_path, models[0]) / places.PACKAGES / "numpy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('made for\\nanother')")
    there = Raw(tmp_path)
    said = there.open(models[0]).payload.decode()
    assert f"{places.NOT_DEPLOYED}: this computer's Python cannot use" in said and said.endswith("made for another")
    there.process.communicate()


def test_a_pipe_is_kept_alive(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sshd finds out that a host is gone by sending to it; so something is sent."""
    monkeypatch.setattr(keeper, "KEEP_ALIVE_S", 0.05)
    requests, ask = os.pipe()
    answer, answers = os.pipe()
    os.set_blocking(answer, False)
    served = keeper.Keeper(requests, answers, terminal=False)
    for _ in range(3):
        served._step()
    assert os.read(answer, 99).strip(END) == b""
    for descriptor in (requests, ask, answer, answers):
        os.close(descriptor)
