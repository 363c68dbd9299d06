"""Packs a model's weights into a file, in a process of its own: what serves then starts with packed weights, always.

    python -m edge.run.agent.packing MODEL FILE

Packing takes memory that the one who answers never needs (SmolLM2 with two signatures: 235 MB instead of 207), and on a
disk that fills up meanwhile it may crash.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from edge.limits import set_limits
from edge.run.agent.runtimes import compiled, find_runtime
from edge.run.agent.weight_cache import NoCache

MOST_S = 900.0
PR_SET_PDEATHSIG = 1  # of prctl
SPARE_BYTES = 4 << 30  # address space beyond what a model's size explains, most of it reserved by threads


def pack(model: Path, part: Path) -> None:
    """Writes part; NoCache where the child process does not manage to."""
    command = [sys.executable, "-m", "edge.run.agent.packing", str(model), str(part)]
    path = os.pathsep.join(folder for folder in sys.path if folder)
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        ) as child:
            try:
                code = child.wait(MOST_S)
            except BaseException:
                child.kill()
                raise
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCache(f"packing the weights failed: {error}") from error
    if code:
        raise NoCache(f"packing the weights failed with code {code}")
    if not part.is_file() or not part.stat().st_size:
        raise NoCache(f"LiteRT wrote no packed weights into {part.parent}")


def _end_with_parent() -> None:
    """On Linux; elsewhere it packs to the end, which takes seconds, and what it leaves is removed by a later start."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(model: str, part: str) -> int:
    """Loads the model once, which packs its weights."""
    _end_with_parent()
    os.umask(0o077)
    set_limits(SPARE_BYTES + 16 * Path(model).stat().st_size)
    compiled(Path(model), 1, part, find_runtime())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
