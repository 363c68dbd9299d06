"""Volumes that bootloaders and debug probes show: which are mounted, which are not, and files written through to them.

Linux tells where on the USB bus a volume is (/sys), macOS and Windows do not. What a volume holds is untrusted: of its
text files only the first bytes are read.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from firmware_tools.errors import UserError

ROOT = Path("/")  # below which Linux has /proc, /sys and /dev, and macOS /Volumes
TYPES = {"vfat", "msdos", "exfat", "fuseblk", "fat"}
TEXT_BYTES = 4096
CHUNK_BYTES = 1 << 16
LOCATION = re.compile(r"\d+-\d+(\.\d+)*")
READ_ONLY_FAULTS = (errno.EROFS, errno.EACCES, errno.EPERM)
UDISKS_S = 20
POLL_S = 0.2

T = TypeVar("T")


@dataclass(frozen=True)
class Volume:
    """A mounted volume of FAT's kind.

    label: its name where the system tells, else that of its folder; source: what is mounted (`/dev/sdb1`); location and
    serial_number: of the USB device; number: of the file system, for a folder stays when its volume goes.
    """

    path: Path
    label: str = ""
    source: str = ""
    location: str | None = None
    serial_number: str | None = None
    number: int = -1

    @property
    def there(self) -> bool:
        """Is it still mounted, and its device plugged in?"""
        with contextlib.suppress(OSError):
            place = (self.path, self.location)
            return self.path.stat().st_dev == self.number and any((v.path, v.location) == place for v in mounted())
        return False

    def text(self, name: str) -> str | None:
        """The first bytes of one of its files, whatever the case of its name; None where there is no such file."""
        with contextlib.suppress(OSError):
            for path in self.path.iterdir():
                if path.name.upper() == name.upper() and path.is_file():
                    with path.open("rb") as file:
                        return file.read(TEXT_BYTES).decode("ascii", "replace")
        return None


@dataclass(frozen=True)
class Unmounted:
    """A volume of a USB device that the system knows and that is mounted nowhere."""

    source: str
    location: str | None

    @property
    def hint(self) -> str:
        return f"mount it: udisksctl mount -b {self.source} (or sudo mount -o uid=$(id -u) {self.source} /mnt)"


class CopyError(UserError):
    """A file that did not reach a volume whole. gone: the volume vanished; refused: it did not take a byte."""

    def __init__(self, message: str, hint: str, *, gone: bool = False, refused: bool = False) -> None:
        super().__init__(message, hint)
        self.gone = gone
        self.refused = refused


def same_place(one: str | None, other: str | None) -> bool:
    """Do two locations name one USB device? The interface (`:1.0`) does not matter."""
    return bool(one and other) and str(one).partition(":")[0] == str(other).partition(":")[0]


def mounted() -> list[Volume]:
    """The mounted volumes that a board may show."""
    if sys.platform == "win32":
        return list(_drives())
    if sys.platform == "darwin":
        return [v for path in sorted((ROOT / "Volumes").glob("*")) if os.path.ismount(path) and (v := _volume(path))]
    return list(_mounts())


def unmounted(ids: Sequence[tuple[int, int]]) -> list[Unmounted]:
    """Volumes of USB devices with one of ids (vendor, product) that are not mounted; Linux only."""
    if not sys.platform.startswith("linux"):
        return []
    used = {volume.source for volume in _mounts()}
    found = []
    for block in sorted((ROOT / "sys/class/block").glob("sd*")):
        device = _usb_device(block)
        if device is None or (_number(device, "idVendor"), _number(device, "idProduct")) not in ids:
            continue
        has_parts = any(block.resolve().glob(f"{block.name}[0-9]*"))  # then the volume is a part
        if not has_parts and f"/dev/{block.name}" not in used and _text(block / "size") not in ("", "0"):
            found.append(Unmounted(f"/dev/{block.name}", device.name))
    return found


def mount(volume: Unmounted) -> bool:
    """Has the desktop's udisks mount a volume, where it may without asking anybody."""
    program = shutil.which("udisksctl")
    if program is None:
        return False
    command = [program, "mount", "--no-user-interaction", "-b", volume.source]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, timeout=UDISKS_S).returncode == 0
    return False


def copy(volume: Volume, name: str, content: bytes, last_bytes: int, progress: Callable[[int, int], None]) -> None:
    """Writes a file through to the device, chunk by chunk; the last last_bytes go in a write of their own.

    A volume that vanishes while it takes these is no error: its device has what it wanted, and restarts. progress(done,
    total) is called when the device has confirmed done bytes. CopyError says how many that were.
    """
    done, total = 0, len(content)
    with contextlib.suppress(OSError):
        if (free := shutil.disk_usage(volume.path).free) < total:
            raise CopyError(f"{volume.path} has no room: {free:,} of {total:,} bytes are free", "", refused=True)
    ends = [*range(CHUNK_BYTES, total - last_bytes, CHUNK_BYTES), total - last_bytes, total]
    try:
        with (volume.path / name).open("wb", buffering=0) as file:
            if os.fstat(file.fileno()).st_dev != volume.number:
                raise FileNotFoundError(errno.ENOENT, "another file system is mounted there")
            for end in ends:
                progress(done, total)
                write_through(file.fileno(), content[done:end])
                done = end
        progress(done, total)
    except OSError as error:
        last = done >= total - last_bytes
        if not (last and _vanished(error)):
            raise _copy_error(volume, done, total, error) from error
    finally:
        if not done:
            _take_back(volume, name)


