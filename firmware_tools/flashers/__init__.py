"""Flashers: ways to bring an image into a board's flash. One stem each: `X.py` has

    NEEDS                                    what it needs in one line, for people
    flash(image, board, device, progress) -> Flashed
        Writes image to the board that is plugged in as device, and starts it. progress(what, done, total) tells of
        every step: bytes where it writes, else 0 of 0; what may be a request to the person who waits (press RESET).
        Every failure is a FlashError, Ctrl-C too, but MissingTool before anything has begun.

A device that names no port, volume or serial number is any that is plugged in; several are refused. A flasher reads
back what it wrote where its protocol can. Whoever calls it asks the running firmware afterwards, which tells the hash
of its image and the CRC of its flash (edge/run/flash.py): only then an image that was not read back is known to be
there. To add one, write the stem, name it in the `flashers` of the boards that it is for, and in the README.
"""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType, TracebackType
from typing import TypeAlias

from firmware_tools.errors import MissingTool, UserError

Progress: TypeAlias = Callable[[str, int, int], None]


class State(Enum):
    """What a board's flash can hold after a failure, as far as this end can know; the value says it to people.

    The flash is never better than the state says: ERASING may still be the old firmware, whole, or nothing at all.
    """

    UNTOUCHED = "its flash is untouched, and the firmware it had still runs after a reset"
    ERASING = "its flash may be erased, or written in part: do not rely on what it holds"
    ERASED = "its flash is erased: it holds no firmware"
    HALF_WRITTEN = "its flash is half written: it holds no firmware that can run"
    UNVERIFIED = "its flash was written, but is not verified: do not rely on it"
    WRONG = "its flash was written, and reads back wrong: do not run it"
    VERIFIED = "its flash holds the new firmware, read back and right; whether that was started is not known"


class FlashError(UserError):
    """A flash that failed. The message says why and in what state the board is, the hint how to get it back.

    interrupted: it was Ctrl-C.
    """

    def __init__(self, message: str, hint: str = "", state: State = State.UNTOUCHED, interrupted: bool = False) -> None:
        super().__init__(message, hint)
        self.state = state
        self.interrupted = interrupted


@dataclass(frozen=True)
class Flashed:
    """What a flasher did: seconds of each of its steps in order; read_back: all bytes were read again and are right."""

    steps: tuple[tuple[str, float], ...]
    read_back: bool


@dataclass
class Work:
    """A flash that goes on: `with Work(board, again) as work` makes a FlashError of whatever ends it too early.

    board: its name, for messages; again: how to get the board back where its flash is no longer untouched. The
    flasher keeps state true: it is worsened before the bytes go out that may change the flash.
    """

    board: str
    again: str
    state: State = State.UNTOUCHED
    steps: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Takes the time of a step."""
        start = time.monotonic()
        yield
        self.steps.append((name, time.monotonic() - start))

    def done(self, read_back: bool) -> Flashed:
        return Flashed(tuple(self.steps), read_back)

    def __enter__(self) -> Work:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, (UserError, OSError, KeyboardInterrupt)) and not isinstance(
            error, (MissingTool, FlashError)
        ):
            raise self.failure(error) from error

    def failure(self, error: BaseException) -> FlashError:
        """What is told of a flash that error ended."""
        interrupted = isinstance(error, KeyboardInterrupt)
        if isinstance(error, UserError):
            why, hint = error.message, error.hint
        else:
            why, hint = ("interrupted", "") if interrupted else (f"{type(error).__name__}: {error}", "")
        hints = [hint, "" if self.state is State.UNTOUCHED else self.again]
        return FlashError(
            f"{self.board} was not flashed: {why}; {self.state.value}",
            "; ".join(text for text in hints if text),
            self.state,
            interrupted,
        )


def names() -> tuple[str, ...]:
    """Every flasher's name, sorted, with `-` for the `_` of its file."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> ModuleType:
    """The module of the flasher called name; UserError where there is none."""
    if name not in names():
        raise UserError(f"no flasher is called {name!r}", f"flashers: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
