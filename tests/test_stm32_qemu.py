"""Boards with STM32s in QEMU: the images are those for silicon, and find out themselves where they run.

netduinoplus2 has no clocks there, which is what tests the firmware's way out; b-l475e-iot01a, of QEMU 9.1 and newer,
has the L4's clock tree.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import firmware
import pytest
import tiny
from test_boards import FAULT, STRICT, TRIGGERS, answer
from test_compile import assert_equal_to_numpy, forward

from edge.make.convert import convert
from edge.measure.bench import refuse_without_clock
from firmware_tools import boards, build, elf, graph
from firmware_tools.compile import compile_model
from firmware_tools.emulators import qemu
from firmware_tools.errors import MissingTool, UserError
from firmware_tools.link import Link
from firmware_tools.sampler import Sampler

NAMES = ("netduinoplus2", "b-l475e-iot01a")
TROUBLE = {"netduinoplus2": "the 25 MHz crystal", "b-l475e-iot01a": ""}
TICKS_HZ = {"netduinoplus2": 1_000_000_000, "b-l475e-iot01a": 80_000_000}


@pytest.fixture(scope="module")
def model() -> graph.Graph:
    return graph.read(convert(tiny.checkpoint()))


def start(image: build.Image) -> Link:
    try:
        return qemu.open(image)
    except MissingTool as missing:
        pytest.skip(missing.message)


@pytest.fixture(scope="module", params=NAMES)
def image(request: pytest.FixtureRequest, model: graph.Graph) -> build.Image:
    board = boards.load(request.param)
    return build.build(compile_model(model, board), board)


@pytest.fixture
def link(image: build.Image) -> Iterator[Link]:
    with start(image) as link:
        yield link


@pytest.mark.system
def test_it_says_what_it_is_and_what_did_not_start(image: build.Image, link: Link) -> None:
    info = link.hello()
    assert (info.board, info.emulated) == (f"EMULATED {image.board}", True)
    assert (info.trouble, info.ticks_hz) == (TROUBLE[image.board], TICKS_HZ[image.board])
    assert info.image == image.facts.identity
    content = image.flash_content()
    assert link.check() == (len(content), zlib.crc32(content))


@pytest.mark.system
def test_it_computes_what_numpy_does(image: build.Image, link: Link, model: graph.Graph) -> None:
    board = boards.load(image.board)
    assert_equal_to_numpy(model, 24, lambda token, position: forward(link, token, position), 8, board)
    assert link.generate(3, Sampler(temperature=1.0, top_p=0.9, seed=3), seed=True)


@pytest.mark.system
@pytest.mark.parametrize("name", NAMES)
def test_a_second_ram_holds_what_the_first_has_no_room_for(name: str, model: graph.Graph) -> None:
    board = boards.load(name)
    small = dataclasses.replace(board, ram=dataclasses.replace(board.ram, size_bytes=13 << 10))
    image = build.build(compile_model(model, small), small)
    assert image.sizes.regions[2].used_bytes > 0
    with start(image) as link:
        assert_equal_to_numpy(model, 24, lambda token, position: forward(link, token, position), 8, board)


@pytest.mark.system
def test_ticks_are_instructions_or_none(image: build.Image, link: Link, model: graph.Graph) -> None:
    """The chip's timers count them; the same core in unicorn executes as many."""
    from firmware_tools.emulators import unicorn

    ids = [1, 270, 280]
    counted = [link.prefill(ids), *(link.forward(200 + at, at) for at in range(3, 9))]
    if image.board == "b-l475e-iot01a":
        assert set(counted) == {None}
        return
    board = boards.load("virtual-m4")
    with unicorn.open(build.build(compile_model(model, board), board), counting=True) as other:
        expected = [other.prefill(ids), *(other.forward(200 + at, at) for at in range(3, 9))]
    assert counted == pytest.approx(expected, rel=0.005)


