"""What goes to a terminal: text made harmless, and progress where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

# besides the control characters: marks that reorder a line, so that it reads as something else (Unicode TR 36)
REORDERING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def clean(text: str) -> str:
    """text without control characters but newline and tab, and without marks that reorder a line.

    Names, cards, prompts and whatever a device says come from elsewhere; printed as they are they could move the
    cursor, set colours or rename the window. A lone surrogate (half of a broken file name) becomes U+FFFD.
    """
    return "".join(_clean_character(character) for character in text)


def _clean_character(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 0x20 or 0x7F <= code < 0xA0 or code in REORDERING:
        return ""
    return "\ufffd" if 0xD800 <= code < 0xE000 else character


def one_line(text: str) -> str:
    """clean text on one line: for names in tables."""
    return " ".join(clean(text).split())


def track(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a progress bar on stderr where that is a terminal and nothing else where it is not."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description=label, total=total, console=Console(stderr=True), transient=True)


@contextmanager
def meter(label: str) -> Iterator[Callable[[int, int, float], None]]:
    """Yields a function of (done, total, loss) that moves a bar on stderr; it does nothing where nobody watches."""
    if not sys.stderr.isatty():
        yield lambda done, total, loss: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label)

        def move(done: int, total: int, loss: float) -> None:
            progress.update(task, completed=done, total=total, description=f"{label}, loss {loss:.4f}")

        yield move


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """Shows on stderr, where that is a terminal, that something goes on whose end nobody can tell."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(label):
        yield


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Yields a function of (what, done, total) that moves a bar on stderr; it does nothing where nobody watches."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("")
        yield lambda what, done, total: progress.update(task, completed=done, total=total, description=what)


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """stages for what a person must see in any case, as a request to press a button: without a terminal a line each."""
    if sys.stderr.isatty():
        with stages() as move:
            yield move
        return
    last = ""

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        if what != last:
            print(clean(what), file=sys.stderr, flush=True)
        last = what

    yield tell
