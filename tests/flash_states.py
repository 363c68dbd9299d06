"""What a flasher's result claims about a flash, held against the flash of a simulated board."""

from __future__ import annotations

import functools
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from firmware_tools import boards
from firmware_tools.boards import Board, Memory
from firmware_tools.build import Facts, Image, Sizes
from firmware_tools.flashers import Flashed, FlashError, State

START = 0x0800_0000


def board(**facts: object) -> Board:
    """A board of silicon as flashers see it."""
    flash = Memory(START, 256 * 1024)
    return replace(boards.load("virtual-m4"), **{"name": "simulated", "clock": "seconds", "flash": flash} | facts)  # type: ignore[arg-type]


def image(content: bytes, start: int = START) -> Image:
    """An image with that content, of which nothing else is true."""
    facts = Facts("simulated", "none", "none", "", "", 1, 1, False)
    return Image(facts, Sizes(*[0] * 11), b"", start, ((start, content),), {}, "")


@functools.cache
def firmware(seed: int, size: int) -> bytes:
    """Bytes that no two seeds share, with stretches as code, tables and padding have."""
    pick = random.Random(seed)
    parts: list[bytes] = [seed.to_bytes(8, "little")]
    while sum(map(len, parts)) < size:
        parts.append(pick.choice([pick.randbytes(pick.randint(1, 200)), b"\xff" * pick.randint(1, 40), bytes(20)]))
    return b"".join(parts)[:size]


@dataclass
class Told:
    """How a flash ended: with Flashed or FlashError."""

    flashed: Flashed | None
    error: FlashError | None


def outcome(action: Callable[[], Flashed]) -> Told:
    """Runs a flash; nothing but these two may come out of it."""
    try:
        return Told(action(), None)
    except FlashError as error:
        assert error.state.value in error.message
        assert error.state is State.UNTOUCHED or error.hint
        return Told(None, error)


def check(told: Told, flash: bytes, before: bytes, new: bytes, stuck: int | None = None) -> None:
    """The property: a right flash, or an error that says what is true. flash and before: as far as new reaches.

    stuck: where a byte is what it is, whatever is done to it.
    """
    right = flash == new
    if told.flashed:
        # what was not read back counts only once the running firmware has told this CRC
        assert right or not (told.flashed.read_back or zlib.crc32(flash) == zlib.crc32(new)), "a false success"
        return
    assert told.error
    state = told.error.state
    if state is State.UNTOUCHED:
        assert flash == before
    elif state is State.ERASING:
        bytes_ = enumerate(zip(flash, before, new, strict=True))
        assert all(i == stuck or is_ in (was, 0xFF, will) for i, (is_, was, will) in bytes_)
    elif state is State.ERASED:
        assert all(i == stuck or byte == 0xFF for i, byte in enumerate(flash))
    elif state is State.HALF_WRITTEN:
        assert flash != before and not right
    elif state is State.WRONG:
        assert not right
    elif state is State.VERIFIED:
        assert right
