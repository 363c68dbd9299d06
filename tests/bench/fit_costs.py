"""Finds the factors of firmware_tools/costs.json: profiles of small random decoders on every emulated board.

python tests/bench/fit_costs.py [BOARD…]      rewrites the entries of these boards' cores; prints how well they fit
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tiny  # noqa: E402

from edge.make.convert import convert  # noqa: E402
from edge.measure.profile import profile  # noqa: E402
from firmware_tools import boards, build, costs, fuse, graph, ops  # noqa: E402
from firmware_tools.bfp_program import for_board  # noqa: E402
from firmware_tools.boards import Board  # noqa: E402
from firmware_tools.compile import compile_model  # noqa: E402

# vocabulary, dim, hidden, layers, heads, kv heads, context, positions
SHAPES = (
    (300, 32, 44, 2, 4, 2, 24, (0, 3, 23)),
    (320, 64, 172, 1, 8, 8, 96, (0, 40, 95)),
    (512, 96, 256, 1, 6, 2, 64, (7, 63)),
    (640, 128, 384, 1, 8, 4, 160, (15, 159)),
    (400, 48, 300, 1, 3, 1, 48, (1, 47)),
    (800, 80, 120, 1, 10, 5, 128, (31, 127)),
)
SCHEMES = ("int8", "int4", "int4-32", "float32")
Samples = dict[str, list[tuple[dict[str, float], int]]]


def samples(board: Board) -> Samples:
    """kernel -> (work, instructions) of every call of every shape, scheme and position."""
    found: Samples = {}
    for (vocab, dim, hidden, layers, heads, kv_heads, context, positions), scheme in cases(board):
        shape = {"vocab_size": vocab, "dim": dim, "hidden_dim": hidden, "layers": layers, "heads": heads}
        made = tiny.checkpoint(kv_heads=kv_heads, context=context, **shape)
        model = graph.read(convert(made, scheme))
        image = build.build(compile_model(model, board), board)
        program = for_board(fuse.program(model), board)
        for position in positions:
            parts = profile(model, image, board, board.emulators[0], position).parts
            for index, (call, part) in enumerate(zip(program.calls, parts, strict=True)):
                kernel = ops.load(call.op).kernel(call, board.features)
                if "pair" in board.features and (not kernel.endswith("_pair") or kv_heads % 2):
                    continue  # the rest is the core's, and the halves of one kv head are no halves
                found.setdefault(kernel, []).append((costs.work(program, index, position), part.instructions))
    return found


def cases(board: Board) -> Iterator[tuple[tuple[int, int, int, int, int, int, int, tuple[int, ...]], str]]:
    """Without an FPU only int8 models are worth a prediction: all others are soft float."""
    for scheme in SCHEMES if "fpu" in board.features else SCHEMES[:1]:
        for shape in SHAPES[: 3 if scheme != "int8" else None]:
            yield shape, scheme


def fit(pairs: list[tuple[dict[str, float], int]]) -> tuple[dict[str, float], float]:
    """(factors, largest relative error of a sample); none is negative, and errors count relative to the sample."""
    names = sorted({name for work, _ in pairs for name in work})
    amounts = np.array([[work.get(name, 0.0) for name in names] for work, _ in pairs])
    counts = np.array([count for _, count in pairs], float)
    rows = amounts / counts[:, None]
    kept = list(range(len(names)))
    while True:  # leave out what would take instructions away, the worst first
        factors = np.linalg.lstsq(rows[:, kept], np.ones(len(counts)), rcond=None)[0]
        if factors.min() >= 0:
            break
        kept.pop(int(factors.argmin()))
    error = float(np.abs(rows[:, kept] @ factors - 1).max())
    return {names[i]: round(float(f), 4) for i, f in zip(kept, factors, strict=True) if f > 1e-6}, error


def main() -> None:
    chosen = sys.argv[1:] or [name for name in boards.names() if boards.load(name).emulators]
    table = json.loads(costs.TABLE.read_text(encoding="utf-8")) if costs.TABLE.exists() else {}
    for name in chosen:
        board = boards.load(name)
        print(name)
        entries = {}
        for kernel, pairs in sorted(samples(board).items()):
            entries[kernel], error = fit(pairs)
            print(f"  {kernel:32} {len(pairs):4} samples, within {100 * error:.1f} %")
        table[costs.core(board)] = table.get(costs.core(board), {}) | entries
    text = json.dumps(table, indent=1, sort_keys=True) + "\n"
    costs.TABLE.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
