"""What a computer tells of itself: folders that pose as Pis, a vcgencmd that misbehaves, and this very machine."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import machines
import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import PIS, pose

from edge.run.agent import emulation, machine, vcgencmd

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux's /proc and /sys")


def told(root: Path, name: str) -> dict[str, object]:
    return machine.facts(root, PIS[name].architecture)


# ------------------------------------------------------------------------------------------------- what Pis tell


@pytest.mark.parametrize("name", PIS)
def test_a_pi_tells_what_it_is(tmp_path: Path, name: str) -> None:
    pi, found = PIS[name], told(pose(tmp_path, PIS[name]), name)
    assert (found["model"], found["revision"], found["kernel"]) == (pi.model, pi.revision, pi.kernel)
    assert (found["architecture"], found["cores"]) == (pi.architecture, pi.cpuinfo.count("processor"))
    assert found["memory_bytes"] == 1024 * pi.memory_kb and found["memory_available_bytes"] == 1024 * 300000
    assert (found["swap_bytes"], found["swap_free_bytes"]) == (1024 * 102396, 0), "no swap left is a fact, and 0"
    assert (found["clock_min_hz"], found["clock_max_hz"]) == tuple(1000 * clock for clock in pi.clocks)
    assert found["clock_hz"] == 1000 * pi.clocks[0] and found["clock_limit_hz"] == 1000 * pi.clocks[1]
    assert found["governors"] == ["ondemand"] and found["load_1min"] == 0.52
    assert found["temperature_c"] == 48.312 and found["temperature_limit_c"] == 85
    assert found["temperatures_c"]["cpu-thermal"] == 48.312
    assert found["system"] == "Debian GNU/Linux 12 (bookworm)"
    assert "emulated_because" not in found and "virtual" not in found
    assert "a1b2c3d4" not in json.dumps(found), "a serial number is nobody's business"


@pytest.mark.parametrize(
    ("name", "cpu", "features"),
    [
        ("zero-w", "ARM1176", ["half", "edsp"]),
        ("zero-2", "Cortex-A53", ["asimd", "crc32"]),
        ("3b+", "Cortex-A53", ["half", "edsp", "neon", "vfpv3", "vfpv4", "crc32"]),
        ("4", "Cortex-A72", ["asimd", "crc32"]),
        ("5", "Cortex-A76", ["asimd", "crc32", "atomics", "fphp", "asimdhp", "asimdrdm", "asimddp"]),
    ],
)
def test_processors_have_names(tmp_path: Path, name: str, cpu: str, features: list[str]) -> None:
    found = told(pose(tmp_path, PIS[name]), name)
    assert (found["cpu"], found["cpu_features"]) == (cpu, features)


def test_only_a_pi_5_tells_of_its_power(tmp_path: Path) -> None:
    found = told(pose(tmp_path / "5", PIS["5"]), "5")
    assert found["supply_a"] == 5
    rails = {rail["name"]: rail for rail in found["rails"]}
    assert rails["VDD_CORE"] == {"name": "VDD_CORE", "v": 0.7494498, "a": 1.11625}
    assert rails["EXT5V"] == {"name": "EXT5V", "v": 5.0853}, "a current that is not measured is absent"
    assert len(rails) == 14
    assert found["rails_w"] == pytest.approx(
        0.34356 + 0.27188 + 0.27034 + 0.0043 + 0.22411 + 0.24393 + 0.83657 + 0.00061 + 0.00219 + 0.08471, abs=1e-3
    )
    other = told(pose(tmp_path / "4", PIS["4"]), "4")
    assert not {"supply_a", "rails", "rails_w"} & set(other)


@pytest.mark.parametrize(
    ("bits", "now", "since_boot"),
    [
        ("0x0", (), ()),
        ("0x50005", ("under-voltage", "throttled"), ("under-voltage", "throttled")),
        ("0x80008", ("soft-temperature-limit",), ("soft-temperature-limit",)),
        ("0xe0000", (), ("frequency-capped", "throttled", "soft-temperature-limit")),
        ("0x20002", ("frequency-capped",), ("frequency-capped",)),
    ],
)
def test_throttling_has_names(tmp_path: Path, bits: str, now: tuple[str, ...], since_boot: tuple[str, ...]) -> None:
    root = pose(tmp_path, PIS["4"])
    machines.answers(root, get_throttled=f"throttled={bits}\n")
    found = told(root, "4")
    assert (found["throttled"], found["throttled_now"], found["throttled_since_boot"]) == (bits, now, since_boot)


@pytest.mark.parametrize("soc", ["soc", "soc@107c000000"])
def test_the_kernel_tells_of_throttling_where_the_program_may_not(tmp_path: Path, soc: str) -> None:
    root = pose(tmp_path, PIS["4"])
    machines.program(root, "#!/bin/sh\necho 'VCHI initialization failed'\nexit 255\n")
    machines.put(root, f"sys/devices/platform/{soc}/{soc}:firmware/get_throttled", "50005\n")
    found = told(root, "4")
    assert found["throttled"] == "0x50005" and "clock_measured_hz" not in found
    assert found["temperature_c"] == 48.312


# ------------------------------------------------------------------------------- what is missing, and what is wrong


def test_nothing_is_told_of_nothing(tmp_path: Path) -> None:
    found = machine.facts(tmp_path, "x86_64")
    assert set(found) == {"kernel", "architecture", "userland_bits"}


@pytest.mark.parametrize("missing", ["cpuinfo", "meminfo", "loadavg", "device-tree/model"])
def test_what_is_missing_is_absent(tmp_path: Path, missing: str) -> None:
    root = pose(tmp_path, PIS["5"])
    whole = told(root, "5")
    (root / "proc" / missing).unlink()
    found = told(root, "5")
    assert set(found) < set(whole) and {key: whole[key] for key in found} == found


@pytest.mark.parametrize(
    "script",
    [
        "#!/bin/sh\nexit 1\n",
        "#!/bin/sh\necho 'error=1 error_msg=\"Command not registered\"'\n",
        "#!/bin/sh\nhead -c 200000 /dev/urandom\n",
        "#!/bin/sh\nyes throttled=0x1\n",
        "#!/bin/sh\nprintf '\\377\\000\\033[31mthrottled=0x1'\n",
        "#!/bin/sh\necho throttled=0x1 temp=99999 'frequency(48)=-3'\n",
        "#!/no/such/interpreter\n",
        "not a program",
        "",
    ],
)
def test_a_program_that_talks_nonsense_tells_nothing(tmp_path: Path, script: str) -> None:
    root = pose(tmp_path, PIS["5"])
    machines.program(root, script)
    found = told(root, "5")
    assert not {"throttled", "clock_measured_hz", "rails", "temperature_limit_c"} & set(found)
    assert found["temperature_c"] == 48.312 and list(found["temperatures_c"]) == ["cpu-thermal"]


def test_a_program_that_hangs_is_ended_and_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it started goes with it: the sleep here holds a lock that is free afterwards."""
    monkeypatch.setattr(vcgencmd, "TIMEOUT_S", 0.2)
    root = pose(tmp_path, PIS["5"])
    log, children = tmp_path / "asked", tmp_path / "children"
    machines.program(root, f"#!/bin/sh\necho $1 >> {log}\nsleep 1000 &\necho $! >> {children}\nwait\n")
    found = told(root, "5")
    assert "throttled" not in found and found["temperature_c"] == 48.312
    assert len(log.read_text().split()) == 1
    for child in children.read_text().split():
        state = Path(f"/proc/{child}/stat")
        assert not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] in "ZX"


