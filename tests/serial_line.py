"""A serial cable of two ptys: what goes in at one end comes out at the other, at the pace of a baud rate if need be."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Cable:
    """Two ports by their paths; carried: bytes that have gone each way, from the first and from the second."""

    first: str
    second: str
    carried: list[int]


@contextlib.contextmanager
def cable(baud: float = float("inf")) -> Iterator[Cable]:
    """The first port is raw; the second is a terminal as it is when somebody logs in on it. Both stay open."""
    ends = [os.openpty(), os.openpty()]
    tty.setraw(ends[0][1])
    made = Cable(os.ttyname(ends[0][1]), os.ttyname(ends[1][1]), [0, 0])
    over = threading.Event()
    masters = [master for master, _ in ends]

    def carry(source: int) -> None:
        while not over.is_set():
            if select.select([masters[source]], [], [], 0.05)[0]:
                data = os.read(masters[source], 64)
                time.sleep(len(data) * 10 / baud)
                made.carried[source] += len(data)
                while data:
                    data = data[os.write(masters[1 - source], data) :]

    threads = [threading.Thread(target=carry, args=(source,), daemon=True) for source in (0, 1)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        over.set()
        for thread in threads:
            thread.join(5)
        for pair in ends:
            for descriptor in pair:
                os.close(descriptor)
