"""Weights as XNNPACK packs them, kept in a file from one start to the next; only the standard library.

LiteRT maps such a file and trusts it: one of another model of the same shapes gives that model's answers, and flipped
bytes give wrong ones, without a word. So a file is named by all that its content depends on, and by its own CRC-32:

    KEY-CRC.packed       KEY: a hash of model, runtime, machine and CPU features; CRC: of KEY and content

Content and check are one file, renamed into place when it is whole, so that several processes disturb nobody: the last
one's file stays, and one that is removed while it is mapped lives on until it is closed. Whatever is in doubt is
removed and made anew. The folder is this user's alone: CRC-32 is against accidents, and who can write here could forge
any hash. (It takes .1 s for the 137 MB of SmolLM2, on x86 as much as SHA-256, for which that has instructions; a
Raspberry Pi 4 has none.)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import stat
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

LIMIT_BYTES = 2 << 30  # of all files together; the ones not used for longest are removed
SPARE_BYTES = 64 << 20  # what a disk must have left once the file is there
STALE_S = 3600.0  # a file half written that is older was left by a process that ended
BLOCK_BYTES = 1 << 20
NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{8}\.packed")


class NoCache(Exception):
    """Why nothing is kept here, in words."""


def host_folder() -> Path:
    """The folder of this platform for what can be made anew."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "edge" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "edge"
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "edge"


def private(folder: Path) -> Path:
    """The folder, made if need be, to which nobody else has access; NoCache where it is not so."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise NoCache(f"{folder} is not a folder of its own")
        if hasattr(os, "geteuid"):  # on Windows the user's folders are private by their place
            if found.st_uid != os.geteuid():
                raise NoCache(f"{folder} belongs to another user")
            if stat.S_IMODE(found.st_mode) & 0o077:
                folder.chmod(0o700)
    except OSError as error:
        raise NoCache(f"{folder}: {error.strerror}") from error
    return folder


def key(file_sha256: str, runtime: str) -> str:
    """The first part of the name of what a runtime packs of a model on this machine, with its default kernels."""
    parts = (file_sha256, runtime, sys.platform, platform.machine(), str(sys.maxsize), *_cpu())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _cpu() -> list[str]:
    """What tells CPUs apart whose kernels, and with them the order of weights, may differ."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return sorted(
            {
                line
                for line in lines
                if line.lower().startswith(("flags", "features", "cpu part", "cpu impl", "model name"))
            }
        )
    return [platform.processor()]


def crc32(path: Path, key: str) -> str:
    """Of key and content, so that a file under a name of another key is in doubt, too.

    Read block by block: what is mapped counts as memory of this process, what is read does not.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no file")
        buffer, value = bytearray(BLOCK_BYTES), zlib.crc32(key.encode())
        while count := file.readinto(buffer):
            value = zlib.crc32(memoryview(buffer)[:count], value)
    return f"{value:08x}"


def find(folder: Path, key: str) -> Path | None:
    """The kept file of that key, its content as it was when it was kept; what fails the test is removed."""
    for path in sorted(folder.glob(f"{key}-????????.packed")):
        with contextlib.suppress(OSError):
            if path.name == _name(key, crc32(path, key)):
                os.utime(path)
                return path
        _remove(path)
    return None


def temporary(folder: Path, key: str, needed_bytes: int) -> Path:
    """Where a file may be written before it is kept; NoCache where the disk has no room for it."""
    try:
        for path in folder.glob("*.part"):
            if time.time() - path.lstat().st_mtime > STALE_S:
                _remove(path)
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        raise NoCache(f"{folder}: {error.strerror}") from error
    if free_bytes < needed_bytes + SPARE_BYTES:
        raise NoCache(f"{folder} has {free_bytes >> 20} MiB left, {(needed_bytes + SPARE_BYTES) >> 20} are needed")
    path = folder / f"{key}.{os.getpid()}.part"
    _remove(path)
    return path


def keep(part: Path, key: str) -> Path:
    """Gives a file that is whole its name, and removes old ones beyond the limit; NoCache where that fails."""
    try:
        part.chmod(0o600)
        path = part.with_name(_name(key, crc32(part, key)))
        os.replace(part, path)
        _make_room(path)
    except OSError as error:
        _remove(part)
        raise NoCache(f"{part.parent}: {error.strerror}") from error
    return path


def _make_room(newest: Path) -> None:
    total_bytes = 0
    for path in _by_age(newest):
        total_bytes += path.lstat().st_size
        if total_bytes > LIMIT_BYTES and path != newest:
            _remove(path)


def _by_age(newest: Path) -> Iterator[Path]:
    """The kept files, newest first."""
    others = [path for path in newest.parent.iterdir() if NAME.fullmatch(path.name) and path != newest]
    yield newest
    yield from sorted(others, key=lambda path: path.lstat().st_mtime, reverse=True)


def _name(key: str, crc: str) -> str:
    return f"{key}-{crc}.packed"


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # Windows keeps what is mapped
        path.unlink()
