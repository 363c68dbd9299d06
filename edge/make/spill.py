"""Arrays that wait in a file: what is quantized while others still are, so that memory holds a few of them and not all.

A kept array is a numpy array over a mapped part of the file: whoever computes with it reads it as any other. Its digest
was taken before it went, and `parts` reads it back without mapping, so that a model file can be written from it without
a page of it staying in memory.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import UserError

Array = NDArray[Any]
PART = 1 << 22  # bytes read at once
SMALLEST = 1 << 14  # bytes; what is smaller stays in memory
SEGMENT = 1 << 27  # bytes mapped at once: a mapping takes a file descriptor, and systems give few


class Kept(np.ndarray[Any, np.dtype[Any]]):
    """An array in a spill. Views of it, and what is computed from it, are ordinary arrays without spill and digest."""

    spill: Spill | None = None
    digest: bytes | None = None
    at: int = 0

    def parts(self) -> Iterator[bytes]:
        """The bytes, one part after the other."""
        assert self.spill is not None
        return self.spill.read(self.at, self.nbytes)

    def derived(self, name: str, make: Callable[[Array], Array]) -> Array:
        """What make gives for this array, kept beside it: made once for all that ask for it by this name."""
        assert self.spill is not None and self.digest is not None
        key = (self.digest, name)
        if key not in self.spill.derived:
            self.spill.derived[key] = self.spill.keep(make(np.asarray(self)))
            self.spill.forget()
        return self.spill.derived[key]


class Spill:
    """A file of arrays beside path, gone when the `with` ends; on POSIX it has no name, so nothing can be left over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.derived: dict[tuple[bytes, str], Array] = {}
        self.size_bytes = 0
        self.segments: list[tuple[int, mmap.mmap]] = []  # where each begins in the file; the last one is being filled

    def __enter__(self) -> Spill:
        try:
            self.file = tempfile.TemporaryFile(dir=self.path.parent, prefix=f".{self.path.name}.")
        except OSError as error:
            raise self._refusal(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()

    def keep(self, array: Array) -> Array:
        """The same array, in the file where it is large."""
        if array.nbytes < SMALLEST:
            return array
        array = np.ascontiguousarray(array)
        try:
            begin, segment = self._segment(array.nbytes)
            at = self.size_bytes
            self.file.seek(at)
            self.file.write(array.reshape(-1).view(np.uint8).data)
            self.file.flush()
        except OSError as error:
            raise self._refusal(error) from error
        self.size_bytes = at + -(-array.nbytes // 64) * 64
        kept = Kept(array.shape, array.dtype, segment, at - begin)
        kept.spill, kept.at, kept.digest = self, at, digest(array)
        return kept

    def read(self, at: int, size_bytes: int) -> Iterator[bytes]:
        """A stretch of the file in parts."""
        for start in range(at, at + size_bytes, PART):
            self.file.seek(start)
            yield self.file.read(min(PART, at + size_bytes - start))

    def forget(self) -> None:
        """Lets go of the pages that reading has brought into memory, where the system has a word for that."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for _, segment in self.segments:
                segment.madvise(mmap.MADV_DONTNEED)

    def _segment(self, size_bytes: int) -> tuple[int, mmap.mmap]:
        """The segment that has room for so many more bytes, and where it begins."""
        if not self.segments or self.size_bytes + size_bytes > self.segments[-1][0] + len(self.segments[-1][1]):
            begin = sum(len(segment) for _, segment in self.segments)
            length = -(-size_bytes // SEGMENT) * SEGMENT
            self.file.truncate(begin + length)
            self.segments.append((begin, mmap.mmap(self.file.fileno(), length, access=mmap.ACCESS_READ, offset=begin)))
            self.size_bytes = begin
        return self.segments[-1]

    def _refusal(self, error: OSError) -> UserError:
        return UserError(f"cannot write {self.path}: {error.strerror}", "choose another place with -o")


def is_kept(array: Array) -> TypeGuard[Kept]:
    """Whether an array, and not only what it was made from, lies in a spill."""
    return isinstance(array, Kept) and array.digest is not None


def digest(array: Array) -> bytes:
    """Hash of an array's bytes."""
    if is_kept(array) and array.digest is not None:
        return array.digest
    return hashlib.sha256(np.ascontiguousarray(array).data).digest()


def parts(array: Array) -> Iterator[Any]:
    """An array's bytes, one part after the other."""
    if is_kept(array):
        return array.parts()
    raw = array.reshape(-1).view(np.uint8)
    return (raw[start : start + PART].data for start in range(0, raw.size, PART))
