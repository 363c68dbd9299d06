"""Simulated volumes of boot ROMs and debug probes: folders that Linux seems to have mounted from USB.

Their files are written by the real code. What a device would do happens where that code asks for its bytes to be
confirmed (fsync): the device takes what is new, may vanish, and then the writer gets EIO.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from firmware_tools import volumes

BLOCK, PAGE, SECTOR = 512, 256, 4096


@dataclass
class Plug:
    """One simulated USB device with a volume."""

    folder: Path
    location: str
    label: str
    source: str
    number: str
    ids: tuple[int, int]
    page: str  # its MBED.HTM
    take: Callable[[bytes, int], None] | None = None  # new bytes of a file, and where in it they begin
    taken: dict[str, int] = field(default_factory=dict)
    gone: bool = False


class Computer:
    """A computer's /proc, /sys and /dev as far as volumes are concerned."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.media = root / "media"
        self.plugs: list[Plug] = []
        for folder in ("proc/self", "sys/dev/block", "sys/class/block", "dev", "run/udev/data", "media"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(volumes, "ROOT", root)
        self._fsync = os.fsync
        monkeypatch.setattr(volumes.os, "fsync", self.fsync)
        self.write_mounts()

    def plug(
        self,
        label: str,
        location: str,
        files: dict[str, str],
        ids: tuple[int, int],
        *,
        mounted: bool = True,
        name: str = "",
    ) -> Plug:
        """Plugs a device in; its folder is called name, or as its label."""
        letters = "bcdefghijklmno"  # the first that is free, as the kernel takes it
        index = next(i for i, x in enumerate(letters) if not (self.root / f"sys/class/block/sd{x}").is_symlink())
        block, number = f"sd{letters[index]}", f"8:{16 * (index + 1)}"
        device = self.root / "sys/devices/usb1" / location
        node = device / f"{location}:1.0/host{index}/target/block" / block
        node.mkdir(parents=True)
        (node / "size").write_text("262144\n")
        (device / "idVendor").write_text(f"{ids[0]:04x}\n")
        (device / "idProduct").write_text(f"{ids[1]:04x}\n")
        (device / "serial").write_text("E0C9125B0D9B\n")  # the same for all: twins
        for link in (self.root / "sys/dev/block" / number, self.root / "sys/class/block" / block):
            link.symlink_to(node)
        (self.root / "dev" / block).write_text("")
        (self.root / f"run/udev/data/b{number}").write_text(f"S:disk/by-label/{label}\nE:ID_FS_LABEL={label}\n")
        folder = self.media / (name or label)
        folder.mkdir(exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text)
        one = Plug(folder, location, label, f"/dev/{block}", number, ids, files.get("MBED.HTM", ""))
        self.plugs.append(one)
        if not mounted:
            shutil.rmtree(folder)
        self.write_mounts()
        return one

    def unplug(self, one: Plug) -> None:
        """The device goes, and its volume with it."""
        one.gone = True
        (self.root / "sys/dev/block" / one.number).unlink()
        (self.root / "sys/class/block" / Path(one.source).name).unlink()
        (self.root / one.source[1:]).unlink()
        shutil.rmtree(self.root / "sys/devices/usb1" / one.location)
        shutil.rmtree(one.folder, ignore_errors=True)
        self.write_mounts()

    def write_mounts(self) -> None:
        lines = ["22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/root rw"]
        for one in self.plugs:
            if not one.gone and one.folder.exists():
                place = str(one.folder).replace(" ", "\\040")
                lines.append(f"90 22 {one.number} / {place} rw,nosuid shared:7 - vfat {one.source} rw,uid=1000")
        (self.root / "proc/self/mountinfo").write_text("\n".join(lines) + "\n")

    def fsync(self, descriptor: int) -> None:
        """What a device does with the bytes that have come to it."""
        self._fsync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)"))
        for one in reversed(self.plugs):  # the last that was plugged in has the folder
            if path.parent != one.folder or one.take is None:
                continue
            if one.gone:
                raise OSError(errno.EIO, "Input/output error")
            begin = one.taken.get(path.name, 0)
            data = path.read_bytes()[begin:]
            one.taken[path.name] = begin + len(data)
            one.take(data, begin)
            return


