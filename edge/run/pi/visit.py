"""One visit to another computer over one pipe: what it tells of itself, then requests to its installer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO

from edge.run.pi import probe
from firmware_tools.errors import LinkError, UserError

Progress = Callable[[str, int, int], None]
Explain = Callable[[int, bytes], UserError]  # of a process that ended: its exit code, and what it wrote to stderr

CHUNK_BYTES = 1 << 18
CHUNKS_AHEAD = 8  # sent before the first of them has been answered: a line's delay costs nothing then
MOST_NOISE_BYTES = 1 << 16  # before the probe's first word: what login scripts print
MOST_STDERR_BYTES = 1 << 14
PATIENCE_S = 10.0  # for a process to end whose pipe has ended


class Failed(Exception):
    """What the installer could not do: its reason (foreign text), and a word for its kind."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(reason)
        self.reason, self.why = reason, why


@dataclass(frozen=True)
class Parcel:
    """A file that is sent: named by its hash; kind is `model` or `runtime`."""

    kind: str
    sha256: str
    size_bytes: int
    path: Path

    @staticmethod
    def of(kind: str, path: Path) -> Parcel:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
            return Parcel(kind, digest.hexdigest(), file.tell(), path)


class Visit:
    """A process that runs `probe`, here or elsewhere; ends with its `with` block.

    Args:
        process: with pipes on stdin, stdout and stderr.
        explain: what becomes of its end.
    """

    def __init__(self, process: subprocess.Popen[bytes], explain: Explain) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process, self._explain = process, explain
        self._requests: IO[bytes] = process.stdin
        self._answers: IO[bytes] = process.stdout
        self._errors = bytearray()
        self._listener = threading.Thread(target=self._listen, args=(process.stderr,), daemon=True)
        self._listener.start()
        try:
            self._skip_noise()
            self.found = self._receive()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Visit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the other side by ending its input, and the process where that does not help."""
        for stream in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                stream.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(PATIENCE_S)

    def start_installer(self) -> None:
        """Sends the installer, which answers requests from then on."""
        folder = Path(str(probe.__file__)).parent
        names = ("places", "probe", "arriving", "installer")  # each imports those before it
        sources = [[f"edge.run.pi.{name}", (folder / f"{name}.py").read_text(encoding="utf-8")] for name in names]
        self._write({"modules": sources}, b"")

    def ask(self, what: str, **details: Any) -> Any:
        """The installer's answer to one request; Failed where it cannot carry it out."""
        self._write({"do": what, **details}, b"")
        return self._answer()

    def ask_facts(self, what: str, **details: Any) -> dict[str, Any]:
        """The same where the answer must be an object."""
        answer = self.ask(what, **details)
        if not isinstance(answer, dict):
            raise _garbled()
        return answer

    def offset_of(self, parcel: Parcel) -> int | None:
        """How many bytes of a file are there already, compared by their hash; None where it is there as a whole."""
        there = self.ask_facts("look", kind=parcel.kind, sha256=parcel.sha256)
        return None if there.get("whole") is True else _same_beginning(parcel, there)

    def send(self, parcel: Parcel, offset: int, label: str, progress: Progress) -> int:
        """Sends a file from offset on; returns how many bytes that were."""
        with parcel.path.open("rb") as file:
            file.seek(offset)
            self.ask("begin", kind=parcel.kind, sha256=parcel.sha256, offset=offset, total=parcel.size_bytes)
            self._stream(file, parcel, offset, label, progress)
        self.ask("finish")
        return parcel.size_bytes - offset

    def _stream(self, file: BinaryIO, parcel: Parcel, offset: int, label: str, progress: Progress) -> None:
        waiting: deque[int] = deque()
        done = offset
        progress(label, done, parcel.size_bytes)
        while chunk := file.read(CHUNK_BYTES):
            self._write({"do": "chunk", "bytes": len(chunk)}, chunk)
            waiting.append(len(chunk))
            if len(waiting) > CHUNKS_AHEAD:
                done += self._acknowledged(waiting)
                progress(label, done, parcel.size_bytes)
        while waiting:
            done += self._acknowledged(waiting)
            progress(label, done, parcel.size_bytes)

    def _acknowledged(self, waiting: deque[int]) -> int:
        size = waiting.popleft()
        try:
            self._answer()
        except Failed:
            for _ in waiting:  # sent already; each is refused, and answered, too
                self._receive()
            raise
        return size

    def _answer(self) -> Any:
        answer = self._receive()
        if "failed" in answer:
            raise Failed(str(answer["failed"])[:500], str(answer.get("why", "")))
        return answer.get("ok")

    def _write(self, message: dict[str, Any], data: bytes) -> None:
        text = json.dumps(message).encode()
        try:
            self._requests.write(struct.pack(">I", len(text)) + text + data)
            self._requests.flush()
        except OSError as error:  # it ended, and says why
            raise self._ended() from error

    def _receive(self) -> dict[str, Any]:
        (size,) = struct.unpack(">I", self._read(4))
        if size > probe.MOST_BYTES:
            raise _garbled()
        try:
            message = json.loads(self._read(size))
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise _garbled()
        return message

    def _read(self, size: int) -> bytes:
        data = self._answers.read(size)
        if len(data) < size:
            raise self._ended()
        return data

    def _skip_noise(self) -> None:
        seen = bytearray()
        while not seen.endswith(probe.MARK):
            seen += self._read(1)
            if len(seen) > MOST_NOISE_BYTES:
                hint = "see what `ssh HOST true` prints: nothing should"
                raise LinkError("the other computer's login scripts print without end", hint)

    def _ended(self) -> UserError:
        """Why the other side is gone."""
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._listener.join(PATIENCE_S)
        return self._explain(code, bytes(self._errors))

    def _listen(self, errors: IO[bytes]) -> None:
        """Keeps the end of what comes on stderr, so that its pipe never fills."""
        while block := errors.read1(4096) if hasattr(errors, "read1") else errors.read(4096):
            self._errors += block
            del self._errors[:-MOST_STDERR_BYTES]


def _garbled() -> LinkError:
    return LinkError("the other computer answers with something else than an answer", "try again")


def _same_beginning(parcel: Parcel, there: dict[str, Any]) -> int:
    """How many bytes need not be sent again: those that are there, if they are the first ones of the file."""
    offset = there.get("bytes")
    if not isinstance(offset, int) or not 0 <= offset <= parcel.size_bytes:
        return 0
    digest, left = hashlib.sha256(), offset
    with parcel.path.open("rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return offset if digest.hexdigest() == there.get("sha256") else 0
