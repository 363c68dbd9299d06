"""The flasher `bootsel` on simulated BOOTSEL volumes: the right board or none, and every way to lose it half way."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from flash_states import Told, board, check, firmware, image, outcome
from simulated_volumes import BootRom, Computer, Plug

from firmware_tools import uf2, volumes
from firmware_tools.boards import Memory, Programming, Usb
from firmware_tools.flashers import State, bootsel
from firmware_tools.ports import Device

START, SIZE = 0x1000_0000, 64 * 1024
BOOTLOADER = (0x2E8A, 0x0003)
PICO = board(
    name="pico",
    flash=Memory(START, SIZE),
    uf2_family=uf2.RP2040,
    programming=Programming(uf2_board="RPI-RP2"),
    usb=(Usb(*BOOTLOADER, "bootloader"),),
    flashers=("bootsel",),
)
INFO = "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: {}\r\n"
SEEDS = 60


def pico(computer: Computer, location: str = "1-2", *, name: str = "", id: str = "RPI-RP2", **how: bool) -> Plug:
    return computer.plug("RPI-RP2", location, {"INFO_UF2.TXT": INFO.format(id)}, BOOTLOADER, name=name, **how)


def rom(computer: Computer, one: Plug, seed: int = 1) -> BootRom:
    old = firmware(seed + 1000, SIZE // 2)
    return BootRom(computer, one, family=uf2.RP2040, start=START, old=old, size=SIZE, pick=random.Random(seed))


ANY = Device()


def flash(content: bytes, device: Device = ANY) -> Told:
    return outcome(lambda: bootsel.flash(image(content, START), PICO, device, lambda what, done, total: None))


def simulated(root: Path, monkeypatch: pytest.MonkeyPatch) -> Computer:
    """A computer without patience."""
    monkeypatch.setattr(volumes, "POLL_S", 0.001)
    monkeypatch.setattr(bootsel, "REBOOT_S", 0.01)
    monkeypatch.setattr(bootsel, "VOLUME_S", 0.05)
    monkeypatch.setattr(volumes.shutil, "which", lambda name: None)
    return Computer(root, monkeypatch)


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Computer:
    return simulated(tmp_path / "computer", monkeypatch)


def refused(told: Told) -> str:
    assert told.error and told.error.state is State.UNTOUCHED
    return f"{told.error.message} | {told.error.hint}"


def test_an_image_arrives_whole(computer: Computer) -> None:
    chip = rom(computer, pico(computer))
    content = firmware(1, 50_001)
    seen: list[tuple[str, int, int]] = []
    done = bootsel.flash(image(content, START), PICO, Device(), lambda *step: seen.append(step))
    assert chip.flash[: len(content)] == content and chip.rebooted
    assert [name for name, _ in done.steps] == ["bootloader", "write", "restart"] and not done.read_back
    written = [(step, total) for what, step, total in seen if what == "write"]
    assert written == sorted(written) and len({total for _, total in written}) == 1


def test_other_volumes_are_never_written(computer: Computer) -> None:
    stick = computer.plug("HOLIDAY", "1-1", {"photo.jpg": "…", "INFO.TXT": INFO}, (0x0781, 0x5567))
    assert "INFO_UF2.TXT" in refused(flash(firmware(1, 900)))
    assert "INFO_UF2.TXT" in refused(flash(firmware(1, 900), Device(volume=stick.folder)))
    assert sorted(path.name for path in stick.folder.iterdir()) == ["INFO.TXT", "photo.jpg"]


def test_wrong_board_and_twins_are_refused_by_their_paths(computer: Computer) -> None:
    wrong = pico(computer, "1-3", name="RP2350", id="RP2350")
    said = refused(flash(firmware(1, 900)))
    assert str(wrong.folder) in said and "RP2350" in said and "RPI-RP2" in said
    right = pico(computer, "1-4", name="RPI-RP21")
    said = refused(flash(firmware(1, 900)))
    assert str(wrong.folder) in said and str(right.folder) in said
    chip = rom(computer, right)
    assert flash(firmware(1, 900), Device(volume=right.folder)).flashed
    assert chip.flash[:900] == firmware(1, 900)


def test_a_place_on_the_bus_tells_twins_apart(computer: Computer) -> None:
    chips = [rom(computer, pico(computer, f"1-2.{i}", name=f"RPI {i}"), i) for i in range(3)]
    before = [bytes(chip.flash) for chip in chips]
    assert flash(firmware(7, 5000), Device(location="1-2.1:1.0")).flashed
    assert chips[1].flash[:5000] == firmware(7, 5000)
    assert [bytes(chip.flash) for chip in (chips[0], chips[2])] == [before[0], before[2]]


def test_the_touch_leads_to_the_volume_of_the_same_place(computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
    pico(computer, "1-1", name="other")
    chips: list[BootRom] = []

    class Port:
        dtr = None

        def __init__(self, url: str, baudrate: int, **rest: object) -> None:
            assert (url, baudrate) == ("/dev/ttyACM3", 1200)

        def close(self) -> None:
            assert self.dtr is False
            chips.append(rom(computer, pico(computer, "1-2.4", name="another name")))

    monkeypatch.setattr(bootsel.serial, "serial_for_url", Port)
    device = Device(port="/dev/ttyACM3", location="1-2.4:1.0")
    assert flash(firmware(3, 3000), device).flashed
    assert chips[0].flash[:3000] == firmware(3, 3000)
    said = refused(flash(firmware(3, 3000), Device(port="/dev/ttyACM3")))  # where the system tells no place
    assert str(computer.plugs[0].folder) in said


def test_firmware_that_does_not_heed_the_touch(computer: Computer) -> None:
    said = refused(flash(firmware(3, 3000), Device(port="loop://", location="1-2")))
    assert "no volume of a UF2 bootloader" in said and "hold BOOTSEL" in said
    assert "cannot be opened" in refused(flash(firmware(3, 3000), Device(port="/dev/no-such-port")))


def test_a_volume_that_nobody_mounts(computer: Computer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = pico(computer, mounted=False)
    assert f"udisksctl mount -b {one.source}" in refused(flash(firmware(3, 3000)))
    mounting = tmp_path / "udisksctl"
    mounting.write_text(
        f"#!/bin/sh\nmkdir {one.folder}\nprintf 'UF2 Bootloader\\nBoard-ID: RPI-RP2\\n' > {one.folder}/INFO_UF2.TXT\n"
        f"echo '9 2 {one.number} / {one.folder} rw - vfat {one.source} rw' >> {computer.root}/proc/self/mountinfo\n"
    )
    mounting.chmod(0o755)
    monkeypatch.setattr(volumes.shutil, "which", lambda name: str(mounting))
    chip = rom(computer, one)
    assert flash(firmware(3, 3000)).flashed and chip.flash[:3000] == firmware(3, 3000)


def test_a_folder_whose_volume_is_gone_gets_no_file(computer: Computer) -> None:
    one = pico(computer)
    volume = volumes.mounted()[0]
    elsewhere = volumes.Volume(volume.path, number=volume.number + 1)  # as when only the folder is left
    with pytest.raises(volumes.CopyError) as caught:
        volumes.copy(elsewhere, "image.uf2", bytes(2048), 512, lambda done, total: None)
    assert caught.value.gone and not (one.folder / "image.uf2").exists()


def test_a_volume_that_takes_nothing(computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
    one = pico(computer)
    chip = rom(computer, one)
    chip.family = uf2.RP2350_ARM  # it says RPI-RP2, and ignores such blocks
    told = flash(firmware(1, 900))
    assert told.error and told.error.state is State.UNVERIFIED and "still there" in told.error.message
    monkeypatch.setattr(volumes.shutil, "disk_usage", lambda path: type("", (), {"free": 1000})())
    assert "no room" in refused(flash(firmware(1, 900)))


def test_a_volume_that_is_mounted_twice_is_one(computer: Computer, tmp_path: Path) -> None:
    one = pico(computer)
    chip = rom(computer, one)
    again = tmp_path / "again"
    again.symlink_to(one.folder)
    with (computer.root / "proc/self/mountinfo").open("a") as file:
        file.write(f"91 22 {one.number} / {again} rw - vfat {one.source} rw\n" * 2)
    assert [volume.path for volume in volumes.mounted()] == [one.folder]
    assert flash(firmware(1, 900)).flashed and chip.flash[:900] == firmware(1, 900)


def test_a_volume_that_may_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    forbidden = Path("/sys/kernel")  # where not even root can make a file
    if not forbidden.is_dir():
        pytest.skip("needs a /sys")
    monkeypatch.setattr(volumes.shutil, "disk_usage", lambda path: type("", (), {"free": 1 << 30})())
    volume = volumes.Volume(forbidden, number=forbidden.stat().st_dev)
    with pytest.raises(volumes.CopyError) as caught:
        volumes.copy(volume, "image.uf2", bytes(2048), 512, lambda done, total: None)
    assert caught.value.refused and "remount" in caught.value.hint


def test_every_block_it_can_be_unplugged_at(computer: Computer) -> None:
    content = firmware(5, 20 * 256)
    for after in range(24):
        one = pico(computer, name=f"pico{after}")
        chip = rom(computer, one, after)
        before = bytes(chip.flash[: len(content)])
        chip.unplugged_after = after
        told = flash(content)
        check(told, bytes(chip.flash[: len(content)]), before, content)
        if after < 19:  # all blocks but the last are confirmed before that is written
            assert told.error and "vanished" in told.error.message and "hold BOOTSEL" in told.error.hint
        if not one.gone:
            computer.unplug(one)


def campaign(computer: Computer, seed: int) -> None:
    """One flash with a fault; soak.py runs many."""
    pick = random.Random(seed)
    content = firmware(seed, pick.randint(1, SIZE))
    one = pico(computer, name=pick.choice(["RPI-RP2", "RPI-RP21", "no name"]))
    chip = rom(computer, one, seed)
    blocks = -(-len(content) // 256)
    fault = pick.choice(["none", "unplugged_after", "interrupted_after", "full_after", "stuck"])
    if fault != "none":
        setattr(chip, fault, pick.randrange(len(content) if fault == "stuck" else blocks + 2))
    before = bytes(chip.flash[: len(content)])
    told = flash(content, Device(location=pick.choice([None, "1-2"])))
    after = bytes(chip.flash[: len(content)])
    check(told, after, before, content)
    assert fault != "none" or (told.flashed and after == content)
    assert not told.error or told.error.interrupted == (fault == "interrupted_after")
    if not one.gone:
        computer.unplug(one)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_faults_never_end_in_a_false_success(computer: Computer, seed: int) -> None:
    campaign(computer, seed)