def soon(ask: Callable[[], T | None], patience_s: float) -> T | None:
    """What ask answers as soon as it does, None after patience_s."""
    until = time.monotonic() + patience_s
    while (answer := ask()) is None and time.monotonic() < until:
        time.sleep(POLL_S)
    return answer


def write_through(descriptor: int, data: bytes) -> None:
    """Writes data; does not return before the device has confirmed it."""
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _vanished(error: OSError) -> bool:
    """Is the device gone? Anything but a full, read-only or forbidden volume: every system has its own words for it."""
    return error.errno not in (errno.ENOSPC, errno.EDQUOT, *READ_ONLY_FAULTS)


def _copy_error(volume: Volume, done: int, total: int, error: OSError) -> CopyError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CopyError(f"{volume.path} is full after {done:,} of {total:,} bytes", "")
    if error.errno in READ_ONLY_FAULTS:
        hint = f"mount it for yourself: sudo mount -o remount,rw,uid=$(id -u) {volume.path}"
        return CopyError(f"{volume.path} cannot be written: {error.strerror}", hint, refused=not done)
    return CopyError(f"{volume.path} vanished after {done:,} of {total:,} bytes ({error.strerror})", "", gone=True)


def _take_back(volume: Volume, name: str) -> None:
    """Removes the beginning of a file that no device has taken, above all from a folder that is no volume any more."""
    with contextlib.suppress(OSError):
        (volume.path / name).unlink()


# --- Linux


def _mounts() -> Iterator[Volume]:
    """What /proc/self/mountinfo has: a line of `id parent major:minor root mountpoint options … - type source more`.

    What is mounted twice counts once, at its first place; at one place the last counts, which covers the others.
    """
    lines = [line.partition(" - ") for line in _text(ROOT / "proc/self/mountinfo").splitlines()]
    places = {left.split()[4]: (left.split(), right.split()) for left, _, right in lines if len(left.split()) > 5}
    seen = set()
    for fields, told in places.values():
        if len(told) < 2 or told[0] not in TYPES or fields[3] != "/" or fields[2] in seen:
            continue
        path, source = Path(_unescaped(fields[4])), _unescaped(told[1])
        device = _usb_device(ROOT / "sys/dev/block" / fields[2])
        # a mount that somebody made by hand outlives its device
        plugged = not source.startswith("/dev/") or (ROOT / source[1:]).exists()
        if plugged and (found := _volume(path, fields[2], source, device)):
            seen.add(fields[2])
            yield found


def _volume(path: Path, mount: str = "", source: str = "", device: Path | None = None) -> Volume | None:
    with contextlib.suppress(OSError):
        number = path.stat().st_dev
        serial = _text(device / "serial").strip() if device else ""
        label = _label(mount, source) or path.name
        return Volume(path, label, source, device.name if device else None, serial or None, number)
    return None


def _usb_device(block: Path) -> Path | None:
    """The folder in /sys of the USB device that a block device belongs to."""
    with contextlib.suppress(OSError):
        for folder in block.resolve(strict=True).parents:
            if LOCATION.fullmatch(folder.name) and (folder / "idVendor").exists():
                return folder
    return None


def _label(number: str, source: str) -> str:
    """The label of a volume, of what udev keeps: for each device, and as links, of which twins share one."""
    if found := re.search(r"^E:ID_FS_LABEL=(.*)$", _text(ROOT / f"run/udev/data/b{number}"), re.MULTILINE):
        return found[1]
    with contextlib.suppress(OSError):
        for link in (ROOT / "dev/disk/by-label").iterdir():
            if source and os.path.basename(os.readlink(link)) == os.path.basename(source):
                return re.sub(r"\\x([0-9a-fA-F]{2})", lambda m: chr(int(m[1], 16)), link.name)
    return ""


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(device: Path, name: str) -> int:
    with contextlib.suppress(ValueError):
        return int(_text(device / name), 16)
    return -1


# --- Windows

REMOVABLE = 2
NAME_CHARACTERS = 261


def _drives() -> Iterator[Volume]:
    """Removable drives, by their letters."""
    kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009 (other systems have no such attribute)
    letters = kernel.GetLogicalDrives()
    for i in range(26):
        path = f"{chr(ord('A') + i)}:\\"
        if letters >> i & 1 and kernel.GetDriveTypeW(path) == REMOVABLE:
            label = ctypes.create_unicode_buffer(NAME_CHARACTERS)
            kernel.GetVolumeInformationW(path, label, NAME_CHARACTERS, None, None, None, None, 0)
            with contextlib.suppress(OSError):
                yield Volume(Path(path), label.value, path, number=Path(path).stat().st_dev)
