"""stdout for frames alone, and stderr for what people should read: LiteRT prints to both as it likes."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from typing import BinaryIO

MOST_BYTES = 1 << 16  # of what libraries print that is looked at
# lines for developers: those of LiteRT and of absl, and how LiteRT goes on after one
CHATTER = re.compile(rb"(INFO|WARNING|VERBOSE|DEBUG): |[IW]\d{4} |\xe2\x94\x94|\s*$")
ERROR = re.compile(rb"(ERROR: |[EF]\d{4} )(.*)")


def take_stdout() -> BinaryIO:
    """stdout for frames alone; file descriptor 1 becomes stderr for whoever prints."""
    sys.stdout.flush()
    frames = os.dup(1)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        for descriptor in (0, frames):
            msvcrt.setmode(descriptor, os.O_BINARY)
    return os.fdopen(frames, "wb")


class HeldBack:
    """What is printed to stderr while a model loads: kept, so that chatter is never the last line of an error."""

    def __init__(self) -> None:
        self._stderr = os.dup(2)
        self._file = _memory()
        self.hold()

    def hold(self) -> None:
        """Holds back what is printed from now on."""
        sys.stderr.flush()
        os.dup2(self._file.fileno(), 2)

    def errors(self) -> str:
        """What was called an error, in one line; "" where nothing was."""
        lines = (ERROR.match(line) for line in self._lines())
        return " ".join(match[2].decode(errors="replace").strip() for match in lines if match)

    def say(self, text: str) -> None:
        """One line on the true stderr."""
        os.write(self._stderr, text.encode(errors="backslashreplace") + b"\n")

    def release(self) -> None:
        """stderr as it was before, and on it what was printed, without chatter."""
        sys.stderr.flush()
        os.dup2(self._stderr, 2)
        for line in self._lines():
            if not CHATTER.match(line):
                os.write(2, line + b"\n")

    def _lines(self) -> list[bytes]:
        with contextlib.suppress(OSError):
            self._file.seek(0)
            lines = (self._file.read(MOST_BYTES) or b"").splitlines()
            self._file.seek(0, os.SEEK_END)  # which is where descriptor 2 writes, too
            return lines
        return []


def _memory() -> BinaryIO:
    """A file that has no name; on Linux in memory, as a Raspberry Pi's card may be read-only."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("stderr"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)
