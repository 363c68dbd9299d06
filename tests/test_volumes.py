"""Volumes of systems that are not here: the calls of Windows and the folder of macOS, simulated."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from firmware_tools import volumes

LABELS = {"C": ("System", 3), "D": ("HOLIDAY", 2), "E": ("RPI-RP2", 2), "F": ("", 2)}  # label, kind of drive


class Kernel:
    """kernel32 of a computer with these drives; F has no medium in it."""

    def GetLogicalDrives(self) -> int:
        return sum(1 << ord(letter) - ord("A") for letter in LABELS)

    def GetDriveTypeW(self, path: str) -> int:
        return LABELS[path[0]][1]

    def GetVolumeInformationW(self, path: str, label: ctypes.Array[ctypes.c_wchar], size: int, *rest: object) -> int:
        label.value = LABELS[path[0]][0]
        return 1


def test_windows_has_removable_drives_by_their_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes.sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=Kernel()), raising=False)
    real = Path.stat

    def stat(path: Path, **how: bool) -> os.stat_result:
        if str(path)[1:] == ":\\":
            if str(path)[0] == "F":
                raise OSError(21, "The device is not ready")
            return real(Path("/"))
        return real(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    found = volumes.mounted()
    assert [(str(one.path), one.label) for one in found] == [("D:\\", "HOLIDAY"), ("E:\\", "RPI-RP2")]
    assert volumes.unmounted([(0x2E8A, 3)]) == []


def test_macos_has_volumes_by_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RPI-RP2", "left over"):
        (tmp_path / "Volumes" / name).mkdir(parents=True)
    monkeypatch.setattr(volumes.sys, "platform", "darwin")
    monkeypatch.setattr(volumes, "ROOT", tmp_path)
    monkeypatch.setattr(volumes.os.path, "ismount", lambda path: Path(path).name == "RPI-RP2")
    (one,) = volumes.mounted()
    assert (one.label, one.location, one.there) == ("RPI-RP2", None, True)
    (one.path / "info_uf2.txt").write_text("UF2 Bootloader\n" + "x" * 10_000)
    assert len(one.text("INFO_UF2.TXT") or "") == volumes.TEXT_BYTES
    one.path.joinpath("info_uf2.txt").unlink()
    one.path.rmdir()
    assert not one.there


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("1-2.3", "1-2.3:1.0", True), ("1-2.3", "1-2", False), (None, None, False), ("1-2", None, False)],
)
def test_places_on_the_bus(one: str | None, other: str | None, same: bool) -> None:
    assert volumes.same_place(one, other) == same
