"""What a device says of itself: the answer to HELLO, of which nothing is trusted before it is checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any

from firmware_tools.errors import LinkError
from firmware_tools.transports import clean

HEX_64 = re.compile(r"[0-9a-f]{64}")
NOT_EDGE = "is it flashed with an image of `edge build`? is it the right port? does another program use it?"


KINDS = ("decoder", "plain")
DTYPES = ("float32", "int8", "uint8", "int16", "int32", "int64", "bool")
MOST_BORDERS = 1024


@dataclass(frozen=True)
class BorderInfo:
    """An input or output of a plain model: real = scale * (stored - zero_point) where scale is not None."""

    dtype: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int


@dataclass(frozen=True)
class Info:
    """What a device says of itself and its model, checked. Sizes are None where the device does not know them.

    kind: "decoder", a language model; or "plain", which has no tokens: vocab_size, context and layers are 0 then, and
    inputs and outputs are told unless they are too many for one answer. image: `Image.identity` of what was built for a
    board; trouble: what of its hardware did not start, so that it runs slower than it should, "" for nothing; acts: a
    complete answer does something there, on request; weights_in: where its kernels read weights, `flash` or `ram`.
    """

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
    kind: str = "decoder"
    image: str | None = None
    trouble: str = ""
    weights_in: str | None = None
    acts: bool = False
    inputs: tuple[BorderInfo, ...] | None = None
    outputs: tuple[BorderInfo, ...] | None = None


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

    def hash(key: str) -> str | None:
        if raw.get(key) is not None and not HEX_64.fullmatch(text(key)):
            raise ValueError(f"{key} is not a SHA-256")
        return raw.get(key)

    def truth(key: str) -> bool:
        value = raw.get(key)
        if not isinstance(value, bool):
            raise ValueError(f"{key} is neither true nor false")
        return value

    kind = raw.get("kind", "decoder")  # the first devices had no other
    if kind not in KINDS:
        raise ValueError("its model is of a kind that this edge does not know")
    if kind == "plain":
        raw = {**raw, "vocab_size": 1, "context": 1, "layers": 0, "bos_id": None, "stop_ids": []}
    vocab_size = whole("vocab_size", 1 << 24, 1)
    stop_ids = raw.get("stop_ids")
    if not isinstance(stop_ids, list) or not all(type(id) is int and 0 <= id < vocab_size for id in stop_ids):
        raise ValueError("stop_ids is not a list of ids")
    model = hash("model")
    if model is None:
        raise ValueError("model is not a SHA-256")
    return Info(
        board=text("board"),
        emulated=truth("emulated"),
        model=model,
        name=text("name"),
        vocab_size=vocab_size if kind == "decoder" else 0,
        context=whole("context", 1 << 24, 1) if kind == "decoder" else 0,
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
        kind=kind,
        image=hash("image"),
        trouble=text("trouble") if raw.get("trouble") else "",
        weights_in=_weights_in(raw),
        acts=truth("acts") if raw.get("acts") is not None else False,
        inputs=_borders(raw, "inputs") if kind == "plain" else None,
        outputs=_borders(raw, "outputs") if kind == "plain" else None,
    )


def _weights_in(raw: Mapping[str, Any]) -> str | None:
    told = raw.get("weights_in") or None
    if told not in (None, "flash", "ram"):
        raise ValueError("weights_in is neither flash nor ram")
    return told


def _borders(raw: Mapping[str, Any], key: str) -> tuple[BorderInfo, ...] | None:
    told = raw.get(key)
    if told is None:
        return None
    if not isinstance(told, list) or len(told) > MOST_BORDERS:
        raise ValueError(f"{key} is not a list of tensors")
    return tuple(_border(border, key) for border in told)


def _border(told: Any, key: str) -> BorderInfo:
    if not isinstance(told, dict) or told.get("dtype") not in DTYPES:
        raise ValueError(f"{key} has a tensor of an unknown type")
    shape, scale, zero_point = told.get("shape"), told.get("scale"), told.get("zero_point")
    if not isinstance(shape, list) or not all(type(size) is int and 0 < size < 1 << 31 for size in shape):
        raise ValueError(f"{key} has a tensor of no shape")
    if type(scale) not in (float, int, NoneType) or scale is not None and not 0 < scale < 1e38:
        raise ValueError(f"{key} has a tensor of an impossible scale")
    if type(zero_point) is not int or abs(zero_point) >= 1 << 31:
        raise ValueError(f"{key} has a tensor of an impossible zero point")
    return BorderInfo(told["dtype"], tuple(shape), None if scale is None else float(scale), zero_point)
