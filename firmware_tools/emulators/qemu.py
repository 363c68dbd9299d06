"""QEMU: the strict cross-check of unicorn, on the machine that the board's memory map is from; and boards of silicon.

With `-icount shift=0` every instruction takes one virtual nanosecond, so that a counter of the machine tells
instructions: one tick of 25 MHz is 40 of them. Of boards of silicon QEMU has no cycle counter; where it has no timer
either, nothing is counted. The UART is QEMU's stdin and stdout, as pipes.

Some machines need a newer QEMU than distributions have. EDGE_QEMU_SYSTEM_ARM names a second program for these; all
others stay with the first, so that counts do not change.
Source: https://www.qemu.org/docs/master/system/arm/mps2.html
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
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
NEWER = "EDGE_QEMU_SYSTEM_ARM"  # the environment variable
PLUGIN = Path(__file__).parent / "trace.c"
INSTRUCTIONS_A_SECOND = 1_000_000_000  # of virtual time, by shift=0
LONGEST_REQUEST_S = 600.0
# ends QEMU when this program has died without closing it: its end of the pipe closes by itself
WATCH = "import os, signal, sys; sys.stdin.buffer.read(); os.kill(int(sys.argv[1]), signal.SIGTERM)"


def open(image: Image, counting: bool = True) -> Link:
    """Starts image in QEMU, which always counts where its machine has a counter.

    Raises MissingTool without QEMU or with one too old, UserError for a board that it cannot be.
    """
    board = _board(image)
    return Link(QemuTransport(image, board), _clock(board), timeout_s=LONGEST_REQUEST_S)


def trace(image: Image, functions: Collection[str], request: Callable[[Link], None]) -> list[tuple[str, int]]:
    """See `emulators`: where the instructions of a step went, by a plugin of QEMU that is compiled on the way.

    QEMU tells of all passes, also of those outside steps.
    """
    board = _board(image)
    watched = elf.read(image.elf).functions(functions)
    with tempfile.TemporaryDirectory(prefix="edge-trace-") as folder:
        plugin, out = _plugin(board, Path(folder)), Path(folder) / "passes.txt"
        arguments = ",".join([f"file={plugin}", f"out={out}", *(f"at={address:x}" for address in watched)])
        with Link(
            QemuTransport(image, board, ("-plugin", arguments)), _clock(board), timeout_s=LONGEST_REQUEST_S
        ) as link:
            request(link)
        lines = [line.split() for line in out.read_text(encoding="ascii").splitlines()]
    return [(watched[int(address, 16)], int(count)) for address, count in lines]


def _plugin(board: Board, folder: Path) -> Path:
    """trace.c, compiled for the plugin interface that the board's QEMU has: the second since QEMU 9."""
    assert board.machine is not None
    interface = 2 if version(find(board.machine)) >= (9, 0) else 1
    told = folder / "version.c"
    told.write_text(
        f'__attribute__((visibility("default"))) int qemu_plugin_version = {interface};\n', encoding="ascii"
    )
    return build_host([PLUGIN, told], (), folder / "trace.so")


def _board(image: Image) -> Board:
    board = boards.load(image.board)
    if "qemu" not in board.emulators or board.machine is None:
        raise UserError(
            f"{board.name} cannot be emulated by QEMU", f"it can by: {', '.join(board.emulators) or 'none'}"
        )
    return board


def _clock(board: Board) -> Clock:
    assert board.machine is not None
    if not board.machine.counter_hz:
        return Clock("instructions", 1.0, counting=False)
    return Clock("instructions", INSTRUCTIONS_A_SECOND / board.machine.counter_hz)


def find(machine: Machine, more_ram: bool = False) -> str:
    """The QEMU that has a machine, with all its RAM if need be; MissingTool without."""
    program, newer = shutil.which(PROGRAM), os.environ.get(NEWER)
    since = max(machine.since, machine.more_ram_since) if more_ram else machine.since
    oldest = (7, 2)
    if program and (since <= oldest or version(program) >= since):
        return program
    if newer and since > oldest and version(newer) >= since:
        return newer
    if not program:
        raise MissingTool(f"{PROGRAM} is not installed", "apt install qemu-system-arm, or use the emulator unicorn")
    needed, found = (".".join(map(str, numbers)) for numbers in (since, version(newer or program)))
    what = f"the machine {machine.qemu} with all its RAM" if more_ram else f"the machine {machine.qemu}"
    raise MissingTool(
        f"{what} needs QEMU {needed} or newer, and {newer or PROGRAM} is {found}",
        "on Debian 12: apt install -t bookworm-backports qemu-system-arm; "
        f"or name one that lies elsewhere in the environment variable {NEWER}",
    )


@functools.cache
def version(program: str) -> tuple[int, int]:
    """What a QEMU says of itself; MissingTool where it says nothing."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingTool(f"{program} cannot be run: {error}", f"correct the environment variable {NEWER}") from error
    numbers = re.search(r"version (\d+)\.(\d+)", said)
    if numbers is None:
        raise MissingTool(f"{program} does not say which version of QEMU it is")
    return int(numbers[1]), int(numbers[2])


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
        program = find(board.machine, more_ram=any(region.used_bytes for region in image.sizes.regions[2:]))
        self._folder = tempfile.TemporaryDirectory(prefix="edge-qemu-")
        kernel = Path(self._folder.name) / "image.elf"
        kernel.write_bytes(image.elf)
        command = [program, "-M", board.machine.qemu, "-nographic", "-monitor", "none"]
        command += [*("-serial", "null") * board.machine.serial, "-serial", "stdio"]
        vectors = image.flash_content()[image.vectors - image.start :][:8]
        command += ["-icount", "shift=0", *loading(kernel, vectors, board.machine), *options]
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
