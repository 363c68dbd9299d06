"""The firmware's runtime as a program of this machine, under ASan and UBSan, with the model of host_model.c.

`Device` starts it; `Twin` computes in Python what the model computes, and counts no steps: the firmware's clock does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from firmware_tools import vocabulary
from firmware_tools.build import RUNTIME, build_host_program
from firmware_tools.link import Clock, Link, PipeTransport, Transport

HERE = Path(__file__).resolve().parent
VOCAB_SIZE, CONTEXT, BOS, STOP = 300, 128, 1, 2
BEFORE, AFTER = b"Q:", b"\nA:"
MODEL = "00112233445566778899aabbccddeeff" * 2
TICKS_A_STEP = 1000
CLOCK = Clock("instructions", 1.0)
FLAGS = ("single_word", "lstrip", "rstrip")
SPECIAL = ("<unk>", "<s>", "</s>")
LETTERS = " \nabcdefghijklmnopqrstuvwxyz?:QA"
MERGES = ("t h", "th e", "i n", "e r", "a n", "o n", "r e")


def tokenizer_json(byte_fallback: bool = True) -> bytes:
    """BPE over 256 byte tokens, some letters and a few merges: 300 tokens in all."""
    strings = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS]
    strings += [merge.replace(" ", "") for merge in MERGES]
    strings += [f"unused{i}" for i in range(VOCAB_SIZE - len(strings))]
    return json.dumps(
        {
            "added_tokens": [
                {"id": id, "content": text, "special": True, "normalized": False, **dict.fromkeys(FLAGS, False)}
                for id, text in enumerate(SPECIAL)
            ],
            "model": {
                "type": "BPE",
                "vocab": {string: id for id, string in enumerate(strings)},
                "merges": list(MERGES),
                "byte_fallback": byte_fallback,
                "unk_token": "<unk>",
            },
            "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        }
    ).encode()


def pieces() -> tuple[bytes, ...]:
    """The bytes of each id."""
    return vocabulary.read(tokenizer_json()).pieces


def encode(text: bytes) -> list[int]:
    """The ids of text as Hugging Face's tokenizers have them; for text that is UTF-8."""
    ids: list[int] = tokenizers.Tokenizer.from_str(tokenizer_json().decode()).encode(text.decode()).ids
    return ids


def prompt_ids(text: bytes) -> list[int]:
    """BOS, and the text in its template."""
    return [BOS, *encode(BEFORE + text + AFTER)]


def can_compile() -> bool:
    return os.name == "posix" and bool(shutil.which("clang") or shutil.which("gcc"))


NO_ACTIONS = "extern const int edge_acts;\nconst int edge_acts = 0;\n"


def compile_device(folder: Path, *, byte_fallback: bool = True, actions: str = NO_ACTIONS) -> Path:
    """Builds the runtime with the host's port and model, and what it does about answers in C; returns the program."""
    table = folder / "vocabulary.c"
    table.write_text(vocabulary.lower(vocabulary.read(tokenizer_json(byte_fallback))), encoding="utf-8")
    runtime = [path for path in sorted(RUNTIME.glob("*.c")) if path.name != "startup.c"]
    acts = folder / "actions.c"
    acts.write_text(actions, encoding="utf-8")
    sources = [*runtime, HERE / "host_port.c", HERE / "host_model.c", table, acts]
    return build_host_program(sources, [RUNTIME], folder / "device")


class Device:
    """A running firmware: its pipes, a BREAK, and a Link to it. time_scale: how much faster its time-outs run."""

    def __init__(self, program: Path, time_scale: int = 1, **pipes: int) -> None:
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
        environment = {**os.environ, "EDGE_TIME_SCALE": str(time_scale)}
        self.process = subprocess.Popen([str(program)], env=environment, **streams)  # type: ignore[call-overload]
        self.line: PipeTransport | None = None

    def transport(self) -> PipeTransport:
        """The one line to the device."""
        self.line = self.line or PipeTransport(self.process, "device")
        return self.line

    def link(self, timeout_s: float = 30.0) -> Link:
        return Link(self.transport(), CLOCK, timeout_s)

    def send_break(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.line:
            PipeTransport.close(self.line)
        elif self.process.stderr:
            self.process.stderr.close()


def _mix(x: int) -> int:
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ x >> shift) * factor) & 0xFFFFFFFF
    return x ^ x >> 16


class Twin:
    """host_model.c in Python."""

    def __init__(self) -> None:
        self.states: list[int] = []

    def compute(self, ids: list[int], position: int) -> None:
        del self.states[position:]
        for id in ids:
            before = self.states[-1] if self.states else 0
            self.states.append(_mix((before + id * 0x9E3779B9 + 1) & 0xFFFFFFFF))

    def logits(self) -> NDArray[np.float32]:
        whole = [_mix(self.states[-1] ^ i) >> 8 for i in range(VOCAB_SIZE)]
        return np.array(whole, np.float32) / np.float32(1048576)

    def greedy(self, count: int) -> list[int]:
        """Ids as GENERATE gives them; computes all but a stop token."""
        ids: list[int] = []
        while len(ids) < count and len(self.states) < CONTEXT:
            ids.append(int(np.argmax(self.logits())))
            if ids[-1] == STOP:
                break
            self.compute(ids[-1:], len(self.states))
        return ids


class Terminal:
    """What a person or another program at the line sees: bytes in, bytes out, no frames."""

    def __init__(self, line: Transport) -> None:
        self.line = line
        self.seen = b""

    def send(self, data: bytes) -> None:
        self.line.write(data)

    def read_until(self, end: bytes, timeout_s: float = 20.0) -> bytes:
        """All that comes up to and with end; fails with what came where it does not."""
        deadline = time.monotonic() + timeout_s
        while end not in self.seen:
            data = self.line.read(0.5)
            self.seen += data
            assert data or time.monotonic() < deadline, f"{end!r} did not come, but {self.seen!r}"
        before, _, self.seen = self.seen.partition(end)
        return before + end

    def ask(self, command: bytes) -> list[str]:
        """A command with its %; the lines of the answer, m-ready left out."""
        self.send(command)
        return self.read_until(b"m-ready\r\n").decode().split("\r\n")[:-2]

    def quiet(self) -> bytes:
        """What comes before a tenth of a second of silence; for asserting that nothing does."""
        while data := self.line.read(0.1):
            self.seen += data
        seen, self.seen = self.seen, b""
        return seen


@contextmanager
def powered_on(program: Path) -> Iterator[Terminal]:
    """A device past its banner, with a terminal at its line; ended afterwards."""
    device = Device(program)
    terminal = Terminal(device.transport())
    terminal.read_until(b"m-ready\r\n")
    yield terminal
    device.end()
