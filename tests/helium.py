"""Runs C functions on QEMU's Cortex-M55: compiled, called by writing into the machine's memory, instructions counted.

unicorn has no such core. The machine's DDR is a file that this program and QEMU both map, so that memory costs no time
on the UART, which carries no more than «call» and «done». Functions are counted by the board's COUNTER, whose tick is
many instructions long: a function is called again and again, and the mean is taken.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cortex import GCC, GUARD, ZIG

from firmware_tools import boards, elf, linker
from firmware_tools.build import LANGUAGE, RUNTIME, STARTUP, WARNINGS
from firmware_tools.emulators.qemu import INSTRUCTIONS_A_SECOND, PROGRAM, loading

BOARD = boards.load("virtual-m55")
FEATURES = BOARD.features
DDR, DDR_BYTES, USED_BYTES = 0x60000000, 2 << 30, 8 << 20
STEP_BYTES = 64  # at the start of DDR: function, 4 arguments, calls, then ticks
REPEATS = 200  # of a call that is counted
# calls: an array that the generated code defines, a function for each number
MAIN = """
#include "port.h"
typedef void (*function)(const void *, const void *, const void *, const void *);
extern const function calls[];
static volatile uint32_t *const step = (volatile uint32_t *)0x60000000u;
int main(void) {
    port_init();
    for (;;) {
        if (port_read() == PORT_NOTHING) { port_idle(); continue; }
        const void *a = (const void *)step[1], *b = (const void *)step[2];
        const void *c = (const void *)step[3], *d = (const void *)step[4];
        uint64_t start = port_ticks();
        for (uint32_t i = 0; i < step[5]; i++) calls[step[0]](a, b, c, d);
        step[6] = (uint32_t)(port_ticks() - start);
        port_write((const uint8_t *)"\\n", 1);
    }
}
"""
NOTHING = "static void nothing(const void *a, const void *b, const void *c, const void *d) "
NOTHING += "{ (void)a, (void)b, (void)c, (void)d; }\n"


@dataclass(frozen=True)
class Compiler:
    """A compiler for the core, and what makes a command of it."""

    name: str
    command: tuple[str, ...]


M55 = Compiler("m55", (*ZIG, BOARD.target, f"-mcpu={BOARD.cpu}"))
M55_GCC = Compiler("m55-gcc", (*GCC, "-mcpu=cortex-m55", "-mfloat-abi=hard"))


class Helium:
    """A core with functions of the given C files in memory; `put`, `get`, `release` and `call` as of cortex.Cortex."""

    def __init__(
        self,
        compiler: Compiler,
        functions: Sequence[str],
        files: Sequence[Path],
        includes: Sequence[Path],
        folder: Path,
    ) -> None:
        names = [*functions, "nothing"]
        declared = "".join(f"void {name}();\n" for name in functions) + NOTHING
        table = ", ".join(f"(function){name}" for name in names)
        main = folder / "main.c"
        main.write_text(f"{MAIN}\n{declared}const function calls[] = {{{table}}};\n", encoding="utf-8")
        (folder / "image.ld").write_text(linker.script(BOARD), encoding="utf-8")
        linked = folder / f"{compiler.name}.elf"
        flags = ["-O2", *LANGUAGE, *WARNINGS, *(f"-I{path}" for path in (*includes, RUNTIME))]
        link = ["-Wl,--gc-sections", "-Wl,-e,edge_reset", "-Wl,-T," + str(folder / "image.ld")]
        every = [*map(str, files), str(main), str(STARTUP), str(boards.port_source(BOARD.name))]
        subprocess.run([*compiler.command, *flags, *every, *link, "-o", str(linked)], check=True)
        parts = elf.read(linked.read_bytes())
        self.kernel_bytes = sum(f.size_bytes for f in parts.symbols if f.is_function and f.name.startswith("edge_"))
        self.vectors = parts.segments[0][1]
        self.numbers = {name: number for number, name in enumerate(names)}
        self.blocks: dict[int, bytes] = {}
        self.free = DDR + STEP_BYTES
        self._start(linked)
        self.empty = self.call("nothing", 0, 0, 0, 0, count=True)

    def _start(self, linked: Path) -> None:
        file, path = tempfile.mkstemp(prefix="edge-helium-")
        try:
            os.truncate(file, DDR_BYTES)  # sparse: only what is used takes room
            self.memory = mmap.mmap(file, USED_BYTES)
            command = [PROGRAM, "-M", f"{BOARD.machine.qemu},memory-backend=ddr", "-nographic", "-monitor", "none"]
            command += ["-object", f"memory-backend-file,id=ddr,size={DDR_BYTES},mem-path={path},share=on"]
            command += ["-serial", "stdio", "-icount", "shift=0"]
            command += loading(linked, self.vectors, BOARD.machine)
            pipe = subprocess.PIPE
            self.qemu = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, bufsize=0)
            weakref.finalize(self, end, self.qemu)
            self._call(0, (), 0)  # it has mapped the file when it answers
        finally:
            os.close(file)
            os.unlink(path)

    def _call(self, number: int, arguments: Sequence[int], times: int) -> int:
        words = [number, *arguments, *[0] * (4 - len(arguments)), times, 0]
        self.memory[: 4 * len(words)] = np.array(words, np.uint32).tobytes()
        self.qemu.stdin.write(b"!")
        answer = self.qemu.stdout.read(1)
        assert answer == b"\n", f"no answer but {answer + self.qemu.stdout.read(200)!r}"
        return int(np.frombuffer(self.memory[24:28], np.uint32)[0])

    def put(self, content: bytes) -> int:
        """Address of a copy of content in RAM, 16-byte aligned, with a guard before and after."""
        address = self.free + len(GUARD)
        at = self.free - DDR
        block = GUARD + content + GUARD
        self.memory[at : at + len(block)] = block
        self.blocks[address] = content
        self.free = (address + len(content) + len(GUARD) + 15) // 16 * 16
        assert self.free < DDR + USED_BYTES, "the core's RAM is full"
        return address

    def get(self, address: int, size: int) -> bytes:
        return self.memory[address - DDR : address - DDR + size]

    def release(self) -> None:
        """Forgets all blocks."""
        self.blocks.clear()
        self.free = DDR + STEP_BYTES

    def call(self, name: str, *arguments: int, count: bool = False) -> int:
        """Calls a function with up to four integers or addresses; returns how many instructions it took, if counted.

        Counting calls it many times more, on a copy of its memory that is put back afterwards.
        """
        self._call(self.numbers[name], arguments, 1)
        for address, content in self.blocks.items():
            assert self.get(address - len(GUARD), len(GUARD)) == GUARD, f"{name} wrote below a block it was given"
            assert self.get(address + len(content), len(GUARD)) == GUARD, f"{name} wrote above a block it was given"
        if not count:
            return 0
        used = self.free - DDR
        kept = self.memory[STEP_BYTES:used]
        ticks = self._call(self.numbers[name], arguments, REPEATS)
        self.memory[STEP_BYTES:used] = kept
        tick = INSTRUCTIONS_A_SECOND // BOARD.machine.counter_hz
        return round(ticks * tick / REPEATS) - getattr(self, "empty", 0)


def end(qemu: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        qemu.stdin.close()
    qemu.kill()
    qemu.wait()
    qemu.stdout.close()
