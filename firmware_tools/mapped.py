"""The bytes of a model file: read, or mapped where it is large, so that memory does not hold what is only looked at."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAPPED_BYTES = 1 << 24  # files from here on are mapped
PART = 1 << 24


class Malformed(Exception):
    """A part of the file that is out of bounds or out of range; the message says which, in one clause."""


class Bytes(bytes):
    """A file; a slice that reaches past its end is an error, not a short answer."""

    def __getitem__(self, key: Any) -> Any:
        _check(key, len(self))
        return super().__getitem__(key)


class Mapped(mmap.mmap):
    """A mapped file; as Bytes."""

    def __getitem__(self, key: Any) -> Any:
        _check(key, len(self))
        return super().__getitem__(key)


def _check(key: Any, size: int) -> None:
    if isinstance(key, slice) and not 0 <= (key.start or 0) <= (key.stop or 0) <= size:
        raise Malformed("a string reaches past the end of the file")


def load(path: Path) -> Bytes | Mapped:
    """The file; on Windows never mapped, since a mapped file can be neither replaced nor deleted there."""
    if path.stat().st_size < MAPPED_BYTES or os.name == "nt":
        return Bytes(path.read_bytes())
    with path.open("rb") as file:
        return Mapped(file.fileno(), 0, access=mmap.ACCESS_READ)


def sha256(data: Bytes | Mapped) -> str:
    """Hash of the file, in hex."""
    digest = hashlib.sha256()
    whole = np.frombuffer(data, np.uint8)
    for start in range(0, len(data), PART):
        digest.update(whole[start : start + PART].data)
        forget(whole)
    return digest.hexdigest()


def forget(array: NDArray[Any]) -> None:
    """Lets go of the pages of a mapped file that reading an array has brought into memory."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    if isinstance(base, Mapped) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
