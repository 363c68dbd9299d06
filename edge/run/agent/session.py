"""What answers frames in the agent's process: one answer for each request, a repeat of it from memory."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any, BinaryIO

from edge.run.agent import machine
from firmware_tools.frames import END, REPLY, Kind, Packet, pack, unpack

MAX_PAYLOAD = 1 << 16  # bytes


class Refusal(Exception):
    """A request that cannot be carried out; its text goes into the ERROR frame."""


def one_line(error: Exception) -> str:
    """The text of an error of LiteRT, which may be long and of many lines, without the places in its source."""
    text = " ".join(re.sub(r"ERROR: \[[^\]]*\]|└", " ", str(error)).split())[:500]
    if isinstance(error, MemoryError) or "Failed to allocate" in text:
        return f"memory may be short: {text}".removesuffix(": ")
    return text or "LiteRT does not say why; memory may be short"


class Session:
    """What a board keeps between requests, the last answer above all; a kind of model carries out its own requests."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        self.info = info
        self.asked, self.answered = b"", b""

    def answer(self, raw: bytes) -> bytes:
        """The answer to the bytes between two zeros, as bytes for the wire; b"" where they are not a request."""
        request = unpack(raw)
        if request is None:
            return b""
        if raw != self.asked:
            try:
                reply = Packet(request.sequence, request.kind | REPLY, self.carry_out(request))
            except Refusal as refusal:
                reply = Packet(request.sequence, Kind.ERROR, str(refusal).encode())
            except (RuntimeError, ValueError, MemoryError) as error:  # LiteRT's own
                reply = Packet(request.sequence, Kind.ERROR, f"LiteRT failed: {one_line(error)}".encode())
            self.asked, self.answered = raw, pack(reply)
        return self.answered

    def carry_out(self, request: Packet) -> bytes:
        """The payload of the answer; Refusal says why there is none."""
        size = len(request.payload)
        if request.kind == Kind.HELLO and size == 0:
            return json.dumps(self.info).encode()
        if request.kind == Kind.FACTS and size == 0:
            return json.dumps(machine.facts()).encode()
        if request.kind == Kind.LINES and size == 0:
            return b""  # there is no other mode to go to
        raise Refusal(f"no request of kind {request.kind} has {size} bytes")


def serve(session: Session, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers until requests ends; bytes that are no request are dropped."""
    longest = MAX_PAYLOAD + MAX_PAYLOAD // 254 + 16
    waiting = b""
    while data := os.read(requests.fileno(), 1 << 16):
        *whole, waiting = (waiting + data).split(END)
        for raw in whole:
            answers.write(session.answer(raw))
        answers.flush()
        if len(waiting) > longest:
            waiting = b"\1"  # too long for a request: stays garbage until the zero that ends it
