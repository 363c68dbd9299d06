"""The host's end of the link: a Transport carries bytes, a Link asks and checks the answers of whatever runs a model.

frames.py describes the packets, docs/link.md the whole protocol. A request that is not answered is repeated with its
sequence number, after WAKE: the device carries it out once, whatever was lost on the way. Nothing that a device says is
trusted: facts are checked, and control characters never reach a message.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import LinkError
from firmware_tools.frames import ACT, END, KEEP_STATE, REPLY, SEED, WAKE, Kind, Packet, pack, unpack
from firmware_tools.info import NOT_EDGE, Info, read_info
from firmware_tools.sampler import Sampler
from firmware_tools.transports import PipeTransport, SerialTransport, Transport, clean

__all__ = ["Clock", "Info", "Link", "PipeTransport", "SerialTransport", "Step", "Transport"]

SILENCE_S = 2.2  # after which a device has left frames
IDLE_S = 1.5  # from here on a request wakes it first
BOOT_S = 6.0  # an answer to the first request takes no longer: a reset by DTR, a boot loader's wait
QUICK_S = 10.0  # an answer to what needs no computing
CLOSE_S = 0.3
HELLO_TRIES = 3
LONGEST_RESEND_S = 5.0
LONGEST_STRETCH_BYTES = 1 << 17  # between two zeros; more is no packet of anybody
STEPS_A_REQUEST = 8
COMMAND_BYTES = 80


@dataclass(frozen=True)
class Clock:
    """What a device's ticks are. kind: "instructions" or "seconds"; per_tick: how many of them a tick is.

    counting False: the ticks mean nothing (an emulator that runs without counting), and a Link gives None for them.
    """

    kind: str
    per_tick: float
    counting: bool = True


@dataclass(frozen=True)
class Step:
    """One generated token. ticks is None for a stop token, which is not computed, and where nothing is counted."""

    id: int
    ticks: int | None


class _NoAnswer(LinkError):
    """Time is up; the other end is still there."""


class Link:
    """Asks a device and checks its answers. Ends with its `with` block.

    Args:
        transport: the line; the Link closes it.
        clock: what the device's ticks are. For seconds, the device's own ticks_hz replaces per_tick.
        timeout_s: how long one request that computes may take. Prompts are split so that few tokens are one request.
        resend_s: after this much silence a request is sent again; the next time after twice as much.

    Every method raises LinkError where the device is silent, gone, garbled, or refuses.
    """

    def __init__(self, transport: Transport, clock: Clock, timeout_s: float = 30.0, *, resend_s: float = 0.3) -> None:
        self.clock = clock
        self._transport = transport
        self._timeout_s = timeout_s
        self._resend_s = resend_s
        self._sequence = os.urandom(1)[0]  # so that a late answer to the program before is hardly taken for ours
        self._heard = float("-inf")
        self._mode = ""  # that we left the device in: "frames", "lines" or not known
        self._waiting = bytearray()
        self._seen = bytearray()  # since the request: what came and was no answer to it
        self._info: Info | None = None

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Sends the device back to lines mode, where it is there to hear it, and closes the transport."""
        with contextlib.suppress(LinkError):
            if self._mode == "frames":
                self._request(Kind.LINES, b"", min(CLOSE_S, self._timeout_s))
        self._transport.close()

    # --- what a user asks

    def hello(self) -> Info:
        """Wakes the device from whatever mode it is in and returns its facts; three tries, the later with BREAK."""
        boot_s = getattr(self._transport, "boot_s", min(BOOT_S, self._timeout_s))
        answer, seen = None, bytearray()
        for attempt in range(HELLO_TRIES):
            if attempt:
                self._transport.send_break()
            try:
                answer = self._request(Kind.HELLO, b"", boot_s / HELLO_TRIES)
                break
            except _NoAnswer:
                seen += self._seen
        if answer is None:
            self._seen = seen
            raise self._no_answer("", boot_s)
        self._info = read_info(self._transport.name, answer)
        if self.clock.kind == "seconds":
            counting = self.clock.counting and not self._info.emulated  # an emulated computer has no time
            self.clock = replace(self.clock, per_tick=1.0 / self._info.ticks_hz, counting=counting)
        return self._info

    @property
    def info(self) -> Info:
        """The device's facts; asks for them the first time."""
        return self._info or self.hello()

    @property
    def transport(self) -> Transport:
        """The line itself, for who tests what the device does without requests."""
        return self._transport

    def expect_model(self, sha256: str) -> None:
        """LinkError unless the device holds the model of this hash (model.sha256)."""
        if self.info.model != sha256:
            raise LinkError(
                f"{self._transport.name} holds another model: {self.info.name} ({self.info.model[:12]}), "
                f"not {sha256[:12]}",
                "flash the image that was built from this model, or name the model that the device holds",
            )

    def open(self, what: Mapping[str, Any], timeout_s: float = 120.0) -> None:
        """Has a computer load one of the models it holds, in the place of the one before; hello tells of it then.

        what: JSON of docs/link.md (`file_sha256`, `facts` and options). Boards, whose model is in the image, refuse.
        """
        self._info = None
        self._request(Kind.OPEN, json.dumps(what).encode(), timeout_s)

    def facts(self, timeout_s: float | None = None) -> dict[str, Any]:
        """What the computer at the other end tells of itself now; what it cannot tell is absent."""
        answer = self._request(Kind.FACTS, b"", timeout_s or self._timeout_s)
        try:
            told = json.loads(answer)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise self._malformed(Kind.FACTS)
        return told

    def check(self) -> tuple[int, int]:
        """What a board reads in its flash: how many bytes the image has, and their CRC-32 (zlib's)."""
        answer = self._request(Kind.CHECK, b"", self._timeout_s)
        if len(answer) != 8:
            raise self._malformed(Kind.CHECK)
        size_bytes, crc = struct.unpack("<II", answer)
        return size_bytes, crc

    def prefill(self, ids: Sequence[int], position: int = 0) -> int | None:
        """Computes ids at position and behind, and keeps the last one's logits; returns the sum of ticks.

        A long prompt goes in several requests; ids is not empty.
        """
        most = max(1, min(256, self.info.max_payload // 64))
        total = 0
        for first in range(0, len(ids), most):
            part = ids[first : first + most]
            total += self._compute(Kind.PREFILL, part, position + first)
        return total if self.clock.counting else None

    def forward(self, id: int, position: int) -> int | None:
        """One decode step on a given token; its logits are kept. Returns ticks."""
        ticks = self._compute(Kind.FORWARD, (id,), position)
        return ticks if self.clock.counting else None

    def generate(self, count: int, sampler: Sampler, seed: bool, act: bool = False) -> list[Step]:
        """Samples and computes up to count tokens after the kept logits; fewer where the device stops.

        It stops after a token of the model's stop_ids, which is the last one then, and at the end of the context.
        seed: start the sampler's random numbers anew, else they go on. act: a board acts on a complete answer.
        """
        steps: list[Step] = []
        while len(steps) < count:
            asked = min(STEPS_A_REQUEST, count - len(steps))
            flags = (SEED if seed and not steps else 0) | (ACT if act and self.info.acts else 0)
            payload = struct.pack(
                "<HHffQ", asked, flags, sampler.temperature, sampler.top_p, sampler.seed & (2**64 - 1)
            )
            answer = self._request(Kind.GENERATE, payload, self._timeout_s)
            if len(answer) % 12 or len(answer) > 12 * asked:
                raise self._malformed(Kind.GENERATE)
            new = [self._step(*pair) for pair in struct.iter_unpack("<IQ", answer)]
            steps += new
            if len(new) < asked or new[-1].id in self.info.stop_ids:
                break
        return steps

    def acted(self) -> str:
        """What a board tells that it did about the last answer; "" for nothing."""
        if not self.info.acts:
            return ""
        return clean(self._request(Kind.ACTED, b"", QUICK_S).decode(errors="replace"))

    def logits(self) -> NDArray[np.float32]:
        """The kept logits, float32 [vocab_size]."""
        data, size = b"", 4 * self.info.vocab_size
        while len(data) < size:
            answer = self._request(Kind.LOGITS, struct.pack("<I", len(data) // 4), QUICK_S)
            if not answer or len(answer) % 4 or len(data) + len(answer) > size:
                raise self._malformed(Kind.LOGITS)
            data += answer
        return np.frombuffer(data, "<f4").astype(np.float32)

    def encode(self, text: bytes) -> list[int]:
        """Ids of text by the device's own tokenizer, without BOS; for texts that fit one request."""
        if len(text) > self.info.max_payload:
            raise LinkError(f"{self._transport.name} encodes texts of at most {self.info.max_payload} bytes")
        answer = self._request(Kind.ENCODE, text, QUICK_S)
        ids = [id for (id,) in struct.iter_unpack("<I", answer)] if len(answer) % 4 == 0 else []
        if len(answer) % 4 or any(id >= self.info.vocab_size for id in ids):
            raise self._malformed(Kind.ENCODE)
        return ids

    def invoke(self, inputs: bytes | None, keep_state: bool = False) -> int | None:
        """One inference of a plain model; returns ticks.

        inputs: the bytes of all inputs as the model stores them, one after the other; None: those of the last time.
        keep_state: the model's variables go on from the inference before, else they are as at the start.
        """
        most = self.info.max_payload - 4
        for first in range(0, len(inputs or b""), most):
            part = (inputs or b"")[first : first + most]
            if self._request(Kind.INPUT, struct.pack("<I", first) + part, QUICK_S):
                raise self._malformed(Kind.INPUT)
        answer = self._request(Kind.INVOKE, struct.pack("<I", KEEP_STATE if keep_state else 0), self._timeout_s)
        if len(answer) != 8:
            raise self._malformed(Kind.INVOKE)
        return int.from_bytes(answer, "little") if self.clock.counting else None

    def output(self, index: int, size: int) -> bytes:
        """The size bytes of an output of the last inference."""
        data = b""
        while len(data) < size:
            answer = self._request(Kind.OUTPUT, struct.pack("<II", index, len(data)), QUICK_S)
            if not answer or len(data) + len(answer) > size:
                raise self._malformed(Kind.OUTPUT)
            data += answer
        return data

    def command(self, line: str, timeout_s: float = 5.0) -> list[str]:
        """Sends a command of MLPerf Tiny's protocol; returns the lines before m-ready without control characters.

        Any firmware of that protocol answers, not only edge's. line: without its %, at most 80 printable characters.
        """
        if "%" in line or not line.isascii() or not line.isprintable() or len(line) > COMMAND_BYTES:
            raise LinkError(f"not a command: {clean(line)!r}", "a command is at most 80 ASCII characters without %")
        self._enter_lines()
        self._transport.write(line.encode() + b"%")
        lines = self._lines_until_ready(timeout_s)
        if lines is None:
            raise self._no_answer(f"to the command {line!r}", timeout_s)
        return lines

    # --- how

    def _compute(self, kind: Kind, ids: Sequence[int], position: int) -> int:
        payload = struct.pack(f"<{len(ids) + 1}I", position, *ids)
        answer = self._request(kind, payload, self._timeout_s)
        if len(answer) != 8:
            raise self._malformed(kind)
        return int.from_bytes(answer, "little")

    def _step(self, id: int, ticks: int) -> Step:
        if id >= self.info.vocab_size:
            raise self._malformed(Kind.GENERATE)
        return Step(id, None if id in self.info.stop_ids or not self.clock.counting else ticks)

    def _request(self, kind: Kind, payload: bytes, timeout_s: float) -> bytes:
        """The payload of the answer. LinkError with the device's words where it refuses, _NoAnswer after timeout_s.

        A device that is silent may be computing, so repeats come ever less often; one that is garbled is asked again.
        """
        self._sequence = (self._sequence + 1) & 0xFF
        self._seen.clear()
        packet = END + pack(Packet(self._sequence, kind, payload))
        # what the line itself takes; the port's driver may hold what was written for so long
        travel_s = len(packet) / getattr(self._transport, "bytes_per_s", float("inf"))
        deadline = time.monotonic() + timeout_s + travel_s
        wake = self._mode != "frames" or time.monotonic() - self._heard > IDLE_S
        pause_s = self._resend_s + travel_s
        while True:
            self._transport.write(WAKE + packet if wake else packet)
            answer, garbled = self._await(self._sequence, kind, pause_s, deadline)
            if answer is not None:
                break
            if time.monotonic() >= deadline:
                self._mode = ""
                raise self._no_answer(f"to {kind.name}", timeout_s)
            again_s = self._resend_s + travel_s
            wake, pause_s = True, again_s if garbled else max(again_s, min(2 * pause_s, LONGEST_RESEND_S))
        self._heard = time.monotonic()
        self._mode = "" if kind == Kind.LINES else "frames"
        if answer.kind == Kind.ERROR:
            raise LinkError(f"{self._transport.name} refuses: {clean(answer.payload.decode(errors='replace'))}")
        return answer.payload

    def _await(self, sequence: int, kind: Kind, pause_s: float, deadline: float) -> tuple[Packet | None, bool]:
        """The answer to a request, None where it is time to repeat it; and whether something came that is no packet.

        Packets of another sequence are late answers, and are dropped.
        """
        now, garbled = time.monotonic(), False
        until = min(deadline, now + pause_s)
        soon = min(until, now + self._resend_s)
        latest = min(deadline, until + 2.0)  # a long answer on a slow line may still be coming
        while now < until:
            data = self._transport.read(until - now)
            now = time.monotonic()
            if data:
                until = max(until, min(latest, now + self._resend_s))
            for stretch in self._stretches(data):
                packet = unpack(stretch)
                if packet and packet.sequence == sequence and packet.kind in (kind | REPLY, Kind.ERROR):
                    return packet, False
                if not packet:
                    garbled, until = True, soon
        return None, garbled

    def _stretches(self, data: bytes) -> list[bytes]:
        """What has come between zeros; the rest waits for its zero."""
        self._seen += data[: LONGEST_STRETCH_BYTES - len(self._seen)]
        *whole, rest = (bytes(self._waiting) + data).split(END)
        self._waiting = bytearray(rest[-LONGEST_STRETCH_BYTES:])
        return [stretch for stretch in whole if stretch]

    def _enter_lines(self) -> None:
        """Into lines mode from any other. NUL comes last: the firmware of others may not survive it."""
        if self._mode == "lines":
            return
        if self._mode == "frames":
            self._request(Kind.LINES, b"", QUICK_S)
        self._seen.clear()
        self._drain()  # the banner, answers to somebody else
        # the silence of the first lets a device go whose host died in frames; the last gets one out of a chat
        for opening, pause_s in ((b"name%", SILENCE_S), (b"name%", 1.0), (END + b"%", 1.0)):
            self._transport.write(opening)
            if self._lines_until_ready(pause_s) is not None:
                self._drain()
                self._mode = "lines"
                return
            self._transport.send_break()
        raise self._no_answer("in lines", SILENCE_S + 2.0)

    def _drain(self) -> None:
        while self._transport.read(0.02):
            pass

    def _lines_until_ready(self, timeout_s: float) -> list[str] | None:
        deadline = time.monotonic() + timeout_s
        text = b""
        while (left := deadline - time.monotonic()) > 0:
            data = self._transport.read(left)
            self._seen += data
            text = (text + data)[-LONGEST_STRETCH_BYTES:]
            *lines, _ = re.split(rb"[\r\n\0]+", text)
            if b"m-ready" in lines:
                before = lines[: lines.index(b"m-ready")]
                return [clean(line.decode(errors="replace"), limit=None) for line in before if line]
        return None

    def _no_answer(self, request: str, timeout_s: float) -> _NoAnswer:
        """request: what was asked, in words; empty where it was only whether somebody is there."""
        name, count = self._transport.name, len(self._seen)
        what = f"{name} does not answer{f' {request}' if request else ''} in {timeout_s:g} s"
        if not count:
            return _NoAnswer(what, NOT_EDGE)
        if b"m-ready" in self._seen:
            hint = "it speaks MLPerf Tiny's protocol, but not edge's frames: flash an image of `edge build`"
        else:
            hint = f"{NOT_EDGE} is its speed another one?"
        return _NoAnswer(f"{what}: {count} bytes came, none of them valid", hint)

    def _malformed(self, kind: Kind) -> LinkError:
        return LinkError(f"{self._transport.name} answers {kind.name} with bytes of the wrong form", NOT_EDGE)