@pytest.mark.system
def test_bench_says_who_counts(link: Link, image: build.Image) -> None:
    target = f"{image.board}@qemu"
    if image.board == "netduinoplus2":
        refuse_without_clock(target, link)
        return
    with pytest.raises(UserError, match="counts nothing") as raised:
        refuse_without_clock(target, link)
    assert raised.value.hint == "qemu has no counter for it; --on virtual-m4 counts what the same core executes"


@pytest.mark.system
def test_frames_end_after_silence(link: Link) -> None:
    """Milliseconds go on while the board sleeps, whichever timers there are."""
    link.hello()
    seen, deadline = b"", time.monotonic() + 60
    while b"m-ready" not in seen and time.monotonic() < deadline:
        time.sleep(2.5)  # the board's own two seconds may take longer here
        link._transport.write(b"name%")
        seen += link._transport.read(1.0) + link._transport.read(1.0)
    assert b"m-name-dut-[EMULATED" in seen


@pytest.mark.system
@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_reported(name: str) -> None:
    board = boards.load(name)
    strict = firmware.image(STRICT, board)
    for byte, _needed in TRIGGERS.values():
        try:
            transport = qemu.QemuTransport(strict, board)
        except MissingTool as missing:
            pytest.skip(missing.message)
        with closing(transport):
            while not transport.read(0.2):  # what comes before the UART is on is lost
                transport.write(b"q")
            while transport.read(0.2):
                pass
            report = answer(transport, byte)
        assert report.startswith(FAULT) and report.endswith(b"]"), report
        assert elf.read(strict.elf).function_at(int(report[len(FAULT) : -1], 16)) == "serve"


# --- which QEMU

WHICH = "#!/bin/sh\necho 'QEMU emulator version {version} (a script)'\n"


def script(path: Path, version: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(WHICH.format(version=version), encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")
def test_a_machine_takes_the_first_qemu_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = script(tmp_path / "path" / qemu.PROGRAM, "7.2.22"), script(tmp_path / "new" / "qemu", "10.0.2")
    monkeypatch.setenv("PATH", f"{old.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv(qemu.NEWER, raising=False)
    virtual, netduino, l475 = (boards.load(name).machine for name in ("virtual-m4", *NAMES))
    assert virtual and netduino and l475
    assert qemu.find(virtual) == qemu.find(netduino) == str(old)
    with pytest.raises(MissingTool, match=r"needs QEMU 9\.1 or newer, and qemu-system-arm is 7\.2") as raised:
        qemu.find(l475)
    assert "bookworm-backports" in raised.value.hint and qemu.NEWER in raised.value.hint
    with pytest.raises(MissingTool, match=r"netduinoplus2 with all its RAM needs QEMU 8\.0"):
        qemu.find(netduino, more_ram=True)
    monkeypatch.setenv(qemu.NEWER, str(new))
    assert qemu.find(l475) == qemu.find(netduino, more_ram=True) == str(new)
    assert qemu.find(virtual) == str(old), "counts stay those of one version"
    monkeypatch.setenv(qemu.NEWER, str(script(tmp_path / "older" / "qemu", "8.2.1")))
    with pytest.raises(MissingTool, match=r"is 8\.2"):
        qemu.find(l475)
    monkeypatch.setenv(qemu.NEWER, str(tmp_path / "nothing"))
    with pytest.raises(MissingTool, match="cannot be run"):
        qemu.find(l475)


@pytest.mark.system
def test_the_intent_model_runs_on_it() -> None:
    """As a user types it, from a flash of 1 MB and 128 KB of RAM."""
    if shutil.which(qemu.PROGRAM) is None:
        pytest.skip(f"{qemu.PROGRAM} is not installed")
    asked = ["run", "intent", "turn the kitchen lamp down to 20 percent", "--on", "netduinoplus2@qemu"]
    done = subprocess.run(
        [sys.executable, "-m", "edge", *asked], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.strip() == "light_set room=kitchen level=20"
    assert "the 25 MHz crystal" in done.stderr
