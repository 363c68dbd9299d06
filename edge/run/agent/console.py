"""A terminal line that frames go over: raw while they do, with a word for a person who types on it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

GREETING = (
    b"edge: frames go over this line now. Leave it free, and on the other computer: edge run MODEL --on pi@PORT\r\n"
)
HELP = b"edge: this line is for programs (edge run MODEL --on pi@PORT), not for typing; Ctrl-C ends that\r\n"
LEAVE = b"\x03\x04"  # Ctrl-C, Ctrl-D
TEXT = frozenset(bytes(range(32, 127)) + b"\t\r\n\b\x7f" + LEAVE)


@contextlib.contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Every byte as it is, at the speed that the line has; as it was before at the end, and nothing waits for that."""
    import termios
    import tty

    before, blocking = termios.tcgetattr(descriptor), os.get_blocking(descriptor)
    tty.setraw(descriptor, termios.TCSANOW)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, termios.error):  # the line may be gone
            os.set_blocking(descriptor, blocking)
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


def typed(stretch: bytes) -> str:
    """What a person wants who typed a stretch and then nothing for a while: "leave", "help", or "" to go on.

    A frame is sent in one go, and has bytes that nobody types.
    """
    if not stretch or not TEXT.issuperset(stretch):
        return ""
    if stretch[-1] in LEAVE:
        return "leave"
    return "help" if stretch[-1] in b"\r\n" else ""
