"""Instructions of a token on emulated Cortex-A72 and A76 (Raspberry Pi 4 and 5): ours and llama.cpp's, one thread.

    python tests/bench/bench_llama_instructions.py --llama VENV/bin/python --source DIR --keep FOLDER [MODEL.gguf]

Counts are deterministic and flatter no x86; they are not seconds, and a cache miss costs nothing here. Ours is the real
agent on Debian's aarch64 Python with the aarch64 wheel of LiteRT, behind the real Link; theirs is llama_child.c over
llama.cpp compiled for the core, with its repacked weights, and the better of flash attention on and off.

It needs root, apt's qemu-user, mmdebstrap, g++-aarch64-linux-gnu, cmake, ninja-build and gcc, and DIR, llama.cpp's
source: vendor/llama.cpp in what `pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36` brings.
What it builds lies in FOLDER (1.5 GB, 10 minutes) and is used again; the counts take 10 minutes more.
"""

from __future__ import annotations

import argparse
import bisect
import collections
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from bench_llama import converted, text_ids  # noqa: E402
from bench_smollm2 import packaged  # noqa: E402
from rivals import CHILD, GREEDY, find_llama, requantized  # noqa: E402

from edge.run.host import facts_of  # noqa: E402
from firmware_tools import graph  # noqa: E402
from firmware_tools.link import Clock, Link, PipeTransport  # noqa: E402

PLUGIN = Path(__file__).resolve().with_name("count_instructions.c")
PACKAGES = (
    "base-files,dash,coreutils,libc-bin,python3,python3-minimal,libpython3-stdlib,libstdc++6,zlib1g,libgomp1,libatomic1"
)
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
HOURS = 3600.0
# what an emulator does not say of itself: without it LiteRT reads the x86 host's, and fails
CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 3

"""


@dataclass(frozen=True)
class Core:
    """A core that qemu-user emulates, and what compilers and /proc/cpuinfo call it."""

    name: str
    march: str
    part: str
    features: str


CORES = {
    "a72": Core("cortex-a72", "armv8-a+crc", "0xd08", "fp asimd evtstrm crc32 cpuid"),
    "a76": Core(
        "cortex-a76",
        "armv8.2-a+dotprod+fp16",
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}

# what the instructions of ours are for, by the names of XNNPACK's kernels; the first that fits
KINDS = (
    ("weights", r"qd8_f32_qc8w_gemm|kai_(run|kernel)_matmul|qp8_f32_qc8w_gemm"),
    ("rows to int8", r"lhs_quant|qs8_vcvt|pack_lh|rminmax|quantization"),
    ("attention's products", r"xnn_f32_(gemm|igemm)"),
    ("packing keys and values", r"packw"),
    ("copies (libc)", r"libc\.so"),
    ("softmax, SiLU, norms, RoPE, adds", r"xnn_f32_|xnn_xx_|xnn_x32_"),
    ("LiteRT and XNNPACK around them", r"libpywrap_litert|libLiteRt"),
    ("Python, numpy", r""),
)


def main() -> None:
    options = parse()
    folder: Path = options.keep
    folder.mkdir(parents=True, exist_ok=True)
    llama = find_llama(options.llama, folder)
    source = options.gguf or packaged()
    theirs = requantized(llama, source, folder / "q8_0.gguf")
    ours = options.model or converted(source, folder / "int8.tflite", options.context)
    plugin, rootfs = built_plugin(folder), options.rootfs or built_rootfs(folder / "rootfs")
    ids = text_ids(ours)
    for key in options.cores:
        core = CORES[key]
        child = built_child(options.source, core, folder / key)
        print(f"\nmillion instructions a token, {core.name}, emulated, 1 thread, context {options.context}\n")
        print("| | ours | llama.cpp | its flash_attn | ratio | goal |\n|---|---|---|---|---|---|", flush=True)
        rivals = [counts_of_theirs(plugin, core, child, theirs, ids, options, flash) for flash in (False, True)]
        mine, profiles = counts_of_ours(plugin, core, rootfs, ours, ids, options.sizes, folder)
        for name, count in mine.items():
            flash = rivals[1][name] < rivals[0][name]
            best = rivals[flash][name]
            print(f"| {name} | {count / 1e6:.1f} | {best / 1e6:.1f} | {flash} | {count / best:.2f} | 1.00 |")
        print_profiles(profiles)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Instructions of a token on emulated ARM cores.")
    parser.add_argument("gguf", type=Path, nargs="?")
    parser.add_argument("--llama", default=os.environ.get("EDGE_LLAMA_PYTHON"), help="a Python with llama-cpp-python")
    parser.add_argument("--source", type=Path, required=True, help="the folder of llama.cpp's source")
    parser.add_argument("--keep", type=Path, required=True, help="a folder for all that is built")
    parser.add_argument("--rootfs", type=Path, help="an aarch64 root with python3, and LiteRT in opt/pi")
    parser.add_argument("--model", type=Path, help="our .tflite, instead of converting")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--cores", nargs="+", choices=sorted(CORES), default=sorted(CORES))
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256], help="at most 256")
    options = parser.parse_args()
    if max(options.sizes) > 256:
        parser.error("a prompt of more than 256 tokens is several requests")
    return options


# --- what is built


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def built_plugin(folder: Path) -> Path:
    plugin = folder / "count_instructions.so"
    run("gcc", "-shared", "-fPIC", "-O2", PLUGIN, "-o", plugin)
    return plugin


def built_child(source: Path, core: Core, folder: Path) -> Path:
    """llama_child.c over llama.cpp, static, for a core; no OpenMP, whose threads spin."""
    child = folder / "llama_child"
    if child.exists():
        return child
    off = [f"-DLLAMA_BUILD_{part}=OFF" for part in ("TESTS", "EXAMPLES", "TOOLS", "SERVER", "COMMON")]
    cross = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DGGML_CPU_ARM_ARCH={core.march}"]
    cross += [f"-DCMAKE_{kind}_COMPILER=aarch64-linux-gnu-{tool}" for kind, tool in (("C", "gcc"), ("CXX", "g++"))]
    ggml = ["-DGGML_NATIVE=OFF", "-DGGML_OPENMP=OFF", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_CURL=OFF"]
    run("cmake", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", *off, *cross, *ggml, "-S", source, "-B", folder)
    run("ninja", "-C", folder, "llama")
    includes = ("-I", source / "include", "-I", source / "ggml" / "include")
    run("aarch64-linux-gnu-gcc", "-O3", "-DNDEBUG", "-c", CHILD, *includes, "-o", folder / "child.o")
    libraries = [folder / "src" / "libllama.a", *(folder / "ggml" / "src" / f"lib{name}.a" for name in GGML)]
    run("aarch64-linux-gnu-g++", "-static", folder / "child.o", *libraries, "-o", child)
    return child


GGML = ("ggml", "ggml-cpu", "ggml-base")


def built_rootfs(rootfs: Path) -> Path:
    """Debian's Python for aarch64 with LiteRT as `edge deploy` installs it: without its library for GPUs."""
    packages = rootfs / "opt" / "pi"
    if packages.exists():
        return rootfs
    debian = ("--quiet", "--mode=root", "--variant=extract", "--arch=arm64", f"--include={PACKAGES}", "bookworm")
    run("mmdebstrap", *debian, rootfs)
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:", *platforms]
    run(*pip, "--python-version", "3.11", "--target", packages, "ai-edge-litert==2.3.0", "numpy")
    for library in (packages / "ai_edge_litert").glob("libLiteRt*Accelerator.so"):
        library.unlink()
    for name in ("possible", "present", "online"):
        path = rootfs / "sys" / "devices" / "system" / "cpu" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0\n")
    return rootfs


