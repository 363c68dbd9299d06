"""A hash over plain data: the same however the data lies in a file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools import mapped


@dataclass(frozen=True, eq=False)
class Nibbles:
    """4-bit integers as the file has them: two to a byte, the lower half first, the last one's other half unused."""

    buffer: NDArray[np.uint8]
    shape: tuple[int, ...]

    def unpacked(self) -> NDArray[np.int8]:
        pairs = np.stack([self.buffer << 4, self.buffer & 0xF0], axis=1).reshape(-1)
        values: NDArray[np.int8] = (pairs.view(np.int8) >> 4)[: math.prod(self.shape)].reshape(self.shape)
        values.flags.writeable = False
        return values


def digest(about: bytes, content: Any, parts: tuple[type, ...] = ()) -> str:
    """The SHA-256 of content in hex, after about.

    parts: dataclasses that are in it as their hashes, each of which is made once however often the object comes.
    """
    whole = hashlib.sha256(about)
    _Feed(parts).feed(whole.update, content)
    return whole.hexdigest()


def record_digest(data: Mapping[str, Any]) -> str:
    """The SHA-256 that a record carries: over its canonical JSON without the key `sha256`."""
    rest = {key: value for key, value in data.items() if key != "sha256"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


class _Feed:
    def __init__(self, parts: tuple[type, ...]) -> None:
        self.parts = parts
        self.known: dict[int, bytes] = {}

    def feed(self, update: Callable[[bytes | memoryview], None], value: Any) -> None:
        """Feeds value to a hash, each part after its kind and size, so that no two contents feed the same bytes."""
        if isinstance(value, Mapping):
            update(b"{%d" % len(value))
            for key in sorted(value):
                self.feed(update, key)
                self.feed(update, value[key])
        elif isinstance(value, tuple):
            update(b"(%d" % len(value))
            for item in value:
                self.feed(update, item)
        elif isinstance(value, Nibbles):
            self.feed(update, value.unpacked())
            mapped.forget(value.buffer)
        elif isinstance(value, np.ndarray):
            update(f"a{value.dtype.str}{list(value.shape)}".encode())
            update(np.ascontiguousarray(value).data)
            mapped.forget(value)
        elif isinstance(value, bytes):
            update(b"b%d:" % len(value) + value)
        elif isinstance(value, str):
            encoded = value.encode()
            update(b"s%d:" % len(encoded) + encoded)
        elif value is None or isinstance(value, bool | int | float):
            update(f"{type(value).__name__}:{value!r};".encode())
        elif isinstance(value, self.parts):
            if id(value) not in self.known:
                part = hashlib.sha256(type(value).__name__.encode())
                self._fields(part.update, value)
                self.known[id(value)] = part.digest()
            update(self.known[id(value)])
        else:
            self._fields(update, value)

    def _fields(self, update: Callable[[bytes | memoryview], None], value: Any) -> None:
        for item in fields(value):
            if item.name != "buffer":  # where the bytes lie is layout, not content
                self.feed(update, getattr(value, item.name))