class BootRom:
    """RP2040's ROM behind its volume, by the rules of its datasheet: what it ignores, when it erases, when it restarts.

    unplugged_after: blocks, of all that come. stuck: an address where no 1 can be kept.
    """

    def __init__(
        self, computer: Computer, one: Plug, *, family: int, start: int, old: bytes, size: int, pick: random.Random
    ) -> None:
        self.flash = bytearray(old + b"\xff" * (size - len(old)))
        self.family, self.start = family, start
        self.unplugged_after: int | None = None
        self.interrupted_after: int | None = None
        self.full_after: int | None = None
        self.stuck: int | None = None
        self.rebooted = False
        self._computer, self._plug, self._pick = computer, one, pick
        self._erased: set[int] = set()
        self._seen: set[int] = set()
        self._count = 0
        self.came = 0
        one.take = self.take

    def take(self, data: bytes, begin: int) -> None:
        """Blocks as a computer writes them: in any order, some twice, because pages of memory hold eight."""
        blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
        self._pick.shuffle(blocks)
        for block in blocks + self._pick.sample(blocks, len(blocks) // 8):
            if self.came == self.unplugged_after:
                self._vanish()
            if self.came == self.interrupted_after:
                raise KeyboardInterrupt
            if self.came == self.full_after:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.came += 1
            self.block(block)
            if self.rebooted:
                self._vanish()

    def _vanish(self) -> None:
        self._computer.unplug(self._plug)
        raise OSError(errno.EIO, "Input/output error")

    def block(self, block: bytes) -> None:
        if len(block) != BLOCK:
            return
        first, second, flags, address, size, number, count, family = struct.unpack_from("<8I", block)
        (end,) = struct.unpack_from("<I", block, 508)
        if (first, second, end) != (0x0A324655, 0x9E5D5157, 0x0AB16F30) or not flags & 0x2000 or flags & 1:
            return
        offset = address - self.start
        if family != self.family or size != PAGE or address % PAGE or not 0 <= offset < len(self.flash):
            return
        if count != self._count:
            self._count, self._seen, self._erased = count, set(), set()
        sector = offset // SECTOR
        if number not in self._seen:
            if sector not in self._erased:
                self.flash[sector * SECTOR : (sector + 1) * SECTOR] = b"\xff" * SECTOR
                self._erased.add(sector)
            for i, byte in enumerate(block[32 : 32 + PAGE]):
                self.flash[offset + i] &= byte  # programming only clears bits
            if self.stuck is not None and offset <= self.stuck < offset + PAGE:
                self.flash[self.stuck] &= 0xFE
        self._seen.add(number)
        self.rebooted = len(self._seen) == count


class Probe:
    """A simulated ST-LINK behind its volume: writes what comes into the chip's flash, restarts, and says if it failed.

    fail: what FAIL.TXT will say, after fail_at bytes of the image (at the end: all of it is written, but wrong). Its
    volume comes back after a while under the name `comes_back_as`, or not at all (None).
    """

    def __init__(self, computer: Computer, one: Plug, *, old: bytes, size: int, length: int) -> None:
        self.flash = bytearray(old + b"\xff" * (size - len(old)))
        self.length = length
        self.fail, self.fail_at = "", length
        self.unplugged_at: int | None = None
        self.interrupted_at: int | None = None
        self.ignores = False
        self.comes_back_as: str | None = one.folder.name
        self.remounts = True
        self._computer, self._plug = computer, one
        self._written = 0
        self._timer: threading.Timer | None = None
        one.take = self.take

    def take(self, data: bytes, begin: int) -> None:
        for byte in data:
            if self._written == self.unplugged_at:
                self._computer.unplug(self._plug)
                raise OSError(errno.EIO, "Input/output error")
            if self._written == self.interrupted_at:
                raise KeyboardInterrupt
            if not self._written and not self.ignores and (not self.fail or self.fail_at):
                self.flash[: self.length] = b"\xff" * self.length
            if not self.ignores and (not self.fail or self._written < self.fail_at):
                self.flash[self._written] = byte
            self._written += 1
        if self._written == self.length:
            self._finish()

    def _finish(self) -> None:
        if not self.remounts:
            if self.fail:
                (self._plug.folder / "FAIL.TXT").write_text(self.fail)
            return
        self._computer.unplug(self._plug)
        self._timer = threading.Timer(0.02, self._come_back)
        self._timer.start()

    def _come_back(self) -> None:
        if self.comes_back_as is not None:
            files = {"DETAILS.TXT": "Version: 0221\r\n", "MBED.HTM": self._plug.page}
            files |= {"FAIL.TXT": self.fail} if self.fail else {}
            ids, place = self._plug.ids, self._plug.location
            self._computer.plug(self._plug.label, place, files, ids, name=self.comes_back_as)

    def end(self) -> None:
        if self._timer:
            self._timer.join()
