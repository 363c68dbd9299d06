"""What a device says of itself: the answer to HELLO, of which nothing is trusted before it is checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firmware_tools.errors import LinkError
from firmware_tools.transports import clean

HEX_64 = re.compile(r"[0-9a-f]{64}")
NOT_EDGE = "is it flashed with an image of `edge build`? is it the right port? does another program use it?"


@dataclass(frozen=True)
class Info:
    """What a device says of itself and its model, checked. Sizes are None where the device does not know them."""

    board: str
    emulated: bool
    model: str  # model.sha256
    name: str
    vocab_size: int
    context: int
    layers: int
    bos_id: int | None
    stop_ids: tuple[int, ...]
    arena_bytes: int | None
    kv_cache_bytes: int | None
    weight_bytes: int | None
    vocabulary_bytes: int | None
    stack_bytes: int | None
    can_encode: bool
    ticks_hz: int
    max_payload: int
    raw: Mapping[str, Any]


def read_info(where: str, answer: bytes) -> Info:
    """Checks the answer to HELLO: types, ranges, and no unprintable character; LinkError says what is wrong."""
    try:
        raw = json.loads(answer)
        if not isinstance(raw, dict):
            raise ValueError("not a JSON object")
        return _checked(raw)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise LinkError(f"{where} describes itself wrongly: {clean(str(error))}", NOT_EDGE) from None


def _checked(raw: Mapping[str, Any]) -> Info:
    def whole(key: str, most: int, least: int = 0) -> int:
        value = raw.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"{key} is not a number from {least} to {most}")
        return value

    def size(key: str) -> int | None:
        return None if raw.get(key) is None else whole(key, 1 << 48)

    def text(key: str) -> str:
        value = raw.get(key)
        if not isinstance(value, str):
            raise ValueError(f"{key} is not text")
        return clean(value)

    def truth(key: str) -> bool:
        value = raw.get(key)
        if not isinstance(value, bool):
            raise ValueError(f"{key} is neither true nor false")
        return value

    vocab_size = whole("vocab_size", 1 << 24, 1)
    stop_ids = raw.get("stop_ids")
    if not isinstance(stop_ids, list) or not all(type(id) is int and 0 <= id < vocab_size for id in stop_ids):
        raise ValueError("stop_ids is not a list of ids")
    if not HEX_64.fullmatch(text("model")):
        raise ValueError("model is not a SHA-256")
    return Info(
        board=text("board"),
        emulated=truth("emulated"),
        model=text("model"),
        name=text("name"),
        vocab_size=vocab_size,
        context=whole("context", 1 << 24, 1),
        layers=whole("layers", 1 << 16),
        bos_id=None if raw.get("bos_id") is None else whole("bos_id", vocab_size - 1),
        stop_ids=tuple(stop_ids),
        arena_bytes=size("arena_bytes"),
        kv_cache_bytes=size("kv_cache_bytes"),
        weight_bytes=size("weight_bytes"),
        vocabulary_bytes=size("vocabulary_bytes"),
        stack_bytes=size("stack_bytes"),
        can_encode=truth("can_encode"),
        ticks_hz=whole("ticks_hz", 1 << 40, 1),
        max_payload=whole("max_payload", 1 << 20, 20),
        raw=raw,
    )
