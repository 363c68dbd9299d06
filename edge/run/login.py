"""One login for all models of a command: within `one_login` a computer's keeper is asked to open one after another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from edge.run.ssh import Destination
from firmware_tools.link import PipeTransport

_kept: dict[Destination, PipeTransport] | None = None  # None outside of one_login


class _Lent:
    """A transport that stays open when a Link is done with it."""

    def __init__(self, kept: PipeTransport) -> None:
        self.name, self.boot_s = kept.name, kept.boot_s
        self.write, self.read, self.send_break = kept.write, kept.read, kept.send_break

    def close(self) -> None:
        """It is closed at the end of one_login."""


@contextlib.contextmanager
def one_login() -> Iterator[None]:
    """Within it a password is typed once, since each computer has one connection until the end of it."""
    global _kept
    if _kept is not None:
        yield
        return
    _kept = {}
    try:
        yield
    finally:
        ended, _kept = _kept, None
        for transport in ended.values():
            transport.close()


def line(destination: Destination, connect: Callable[[], PipeTransport]) -> PipeTransport | _Lent:
    """The line to a keeper: a new one, or within one_login the one that there is."""
    if _kept is None:
        return connect()
    kept = _kept.get(destination)
    if kept is None or not kept.alive:
        if kept:
            kept.close()
        kept = _kept[destination] = connect()
    return _Lent(kept)
