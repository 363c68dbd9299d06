"""OpenOCD over SWD, by the debug probe on the board or one that is wired to it.

OpenOCD runs as a program of its own; what it says becomes progress, and our errors. All of flash that was written is
read back by it and compared here. A probe is named to it by its place on the USB bus, which twins do not share, or by
its serial number. Configuration files are the board's facts.

Tested with the real OpenOCD 0.12 against no probe, and against a simulated chip behind its remote_bitbang (tests). The
words of other failures are those that its sources and reports have: https://github.com/openocd-org/openocd
(stlink_usb.c, stm32f2x.c, stm32l4x.c, nrf5.c).
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from firmware_tools import child, probes
from firmware_tools.errors import MissingTool, UserError
from firmware_tools.flashers import Flashed, Progress, State, Work
from firmware_tools.transports import clean

if TYPE_CHECKING:
    from firmware_tools.boards import Board
    from firmware_tools.build import Image
    from firmware_tools.ports import Device

NEEDS = "the program OpenOCD, and a debug probe"

PROGRAM = "openocd"
QUIET = "gdb_port disabled; telnet_port disabled; tcl_port disabled"
STM32_FLASH = 0x0800_0000
FILE, BACK = "image.bin", "back.bin"
MARK = "edge: "  # before what our own commands have it say
PLAIN = re.compile(r"[A-Za-z0-9_.-]+")  # what is put into a line of Tcl
ACCESS = "may you use the probe? `edge doctor` has the lines for udev; on Windows it needs its driver (WinUSB)"
SWD = "is the chip powered, and are SWDIO, SWCLK and GND connected? Hold RESET, start again and let go"
UNLOCK = "removing that erases all of flash: "
# what OpenOCD says (any case), what it means, what to do; the first that fits
WORDS = (
    (r"LIBUSB_ERROR_ACCESS|permission", "the debug probe may not be used", ACCESS),
    (r"multiple devices|more than one", "there are several debug probes", "name one by its place: --to BOARD@PLACE"),
    (
        r"open failed|no j-link device|unable to find a matching|no device found|unable to open",
        "OpenOCD finds no debug probe",
        f"is it plugged in, and used by no other program? And {ACCESS}",
    ),
    (r"voltage may be too low|target voltage: 0\.0|target not powered", "the chip has no supply voltage", SWD),
    (r"can't find (\S+\.cfg)", "this OpenOCD has no configuration for the board", "a newer OpenOCD may have it"),
    (
        r"device protected|rdp level|read.?out protect|security bit|approtect|ap lock|device is locked",
        "the chip is locked against debuggers",
        f"{UNLOCK}of STM32s: STM32_Programmer_CLI -c port=SWD -ob RDP=0xAA; of an nRF52: nrfjprog --recover",
    ),
    (
        r"could not initialize|unable to connect to the target|init mode failed|interrogation failed",
        "no chip answers",
        SWD,
    ),
    (r"failed erasing|failed to erase|erase failed", "flash cannot be erased", "are its sectors write-protected?"),
    (
        r"disconnect|libusb_error_no_device|no such device|assertion .* failed",
        "the probe has gone",
        "was it unplugged?",
    ),
)


def flash(image: Image, board: Board, device: Device, progress: Progress) -> Flashed:
    """Writes image by OpenOCD; contract in flashers/__init__.py."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise MissingTool(
            "OpenOCD is not installed", "apt install openocd, brew install open-ocd, or xPack's for Windows"
        )
    again = "flash it again: the probe does not need the chip's firmware for that"
    with Work(board.name, again) as work, tempfile.TemporaryDirectory() as place:
        folder, content = Path(place), image.flash_content()
        (folder / FILE).write_bytes(content)
        command = [program, *_before(board, device), *_commands(image.segments[0][0], len(content))]
        heard = _Heard(work, progress, len(content))
        with work.step("openocd"):
            code = child.run(command, folder, heard.line)
        if heard.step in ("start", "end"):
            if (folder / BACK).read_bytes() != content:
                work.state = State.WRONG
                raise UserError("flash reads back wrong", "a worn or faulty chip, if it stays so")
            work.state = State.VERIFIED
        if code or heard.step != "end":
            raise _explained(heard.lines, heard.step)
        return work.done(read_back=True)


def _before(board: Board, device: Device) -> list[str]:
    """Configuration, and which probe."""
    files = board.programming.openocd
    if not files:
        raise UserError(f"OpenOCD has no configuration for {board.name}", f"its flashers: {', '.join(board.flashers)}")
    probe = probes.chosen(board, device)
    which: list[str] = []
    if probe and probe.location and PLAIN.fullmatch(probe.location.partition(":")[0]):
        which = ["-c", f"adapter usb location {probe.location.partition(':')[0]}"]
    elif probe and probe.serial_number and PLAIN.fullmatch(probe.serial_number):
        which = ["-c", f"adapter serial {probe.serial_number}"]
    speed = ["-c", "adapter speed 4000"] if any("cmsis-dap" in file for file in files) else []
    return [*(part for file in files for part in ("-f", file)), "-c", QUIET, *speed, *which]


def _commands(start: int, size: int) -> list[str]:
    """What OpenOCD does, one after the other; the first that fails ends it.

    A locked STM32 is seen by its flash, which cannot be read, before anything is erased; the flash of other chips may
    not be there to be read yet.
    """
    look = [f"echo {{{MARK}look}}", f"mdw {start:#010x}"] if start == STM32_FLASH else []
    steps = (
        "init",
        f"echo {{{MARK}reset}}",
        "reset init",
        *look,
        f"echo {{{MARK}erase}}",
        f"flash erase_address pad {start:#010x} {size}",
        f"echo {{{MARK}write}}",
        f"flash write_image {FILE} {start:#010x} bin",
        f"echo {{{MARK}verify}}",
        f"dump_image {BACK} {start:#010x} {size}",
        f"echo {{{MARK}start}}",
        "reset run",
        f"echo {{{MARK}end}}",
        "shutdown",
    )
    return [part for step in steps for part in ("-c", step)]


class _Heard:
    """What OpenOCD has said so far; keeps the state true."""

    def __init__(self, work: Work, progress: Progress, size: int) -> None:
        self.lines: list[str] = []
        self.step = ""
        self._work, self._progress, self._size = work, progress, size

    def line(self, text: str) -> None:
        self.lines.append(text)
        if not text.startswith(MARK):
            return
        self.step = text.removeprefix(MARK)
        if self.step == "erase":
            self._work.state = State.ERASING
        elif self.step == "verify":
            self._work.state = State.UNVERIFIED
        self._progress(self.step, 0, self._size if self.step in ("write", "verify") else 0)


def _explained(lines: list[str], step: str = "") -> UserError:
    """The error that OpenOCD's words amount to; step: at which of ours they ended."""
    said = "\n".join(lines)
    errors = [line.partition("Error:")[2].strip() for line in lines if "Error:" in line]
    own = clean(errors[0] if errors else next((line for line in reversed(lines) if line), "nothing"))
    for pattern, meaning, hint in WORDS:
        if re.search(pattern, said, re.IGNORECASE) or (step == "look" and hint.startswith(UNLOCK)):
            return UserError(f"{meaning} (OpenOCD: {own})", hint)
    return UserError(f"OpenOCD failed: {own}", "its own words may tell more; or another flasher: --by")
