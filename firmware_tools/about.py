"""What an image says of itself, near its start: JSON behind the words `edge image `, for who finds its bytes anywhere.

edge        version of the program that built it
board       the board's full name, with the options that it was built for
model       model.sha256
toolchain   name and version
inputs      SHA-256 of all that decides the image's bytes; the running firmware tells it as `image`
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from firmware_tools import uf2
from firmware_tools.errors import BadFile

MARK = b"edge image "
KEYS = frozenset({"edge", "board", "model", "toolchain", "inputs"})
MOST_BYTES = 1000
PRINTABLE, HEX_64 = re.compile(r"[ -~]{1,200}"), re.compile(r"[0-9a-f]{64}")


def text(told: Mapping[str, str]) -> bytes:
    """What an image holds; told has a value for each of the keys."""
    return MARK + json.dumps(dict(told)).encode()


def about(data: bytes) -> dict[str, str] | None:
    """What an image says of itself, from the bytes of its ELF, .bin or UF2 file or of a flash; None if they hold none.

    The bytes are from anywhere: what is returned has all keys, printable values and hashes that can be some.
    """
    if data.startswith(uf2.MAGIC_1.to_bytes(4, "little")):
        try:
            data = uf2.decode(data).content
        except BadFile:
            return None
    at = data.find(MARK)
    while at >= 0:
        told = _told(data[at + len(MARK) :][:MOST_BYTES])
        if told is not None:
            return told
        at = data.find(MARK, at + 1)
    return None


def _told(data: bytes) -> dict[str, str] | None:
    try:
        told = json.loads(data[: data.index(b"\0")])
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.keys() != KEYS:
        return None
    if not all(isinstance(value, str) and PRINTABLE.fullmatch(value) for value in told.values()):
        return None
    return told if HEX_64.fullmatch(told["model"]) and HEX_64.fullmatch(told["inputs"]) else None
