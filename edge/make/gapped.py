"""A flatbuffer with gaps: large contents take their place in it, but not memory, and join when the file is written."""

from __future__ import annotations

import mmap
from typing import Any, BinaryIO

import flatbuffers
from numpy.typing import NDArray

from edge.make import spill
from firmware_tools.errors import UserError

LARGEST_BYTES = (1 << 31) - (1 << 20)  # of all contents; a flatbuffer's offsets have 31 bits
Array = NDArray[Any]


class Gapped:
    """A builder over memory that is large enough for everything and is there only once it is touched."""

    def __init__(self, size_bytes: int) -> None:
        self.builder = flatbuffers.Builder(0)
        self.builder.Bytes = mmap.mmap(-1, min(size_bytes, flatbuffers.Builder.MAX_BUFFER_SIZE))
        self.builder.head = len(self.builder.Bytes)
        self.gaps: list[tuple[int, Array]] = []  # where a content begins, as an offset from the end of the file

    def content(self, content: Array, alignment: int) -> int:
        """A vector of bytes that begins on an alignment; returns its offset, as the builder's methods do."""
        self.builder.StartVector(1, content.nbytes, alignment)
        self.builder.head -= content.nbytes
        self.gaps.append((self.builder.Offset(), content))
        return int(self.builder.EndVector())

    def write(self, file: BinaryIO) -> None:
        """The finished flatbuffer, from its beginning to its end."""
        built, position = memoryview(self.builder.Bytes), self.builder.head
        for offset, content in reversed(self.gaps):
            begin = len(built) - offset
            file.write(built[position:begin])
            for part in spill.parts(content):
                file.write(part)
            position = begin + content.nbytes
        file.write(built[position:])


def check_size(size_bytes: int) -> None:
    """UserError where contents of so many bytes are more than a .tflite holds."""
    if size_bytes > LARGEST_BYTES:
        raise UserError(
            f"the model would take {size_bytes:,} bytes, and a .tflite holds 2 GiB: its offsets have 31 bits",
            "quantize it to fewer bits, or take a smaller model",
        )
