"""pyOCD over SWD, by the debug probe on the board or one that is wired to it; from pip, on every system.

pyOCD runs in a child process of this Python (pyocd_child.py). All of flash that was written is read back and compared
here. Chips that pyOCD does not bring need a pack, which nobody but the user downloads: the error has the line.

Tested with the real pyOCD 0.46 against no probe and a chip without its pack; the words of other failures are those that
its sources have (core/exceptions.py, target/family/target_nRF52.py, probe/): no probe has been at hand.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firmware_tools import child, probes
from firmware_tools.errors import MissingTool, UserError
from firmware_tools.flashers import Flashed, Progress, State, Work
from firmware_tools.transports import clean

if TYPE_CHECKING:
    from firmware_tools.boards import Board
    from firmware_tools.build import Image
    from firmware_tools.ports import Device

NEEDS = "pyOCD (extra `swd`), and a debug probe"

CHILD = Path(__file__).parent.parent / "pyocd_child.py"
MARK = "edge: "
ACCESS = "may you use the probe? `edge doctor` has the lines for udev; on Windows it needs its driver (WinUSB)"
SWD = "is the chip powered, and are SWDIO, SWCLK and GND connected? Hold RESET, start again and let go"
# what pyOCD says (any case), what it means, what to do; {} is its target. The first that fits
WORDS = (
    (
        r"approtect|is locked|read.?out protect|rdp",
        "the chip is locked against debuggers",
        "removing that erases all of flash: python -m pyocd erase --mass -t {}",
    ),
    (r"access denied|libusb_error_access|permission|insufficient", "the debug probe may not be used", ACCESS),
    (r"disconnected|no such device|libusb_error_no_device|input/output", "the probe has gone", "was it unplugged?"),
    (r"resource busy|claim|exclusive", "another program uses the debug probe", "close it"),
    (
        r"no ack|communication failure|unexpected ack|transfer fault|transfererror|voltage|get idcode|no cores",
        "no chip answers",
        SWD,
    ),
    (r"flash ?(failure|program|erase)|failed to (erase|program)", "flash cannot be written", "is it write-protected?"),
)


def flash(image: Image, board: Board, device: Device, progress: Progress) -> Flashed:
    """Writes image by pyOCD; contract in flashers/__init__.py."""
    if importlib.util.find_spec("pyocd") is None:
        raise MissingTool("pyOCD is not installed", "pip install 'edge-tinyml[swd]'")
    again = "flash it again: the probe does not need the chip's firmware for that"
    with Work(board.name, again) as work, tempfile.TemporaryDirectory() as place:
        folder, content, target = Path(place), image.flash_content(), board.programming.pyocd
        if not target:
            raise UserError(f"pyOCD has no target for {board.name}", f"its flashers: {', '.join(board.flashers)}")
        probe = probes.chosen(board, device)
        asked = {
            "target": target,
            "serial_number": probe.serial_number if probe else None,
            "start": image.segments[0][0],
            "size": len(content),
        }
        (folder / "image.bin").write_bytes(content)
        heard = _Heard(work, progress, len(content))
        with work.step("pyocd"):
            command = [sys.executable, "-c", CHILD.read_text(encoding="utf-8"), json.dumps(asked)]
            code = child.run(command, folder, heard.line)
        if heard.step in ("start", "end"):
            if (folder / "back.bin").read_bytes() != content:
                work.state = State.WRONG
                raise UserError("flash reads back wrong", "a worn or faulty chip, if it stays so")
            work.state = State.VERIFIED
        if code or heard.step != "end":
            raise _explained(heard, board)
        return work.done(read_back=True)


class _Heard:
    """What the child has said so far; keeps the state true."""

    def __init__(self, work: Work, progress: Progress, size: int) -> None:
        self.lines: list[str] = []
        self.step = ""
        self.failed: dict[str, Any] = {}
        self._work, self._progress, self._size = work, progress, size

    def line(self, text: str) -> None:
        if not text.startswith(MARK):
            self.lines.append(text)
            return
        told = json.loads(text.removeprefix(MARK))
        if "failed" in told:
            self.failed = told
            return
        self.step = told["step"]
        if self.step == "write":
            self._work.state = State.ERASING
        elif self.step == "verify":
            self._work.state = State.UNVERIFIED
        self._progress(self.step, round(told["share"] * self._size), self._size)


def _explained(heard: _Heard, board: Board) -> UserError:
    """The error that the child's words amount to."""
    target, why = board.programming.pyocd, heard.failed.get("failed")
    if why == "no pack":
        line = f"python -m pyocd pack install {target} (downloads it, once)"
        return UserError(
            f"pyOCD lacks the pack for {board.name}'s chip ({target})", f"{line}; or another flasher: --by"
        )
    if why == "no probe":
        return UserError(
            "pyOCD finds no such debug probe", f"is it plugged in, and used by no other program? And {ACCESS}"
        )
    if why == "several":
        names = ", ".join(clean(f"{name} (serial number {number})") for number, name in heard.failed["probes"])
        return UserError(f"several debug probes are plugged in: {names}", "name one by its place, or unplug the others")
    own = clean(heard.failed.get("error") or next((line for line in reversed(heard.lines) if line), "nothing"))
    said = "\n".join([*heard.lines, own])
    for pattern, meaning, hint in WORDS:
        if re.search(pattern, said, re.IGNORECASE):
            return UserError(f"{meaning} (pyOCD: {own})", hint.format(target))
    return UserError(f"pyOCD failed: {own}", "python -m pyocd list tells what it sees; or another flasher: --by")
