"""Whether a file is the one that the host has read: hashed beside whatever else a start takes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

BLOCK_BYTES = 1 << 20


class CheckedFile:
    """A file whose SHA-256 is being computed: read block by block, since what is mapped counts as memory."""

    def __init__(self, path: Path, sha256: str) -> None:
        self.path, self.sha256 = path, sha256
        self._found: tuple[str, os.stat_result] | None = None
        self._thread = threading.Thread(target=self._hash, daemon=True)
        self._thread.start()

    def _hash(self) -> None:
        buffer, digest = bytearray(BLOCK_BYTES), hashlib.sha256()
        with contextlib.suppress(OSError), self.path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(memoryview(buffer)[:count])
            self._found = digest.hexdigest(), os.fstat(file.fileno())

    def expect(self) -> None:
        """ValueError where it is another file, or where another one took its place since it was hashed."""
        self._thread.join()
        if self._found is None:
            raise ValueError("the file cannot be read")
        digest, then = self._found
        now = self.path.stat()
        if digest != self.sha256 or _identity(then) != _identity(now):
            raise ValueError("the file is not the one the host has read")


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
