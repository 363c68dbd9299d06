"""A home as `edge deploy` leaves it, made by hand: our files, models and edge-agent; the packages are this Python's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edge.run.pi import places, runtime_files

PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"


def lay_out(home: Path, *models: Path) -> Path:
    """Fills a home; returns the runtime's folder."""
    base = home / places.HOME
    digest = hashlib.sha256(b"laid out for a test").hexdigest()
    root = base / places.RUNTIME / digest
    for name, path in runtime_files.own_modules().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / name)
    (base / places.RUNTIME / places.CURRENT).write_text(f"{digest}\n")
    (base / places.MODELS).mkdir(exist_ok=True)
    for model in models:
        shutil.copy(model, base / places.MODELS / f"{hashlib.sha256(model.read_bytes()).hexdigest()}.tflite")
    agent = base / places.AGENT
    agent.write_text(runtime_files.AGENT_SCRIPT)
    agent.chmod(0o755)
    return root


def environment(home: Path) -> dict[str, str]:
    """Of a process that is at home there."""
    return {**os.environ, "HOME": str(home), "PATH": PATH}


def until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether it becomes true; tests assert that it does, not when."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes_in(home: Path, also: str = "") -> list[int]:
    """The processes whose command line names a home, and has another text as well."""
    return [pid for pid in running() if str(home) in (line := command_line(pid)) and also in line]


def running() -> dict[int, int]:
    """All processes that have not ended, each with its parent, by /proc."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
                if state != "Z":
                    found[int(entry.name)] = int(parent)
    return found


def children(pid: int) -> list[int]:
    """The processes that one has started."""
    return [child for child, parent in running().items() if parent == pid]


def command_line(pid: int) -> str:
    """Of a process that may have ended: then nothing."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""
