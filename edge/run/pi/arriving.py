"""Files that arrive on a Raspberry Pi: hashed as they grow, checked, then given their names; and archives of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

MOST_UNPACKED_BYTES = 1 << 30
BLOCK_BYTES = 1 << 20


class Failure(Exception):
    """A request that cannot be carried out: its reason, and a word by which the host knows what to advise."""

    def __init__(self, reason: str, why: str = "") -> None:
        super().__init__(reason)
        self.reason, self.why = reason, why


class Arriving:
    """A file on its way: hashed as it grows."""

    def __init__(self, part: Path, whole: Path, sha256: str, offset: int, total: int) -> None:
        self._whole, self._part, self._sha256, self._total = whole, part, sha256, total
        # never through a link that somebody laid there
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        if not 0 <= offset <= min(total, os.fstat(descriptor).st_size):
            raise Failure("more was to be kept than is here")
        self._hash = hashlib.sha256()
        left = offset
        while left and (block := self._file.read(min(left, BLOCK_BYTES))):
            self._hash.update(block)
            left -= len(block)
        self._file.truncate(offset)
        self._written = offset

    def write(self, data: bytes) -> int:
        """The bytes that are here now."""
        if self._written + len(data) > self._total:
            raise Failure("more came than was announced")
        rest = memoryview(data)
        while rest:  # a raw file may take a part of it, on a disk that is nearly full
            rest = rest[self._file.write(rest) :]
        self._hash.update(data)
        self._written += len(data)
        return self._written

    def drop(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)

    def finish(self) -> None:
        """Gives it its name once it is on the disk, and is what was announced."""
        if self._written != self._total or self._hash.hexdigest() != self._sha256:
            self.drop()
            raise Failure("what arrived is not what was sent", "damaged")
        try:
            os.fsync(self._file.fileno())
        except OSError:
            self.drop()
            raise
        self._file.close()
        self._part.rename(self._whole)
        sync_folder(self._whole.parent)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """The files of a ZIP, each below folder; Failure where one would lie elsewhere, or is no plain file."""
    with zipfile.ZipFile(archive) as opened:
        members = [member for member in opened.infolist() if not member.is_dir()]
        if sum(member.file_size for member in members) > MOST_UNPACKED_BYTES:
            raise Failure("a package is larger than any of ours")
        for member in members:
            path = PurePosixPath(member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if path.is_absolute() or ".." in path.parts or "\\" in member.filename or kind not in (0, stat.S_IFREG):
                raise Failure("a package has a file that does not lie in it")
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(member) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file, BLOCK_BYTES)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
