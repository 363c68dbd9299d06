"""The flasher `stlink-volume` on simulated volumes of debug probes: the right board or none, and what FAIL.TXT says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from flash_states import Told, board, check, firmware, image, outcome
from simulated_volumes import Computer, Plug, Probe

from firmware_tools import volumes
from firmware_tools.boards import Programming, Usb
from firmware_tools.flashers import State, stlink_volume
from firmware_tools.ports import Device

IDS = (0x0483, 0x374B)
SIZE = 64 * 1024
F446 = board(
    name="nucleo-f446re",
    programming=Programming(volumes=("NODE_F446RE", "NOD_F446RE"), mbed_codes=("0777",)),
    usb=(Usb(*IDS, "probe"),),
    flashers=("stlink-volume", "openocd"),
)
PAGE = '<html><meta http-equiv="refresh" content="0; url=http://mbed.org/device/?code={}0221012467663E60F1CD"/></html>'
UNREACHED = "The interface firmware FAILED to reset/halt the target MCU\r\n"
ANY = Device()
SEEDS = 40


def simulated(root: Path, monkeypatch: pytest.MonkeyPatch) -> Computer:
    """A computer without patience."""
    monkeypatch.setattr(volumes, "POLL_S", 0.002)
    monkeypatch.setattr(volumes, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(stlink_volume, "GONE_S", 0.05)
    monkeypatch.setattr(stlink_volume, "BACK_S", 0.2)
    monkeypatch.setattr(volumes.shutil, "which", lambda name: None)
    return Computer(root, monkeypatch)


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Computer:
    return simulated(tmp_path / "computer", monkeypatch)


def nucleo(
    computer: Computer, location: str = "1-4", *, label: str = "NODE_F446RE", code: str = "0777", name: str = ""
) -> Plug:
    files = {"DETAILS.TXT": "Version: 0221\r\nBuild: Jan  7 2020 14:31:44\r\n"}
    files |= {"MBED.HTM": PAGE.format(code)} if code else {}
    return computer.plug(label, location, files, IDS, name=name)


def probe(computer: Computer, one: Plug, content: bytes, seed: int = 1) -> Probe:
    return Probe(computer, one, old=firmware(seed + 1000, SIZE // 2), size=SIZE, length=len(content))


def flash(content: bytes, device: Device = ANY) -> Told:
    return outcome(lambda: stlink_volume.flash(image(content), F446, device, lambda what, done, total: None))


def refused(told: Told) -> str:
    assert told.error and told.error.state is State.UNTOUCHED
    return f"{told.error.message} | {told.error.hint}"


@pytest.mark.parametrize("name", ["NODE_F446RE", "NODE_F446RE1", "another name"])
@pytest.mark.parametrize("device", [ANY, Device(port="/dev/ttyACM0", location="1-4:1.2")])
def test_an_image_arrives_and_the_volume_comes_back_under_any_name(
    computer: Computer, name: str, device: Device
) -> None:
    content = firmware(1, 30_000)
    one = probe(computer, nucleo(computer), content)
    one.comes_back_as = name
    told = flash(content, device)
    one.end()
    assert told.flashed and not told.flashed.read_back and one.flash[:30_000] == content
    assert not list(computer.media.glob("*/image.bin"))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (UNREACHED, "BOOT0 at 3.3 V"),
        ("SWD ERROR", "does not reach the chip"),
        ("error: The transfer timed out.\r\ntype: transient, user\r\n", "copy it again"),
        ("Flash is write/read protected", "RDP"),
        ("Flash ERASE operation failed", "protected against writing"),
        ("", "another flasher"),
        ("\x1b[2Jsomething new", "another flasher"),
    ],
)
@pytest.mark.parametrize("remounts", [True, False])
def test_what_fail_txt_says_is_the_error(computer: Computer, text: str, hint: str, remounts: bool) -> None:
    content = firmware(1, 9000)
    one = probe(computer, nucleo(computer), content)
    one.fail, one.fail_at, one.remounts = text or " ", 4000, remounts
    before = bytes(one.flash[:9000])
    told = flash(content)
    one.end()
    check(told, bytes(one.flash[:9000]), before, content)
    assert told.error and "FAIL.TXT" in told.error.message and hint in told.error.hint
    assert (
        "\x1b" not in told.error.message
        and (text.split(":")[-1].split(".")[0].strip("\x1b[2J \r\n")) in told.error.message
    )


def test_a_probe_without_its_chip_has_no_room(computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
    one = nucleo(computer)
    (one.folder / "FAIL.TXT").write_text(UNREACHED)
    monkeypatch.setattr(volumes.shutil, "disk_usage", lambda path: type("", (), {"free": 12_000})())
    assert "FAILED to reset/halt" in refused(flash(firmware(1, 30_000)))


def test_a_fail_txt_of_the_last_time_does_not_count(computer: Computer) -> None:
    content, one = firmware(1, 9000), nucleo(computer)
    (one.folder / "FAIL.TXT").write_text(UNREACHED)
    chip = probe(computer, one, content)
    assert flash(content).flashed
    chip.end()


def test_other_volumes_and_other_boards_are_never_written(computer: Computer) -> None:
    stick = computer.plug("NODE_F446RE", "1-1", {"photo.jpg": "…"}, (0x0781, 0x5567))  # called so, but no probe
    assert "no volume of a debug probe" in refused(flash(firmware(1, 900)))
    assert "not the volume of a debug probe" in refused(flash(firmware(1, 900), Device(volume=stick.folder)))
    other = nucleo(computer, "1-2", label="NODE_L4R5ZI", code="0776")
    said = refused(flash(firmware(1, 900)))
    assert str(other.folder) in said and "0776" in said
    assert "0776" in refused(flash(firmware(1, 900), Device(volume=other.folder)))
    liar = nucleo(computer, "1-3", name="renamed", code="0778")  # the label of ours, the code of another board
    assert "0778" in refused(flash(firmware(1, 900), Device(volume=liar.folder)))
    assert not list(computer.media.glob("*/image.bin"))


def test_twins_with_equal_serial_numbers_are_refused_by_their_paths(computer: Computer) -> None:
    content = firmware(1, 900)
    twins = [nucleo(computer, f"1-{i}", name=f"twin{i}", code="") for i in range(2)]
    said = refused(flash(content))
    assert all(str(twin.folder) in said for twin in twins)
    chips = [probe(computer, twin, content, i) for i, twin in enumerate(twins)]
    before = bytes(chips[0].flash)
    assert flash(content, Device(location="1-1")).flashed
    chips[1].end()
    assert chips[1].flash[:900] == content and bytes(chips[0].flash) == before


def test_a_volume_that_nobody_mounts(computer: Computer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = computer.plug("NODE_F446RE", "1-1", {}, IDS, mounted=False)
    assert f"udisksctl mount -b {one.source}" in refused(flash(firmware(1, 900)))
    mounting = tmp_path / "udisksctl"
    mounting.write_text(
        f"#!/bin/sh\nmkdir {one.folder}\necho > {one.folder}/DETAILS.TXT\n"
        f"echo '9 2 {one.number} / {one.folder} rw - vfat {one.source} rw' >> {computer.root}/proc/self/mountinfo\n"
    )
    mounting.chmod(0o755)
    monkeypatch.setattr(volumes.shutil, "which", lambda name: str(mounting))
    chip = probe(computer, one, firmware(1, 900))
    assert flash(firmware(1, 900), Device(location="1-1")).flashed and chip.flash[:900] == firmware(1, 900)
    chip.end()


def test_a_board_whose_probe_has_no_volume() -> None:
    told = outcome(lambda: stlink_volume.flash(image(b"1234"), board(), ANY, lambda *step: None))
    assert "no debug probe on simulated has a volume" in refused(told)


def test_a_probe_that_does_not_come_back(computer: Computer) -> None:
    content = firmware(1, 900)
    chip = probe(computer, nucleo(computer), content)
    chip.comes_back_as = None
    told = flash(content)
    chip.end()
    assert told.error and told.error.state is State.UNVERIFIED and "has not come back" in told.error.message


def campaign(computer: Computer, seed: int) -> None:
    """One flash with a fault; soak.py runs many."""
    pick = random.Random(seed)
    content = firmware(seed, pick.randint(1, 20_000))
    plug = nucleo(computer, name=f"n{seed}", code=pick.choice(["0777", ""]))
    one = probe(computer, plug, content, seed)
    fault = pick.choice(["none", "unplugged_at", "interrupted_at", "fail", "ignores", "lost"])
    at = pick.randrange(len(content) + 1)
    if fault in ("unplugged_at", "interrupted_at"):
        setattr(one, fault, at)
    elif fault == "fail":
        one.fail, one.fail_at = UNREACHED, at
    elif fault == "ignores":
        one.ignores = True
    one.comes_back_as = None if fault == "lost" else pick.choice([plug.folder.name, "other"])
    one.remounts = pick.random() < 0.8
    before = bytes(one.flash[: len(content)])
    told = flash(content)
    one.end()
    after = bytes(one.flash[: len(content)])
    check(told, after, before, content)
    assert fault != "none" or (told.flashed and after == content)
    for plug in computer.plugs:
        if not plug.gone:
            computer.unplug(plug)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_faults_never_end_in_a_false_success(computer: Computer, seed: int) -> None:
    campaign(computer, seed)