def test_a_folder_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "usr/bin/vcgencmd").mkdir(parents=True)
    assert vcgencmd.Vcgencmd(tmp_path).ask("get_throttled") == ""


def test_zones_of_others_are_not_the_processor(tmp_path: Path) -> None:
    zones = {"acpitz": (27800, "hot", 99000), "x86_pkg_temp": (61000, "passive", 0), "iwlwifi_1": (40000, "", 0)}
    for at, (kind, (temperature, trip, limit)) in enumerate(zones.items()):
        zone = f"sys/class/thermal/thermal_zone{at}"
        machines.put(tmp_path, f"{zone}/type", kind)
        machines.put(tmp_path, f"{zone}/temp", f"{temperature}\n")
        machines.put(tmp_path, f"{zone}/trip_point_0_type", trip)
        machines.put(tmp_path, f"{zone}/trip_point_0_temp", f"{limit}\n")
    found = machine.facts(tmp_path, "x86_64")
    assert found["temperature_c"] == 61 and "temperature_limit_c" not in found, "a trip of 0 is switched off"
    assert found["temperatures_c"] == {"x86_pkg_temp": 61, "acpitz": 27.8, "iwlwifi_1": 40}
    machines.put(tmp_path, "sys/class/thermal/thermal_zone1/trip_point_0_temp", "95000")
    assert machine.facts(tmp_path, "x86_64")["temperature_limit_c"] == 95


def test_cores_of_two_kinds(tmp_path: Path) -> None:
    core = PIS["5"].cpuinfo.split("\n\n")[0]
    machines.put(tmp_path, "proc/cpuinfo", f"{core}\n\n{core.replace('0xd0b', '0xd05')}\n\n{core}\n")
    for at, governor in enumerate(("schedutil", "schedutil", "performance")):
        machines.put(tmp_path, f"sys/devices/system/cpu/cpufreq/policy{at}/scaling_governor", governor)
        machines.put(tmp_path, f"sys/devices/system/cpu/cpufreq/policy{at}/scaling_cur_freq", f"{1000 + at}")
    found = machine.facts(tmp_path, "aarch64")
    assert found["cpu"] == "Cortex-A76, Cortex-A55" and found["cores"] == 3
    assert found["governors"] == ["schedutil", "performance"] and found["clock_hz"] == 1002000


