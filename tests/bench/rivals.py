"""The two that bench_llama.py compares, each in a process of its own, asked by the same driver in the same words.

Ours is what a user gets with `--on host`: the agent behind a Link. Theirs is llama_child.c, a C program over the
libllama of an installed llama-cpp-python, so that no Python of theirs is on the clock.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from edge.run.host import open_host
from firmware_tools.sampler import Sampler

GREEDY = Sampler(temperature=0.0, top_p=1.0, seed=0)
CHILD = Path(__file__).resolve().with_name("llama_child.c")
AMX = Path(__file__).resolve().with_name("gcc12_amx.h")
PIP = f"CMAKE_ARGS='-DCMAKE_CXX_FLAGS=-include{AMX}' VENV/bin/pip install llama-cpp-python==0.3.36"
WHERE = "import llama_cpp, pathlib; print(pathlib.Path(llama_cpp.__file__).parent, llama_cpp.__version__)"
REQUANTIZE = """import sys, llama_cpp.llama_cpp as c
p = c.llama_model_quantize_default_params()
p.ftype, p.allow_requantize, p.nthread = 7, True, 1
sys.exit(c.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), p))"""
SYSTEM = "import llama_cpp.llama_cpp as c; print(c.llama_print_system_info().decode())"


@dataclass(frozen=True)
class Memory:
    """Of a process, in MB: the most it ever had, and what is resident now."""

    peak_mb: float
    anonymous_mb: float
    file_mb: float


@dataclass(frozen=True)
class Flags:
    """How llama.cpp is set up. extra: `use_extra_bufts`, the weights repacked for AMX or dotprod where it knows how."""

    flash: bool = False
    extra: bool = False
    ubatch: int = 512
    mmap: bool = True

    def __str__(self) -> str:
        words = [f"flash_attn={self.flash}", f"use_extra_bufts={self.extra}", f"n_ubatch={self.ubatch}"]
        return ", ".join(words + ([] if self.mmap else ["no mmap"]))


class Process:
    """What Linux says of a process."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc") / str(pid)

    def cpu_s(self) -> float:
        """Seconds on a processor, of all its threads; to the nanosecond, where /proc/PID/stat counts ticks."""
        total = 0
        for task in (self._folder / "task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self) -> Memory:
        lines = (self._folder / "status").read_text().splitlines()
        kb = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
        return Memory(kb["VmHWM"] / 1024, kb["RssAnon"] / 1024, kb["RssFile"] / 1024)


class Ours:
    """A .tflite behind the real agent."""

    def __init__(self, model: Path, threads: int, context: int | None = None) -> None:
        self._link = open_host(model, threads=threads, context=context)
        self._link.hello()
        self.process = Process(self._link._transport._process.pid)  # type: ignore[attr-defined]
        self._began = False

    def prefill(self, ids: Sequence[int], position: int = 0) -> None:
        self._link.prefill(ids, position)

    def generate(self, count: int) -> list[int]:
        steps = self._link.generate(count, GREEDY, seed=not self._began)
        self._began = True
        return [step.id for step in steps]

    def logits(self) -> np.ndarray:
        return self._link.logits()

    def close(self) -> None:
        self._link.close()


class Theirs:
    """A GGUF behind llama_child.c."""

    def __init__(self, llama: Llama, model: Path, threads: int, context: int, flags: Flags) -> None:
        numbers = (context, max(512, flags.ubatch), flags.ubatch, threads, threads)
        switches = (int(flags.flash), int(flags.extra), int(flags.mmap))
        self._child = subprocess.Popen(
            [llama.child, model, *map(str, numbers + switches)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LD_LIBRARY_PATH": f"{llama.libraries}"},
        )
        self.process = Process(self._child.pid)
        self._answer()

    def prefill(self, ids: Sequence[int], position: int = 0) -> None:
        self._ask("p " + " ".join(map(str, (position, *ids))))

    def generate(self, count: int) -> list[int]:
        return [int(word) for word in self._ask(f"g {count}")]

    def logits(self, vocabulary: int) -> np.ndarray:
        self._ask("l")
        return np.frombuffer(self._stream(self._child.stdout).read(4 * vocabulary), "<f4")

    def close(self) -> None:
        self._stream(self._child.stdin).close()
        self._child.wait(10)
        self._stream(self._child.stdout).close()

    def _ask(self, line: str) -> list[bytes]:
        stdin = self._stream(self._child.stdin)
        stdin.write(line.encode() + b"\n")
        stdin.flush()
        return self._answer()

    def _answer(self) -> list[bytes]:
        first, *rest = self._stream(self._child.stdout).readline().split() or [b""]
        if first != b"ok":
            raise RuntimeError(f"llama.cpp ended with code {self._child.wait(10)}")
        return rest

    @staticmethod
    def _stream(stream: IO[bytes] | None) -> IO[bytes]:
        assert stream is not None
        return stream


@dataclass(frozen=True)
class Llama:
    """An installed llama-cpp-python and the child built over it."""

    python: str
    version: str
    libraries: Path
    child: Path

    def system(self) -> str:
        """What llama.cpp says it was built with."""
        return _output([self.python, "-c", SYSTEM])


def find_llama(python: str | None, folder: Path, libraries: Path | None = None) -> Llama:
    """Looks into the interpreter that has llama-cpp-python, and compiles the child into folder."""
    try:
        where, version = _output([python or "", "-c", WHERE]).rsplit(" ", 1)
    except (OSError, subprocess.CalledProcessError):
        sys.exit(
            "llama-cpp-python is needed, in an environment of its own (it is built from source, about 4 minutes):\n"
            f"  python -m venv VENV && {PIP}\n"
            "  then --llama VENV/bin/python, or EDGE_LLAMA_PYTHON=VENV/bin/python"
        )
    package, child = Path(where), folder / "llama_child"
    lib = libraries or package / "lib"
    build = [sys.executable, "-m", "ziglang", "cc", "-O3", "-DNDEBUG", CHILD, "-I", package.parent / "include"]
    subprocess.run([*build, "-L", lib, "-lllama", "-lggml-base", "-o", child], check=True)
    return Llama(str(python), version, lib, child)


def requantized(llama: Llama, source: Path, target: Path) -> Path:
    """The same weights as Q8_0, whatever the GGUF has them in."""
    if not target.exists():
        subprocess.run(
            [llama.python, "-c", REQUANTIZE, source, target],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
    return target


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
