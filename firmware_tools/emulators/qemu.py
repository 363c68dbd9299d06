"""QEMU as the strict cross-check of unicorn: the same image on the machine that the board's memory map comes from.

With `-icount shift=0` every instruction takes one virtual nanosecond, so that the board's COUNTER tells instructions:
one tick of 25 MHz is 40 of them. The UART is QEMU's stdin and stdout, as pipes.
Source: https://www.qemu.org/docs/master/system/arm/mps2.html
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from firmware_tools import boards
from firmware_tools.build import Image
from firmware_tools.errors import LinkError, MissingTool, UserError
from firmware_tools.link import Clock, Link
from firmware_tools.transports import PipeTransport

PROGRAM = "qemu-system-arm"
INSTRUCTIONS_A_SECOND = 1_000_000_000  # of virtual time, by shift=0
LONGEST_REQUEST_S = 600.0
# ends QEMU when this program has died without closing it: its end of the pipe closes by itself
WATCH = "import os, signal, sys; sys.stdin.buffer.read(); os.kill(int(sys.argv[1]), signal.SIGTERM)"


def open(image: Image, counting: bool = True) -> Link:
    """Starts image in QEMU, which always counts.

    Raises MissingTool without QEMU, UserError for a board that it cannot be.
    """
    board = boards.load(image.board)
    if "qemu" not in board.emulators or board.machine is None:
        raise UserError(
            f"{board.name} cannot be emulated by QEMU", f"it can by: {', '.join(board.emulators) or 'none'}"
        )
    clock = Clock("instructions", INSTRUCTIONS_A_SECOND / board.machine.counter_hz)
    return Link(QemuTransport(image, board.machine.qemu), clock, timeout_s=LONGEST_REQUEST_S)


class QemuTransport(PipeTransport):
    """QEMU as a child process, and a second one that ends it should this program die."""

    def __init__(self, image: Image, machine: str) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise MissingTool(f"{PROGRAM} is not installed", "apt install qemu-system-arm, or use the emulator unicorn")
        self._folder = tempfile.TemporaryDirectory(prefix="edge-qemu-")
        kernel = Path(self._folder.name) / "image.elf"
        kernel.write_bytes(image.elf)
        command = [program, "-M", machine, "-nographic", "-monitor", "none", "-serial", "stdio"]
        command += ["-icount", "shift=0", "-kernel", str(kernel)]
        pipe = subprocess.PIPE
        self._qemu = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        self._watch = subprocess.Popen([sys.executable, "-I", "-c", WATCH, str(self._qemu.pid)], stdin=pipe)
        super().__init__(self._qemu, name=f"{image.board}@qemu")

    def close(self) -> None:
        """Ends both processes; may be called again."""
        self._watch.kill()  # first, so that it cannot meet another process of the same number
        self._watch.wait()
        if self._watch.stdin:
            self._watch.stdin.close()
        self._qemu.kill()
        with contextlib.suppress(LinkError):
            super().close()
        self._folder.cleanup()