@given(st.text())
def test_any_text_is_no_rail_or_a_rail(text: str) -> None:
    for rail in vcgencmd.pmic(text):
        assert rail.v is not None or rail.a is not None
    vcgencmd.throttled(text)


@given(st.binary(max_size=300), st.sampled_from(["proc/cpuinfo", "proc/meminfo", "proc/loadavg", "etc/os-release"]))
def test_any_bytes_are_read(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    root = tmp_path_factory.mktemp("any")
    machines.put(root, name, content)
    json.dumps(machine.facts(root, "aarch64"), allow_nan=False)


# ------------------------------------------------------------------------------------------- emulated, or virtual


def emulated(root: Path, architecture: str = "aarch64", **environment: str) -> str | None:
    return emulation.emulated(root, architecture, environment)


@linux
def test_a_pi_is_not_emulated(tmp_path: Path) -> None:
    root = pose(tmp_path, PIS["4"])
    assert emulated(root) is None and emulation.virtual(root) is None


@linux
def test_qemu_user_is_recognized(tmp_path: Path) -> None:
    root = pose(tmp_path / "a", PIS["4"])
    assert emulated(root, QEMU_CPU="cortex-a72") == "QEMU_CPU is set"
    (root / "proc/thread-self").mkdir()
    (root / "proc/thread-self/exe").symlink_to("/usr/bin/qemu-aarch64-static")
    assert emulated(root) == "its programs run in qemu-aarch64-static"
    machines.put(tmp_path / "b", "proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n")
    machines.put(tmp_path / "b", "proc/self/status", "")
    assert emulated(tmp_path / "b") == "its programs are for arm, its processor is x86"
    assert emulated(tmp_path / "b", "x86_64", QEMU_CPU="max") is None
    assert emulated(tmp_path / "c") == "there is no /proc, as on every real one"
    assert emulated(tmp_path / "c", "x86_64") is None


@linux
def test_an_emulated_machine_is_not_a_virtual_one(tmp_path: Path) -> None:
    root = pose(tmp_path, PIS["4"])
    machines.put(root, "proc/device-tree/model", "linux,dummy-virt\0")
    assert emulated(root) == "it is a machine of QEMU's" and emulation.virtual(root) == "linux,dummy-virt"
    machines.put(root, "sys/class/ptp/ptp0/clock_name", "KVM virtual PTP\n")
    assert emulated(root) is None and emulation.virtual(root) == "kvm"
    (root / "sys/class/ptp/ptp0/clock_name").unlink()
    cpuinfo = PIS["4"].cpuinfo
    machines.put(root, "proc/cpuinfo", cpuinfo.replace("0x41", "0x61"))
    assert emulated(root) is None, "no emulator has cores of that maker"
    machines.put(root, "proc/cpuinfo", cpuinfo.replace("implementer\t: 0x41", "implementer\t: 0x00"))
    machines.put(root, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    assert emulated(root) == "its processor is one that emulators have"


@linux
def test_virtual_machines_of_pcs(tmp_path: Path) -> None:
    flags = "vendor_id\t: GenuineIntel\nmodel name\t: QEMU Virtual CPU version 2.5+\nflags\t: fpu sse hypervisor\n"
    machines.put(tmp_path, "proc/cpuinfo", flags)
    assert emulated(tmp_path, "x86_64") == "it is a machine of QEMU's"
    assert emulation.virtual(tmp_path) == "hypervisor"
    clock = "sys/devices/system/clocksource/clocksource0/available_clocksource"
    machines.put(tmp_path, clock, "kvm-clock tsc acpi_pm\n")
    assert emulated(tmp_path, "x86_64") is None and emulation.virtual(tmp_path) == "kvm"
    machines.put(tmp_path, "proc/cpuinfo", flags.replace("QEMU Virtual CPU", "QEMU TCG CPU"))
    assert emulated(tmp_path, "x86_64") == "its processor is one that emulators have"
    machines.put(tmp_path, "proc/cpuinfo", "vendor_id\t: VirtualApple\nmodel name\t: VirtualApple @ 2.50GHz\n")
    assert emulated(tmp_path, "x86_64") == "its processor is one that emulators have"


@linux
def test_this_machine_tells_the_truth() -> None:
    found = machine.facts()
    assert found["architecture"] == platform.machine() and found["kernel"] == platform.release()
    assert found["memory_bytes"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found["cores"] == os.cpu_count()
    assert "emulated_because" not in found, "tests of times would mean nothing here"
