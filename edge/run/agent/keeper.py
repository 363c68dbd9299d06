"""Serves frames on a Raspberry Pi, over ssh's pipe or on a terminal, for the models that were deployed to it.

It answers OPEN and FACTS itself and starts the agent in a child process for the one model that is open; all else goes
through to that. A model that crashes the child is told as an ERROR, and the next OPEN starts another. Whatever was
started ends with the line: at the end of a pipe, at a terminal's hangup or Ctrl-C, at SIGTERM. On a terminal, whose
other end may just go away, a model is closed when the host leaves, or says nothing for a long time.

Only the standard library, and what lies beside it in the runtime's folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from edge.run.agent import console, machine
from edge.run.agent.session import MAX_PAYLOAD, Refusal
from edge.run.pi import places
from firmware_tools.frames import END, REPLY, Kind, Packet, pack, sequence_of, unpack

ROOT = Path(__file__).resolve().parents[3]  # of the runtime: edge/ and firmware_tools/ lie in it
START_AGENT = (
    "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]; "
    "from edge.run.agent.__main__ import main; sys.exit(main())"
)
LONGEST_REQUEST_BYTES = MAX_PAYLOAD + MAX_PAYLOAD // 254 + 16
MOST_UNSENT_BYTES = 4 << 20  # for a reader that has stopped; what comes on top is lost, and asked for again
KEEP_ALIVE_S = 30.0  # after so much silence a pipe gets a zero: so sshd notices a host that vanished, and ends it
IDLE_S = 1800.0  # a terminal's model is closed after so much silence
PAUSE_S = 0.5  # in a stretch of bytes: what came was typed
TERMINAL_PAYLOAD = 16384  # of a request on a terminal
TERMINAL_ANSWER = 2048  # of LOGITS and OUTPUT there: .2 s at 115200 baud, so that one lost byte does not cost much
PARTS = (Kind.LOGITS, Kind.OUTPUT)  # whose answers may be any part of the whole
KERNELS = ("xnnpack", "reference")


class Agent:
    """The child process of one model."""

    def __init__(self, model: Path, what: Mapping[str, Any]) -> None:
        options = ["--facts", json.dumps(what["facts"]), "--kernels", what["kernels"]]
        options += ["--threads", str(what["threads"]), "--context", str(what["context"])]
        options += ["--cache", str(places.home() / places.CACHE)]
        paths = [str(ROOT), str(ROOT / places.PACKAGES)]
        self._process = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-c", START_AGENT, *paths, str(model), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            start_new_session=True,  # what it may start ends with it
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._streams = (self._process.stdin, self._process.stdout, self._process.stderr)
        self.input, self.output, self.errors = (stream.fileno() for stream in self._streams)
        for stream in self._streams:
            os.set_blocking(stream.fileno(), False)
        self.unsent = bytearray()
        self._waiting = self._complaint = b""

    def receive(self) -> list[bytes] | None:
        """The stretches between zeros that have come; None where it has ended."""
        data = _read(self.output)
        if data is None:
            return None
        *whole, self._waiting = (self._waiting + data).split(END)
        return whole

    def listen(self) -> None:
        """Keeps the end of what it says on stderr."""
        data = _read(self.errors)
        self._complaint = (self._complaint + (data or b""))[-4096:]
        if data is None:
            self.errors = -1

    def end(self) -> None:
        """Ends it, and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in self._streams:
            stream.close()

    def last_words(self) -> str:
        """Why it ended by itself, which it has done or is about to; ends it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        code = self._process.poll()
        while self.errors >= 0 and select.select([self.errors], [], [], 0)[0]:
            self.listen()
        self.end()
        lines = [line for line in self._complaint.decode(errors="replace").splitlines() if line.strip()]
        if code is not None and code < 0:
            memory = "; memory may be short" if -code == signal.SIGKILL else ""
            return f"{signal.strsignal(-code) or f'signal {-code}'}{memory}"
        words = lines[-1][:500] if lines else f"exit code {code}"
        unusable = f"{places.NOT_DEPLOYED}: this computer's Python cannot use what is installed: "
        return (unusable if code == places.UNUSABLE else "") + words


class Keeper:
    """Answers what comes on one descriptor on another.

    Args:
        requests: a pipe's or a terminal's descriptor.
        answers: the same of its other direction.
        terminal: whether a person may type there, and frames are short.
    """

    def __init__(self, requests: int, answers: int, terminal: bool) -> None:
        self._requests, self._answers, self._terminal = requests, answers, terminal
        os.set_blocking(answers, False)
        self._waiting = b""
        self._unsent = bytearray()
        self._heard = self._said = time.monotonic()  # when bytes came, and went
        self._asked = self._answered = b""  # the last request answered here, and the answer
        self._asking: tuple[bytes, Packet] | None = None  # the request that the agent owes an answer to
        self._agent: Agent | None = None
        self._info: dict[str, Any] | None = None  # of the model, once it is loaded
        self._closed = "no model is open"
        self._over = False

    def run(self) -> None:
        """Serves until the line ends, or a person ends it."""
        if self._terminal:
            self._send(console.GREETING)
        try:
            while not self._over:
                self._step()
        finally:
            self._close("")

    def _step(self) -> None:
        agent = self._agent
        readers, writers = [self._requests], [self._answers] if self._unsent else []
        if agent:
            readers += [agent.output, *([agent.errors] if agent.errors >= 0 else [])]
            writers += [agent.input] if agent.unsent else []
        readable, writable, _ = select.select(readers, writers, [], self._patience())
        if agent and agent.errors in readable:
            agent.listen()
        if agent and agent.input in writable and not _write(agent.input, agent.unsent):
            agent.unsent.clear()  # it has ended, which its output will show
        if self._answers in writable and not _write(self._answers, self._unsent):
            self._over = True
        if agent and agent.output in readable:
            self._relay(agent)
        if self._requests in readable:
            self._take(_read(self._requests))
        self._wait_no_longer()

    def _patience(self) -> float:
        if self._terminal and self._waiting:
            return PAUSE_S
        return KEEP_ALIVE_S

    def _wait_no_longer(self) -> None:
        """What is to be done when nothing has come for a while."""
        now = time.monotonic()
        if not self._terminal:
            if now - self._said >= KEEP_ALIVE_S and not self._unsent:
                self._send(END)
            return
        if self._waiting and now - self._heard >= PAUSE_S:
            wish = console.typed(self._waiting)
            self._over |= wish == "leave"
            if wish == "help":
                self._waiting = b""
                self._send(console.HELP)
        if self._agent and not self._asking and now - self._heard >= IDLE_S:
            self._close(f"the model was closed after {IDLE_S / 60:g} minutes without a request")

    # --- the line

    def _take(self, data: bytes | None) -> None:
        if data is None:
            self._over = True
            return
        if data:
            self._heard = time.monotonic()
        *whole, rest = (self._waiting + data).split(END)
        self._waiting = rest if len(rest) <= LONGEST_REQUEST_BYTES else b"\1"  # garbage up to its zero
        for raw in whole:
            request = unpack(raw)
            if request:
                self._answer(raw, request)

    def _send(self, data: bytes) -> None:
        self._said = time.monotonic()
        if len(self._unsent) < MOST_UNSENT_BYTES:
            self._unsent += data

    def _reply(self, raw: bytes, reply: Packet) -> None:
        """Answers a request here, and keeps the answer for a repeat of it."""
        self._asked, self._answered = raw, END + pack(reply)
        self._send(self._answered)

    def _fail(self, raw: bytes, request: Packet, why: str) -> None:
        self._reply(raw, Packet(request.sequence, Kind.ERROR, why.encode()))

    # --- requests

    def _answer(self, raw: bytes, request: Packet) -> None:
        if self._asking and raw == self._asking[0]:
            return  # it is being computed
        if raw == self._asked:
            self._send(self._answered)
            return
        try:
            payload = self._carry_out(raw, request)
        except Refusal as refusal:
            self._fail(raw, request, str(refusal))
        else:
            if payload is not None:
                self._reply(raw, Packet(request.sequence, request.kind | REPLY, payload))

    def _carry_out(self, raw: bytes, request: Packet) -> bytes | None:
        """The answer's payload; None where it comes later, from the agent."""
        if request.kind == Kind.OPEN:
            self._open(raw, request)
            return None
        if request.kind == Kind.FACTS and not request.payload:
            return json.dumps(machine.facts()).encode()
        if request.kind == Kind.LINES and not request.payload:
            if self._terminal:  # the host leaves, and nothing else will tell that it has
                self._close("the host has left")
            return b""
        if self._agent is None:
            raise Refusal(self._closed)
        if self._asking:
            raise Refusal("the request before is still being computed")
        if request.kind == Kind.HELLO and not request.payload:
            return json.dumps(self._info).encode()
        self._ask(raw, request, raw)
        return None

    def _open(self, raw: bytes, request: Packet) -> None:
        """Starts an agent in the place of the one before, which says HELLO when it has loaded the model."""
        self._close("no model is open")
        what = _understood(request.payload)
        model = places.model_file(what["file_sha256"])
        if what["runtime"] != places.code_digest(places.code(ROOT)):
            raise Refusal(f"{places.NOT_DEPLOYED}: what is installed here is of another version of edge")
        if not model.is_file():
            raise Refusal(f"{places.NOT_DEPLOYED}: this computer does not hold that model")
        self._agent = Agent(model, what)
        self._ask(raw, request, pack(Packet(request.sequence, Kind.HELLO, b"")).rstrip(END))

    def _ask(self, raw: bytes, request: Packet, asked: bytes) -> None:
        assert self._agent
        self._asking = (raw, request)
        self._asked = b""
        self._agent.unsent += asked + END

    # --- the agent

    def _relay(self, agent: Agent) -> None:
        """Sends on what the agent answers; where it has ended, says so."""
        stretches = agent.receive()
        for stretch in stretches or ():
            if not self._asking or sequence_of(stretch) != self._asking[1].sequence:
                continue  # a late answer, which nobody waits for
            (raw, request), self._asking = self._asking, None
            if request.kind == Kind.OPEN:
                self._opened(raw, request, unpack(stretch))
            elif self._terminal and request.kind in PARTS:
                self._send(_cut(stretch))
            else:
                self._send(END + stretch + END)
        if stretches is None:
            self._agent, words = None, agent.last_words()
            asking, self._asking = self._asking, None
            self._closed = f"no model is open: its process ended: {words}"
            if asking:
                loading = asking[1].kind == Kind.OPEN
                what = "the model cannot be loaded: its" if loading else "the model's"
                self._fail(*asking, f"{what} process ended: {words}")

    def _opened(self, raw: bytes, request: Packet, reply: Packet | None) -> None:
        if reply is None or reply.kind != Kind.HELLO | REPLY:
            self._fail(raw, request, "the model was loaded, and does not say what it is")
            return
        self._info = {**json.loads(reply.payload), "board": _board()}
        if self._terminal:
            self._info["max_payload"] = min(self._info["max_payload"], TERMINAL_PAYLOAD)
        self._reply(raw, Packet(request.sequence, request.kind | REPLY, b""))

    def _close(self, why: str) -> None:
        self._closed, self._asking, self._info = why, None, None
        if self._agent:
            self._agent.end()
            self._agent = None


