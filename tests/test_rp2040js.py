"""The Pico's image in rp2040js: it starts as the boot ROM starts it, reaches its clocks, and computes as others do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from link_device import Terminal

from edge.make.convert import convert
from firmware_tools import boards, build, elf, fuse, graph, interpret, stack
from firmware_tools.bfp_program import for_board
from firmware_tools.build import Image
from firmware_tools.compile import compile_model
from firmware_tools.emulators import rp2040js, unicorn
from firmware_tools.emulators.rp2040js import Rp2040Transport
from firmware_tools.errors import LinkError, MissingTool, UserError
from firmware_tools.link import Clock, Link

pytestmark = pytest.mark.system
CLOCK = Clock("instructions", 1.0)
PROMPT = [1, 5, 6, 7, 8, 9, 10]
PREFILL, DECODE = 2, 3  # pins
CRYSTAL_HZ, FULL_SPEED_HZ = 12_000_000, 125_000_000


def built(model: graph.Graph, board: str, without: str = "") -> Image:
    facts = boards.load(board)
    facts = replace(facts, features=facts.features - {without})
    return build.build(compile_model(model, facts), facts)


@pytest.fixture(scope="module")
def model() -> graph.Graph:
    return graph.read(convert(tiny.checkpoint(card={"template": {"before": "a", "after": " b"}}), "int8"))


@pytest.fixture(scope="module")
def pico(model: graph.Graph) -> Image:
    try:
        rp2040js.command()
    except MissingTool as missing:
        pytest.skip(f"{missing.message}: {missing.hint}")
    return built(model, "pico")


@pytest.fixture(scope="module")
def virtual(model: graph.Graph) -> Image:
    return built(model, "virtual-m0")


def computed(link: Link) -> list[Any]:
    """What a prefill and three steps count and answer."""
    counts = [link.prefill(PROMPT)]
    logits = [link.logits()]
    for position, token in enumerate((3, 4, 5), len(PROMPT)):
        counts.append(link.forward(token, position))
        logits.append(link.logits())
    return [counts, *logits]


def test_the_model_answers_as_numpys_and_counts_as_on_the_virtual_board(
    model: graph.Graph, pico: Image, virtual: Image
) -> None:
    """With one core the same kernels on the same core: what differs is how a board reads its counter and calls code in
    RAM. With two the same bits, and fewer instructions of the first."""
    with rp2040js.open(pico) as link, unicorn.open(virtual, counting=True) as other:
        info = link.hello()
        assert (info.board, info.emulated, info.ticks_hz, info.trouble) == ("EMULATED pico", True, FULL_SPEED_HZ, "")
        assert info.image == pico.facts.identity
        counts, *logits = computed(link)
        expected_counts, *expected = computed(other)
        assert link.prefill(PROMPT) == counts[0]
        link.forward(3, len(PROMPT))
        assert link.check() == (len(pico.flash_content()), zlib.crc32(pico.flash_content()))
    with rp2040js.open(built(model, "pico", without="pair")) as link:
        alone_counts, *alone = computed(link)
    assert all(np.array_equal(a, b) for a, b in zip(logits, expected, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(alone, expected, strict=True))
    assert (pico.facts.weights_in, pico.facts.code_in) == ("ram", "ram")
    assert all(0 <= a - b < 100 for a, b in zip(alone_counts, expected_counts, strict=True))
    assert alone_counts == pytest.approx(expected_counts, rel=0.005)
    assert all(0.5 * a < b < 0.9 * a for a, b in zip(alone_counts, counts, strict=True))
    program = for_board(fuse.program(model), boards.load("pico"))
    run = interpret.start(program)
    for position, token in enumerate(PROMPT):
        row = interpret.step(program, run, token, position)
    assert np.array_equal(logits[0], row)


def test_clocks_baud_rate_and_pins(pico: Image, tmp_path: Path) -> None:
    """Each pin is high once for each request of its kind, never both, and for as long as the ticks say."""
    report = tmp_path / "report.json"
    with Link(Rp2040Transport(pico, report=report), CLOCK) as link:
        link.hello()
        counts = [link.prefill(PROMPT), link.forward(3, len(PROMPT)), link.forward(4, len(PROMPT) + 1)]
    told = json.loads(report.read_text(encoding="ascii"))
    assert told["clk_sys_hz"] == told["clk_peri_hz"] == FULL_SPEED_HZ
    assert told["baud"] == pytest.approx(115200, rel=0.0005)
    high = told["edges"][0::2]
    low = told["edges"][1::2]
    assert [(pin, level) for pin, level, _ in told["edges"]] == [
        (pin, level) for pin in (PREFILL, DECODE, DECODE) for level in (1, 0)
    ]
    for (_, _, up), (_, _, down), count in zip(high, low, counts, strict=True):
        assert count is not None and count <= down - up <= count + 100


@pytest.mark.parametrize(
    ("never", "trouble", "clk_sys_hz"),
    [(["pll"], "the PLL", CRYSTAL_HZ), (["xosc"], "the crystal", 6_500_000)],
)
def test_what_does_not_start_is_told_and_the_rest_goes_on(
    pico: Image, tmp_path: Path, never: list[str], trouble: str, clk_sys_hz: int
) -> None:
    report = tmp_path / "report.json"
    with Link(Rp2040Transport(pico, never=never, report=report), CLOCK) as link:
        info = link.hello()
        assert (info.trouble, info.ticks_hz) == (trouble, clk_sys_hz)
        counts, *_ = computed(link)
        assert link.prefill(PROMPT) == counts[0]
    told = json.loads(report.read_text(encoding="ascii"))
    assert told["clk_sys_hz"] == told["clk_peri_hz"] == clk_sys_hz
    assert told["baud"] == pytest.approx(115200, rel=0.005)


@pytest.mark.parametrize(
    ("never", "trouble"),
    [("core1", "the second core"), ("core1-for-long", "the second core, which stopped")],
)
def test_what_the_second_core_does_not_do_the_first_does(
    model: graph.Graph, pico: Image, never: str, trouble: str
) -> None:
    """From the start, or when it stops in the middle of a step."""
    with rp2040js.open(pico) as link:
        both, *expected = computed(link)
    with Link(Rp2040Transport(pico, never=[never]), CLOCK, timeout_s=120) as link:
        assert link.hello().trouble == ("" if never.endswith("long") else trouble)
        for _ in range(3):
            alone, *logits = computed(link)
        assert link.hello().trouble == trouble
    assert all(np.array_equal(a, b) for a, b in zip(logits, expected, strict=True))
    assert all(a > 1.1 * b for a, b in zip(alone, both, strict=True))


def test_the_second_cores_stack_is_deep_enough(pico: Image) -> None:
    """It has a bank of 4 KB, of which nobody sees how much it takes. Its vectors lie where VTOR can point."""
    parts = elf.read(pico.elf)
    assert [s.address % 256 for s in parts.symbols if s.name == "second_vectors"] == [0]
    depths = [stack.deepest(parts, work) for work in ("edge_half", "edge_heads_half")]
    assert all(depth is not None and 0 < depth < 2048 for depth in depths)


def test_ticks_go_on_after_systick_has_wrapped(pico: Image) -> None:
    """24 bits at one instruction a tick are 16.8 million: more steps than that must not lose a wrap."""
    with rp2040js.open(pico) as link:
        link.hello()
        one_us = inferred_us(link, 1)
        times = (1 << 24) * 5 // 4 // (one_us * FULL_SPEED_HZ // 1_000_000)
        assert inferred_us(link, times) == pytest.approx(times * one_us, rel=0.05)


def inferred_us(link: Link, times: int) -> int:
    """By the board's clock."""
    said = link.command(f"infer {times} 0", timeout_s=120)
    laps = [int(line.removeprefix("m-lap-us-")) for line in said if line.startswith("m-lap-us-")]
    return laps[1] - laps[0]


