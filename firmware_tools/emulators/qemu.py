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
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from firmware_tools import boards, elf
from firmware_tools.boards import Board, Machine
from firmware_tools.build import Image, build_host
from firmware_tools.errors import LinkError, MissingTool, UserError
from firmware_tools.link import Clock, Link
from firmware_tools.transports import PipeTransport

PROGRAM = "qemu-system-arm"
PLUGIN = Path(__file__).parent / "trace.c"
INSTRUCTIONS_A_SECOND = 1_000_000_000  # of virtual time, by shift=0
LONGEST_REQUEST_S = 600.0
# ends QEMU when this program has died without closing it: its end of the pipe closes by itself
WATCH = "import os, signal, sys; sys.stdin.buffer.read(); os.kill(int(sys.argv[1]), signal.SIGTERM)"


def open(image: Image, counting: bool = True) -> Link:
    """Starts image in QEMU, which always counts.

    Raises MissingTool without QEMU, UserError for a board that it cannot be.
    """
    board = _board(image)
    return Link(QemuTransport(image, board), _clock(board), timeout_s=LONGEST_REQUEST_S)


def trace(image: Image, functions: Collection[str], request: Callable[[Link], None]) -> list[tuple[str, int]]:
    """See `emulators`: where the instructions of a step went, by a plugin of QEMU that is compiled on the way.

    QEMU tells of all passes, also of those outside steps.
    """
    board = _board(image)
    watched = {s.address: s.name for s in elf.read(image.elf).symbols if s.is_function and s.name in functions}
    with tempfile.TemporaryDirectory(prefix="edge-trace-") as folder:
        plugin, out = build_host([PLUGIN], (), Path(folder) / "trace.so"), Path(folder) / "passes.txt"
        arguments = ",".join([f"file={plugin}", f"out={out}", *(f"at={address:x}" for address in watched)])
        with Link(
            QemuTransport(image, board, ("-plugin", arguments)), _clock(board), timeout_s=LONGEST_REQUEST_S
        ) as link:
            request(link)
        lines = [line.split() for line in out.read_text(encoding="ascii").splitlines()]
    return [(watched[int(address, 16)], int(count)) for address, count in lines]


def _board(image: Image) -> Board:
    board = boards.load(image.board)
    if "qemu" not in board.emulators or board.machine is None:
        raise UserError(
            f"{board.name} cannot be emulated by QEMU", f"it can by: {', '.join(board.emulators) or 'none'}"
        )
    return board


def _clock(board: Board) -> Clock:
    assert board.machine is not None
    return Clock("instructions", INSTRUCTIONS_A_SECOND / board.machine.counter_hz)


def loading(elf_file: Path, vectors: bytes, machine: Machine) -> list[str]:
    """Options that load an image, and its first two vectors where the machine looks for them, if that is elsewhere."""
    if not machine.boots_at_zero:
        return ["-kernel", str(elf_file)]
    first = elf_file.with_suffix(".vectors")
    first.write_bytes(vectors[:8])  # no ELF file: QEMU puts it at address 0
    return ["-kernel", str(first), "-device", f"loader,file={elf_file}"]


class QemuTransport(PipeTransport):
    """QEMU as a child process, and a second one that ends it should this program die."""

    def __init__(self, image: Image, board: Board, options: Sequence[str] = ()) -> None:
        assert board.machine is not None
        program = shutil.which(PROGRAM)
        if program is None:
            raise MissingTool(f"{PROGRAM} is not installed", "apt install qemu-system-arm, or use the emulator unicorn")
        self._folder = tempfile.TemporaryDirectory(prefix="edge-qemu-")
        kernel = Path(self._folder.name) / "image.elf"
        kernel.write_bytes(image.elf)
        command = [program, "-M", board.machine.qemu, "-nographic", "-monitor", "none", "-serial", "stdio"]
        command += ["-icount", "shift=0", *loading(kernel, image.segments[0][1], board.machine), *options]
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
