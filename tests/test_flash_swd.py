"""The flashers `openocd` and `pyocd` with the real programs, which write a simulated STM32F446 and nRF52840.

What neither has been tried with: a real probe. What is between them and one, USB above all, is simulated too.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from pathlib import Path

import pytest
import simulated_probe
from flash_states import Told, board, check, firmware, image, outcome
from simulated_debug_port import Chip, behind_remote_bitbang

from firmware_tools import child, probes
from firmware_tools.boards import Programming, Usb
from firmware_tools.errors import MissingTool, UserError
from firmware_tools.flashers import State, Work, openocd, pyocd
from firmware_tools.ports import Device

ANY = Device()
SIZE = 300
CONTENT = firmware(1, SIZE)
STUCK = next(i for i, byte in enumerate(CONTENT) if i > 100 and byte & 1)


def quiet(what: str, done: int, total: int) -> None:
    pass


def refused(told: Told) -> str:
    assert told.error and told.error.state is State.UNTOUCHED
    return f"{told.error.message} | {told.error.hint}"


@pytest.fixture
def no_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes.ports, "plugged", list)


# --- OpenOCD


def by_openocd(chip: Chip, folder: Path) -> Told:
    with behind_remote_bitbang(chip, folder) as config:
        one = board(programming=Programming(openocd=(config,)), flashers=("openocd",))
        return outcome(lambda: openocd.flash(image(CONTENT), one, ANY, quiet))


def chip(**facts: object) -> Chip:
    return Chip(bytearray(firmware(2, 20_000).ljust(512 * 1024, b"\xff")), **facts)  # type: ignore[arg-type]


@pytest.mark.system
def test_openocd_writes_a_simulated_chip(tool, no_ports: None, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    tool("openocd")
    one, seen = chip(), []
    with behind_remote_bitbang(one, tmp_path) as config:
        known = board(programming=Programming(openocd=(config,)))
        done = openocd.flash(image(CONTENT), known, ANY, lambda what, *rest: seen.append(what))
    assert done.read_back and one.flash[:SIZE] == CONTENT and set(one.flash[SIZE : 16 * 1024]) == {0xFF}
    assert one.flash[16 * 1024 : 20_000] == firmware(2, 20_000)[16 * 1024 :]  # another sector
    assert seen == ["reset", "look", "erase", "write", "verify", "start", "end"]


@pytest.mark.system
@pytest.mark.parametrize(
    ("fault", "state", "said"),
    [
        ({"powered": False}, State.UNTOUCHED, "no chip answers"),
        ({"locked": True}, State.UNTOUCHED, "locked against debuggers"),
        ({"stuck": STUCK}, State.WRONG, "reads back wrong"),
        ({"gone_after": 0}, State.ERASING, "the probe has gone"),
        ({"gone_after": SIZE // 4}, State.ERASING, "the probe has gone"),
    ],
)
def test_openocd_and_a_faulty_chip(tool, no_ports: None, tmp_path: Path, fault, state: State, said: str) -> None:  # type: ignore[no-untyped-def]
    tool("openocd")
    one = chip(**fault)
    before = bytes(one.flash[:SIZE])
    told = by_openocd(one, tmp_path)
    check(told, bytes(one.flash[:SIZE]), before, CONTENT, one.stuck)
    assert told.error and told.error.state is state and said in told.error.message, told


@pytest.mark.system
@pytest.mark.parametrize("files", [("board/st_nucleo_f4.cfg",), ("interface/cmsis-dap.cfg", "target/rp2040.cfg")])
def test_openocd_without_a_probe(tool, no_ports: None, files: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    tool("openocd")
    one = board(programming=Programming(openocd=files))
    told = outcome(lambda: openocd.flash(image(CONTENT), one, Device(vid=0x2E8A, pid=0xC, location="1-9:1.0"), quiet))
    assert "finds no debug probe" in refused(told)


@pytest.mark.system
def test_openocd_without_the_boards_configuration(tool, no_ports: None) -> None:  # type: ignore[no-untyped-def]
    tool("openocd")
    one = board(programming=Programming(openocd=("target/of-the-future.cfg",)))
    said = refused(outcome(lambda: openocd.flash(image(CONTENT), one, ANY, quiet)))
    assert "no configuration for the board" in said and "target/of-the-future.cfg" in said


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        (
            "Info : Target voltage: 0.004\nError: target voltage may be too low for reliable debugging",
            "no supply voltage",
        ),
        ("Error: init mode failed (unable to connect to the target)", "no chip answers"),
        ("Error: libusb_open() failed with LIBUSB_ERROR_ACCESS\nError: open failed", "may not be used"),
        ("Error: Multiple devices found, specify the desired device", "several debug probes"),
        ("Error: Could not find MEM-AP to control the core\nWarn : nRF52 device has AP lock engaged", "locked"),
        ("Error: failed erasing sectors 0 to 3", "cannot be erased"),
        ("Error: something new", "OpenOCD failed: something new"),
    ],
)
def test_openocds_words_become_ours(words: str, meaning: str) -> None:
    assert meaning in openocd._explained(words.splitlines()).message


def test_nothing_of_a_device_gets_into_a_line_of_tcl(no_ports: None) -> None:
    one = board(programming=Programming(openocd=("a.cfg",)))
    assert "adapter serial 066EFF" in openocd._before(one, Device(serial_number="066EFF"))
    assert not [part for part in openocd._before(one, Device(serial_number="1; exec rm")) if "serial" in part]
    assert "adapter usb location 1-2.3" in openocd._before(one, Device(serial_number="1", location="1-2.3:1.2"))


def test_openocd_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openocd.shutil, "which", lambda name: None)
    with pytest.raises(MissingTool, match="OpenOCD"):
        openocd.flash(image(CONTENT), board(programming=Programming(openocd=("a.cfg",))), ANY, quiet)


# --- pyOCD


def has_pyocd() -> None:
    if importlib.util.find_spec("pyocd") is None:
        pytest.skip("needs pyOCD: pip install 'edge-tinyml[swd]'")


def by_pyocd(chip: simulated_probe.Chip) -> Told:
    with simulated_probe.behind_pyocds_protocol(chip) as name:
        one = board(programming=Programming(pyocd="nrf52840"), flashers=("pyocd",))
        return outcome(lambda: pyocd.flash(image(CONTENT, 0), one, Device(serial_number=name), quiet))


def nrf52840(**facts: object) -> simulated_probe.Chip:
    return simulated_probe.Chip(firmware(2, 20_000), **facts)  # type: ignore[arg-type]


def test_pyocd_writes_a_simulated_chip(no_ports: None) -> None:
    has_pyocd()
    one = nrf52840()
    told = by_pyocd(one)
    assert told.flashed and told.flashed.read_back and one.flash[:SIZE] == CONTENT
    assert one.flash[4096:20_000] == firmware(2, 20_000)[4096:]  # other pages


@pytest.mark.parametrize(
    ("fault", "state", "said"),
    [
        ({"locked": True}, State.UNTOUCHED, "locked against debuggers"),
        ({"stuck": STUCK}, State.WRONG, "reads back wrong"),
        ({"gone_after": 0}, State.ERASING, "the probe has gone"),
        ({"gone_after": SIZE // 8}, State.ERASING, "the probe has gone"),
    ],
)
def test_pyocd_and_a_faulty_chip(no_ports: None, fault: dict[str, object], state: State, said: str) -> None:
    """A locked chip above all: pyOCD would unlock it by erasing it, had it not been told otherwise."""
    has_pyocd()
    one = nrf52840(**fault)
    before = bytes(one.flash[:SIZE])
    told = by_pyocd(one)
    check(told, bytes(one.flash[:SIZE]), before, CONTENT, one.stuck)
    assert told.error and told.error.state is state and said in told.error.message, told


def test_pyocd_without_a_probe(no_ports: None) -> None:
    has_pyocd()
    one = board(programming=Programming(pyocd="nrf52840"))
    told = outcome(lambda: pyocd.flash(image(CONTENT), one, Device(serial_number="no such"), quiet))
    assert "finds no such debug probe" in refused(told)


def test_pyocd_without_the_chips_pack_names_the_line_and_asks_no_network(no_ports: None) -> None:
    has_pyocd()
    one = board(programming=Programming(pyocd="stm32f999xx"))
    said = refused(outcome(lambda: pyocd.flash(image(CONTENT), one, ANY, quiet)))
    assert "python -m pyocd pack install stm32f999xx" in said


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("0000812 W NRF52840 APPROTECT enabled: not automatically unlocking", "locked"),
        ("TransferError: No ACK received", "no chip answers"),
        ("USBError: [Errno 13] Access denied (insufficient permissions)", "may not be used"),
        ("ProbeDisconnected: probe went away", "probe has gone"),
        ("FlashProgramFailure: flash program page failure", "cannot be written"),
        ("KeyError: 'new'", "pyOCD failed: KeyError"),
    ],
)
def test_pyocds_words_become_ours(words: str, meaning: str) -> None:
    heard = pyocd._Heard(Work("b", ""), quiet, 1)
    heard.line(words)
    heard.line('edge: {"failed": "raised", "error": "' + words.replace('"', "'") + '"}')
    assert meaning in pyocd._explained(heard, board(programming=Programming(pyocd="nrf52840"))).message


def test_pyocd_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyocd.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingTool, match="pyOCD"):
        pyocd.flash(image(CONTENT), board(programming=Programming(pyocd="nrf52840")), ANY, quiet)


# --- which probe


def test_several_probes_are_refused_by_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    one = board(name="nucleo", usb=(Usb(0x0483, 0x374B, "probe"),))
    twins = [Device(vid=0x0483, pid=0x374B, serial_number="066E", location=f"1-{i}") for i in range(2)]
    monkeypatch.setattr(probes.ports, "plugged", lambda: [Device(port="/dev/ttyS0"), *twins])
    with pytest.raises(UserError) as caught:
        probes.chosen(one, ANY)
    assert "1-0 (serial number 066E), 1-1" in caught.value.message and "--to nucleo@1-0" in caught.value.hint
    assert probes.chosen(one, twins[1]) == twins[1]
    monkeypatch.setattr(probes.ports, "plugged", lambda: twins[:1])
    assert probes.chosen(one, Device(port="/dev/ttyS0")) == twins[0]


# --- programs of others


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    lines: list[str] = []
    sleeper = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with pytest.raises(UserError, match="says nothing for 0.5 s"):
        child.run([sys.executable, "-c", sleeper], tmp_path, lines.append, silence_s=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(lines[0]), 0)


def test_what_a_program_did_before_ctrl_c_counts(tmp_path: Path) -> None:
    lines: list[str] = []

    def line(text: str) -> None:
        lines.append(text)
        if text == "0":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child.run([sys.executable, "-c", "print(*range(5), sep='\\n', flush=True)"], tmp_path, line)
    assert lines[0] == "0" and lines == [str(i) for i in range(len(lines))]


@pytest.mark.system
@pytest.mark.parametrize("seed", range(3))
def test_openocd_interrupted_or_unplugged_anywhere(tool, no_ports: None, tmp_path: Path, seed: int) -> None:  # type: ignore[no-untyped-def]
    tool("openocd")
    campaign(tmp_path, seed)


def campaign(folder: Path, seed: int) -> None:
    """One flash by OpenOCD, or by pyOCD where it is installed, with a fault; soak.py runs many."""
    pick = random.Random(seed)
    faults = {
        "gone_after": pick.choice([None, pick.randrange(SIZE // 2 + 1)]),
        "stuck": pick.choice([None, None, pick.randrange(SIZE)]),
        "locked": pick.random() < 0.1,
    }
    by_pyocds = importlib.util.find_spec("pyocd") is not None and pick.random() < 0.5
    one = nrf52840(**faults) if by_pyocds else chip(**faults)
    before = bytes(one.flash[:SIZE])
    told = by_pyocd(one) if by_pyocds else by_openocd(one, folder)
    check(told, bytes(one.flash[:SIZE]), before, CONTENT, one.stuck)
