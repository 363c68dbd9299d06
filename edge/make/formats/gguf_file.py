"""Reads the container GGUF, versions 2 and 3, little-endian: key-value pairs, then where each tensor lies.

https://github.com/ggml-org/ggml, docs/gguf.md. The file is hostile until checked: every count, length and offset is
held against what is left of the file before anything is read by it. The head is read here and not by the package
`gguf`, whose reader believes the counts of a file and makes an array of every string of a vocabulary; the quantized
types are that package's.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import BadFile, MissingTool

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MOST_RANK = 4
LONGEST_NAME = 1 << 10
SMALLEST_PAIR, SMALLEST_TENSOR = 13, 25  # bytes: what a pair, and a tensor's entry, take at least
CHUNK = 1 << 20  # weights dequantized at once
HINT = "copy or download it again"


@dataclass(frozen=True)
class Stored:
    """One tensor of the file; shape has the columns last, offset is from the beginning of the file."""

    shape: tuple[int, ...]
    type: int
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class GgufFile:
    """The head of a file: values are str, int, float, bool, and lists or arrays of these."""

    path: Path
    size_bytes: int
    values: Mapping[str, Any]
    tensors: Mapping[str, Stored]

    def weight(self, name: str) -> NDArray[np.float32]:
        """A tensor in float32, read from the file; BadFile where that has changed."""
        stored = self.tensors[name]
        rows, columns = math.prod(stored.shape[:-1]), stored.shape[-1]
        result = np.empty((rows, columns), np.float32)
        at = 0
        for raw in self._raw(stored, max(1, CHUNK // columns)):
            result[at : (at := at + len(raw))] = _dequantize(raw, stored.type)
        return result.reshape(stored.shape)

    def raw(self, name: str) -> NDArray[np.uint8]:
        """A matrix as it is stored, uint8 [rows, bytes]; BadFile where the file has changed."""
        stored = self.tensors[name]
        return np.concatenate(list(self._raw(stored, stored.shape[0])))

    def _raw(self, stored: Stored, step: int) -> Iterator[NDArray[np.uint8]]:
        """Rows of a tensor, step at a time."""
        rows = math.prod(stored.shape[:-1])
        row_bytes = stored.size_bytes // rows
        try:
            with self.path.open("rb") as file:
                file.seek(stored.offset)
                for start in range(0, rows, step):
                    count = min(step, rows - start)
                    raw = np.frombuffer(file.read(count * row_bytes), np.uint8)
                    if raw.size != count * row_bytes:
                        raise BadFile(f"{self.path} changed while it was read", "try again")
                    yield raw.reshape(count, row_bytes)
        except OSError as error:
            raise BadFile(f"cannot read {self.path}: {error.strerror}", HINT) from error


def read(path: Path) -> GgufFile:
    """The head of a file; BadFile where it is not GGUF, is cut off, or says what cannot be."""
    try:
        size_bytes = path.stat().st_size
        with path.open("rb", buffering=1 << 20) as file:
            return _Head(path, file, size_bytes).read()
    except OSError as error:
        raise BadFile(f"cannot read {path}: {error.strerror}", HINT) from error


class _Head:
    """Reads from the front to the back, never past the end."""

    def __init__(self, path: Path, file: BinaryIO, size_bytes: int) -> None:
        self.path, self.file, self.size_bytes = path, file, size_bytes
        self.left = size_bytes

    def read(self) -> GgufFile:
        if self.take(min(4, self.left)) != MAGIC:
            raise BadFile(f"{self.path} is not a GGUF file", "give a .gguf")
        version = self.number("I")
        if version not in VERSIONS:
            what = "is big-endian" if version & 0xFFFF == 0 else f"has version {version}"
            raise BadFile(f"{self.path} {what}, what is read is version 2 or 3, little-endian", "convert it again")
        tensors, pairs = self.number("Q"), self.number("Q")
        self.check_count(pairs, SMALLEST_PAIR, "key-value pairs")
        values: dict[str, Any] = {}
        for _ in range(pairs):
            key = self.name("key")
            if key in values:
                raise self.bad(f"has the key {key[:60]!a} twice")
            values[key] = self.value(self.number("I"), key)
        self.check_count(tensors, SMALLEST_TENSOR, "tensors")
        entries = [self.entry() for _ in range(tensors)]
        alignment = values.get("general.alignment", 32)
        if type(alignment) is not int or not 8 <= alignment <= 1 << 16 or alignment & (alignment - 1):
            raise self.bad("has an alignment that is no power of two from 8 on")
        begin = -(-(self.size_bytes - self.left) // alignment) * alignment
        return GgufFile(self.path, self.size_bytes, values, self.placed(entries, begin, alignment))

    def placed(
        self, entries: list[tuple[str, tuple[int, ...], int, int]], begin: int, alignment: int
    ) -> dict[str, Stored]:
        """The tensors, each known to lie in the file."""
        tensors: dict[str, Stored] = {}
        for name, shape, kind, offset in entries:
            block, block_bytes = _block(kind, f"the tensor {name[:60]!a} of {self.path}")
            size_bytes = math.prod(shape) // block * block_bytes
            if name in tensors:
                raise self.bad(f"has the tensor {name[:60]!a} twice")
            if shape[-1] % block or offset % alignment:
                raise self.bad(f"has a tensor {name[:60]!a} that is not made of whole blocks, or not aligned")
            if begin + offset + size_bytes > self.size_bytes:
                raise BadFile(
                    f"{self.path} is cut off: {self.size_bytes} bytes, its tensor {name[:60]!a} ends at byte "
                    f"{begin + offset + size_bytes}",
                    HINT,
                )
            tensors[name] = Stored(shape, kind, begin + offset, size_bytes)
        return tensors

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """(name, shape, type, offset among the tensors' data) of one tensor; the file has the columns first."""
        name = self.name("tensor")
        rank = self.number("I")
        if not 1 <= rank <= MOST_RANK:
            raise self.bad(f"has a tensor {name[:60]!a} of {rank} dimensions")
        shape = struct.unpack(f"<{rank}Q", self.take(8 * rank))[::-1]
        if min(shape) < 1 or math.prod(shape) > self.size_bytes * 256:  # no type has so few bits
            raise self.bad(f"has a tensor {name[:60]!a} of {' x '.join(map(str, shape))}, more than it can hold")
        return name, shape, self.number("I"), self.number("Q")

    def value(self, kind: int, key: str) -> Any:
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.string(key)
        if kind != ARRAY:
            raise self.bad(f"has a value of the unknown type {kind} under {key[:60]!a}")
        kind, count = self.number("I"), self.number("Q")
        if kind in SCALARS:
            dtype = np.dtype(f"<{SCALARS[kind]}") if kind != 7 else np.dtype(np.bool_)
            self.check_count(count, dtype.itemsize, "values of an array")
            return np.frombuffer(self.take(count * dtype.itemsize), dtype)
        if kind != STRING:
            raise self.bad(f"has an array of the type {kind} under {key[:60]!a}")
        self.check_count(count, 8, "strings of an array")
        return [self.string(key) for _ in range(count)]

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def name(self, what: str) -> str:
        name = self.string(what)
        if not 0 < len(name) <= LONGEST_NAME:
            raise self.bad(f"has a {what} whose name has {len(name)} characters")
        return name

    def string(self, what: str) -> str:
        raw = self.take(int.from_bytes(self.take(8), "little"))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.bad(f"has a string that is not UTF-8 under {what[:60]!a}") from None

    def take(self, count: int) -> bytes:
        data = b"" if count > self.left else self.file.read(count)
        if len(data) != count:
            raise BadFile(f"{self.path} is cut off: {self.size_bytes} bytes end within its head", HINT)
        self.left -= count
        return data

    def check_count(self, count: int, least_bytes: int, what: str) -> None:
        if count * least_bytes > self.left:
            raise BadFile(f"{self.path} is cut off: it announces {count} {what} in {self.left} bytes", HINT)

    def bad(self, what: str) -> BadFile:
        return BadFile(f"{self.path} is not a sound GGUF file: it {what}", HINT)


# ------------------------------------------------------------------------------------------- types of the package gguf


def type_name(kind: int) -> str:
    """The name of a tensor's type, as in Q4_1."""
    return str(_gguf().GGMLQuantizationType(kind).name)


def _block(kind: int, what: str) -> tuple[int, int]:
    """Weights and bytes of a block of a type; BadFile where the type cannot be read."""
    gguf = _gguf()
    hint = "quantize it to a type of llama.cpp that this edge reads, such as Q8_0"
    try:
        known = gguf.GGMLQuantizationType(kind)
        block, block_bytes = gguf.GGML_QUANT_SIZES[known]
        _dequantize(np.zeros((1, block_bytes), np.uint8), kind)
    except (ValueError, KeyError):
        raise BadFile(f"{what} has the unknown type {kind}", hint) from None
    except NotImplementedError:
        raise BadFile(f"{what} has the type {known.name}, which is not read", hint) from None
    return int(block), int(block_bytes)


def _dequantize(raw: NDArray[np.uint8], kind: int) -> NDArray[np.float32]:
    gguf = _gguf()
    with np.errstate(all="ignore"):  # scales of a damaged file; what is not finite is found by whoever converts
        result: NDArray[np.float32] = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(kind))
    return result


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise MissingTool("reading GGUF needs the package gguf", "pip install 'edge-tinyml[gguf]'") from error
    return gguf