# --- counting


class Counted:
    """A program in the emulator that answers requests on stdin."""

    def __init__(self, plugin: Path, core: Core, command: Sequence[str | Path], env: dict[str, str]) -> None:
        self._out = plugin.with_name(f"count-{core.name}.txt")
        self._out.unlink(missing_ok=True)
        self._reads, self._total = 0, 0
        self.profile: dict[int, int] = {}
        self.process = subprocess.Popen(
            ["qemu-aarch64", "-cpu", core.name, "-plugin", f"{plugin},out={self._out}", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **env},
        )

    def count(self) -> int:
        """Instructions since the last call, once the program waits for a request again; profile is of the last part.

        Called after each answer, and before the first request: each is one read of stdin then.
        """
        while True:
            if self._out.exists():
                first, *lines = self._out.read_text().splitlines()
                reads, total = map(int, first.split())
                if reads > self._reads:
                    break
            if self.process.poll() is not None:
                sys.exit(f"the emulated program ended with code {self.process.returncode}")
            time.sleep(0.05)
        self.profile = {int(address, 16): int(count) for address, count in (line.split() for line in lines)}
        counted, self._reads, self._total = total - self._total, reads, total
        return counted

    def end(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(HOURS)
        self.process.stdout.close()


def counts_of_theirs(
    plugin: Path, core: Core, child: Path, model: Path, ids: list[int], options: argparse.Namespace, flash: bool
) -> dict[str, int]:
    numbers = (options.context, 512, 512, 1, 1, int(flash), 1, 1)
    counted = Counted(plugin, core, [child, model, *map(str, numbers)], {})
    stdin, stdout = counted.process.stdin, counted.process.stdout
    assert stdin and stdout

    def ask(line: str) -> int:
        stdin.write(line.encode() + b"\n")
        stdin.flush()
        if not stdout.readline().startswith(b"ok"):
            sys.exit("llama.cpp failed in the emulator")
        return counted.count()

    stdout.readline()
    counted.count()
    found = {}
    for size in options.sizes:
        found[f"prefill of {size}"] = ask(" ".join(map(str, ("p", 0, *ids[:size])))) // size
        ask("g 1")  # the first has a graph to build
        found[f"decode at {size + 1}"] = ask("g 1")
    counted.end()
    return found


def counts_of_ours(
    plugin: Path, core: Core, rootfs: Path, model: Path, ids: list[int], sizes: Sequence[int], folder: Path
) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Counts, and what the instructions of each are for."""
    proc = rootfs / "proc" / "cpuinfo"
    proc.parent.mkdir(exist_ok=True)
    proc.write_text(CPUINFO.format(features=core.features, part=core.part))
    facts = json.dumps(facts_of(model, graph.read(model)))
    cache = folder / f"packed-{core.name}"
    cache.mkdir(mode=0o700, exist_ok=True)
    agent = ["-m", "edge.run.agent", model, "--facts", facts, "--threads", "1", "--cache", cache]
    env = {"PYTHONHOME": "/usr", "PYTHONPATH": f"/opt/pi:{ROOT}", "PYTHONSAFEPATH": "1", "HOME": str(folder)}
    counted = Counted(plugin, core, ["-L", rootfs, rootfs / "usr" / "bin" / "python3.11", *agent], env)
    transport = PipeTransport(counted.process, "the emulated agent", boot_s=HOURS)
    found, profiles = {}, {}
    with Link(transport, Clock("seconds", 1e-9), HOURS, resend_s=HOURS) as link:
        counted.count()
        link.hello()
        counted.count()
        names = Names(counted.process.pid)
        for number, size in enumerate(sizes):
            link.prefill(ids[:size])  # up to 256 ids are one request
            found[name := f"prefill of {size}"] = counted.count() // size
            profiles[name] = names.kinds(counted.profile, size)
            for seed in (number == 0, False):  # the first allocates
                link.generate(1, GREEDY, seed=seed)
                found[name := f"decode at {size + 1}"] = counted.count()
            profiles[name] = names.kinds(counted.profile, 1)
    counted.end()
    return found, profiles


class Names:
    """Whose instruction an address is: the emulated program's addresses are those of the emulator's process."""

    def __init__(self, pid: int) -> None:
        self._maps = []
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            words = line.split()
            if len(words) > 5 and words[5].startswith("/"):
                first, last = (int(word, 16) for word in words[0].split("-"))
                self._maps.append((first, last, first - int(words[2], 16), words[5]))
        self._symbols: dict[str, list[tuple[int, str]]] = {}

    def kinds(self, profile: dict[int, int], tokens: int) -> dict[str, int]:
        found: collections.Counter[str] = collections.Counter()
        for address, count in profile.items():
            name = self._name(address)
            found[next(kind for kind, pattern in KINDS if re.search(pattern, name))] += count // tokens
            if re.search(KINDS[0][1], name):
                found[f"kernel {name}"] += count // tokens
        return dict(found)

    def _name(self, address: int) -> str:
        for first, last, _, path in self._maps:
            if first <= address < last:
                base = min(mapped[2] for mapped in self._maps if mapped[3] == path)
                symbols = self._of(path)
                at = bisect.bisect(symbols, (address - base, "~")) - 1
                return f"{symbols[at][1] if at >= 0 else ''} {Path(path).name}"
        return ""

    def _of(self, path: str) -> list[tuple[int, str]]:
        """Functions of a library; the labels inside of assembly are none."""
        if path not in self._symbols:
            done = subprocess.run(["aarch64-linux-gnu-nm", "--defined-only", path], capture_output=True, text=True)
            rows = (line.split(" ", 2) for line in done.stdout.splitlines())
            self._symbols[path] = sorted(
                (int(row[0], 16), row[2])
                for row in rows
                if len(row) == 3 and row[1] in "tTwW" and not re.match(r"label_|\$|\.L", row[2])
            )
        return self._symbols[path]


def print_profiles(profiles: dict[str, dict[str, int]]) -> None:
    print("\n| ours, million instructions a token | " + " | ".join(profiles) + " |")
    print("|---|" + "---|" * len(profiles))
    for kind, _ in KINDS:
        print(f"| {kind} | " + " | ".join(f"{each.get(kind, 0) / 1e6:.2f}" for each in profiles.values()) + " |")
    kernels = collections.Counter({name: 0 for name in ()})
    for each in profiles.values():
        kernels.update(
            {name.removeprefix("kernel "): count for name, count in each.items() if name.startswith("kernel ")}
        )
    print("\nkernels of the weights: " + ", ".join(name.split()[0] for name, _ in kernels.most_common(4)), flush=True)


if __name__ == "__main__":
    main()
