"""Every board of silicon has the facts that its flashers need, and these are the facts that the programs know."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys

import pytest

from firmware_tools import boards, flashers
from firmware_tools.boards import Board
from firmware_tools.flashers import stm32_uart

BOARDS = [boards.load(name) for name in boards.names() if boards.load(name).flashers]
NEWER = {"target/rp2350.cfg"}  # than OpenOCD 0.12
pairs = pytest.mark.parametrize(
    ("board", "flasher"), [pytest.param(b, f, id=f"{b.name}-{f}") for b in BOARDS for f in b.flashers]
)


@pytest.mark.parametrize("name", flashers.names())
def test_a_flasher_keeps_the_contract(name: str) -> None:
    module = flashers.load(name)
    assert isinstance(module.NEEDS, str) and callable(module.flash)


@pairs
def test_a_board_has_what_its_flasher_must_know(board: Board, flasher: str) -> None:
    facts, roles = board.programming, {usb.role for usb in board.usb}
    assert flasher in flashers.names()
    if flasher == "bootsel":
        assert facts.uf2_board and board.uf2_family and "bootloader" in roles
    elif flasher == "stlink-volume":
        assert facts.volumes and facts.mbed_codes and "probe" in roles
        assert all(label == label.upper() and len(label) <= 11 for label in facts.volumes)  # FAT's labels
        assert all(len(code) == 4 for code in facts.mbed_codes)
    elif flasher == "stm32-uart":
        assert facts.rom_id in stm32_uart.CHIPS
    else:
        assert getattr(facts, flasher)
    assert facts == boards.Programming() or "programming" in board.sources


def test_no_two_boards_share_what_tells_them_apart() -> None:
    for told in ("volumes", "mbed_codes"):
        all_of_them = [fact for board in BOARDS for fact in getattr(board.programming, told)]
        assert len(all_of_them) == len(set(all_of_them)), told


@pytest.mark.parametrize("board", [pytest.param(b, id=b.name) for b in BOARDS if b.programming.rom_id is not None])
def test_the_sectors_of_a_chip_fill_its_flash(board: Board) -> None:
    layout = stm32_uart.CHIPS[board.programming.rom_id or 0][1]
    assert layout is None or sum(count * size for count, size in layout) >= board.flash.size_bytes
    assert layout is None or board.name != "nucleo-f446re" or sum(c * s for c, s in layout) == board.flash.size_bytes


@pytest.mark.system
@pytest.mark.parametrize("board", [pytest.param(b, id=b.name) for b in BOARDS if b.programming.openocd])
def test_openocd_has_the_configuration(tool, board: Board) -> None:  # type: ignore[no-untyped-def]
    tool("openocd")
    files = [part for file in board.programming.openocd if file not in NEWER for part in ("-f", file)]
    command = [shutil.which("openocd") or "", *files, "-c", "noinit", "-c", "shutdown"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Error" not in done.stderr, done.stderr


def test_pyocd_has_the_codes_and_the_targets() -> None:
    if importlib.util.find_spec("pyocd") is None:
        pytest.skip("needs pyOCD: pip install 'edge-tinyml[swd]'")
    ask = (
        "import json; from pyocd.board.board_ids import BOARD_ID_TO_INFO; from pyocd.target import TARGET;"
        "print(json.dumps([{k: v.target for k, v in BOARD_ID_TO_INFO.items()}, sorted(TARGET)]))"
    )
    codes, targets = json.loads(subprocess.run([sys.executable, "-c", ask], capture_output=True, check=True).stdout)
    for board in BOARDS:
        facts = board.programming
        known = {codes.get(code) for code in facts.mbed_codes}
        assert not facts.mbed_codes or None not in known, board.name
        assert not facts.pyocd or facts.pyocd in targets or facts.pyocd in codes.values(), board.name
