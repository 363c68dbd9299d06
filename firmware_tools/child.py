"""A program of others that says line by line what it does, and that must neither hang nor outlive us."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from firmware_tools.errors import UserError

SILENCE_S = 300.0  # the longest that a step takes without a word: 2 MB, by a slow probe
LONGEST_LINE = 4096


def run(command: Sequence[str], folder: Path, on_line: Callable[[str], None], silence_s: float = SILENCE_S) -> int:
    """Runs command in folder; on_line gets all that it says, stdout and stderr. Returns its exit code.

    UserError where it says nothing for silence_s; the program has ended whenever this returns or raises.
    """
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout
    lines: queue.Queue[str | None] = queue.Queue()
    thread = threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True)
    thread.start()
    try:
        while (line := lines.get(timeout=silence_s)) is not None:
            on_line(line)
        return process.wait(silence_s)
    except (queue.Empty, subprocess.TimeoutExpired):
        raise UserError(
            f"{Path(command[0]).name} says nothing for {silence_s:g} s", "unplug the board, and plug it in"
        ) from None
    finally:
        process.kill()
        process.wait()
        thread.join(2.0)
        if not thread.is_alive():  # else a grandchild has the pipe
            process.stdout.close()
        while not lines.empty():  # what it did before it was interrupted counts, too
            if (line := lines.get()) is not None:
                on_line(line)


def _pump(stream: IO[bytes], lines: queue.Queue[str | None]) -> None:
    while data := stream.readline(LONGEST_LINE):
        lines.put(data.decode("utf-8", "replace").rstrip())
    lines.put(None)
