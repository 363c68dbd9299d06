"""Every counted figure of the compiler, with one command: instructions by op, memory and code of real models on boards.

    python tests/bench/counts.py            prints the table
    python tests/bench/counts.py --write    writes counts.txt, which tests/test_counts.py compares with

Counts are deterministic. They are instructions of emulated boards, never cycles or seconds.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from edge import zoo  # noqa: E402
from edge.make.checkpoints import load  # noqa: E402
from edge.make.convert import convert  # noqa: E402
from edge.measure.bench_plain import bench_plain  # noqa: E402
from edge.measure.profile import profile  # noqa: E402
from edge.measure.record import Profile  # noqa: E402
from edge.run.plain import open_plain  # noqa: E402
from firmware_tools import boards, build, emulators, fuse, graph  # noqa: E402
from firmware_tools.boards import Board  # noqa: E402
from firmware_tools.compile import compile_model, needs  # noqa: E402

TABLE = FOLDER / "counts.txt"
PREFILL, LONG = 64, 512


@dataclass(frozen=True)
class Case:
    """A decoder on a board; stories260K is data of others, which not every clone has beside it."""

    board: str
    model: str = "stories260K"
    scheme: str = "int8"
    context: int = 128
    positions: tuple[int, ...] = (15, 127)
    toolchain: str = "zig"

    @property
    def name(self) -> str:
        by = "" if self.toolchain == "zig" else f" by {self.toolchain}"
        return f"{self.board} {self.model} {self.scheme}{by}"


BOARDS = ("virtual-m0", "virtual-m0+wide", "virtual-m3", "virtual-m4", "virtual-m7", "virtual-m33", "virtual-m55")
CASES = (
    *(Case(board, "intent", context=96, positions=(15, 95)) for board in BOARDS),
    *(Case(board, positions=(15, 32, 127)) for board in ("virtual-m4", "virtual-m55")),
    *(Case(board) for board in ("virtual-m0", "virtual-m0+wide", "virtual-m33")),
    *(Case("virtual-m4", scheme=scheme, positions=(15,)) for scheme in ("int4", "int4-32")),
    Case("virtual-m4", toolchain="gcc"),
)
PLAIN = ("kws_ref_model", "micro_speech_quantized", "ad01_int8", "hello_world_int8")  # data of others, too
PLAIN_BOARD = "virtual-m4"
Rows = dict[str, int]


def plain_rows(path: Path) -> Iterator[tuple[str, int]]:
    """(what, how many) of a plain model: per op and whole of an inference of random inputs, memory, code."""
    name = f"{PLAIN_BOARD} {path.stem}"
    with open_plain(PLAIN_BOARD, path, counting=True) as running:
        found = bench_plain(running, (), 1, profiled=True)
        sizes = running.image.sizes if running.image else None
    assert found.profile is not None and sizes is not None
    for op, count in by_op(found.profile).items():
        yield f"{name}: inference, {op}", count
    yield f"{name}: inference", sum(part.instructions for part in found.profile.parts)
    yield f"{name}: code bytes", sizes.code_bytes
    yield f"{name}: weight bytes", sizes.weight_bytes
    yield f"{name}: arena bytes", sizes.arena_bytes


def read(case: Case, stories: Path) -> graph.Graph:
    """The model of a case; stories: the folder that has stories260K."""
    if case.model == "intent":
        return graph.read(zoo.find("intent"))
    checkpoint = load(stories / "stories260K.bin", stories / "tok512.bin")
    return graph.read(convert(checkpoint, case.scheme, LONG))


def rows(case: Case, model: graph.Graph) -> Iterator[tuple[str, int]]:
    """(what, how many) of a case: per op and whole at each position, the mean of a prompt, memory, code."""
    board = boards.load(case.board)
    image = build.build(compile_model(model, board, case.context), board, toolchain=case.toolchain)
    for position in case.positions:
        found = profile(model, image, board, board.emulators[0], position)
        for op, count in by_op(found).items():
            yield f"{case.name}: decode at {position}, {op}", count
        yield f"{case.name}: decode at {position}", sum(part.instructions for part in found.parts)
    yield f"{case.name}: instructions per 1,000 products of fully connected layers", per_product(found, model)
    yield f"{case.name}: prefill of {PREFILL}, mean a token", prefill(image, board)
    yield f"{case.name}: code bytes", image.sizes.code_bytes
    yield f"{case.name}: weight bytes", image.sizes.weight_bytes
    yield f"{case.name}: arena bytes", image.sizes.arena_bytes
    yield f"{case.name}: arena and KV cache bytes", image.sizes.arena_bytes + image.sizes.kv_cache_bytes
    if case.model == "stories260K":
        long = needs(model, board, LONG)
        yield f"{case.name}: arena and KV cache bytes, context {LONG}", long.arena_bytes + long.kv_cache_bytes


def per_product(found: Profile, model: graph.Graph) -> int:
    """Of whole layers: quantizing their input and scaling their output are in it."""
    connected = [call for call in fuse.program(model).calls if call.op.startswith("fully_connected")]
    products = sum(call.constants["weights"].size for call in connected)
    instructions = sum(part.instructions for part in found.parts if part.op.startswith("fully_connected"))
    return round(1000 * instructions / products)


def by_op(found: Profile) -> dict[str, int]:
    sums: dict[str, int] = {}
    for part in found.parts:
        sums[part.op] = sums.get(part.op, 0) + part.instructions
    return sums


def prefill(image: build.Image, board: Board) -> int:
    with emulators.load(board.emulators[0]).open(image, counting=True) as link:
        ticks = link.prefill(list(range(3, 3 + PREFILL)))
        assert ticks is not None
        return round(ticks * link.clock.per_tick / PREFILL)


def parse(text: str) -> Rows:
    """what -> how many, of a table's text."""
    found = {}
    for line in text.splitlines():
        what, _, number = line.rpartition("  ")
        if what and not line.startswith("#"):
            found[what.rstrip()] = int(number.replace(",", ""))
    return found


def table(found: Rows) -> str:
    widest = max(map(len, found))
    head = "# Instructions on emulated boards, and bytes. Written by counts.py; a rise of over 2 % fails the tests.\n"
    return head + "".join(f"{what:{widest}}  {number:>10,}\n" for what, number in found.items())


def main() -> None:
    from conftest import DATA

    write, others = sys.argv[1:] == ["--write"], DATA.is_dir()
    if not others:
        print("without the folder of data made by others: only the shipped model is counted", file=sys.stderr)
    if write and not others:
        sys.exit("a table without the others' models would be no table")
    found: Rows = {}
    for case in CASES:
        if others or case.model == "intent":
            found |= dict(rows(case, read(case, DATA / "stories260K")))
    for model in PLAIN if others else ():
        found |= dict(plain_rows(DATA / "tflite" / f"{model}.tflite"))
    if write:
        with tempfile.NamedTemporaryFile("w", dir=FOLDER, delete=False, encoding="utf-8", newline="\n") as file:
            file.write(table(found))
        Path(file.name).replace(TABLE)
    print(table(found), end="")


if __name__ == "__main__":
    main()
