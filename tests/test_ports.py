"""What is plugged in and which board it is likely to be: ports as pyserial tells them, simulated volumes and USB."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo
from simulated_volumes import Computer

from firmware_tools import boards, ports, usb_tree, volumes
from firmware_tools.ports import Device

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the simulated volumes are those of Linux")
STLINK, BOOTSEL = (0x0483, 0x374B), (0x2E8A, 0x0003)
PICO_INFO = {"INFO_UF2.TXT": "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n"}
NUCLEO = {"DETAILS.TXT": "Version: 0221", "MBED.HTM": '<meta content="0; url=https://x/?code=07770221066EFF"/>'}


class Desk:
    """A computer to plug things into."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.computer = Computer(root, monkeypatch)
        self.listed: list[ListPortInfo] = []
        monkeypatch.setattr(list_ports, "comports", lambda: self.listed)
        (root / usb_tree.DEVICES).mkdir(parents=True)

    def port(
        self, name: str, ids: tuple[int, int] | None = None, location: str = "", product: str | None = None
    ) -> None:
        port = ListPortInfo(name)
        if ids:
            port.vid, port.pid = ids
            port.location, port.product = location, product
            self.device(location.partition(":")[0], ids, product or "")
        self.listed.append(port)

    def device(self, location: str, ids: tuple[int, int], product: str = "") -> None:
        place = self.computer.root / usb_tree.DEVICES / location
        place.mkdir(exist_ok=True)
        (place / "idVendor").write_text(f"{ids[0]:04x}\n")
        (place / "idProduct").write_text(f"{ids[1]:04x}\n")
        (place / "product").write_text(product)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path / "computer", monkeypatch)


def the_one() -> Device:
    (device,) = ports.plugged()
    return device


def test_pico_in_its_boot_loader(desk: Desk) -> None:
    desk.device("1-2", BOOTSEL, "RP2 Boot")
    plug = desk.computer.plug("RPI-RP2", "1-2", PICO_INFO, BOOTSEL)
    device = the_one()
    assert device.boards == ("pico",) and device.volume == plug.folder and device.location == "1-2"
    assert device.why == "USB 2E8A:0003 is the RP2040's boot loader" and device.place == str(plug.folder)


def test_boot_loader_whose_volume_nobody_has_mounted(desk: Desk) -> None:
    desk.device("1-2", BOOTSEL)
    desk.computer.plug("RPI-RP2", "1-2", PICO_INFO, BOOTSEL, mounted=False)
    device = the_one()
    assert device.boards == ("pico",) and device.volume is None and device.place == "1-2"
    assert "its volume is not mounted: mount it: udisksctl mount -b /dev/sdb" in device.why


def test_nucleo_is_told_by_its_probes_volume(desk: Desk) -> None:
    desk.port("/dev/ttyACM0", STLINK, "1-3:1.2", "STM32 STLink")
    device = the_one()
    assert set(device.boards) >= {"nucleo-f446re", "nucleo-l4r5zi", "b-l475e-iot01a"} and device.location == "1-3"
    assert device.why.endswith("which one its volume tells")
    plug = desk.computer.plug("NODE_F446RE", "1-3", NUCLEO, STLINK)
    device = the_one()
    assert (device.boards, device.port, device.volume) == (("nucleo-f446re",), "/dev/ttyACM0", plug.folder)
    assert device.why.endswith("its volume is called NODE_F446RE and has the code 0777")


def test_the_code_of_a_probe_goes_before_its_name(desk: Desk) -> None:
    """An ST-LINK that was broken off one Nucleo and wired to something else keeps its name."""
    desk.port("/dev/ttyACM0", STLINK, "1-3:1.2", "STM32 STLink")
    other = {**NUCLEO, "MBED.HTM": NUCLEO["MBED.HTM"].replace("0777", "0776")}
    desk.computer.plug("NODE_F446RE", "1-3", other, STLINK)
    assert the_one().boards == ("nucleo-l4r5zi",)


def test_two_nucleos_have_their_own_volumes(desk: Desk) -> None:
    for at, (place, label, code) in enumerate((("1-3", "NODE_F446RE", "0777"), ("1-4", "NODE_L4R5ZI", "0776"))):
        desk.port(f"/dev/ttyACM{at}", STLINK, f"{place}:1.2", "STM32 STLink")
        desk.computer.plug(label, place, {"MBED.HTM": NUCLEO["MBED.HTM"].replace("0777", code)}, STLINK)
    found = {device.port: device for device in ports.plugged()}
    assert found["/dev/ttyACM0"].boards == ("nucleo-f446re",) and found["/dev/ttyACM1"].boards == ("nucleo-l4r5zi",)
    assert ports.of_board(boards.load("nucleo-f446re"), found.values()) == [found["/dev/ttyACM0"]]


def test_where_the_system_does_not_tell_places_the_only_probe_gets_the_volume(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows and macOS."""
    desk.computer.plug("NODE_F446RE", "1-3", NUCLEO, STLINK)
    placeless = [dataclasses.replace(volume, location=None) for volume in volumes.mounted()]
    monkeypatch.setattr(volumes, "mounted", lambda: placeless)
    alone = the_one()
    assert alone.boards == ("nucleo-f446re",) and alone.port is None and "called NODE_F446RE" in alone.why
    desk.port("COM5", STLINK, "1-3:x.2")
    device = the_one()
    assert (device.boards, device.port, device.volume) == (("nucleo-f446re",), "COM5", placeless[0].path)
    desk.port("COM6", STLINK, "1-4:x.2")
    assert [device.volume for device in ports.plugged()] == [None, None, placeless[0].path]  # whose it is nobody tells


def test_names_of_products_tell_boards_apart_where_they_are_told(desk: Desk) -> None:
    ids = next((usb.vid, usb.pid) for usb in boards.load("pico").usb if usb.role == "port")
    name = next(usb.product for usb in boards.load("pico").usb if usb.role == "port")
    desk.port("/dev/ttyACM0", ids, "1-2", name)
    assert the_one().boards == ("pico",) and the_one().why.endswith("is the port of firmware on a pico")
    desk.listed[0].product = None
    assert "pico" in the_one().boards
    desk.listed[0].product = "something else"
    assert not the_one().boards and "nothing that edge knows" in the_one().why


def test_other_things_are_told_for_what_they_are_and_sticks_not_at_all(desk: Desk) -> None:
    desk.computer.plug("HOLIDAY", "1-7", {"photo.jpg": "…"}, (0x0781, 0x5567))
    desk.device("1-7", (0x0781, 0x5567))
    desk.device("usb1", (0x1D6B, 0x0002))
    desk.port("/dev/ttyUSB0", (0x1A86, 0x7523), "1-5", "USB Serial")
    desk.device("1-6", (0x2E8A, 0x000C), "Debug Probe")
    adapter, probe = ports.plugged()
    assert "CH340" in adapter.why and not adapter.boards and "Debug Probe" in probe.why
    assert probe.port is None and probe.place == "1-6"


def test_port_that_goes_while_it_is_listed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyserial reads its files one by one, and takes a missing vendor for a number."""
    calls = []

    def comports() -> list[ListPortInfo]:
        calls.append(1)
        if len(calls) == 1:
            raise TypeError("int() can't convert non-string with explicit base")
        return []

    monkeypatch.setattr(list_ports, "comports", comports)
    assert ports.plugged() == [] and len(calls) == 2
