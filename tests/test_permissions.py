"""What keeps boards from being reached, on computers that are folders: groups, udev rules, programs that grab ports."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edge.run import permissions
from edge.run.finding import Finding
from firmware_tools import ports
from firmware_tools.boards import Usb
from firmware_tools.ports import Device

MODEM_RULE = 'ATTRS{idVendor}=="0483|1209|0403|10c4|1a86|067b", ENV{ID_MM_DEVICE_IGNORE}="1"\n'
BRLTTY_6_4 = '# Baum\nENV{PRODUCT}=="1a86/7523/*", ATTRS{bDeviceClass}=="ff", ENV{BRLTTY_BRAILLE_DRIVER}="bm"\n'
BRLTTY_6_5 = '#ENV{PRODUCT}=="1a86/7523/*"\nENV{PRODUCT}=="10c4/ea60/*", ATTRS{manufacturer}=="Seika"\n'


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux computer of somebody who is nobody special; a board with an ST-LINK is known, nothing is plugged in."""
    monkeypatch.setattr(permissions.platform, "system", lambda: "Linux")
    monkeypatch.setattr(
        permissions, "_usb", lambda: [("x", Usb(0x0483, 0x374B, "probe")), ("y", Usb(0x1209, 1, "port"))]
    )
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [1000])
    monkeypatch.setattr(ports, "plugged", lambda: [])
    put(tmp_path, "etc/group", "root:x:0:\ndialout:x:20:other\nplugdev:x:46:\n")
    return tmp_path


def put(root: Path, name: str, content: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content, encoding="utf-8")


def found(root: Path, word: str) -> Finding | None:
    """The one finding that speaks of it."""
    findings = [finding for finding in permissions.examine(root) if word in finding.what]
    assert len(findings) <= 1, findings
    return findings[0] if findings else None


def test_group_that_may_open_ports(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found(computer, "group dialout")
    assert finding and finding.state == "warning" and "sudo usermod -aG dialout $USER" in finding.hint
    put(computer, "etc/group", "uucp:x:986:\n")
    assert "uucp" in getattr(found(computer, "group uucp"), "hint", "")
    monkeypatch.setattr(os, "getgroups", lambda: [1000, 986])
    assert found(computer, "group uucp") is None


def test_port_that_may_not_be_opened(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = computer / "ttyACM0"
    port.write_text("")
    port.chmod(stat.S_IRUSR)
    monkeypatch.setattr(os, "access", lambda path, how: False)
    device = Device(port=str(port), vid=0x1209, pid=1, boards=("x",))
    monkeypatch.setattr(ports, "plugged", lambda: [device])
    finding = found(computer, "you may not open it")
    assert finding and finding.what.startswith(f"serial port {port} (x)") and "usermod -aG" in finding.hint
    assert found(computer, "group dialout") is None  # it is said of the port


def test_udev_rule_of_probes(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found(computer, "udev rule")
    assert finding and finding.state == "absent" and "of 0483" in finding.what
    assert 'ATTR{idVendor}=="0483", MODE="0660", GROUP="plugdev", TAG+="uaccess"' in finding.hint
    monkeypatch.setattr(ports, "plugged", lambda: [Device(vid=0x0483, pid=0x374B)])
    assert getattr(found(computer, "udev rule"), "state", "") == "warning"
    put(computer, "usr/lib/udev/rules.d/60-openocd.rules", 'ATTRS{idVendor}=="0483", ATTRS{idProduct}=="374b"\n')
    assert found(computer, "udev rule") is None


def test_modem_manager(computer: Path) -> None:
    assert found(computer, "ModemManager") is None
    put(computer, "proc/1/comm", "systemd\n")
    put(computer, "proc/612/comm", "ModemManager\n")
    finding = found(computer, "ModemManager")
    assert finding and finding.state == "warning"
    assert 'ATTRS{idVendor}=="0403|0483|067b|10c4|1209|1a86", ENV{ID_MM_DEVICE_IGNORE}="1"' in finding.hint
    put(computer, "etc/udev/rules.d/77-edge-no-modems.rules", MODEM_RULE)
    assert getattr(found(computer, "ModemManager"), "state", "") == "ok"


@pytest.mark.parametrize(("rules", "grabs"), [(BRLTTY_6_4, True), (BRLTTY_6_5, False)], ids=["6.4", "6.5"])
def test_brltty(computer: Path, rules: str, grabs: bool) -> None:
    put(computer, "usr/lib/udev/rules.d/85-brltty.rules", rules)
    finding = found(computer, "brltty")
    assert bool(finding) == grabs
    if finding:
        assert "sudo ln -s /dev/null /etc/udev/rules.d/85-brltty.rules" in finding.hint
        put(computer, "etc/udev/rules.d/85-brltty.rules", "")  # as the link makes it
        assert found(computer, "brltty") is None


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_other_systems_are_not_asked_for_what_they_lack(
    computer: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.setattr(permissions.platform, "system", lambda: system)
    monkeypatch.delattr(os, "geteuid")
    assert "not tried by us" in "".join(finding.what for finding in permissions.examine(computer))


def test_every_absent_thing_has_its_remedy(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert all(each.hint for each in permissions.examine(computer) if each.state != "ok")