def test_lines_and_chat_are_there(pico: Image) -> None:
    transport = Rp2040Transport(pico)
    terminal = Terminal(transport)
    try:
        assert terminal.read_until(b"m-ready\r\n").startswith(b"m-timestamp-mode-performance\r\nm-lap-us-")
        assert terminal.ask(b"name%") == ["m-name-dut-[EMULATED pico]"]
        terminal.send(b"\r")
        assert b"Ctrl-D leaves" in terminal.read_until(b"> ")
    finally:
        transport.close()


def test_an_image_with_a_wrong_crc_does_not_start(pico: Image) -> None:
    """As the boot ROM, which looks for a second stage and else offers its volume."""
    address, content = pico.segments[0]
    spoiled = replace(pico, segments=((address, content[:100] + b"\1" + content[101:]), *pico.segments[1:]))
    with pytest.raises(LinkError, match="CRC-32 is wrong"), rp2040js.open(spoiled) as link:
        link.hello()


def test_a_fault_tells_where(pico: Image) -> None:
    """The stack pointer of the vectors is one that no memory lies below."""
    address, content = pico.segments[0]
    spoiled = replace(pico, segments=((address, content[:256] + b"\0\0\0\x30" + content[260:]), *pico.segments[1:]))
    with pytest.raises(LinkError, match="undefined address.*, at 0x1000"), rp2040js.open(spoiled) as link:
        link.hello()


def test_it_ends_with_a_program_that_is_killed(pico: Image, tmp_path: Path) -> None:
    build.save(pico, tmp_path / "image")
    script = (
        "import os, sys; from pathlib import Path; from firmware_tools import build\n"
        "from firmware_tools.emulators.rp2040js import Rp2040Transport\n"
        "transport = Rp2040Transport(build.load(Path(sys.argv[1])))\n"
        "transport.read(60.0)\n"
        "print(transport._process.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    root = Path(build.__file__).parent.parent
    command = [sys.executable, "-c", script, str(tmp_path / "image")]
    killed = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=False)
    assert killed.returncode == -signal.SIGKILL
    process, deadline = int(killed.stdout), time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the emulator outlived the program that started it")


def test_other_boards_are_refused(virtual: Image) -> None:
    with pytest.raises(UserError, match="virtual-m0 cannot be emulated by rp2040js"):
        rp2040js.open(virtual)


def test_what_is_missing_is_told_with_the_line_that_installs_it(
    pico: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_RP2040JS", str(tmp_path))
    with pytest.raises(MissingTool, match="has no rp2040js") as missing:
        rp2040js.open(pico)
    assert missing.value.hint == f"npm install --prefix {tmp_path} rp2040js@{rp2040js.VERSION}"
    package = tmp_path / "node_modules" / "rp2040js" / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text('{"version": "0.19.2"}')
    with pytest.raises(MissingTool, match=r"has version 0\.19\.2 of rp2040js"):
        rp2040js.open(pico)
    package.write_text(json.dumps({"version": rp2040js.VERSION}))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingTool, match="node, which runs rp2040js, is not installed"):
        rp2040js.open(pico)
