"""What another computer says of itself, and what is said about it: obstacles, warnings, memory; and the doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from as_pi import Here

from edge.cli import main
from edge.make import convert
from edge.run import finding
from edge.run.pi import doctor, memory
from edge.run.pi.computer import obstacles, refuse, understand, warnings
from firmware_tools import graph
from firmware_tools.errors import DoesNotFit, MissingTool, UserError

PI_4 = {
    "system": "Linux",
    "machine": "aarch64",
    "bits": 64,
    "model": "Raspberry Pi 4 Model B Rev 1.4",
    "os": "Debian GNU/Linux 12 (bookworm)",
    "kernel": "6.6.31+rpt-rpi-v8",
    "python": [3, 11, 2],
    "implementation": "CPython",
    "libc": "glibc 2.36",
    "memory_total_bytes": 3_980_000_000,
    "memory_available_bytes": 3_600_000_000,
    "disk_free_bytes": 20_000_000_000,
    "home_writable": True,
    "temperature_c": 48.2,
    "throttled": 0,
    "numpy": "",
}


def test_a_pi_4_has_no_obstacles() -> None:
    computer = understand(PI_4)
    assert obstacles(computer) == warnings(computer) == []
    assert computer.title() == (
        "Raspberry Pi 4 Model B Rev 1.4, 64-bit, Debian GNU/Linux 12 (bookworm), Python 3.11.2, "
        "3,980 MB of memory, 3,600 MB free, 48.2 °C"
    )


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"python": [3, 9, 2]}, "Python 3.9.2 is too old", "64-bit Raspberry Pi OS"),
        ({"python": [3, 5, 3]}, "Python 3.5.3 is too old", "64-bit Raspberry Pi OS"),
        ({"python": [3, 15, 0]}, "Python 3.15.0 is newer than what the runtime", "newer edge"),
        ({"implementation": "PyPy"}, "PyPy, not CPython", "python3"),
        ({"bits": 32, "python": [3, 13, 5]}, "32-bit with Python 3.13.5, for which there is no runtime", "64-bit"),
        ({"bits": 32, "numpy": ""}, "it has no numpy", "sudo apt install python3-numpy"),
        ({"bits": 32, "numpy": "2.2.4"}, "needs numpy 1", "pip uninstall numpy"),
        ({"bits": 32, "libc": "glibc 2.31", "numpy": "1.19.5"}, "the runtime needs 2.34", "64-bit"),
        ({"bits": 32, "machine": "armv6l"}, "ARMv6", "Zero 2"),
        ({"machine": "riscv64"}, "no runtime for its processor (riscv64, 64-bit)", "aarch64"),
        ({"libc": ""}, "not glibc", "Raspberry Pi OS"),
        ({"libc": "glibc 2.24"}, "the runtime needs 2.27", "64-bit"),
        ({"system": "Darwin"}, "it runs Darwin", "--on host"),
        ({"home_writable": False}, "its home folder cannot be written", "ls -ld"),
    ],
)
def test_what_has_no_road_is_said_before_anything_is_copied(changes: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        refuse(understand({**PI_4, **changes}), "ssh:pi")
    assert caught.value.message.startswith("cannot deploy to ssh:pi: ") and message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("machine", ["armv7l", "aarch64", "armv8l"])
def test_a_32_bit_python_counts_as_32_bit_whatever_the_kernel(machine: str) -> None:
    computer = understand({**PI_4, "machine": machine, "bits": 32, "numpy": "1.24.2"})
    assert computer.architecture == "armv7l" and not obstacles(computer)


def test_what_makes_it_slow_is_told() -> None:
    told = understand({**PI_4, "throttled": 0x50005, "temperature_c": 84.0})
    assert [trouble.what for trouble in warnings(told)] == [
        "it is under-supplied (under-voltage) now",
        "it is throttled now",
        "it has 84.0 °C: it slows itself down soon",
    ]
    assert [t.what for t in warnings(understand({**PI_4, "throttled": 0x20000}))] == [
        "it has been capped in its clock since it was started"
    ]


@pytest.mark.parametrize(
    "told",
    [
        {},
        {name: None for name in PI_4},
        {name: [] for name in PI_4},
        {name: -1 for name in PI_4},
        {name: 1e400 for name in PI_4},
        {name: {"a": 1} for name in PI_4},
        {**PI_4, "python": ["3", True, None], "memory_available_bytes": True, "throttled": 1 << 200},
    ],
)
def test_a_computer_may_say_anything(told: dict[str, Any]) -> None:
    computer = understand(told)
    assert obstacles(computer)
    assert warnings(computer) == [] or computer.temperature_c is not None
    assert computer.title().isprintable()


def test_what_it_says_is_harmless_to_a_terminal() -> None:
    computer = understand({**PI_4, "model": "\x1b]0;pwned\x07Pi\n\u202eevil" + "x" * 1000, "machine": "\x1b[2J"})
    assert computer.title().isprintable() and len(computer.model) <= 100
    assert "\x1b" not in obstacles(computer)[0].what


def test_memory_is_estimated_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(convert.convert(tiny.checkpoint()))
    model = graph.read(path)
    needed, old = memory.need(model, 64), memory.need(model, 32)
    shape = model.card["architecture"]
    head_dim = shape["dim"] // shape["heads"]
    assert needed.cache_bytes == 4 * 2 * shape["layers"] * shape["kv_heads"] * head_dim * shape["context"]
    assert old.weights_bytes == needed.weights_bytes and old.total_bytes > needed.total_bytes
    least = sum(np.prod(size) for size in ((300, 32), (2, 32, 44), (2, 44, 32), (2, 32, 44), (2, 32, 32), (2, 32, 32)))
    assert least < needed.weights_bytes < path.stat().st_size


def test_a_model_that_does_not_fit_is_refused_with_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "tiny.tflite").write_bytes(convert.convert(tiny.checkpoint()))
    model = graph.read(tmp_path / "tiny.tflite")
    memory.refuse(model, understand(PI_4), "ssh:pi")
    with pytest.raises(DoesNotFit, match="ssh:pi has 50 MB of memory left, and the model needs about 60 MB") as caught:
        memory.refuse(model, understand({**PI_4, "memory_available_bytes": 50_000_000}), "ssh:pi")
    assert "a smaller model" in caught.value.hint
    memory.refuse(model, understand({**PI_4, "memory_available_bytes": None}), "ssh:pi")


def test_a_context_that_fits_is_proposed(tmp_path: Path) -> None:
    long = tiny.checkpoint(context=8000, dim=192, hidden_dim=44, kv_heads=4)
    (tmp_path / "long.tflite").write_bytes(convert.convert(long, context=8000))
    model = graph.read(tmp_path / "long.tflite")
    needed = memory.need(model, 64)
    half = needed.total_bytes - needed.cache_bytes // 2
    with pytest.raises(DoesNotFit, match="KV cache") as caught:
        memory.refuse(model, understand({**PI_4, "memory_available_bytes": half}), "ssh:pi")
    assert "edge convert --context 4000 " in caught.value.hint
    (tmp_path / "fits.tflite").write_bytes(convert.convert(long, context=4000))
    memory.refuse(graph.read(tmp_path / "fits.tflite"), understand({**PI_4, "memory_available_bytes": half}), "ssh:pi")
    with pytest.raises(DoesNotFit) as caught:
        memory.refuse(model, understand({**PI_4, "memory_available_bytes": 1}), "ssh:pi")
    assert "a smaller model" in caught.value.hint


def test_the_doctor_knows_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = doctor.examine_here()
    said = finding.text(findings)
    assert "target host: ai-edge-litert" in said or "tflite-runtime" in said
    assert all(finding.hint for finding in findings if finding.state in ("missing", "absent"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("EDGE_SSH", "")
    bare = {finding.what.partition(":")[0]: finding for finding in doctor.examine_here()}
    assert bare["toolchain gcc"].state == "absent" and "apt install" in bare["toolchain gcc"].hint
    assert bare["Raspberry Pis over ssh"].state == "absent"
    assert bare["emulator qemu is not installed"].state == "absent"


def test_the_doctor_lists_what_is_deployed_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here(tmp_path)
    with here.visit() as there:
        findings = doctor.examine(there, "ssh:here")
    assert any(f.what == "no runtime is deployed yet" and "edge deploy MODEL" in f.hint for f in findings)
    assert not here.base.exists()
    name = "ab" * 32
    (here.base / "models").mkdir(parents=True)
    (here.base / "models" / f"{name}.tflite").write_bytes(bytes(2_000_000))
    (here.base / "models" / "other.tflite").write_bytes(b"")
    with here.visit() as there:
        said = finding.text(doctor.examine(there, "ssh:here"))
    assert f"model {name[:12]}, 2.0 MB" in said and "other" not in said


def test_the_doctor_needs_ssh_to_look_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SSH", "/no/such/program")
    with pytest.raises(MissingTool, match="there is no program"):
        doctor.examine_other("ssh:pi@raspberrypi.local")


@pytest.mark.parametrize(("state", "code"), [("missing", 1), ("absent", 0), ("warning", 0)])
def test_the_doctors_exit_code_says_whether_something_needed_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    monkeypatch.setattr(doctor, "examine_here", lambda: [finding.Finding(state, "a \x1b[31mthing", "pip install it")])
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == code
    assert capsys.readouterr().out == f"{state:8} a [31mthing\n           pip install it\n"