def _board() -> str:
    """What this computer calls itself."""
    told = machine.facts()
    name = told.get("model") or f"{told.get('architecture', 'another')} computer"
    return f"EMULATED {name}" if machine.emulated() else str(name)


def _understood(payload: bytes) -> dict[str, Any]:
    """What OPEN asks, checked; Refusal where it is malformed."""
    try:
        told = json.loads(payload)
        what = {"kernels": "xnnpack", "threads": 0, "context": 0, "runtime": "", **told}
        fits = isinstance(what["facts"], dict) and what["kernels"] in KERNELS and isinstance(what["runtime"], str)
        fits &= all(type(what[key]) is int and 0 <= what[key] < 1 << 24 for key in ("threads", "context"))
        places.model_file(what["file_sha256"])
    except (KeyError, TypeError, ValueError, RecursionError):
        fits = False
    if not fits:
        raise Refusal("OPEN is malformed")
    return what


def _cut(stretch: bytes) -> bytes:
    """Of an answer that may be any part of the whole, a short part."""
    reply = unpack(stretch)
    if reply is None or not reply.kind & REPLY:
        return END + stretch + END
    return END + pack(Packet(reply.sequence, reply.kind, reply.payload[:TERMINAL_ANSWER]))


def _read(descriptor: int) -> bytes | None:
    """What is there; None at the end."""
    try:
        return os.read(descriptor, 1 << 16) or None
    except BlockingIOError:
        return b""
    except OSError:  # EIO: a terminal hung up
        return None


def _write(descriptor: int, data: bytearray) -> bool:
    """Takes from the front of data what goes out now; False where nobody reads any more."""
    try:
        del data[: os.write(descriptor, memoryview(data)[: 1 << 16])]
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def main() -> int:
    """Serves on stdin and stdout until they end."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end)
    terminal = os.isatty(0)
    with console.raw(0) if terminal else contextlib.nullcontext():
        Keeper(0, 1, terminal).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
