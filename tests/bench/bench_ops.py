"""Instructions of each kernel on a Cortex-M4, and of a decode step of stories260K's shape. Run this file itself."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cortex import M4  # noqa: E402
from kernels import CortexRunner  # noqa: E402

from firmware_tools.ops import Call  # noqa: E402

DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCAB, CONTEXT = 64, 172, 5, 8, 4, 8, 512, 128
QKV = (HEADS + 2 * KV_HEADS) * HEAD_DIM
POSITIONS = (0, 15, 127)
RANDOM = np.random.default_rng(1)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def fully_connected(n: int, k: int) -> Call:
    weights = RANDOM.integers(-127, 128, (n, k)).astype(np.int8)
    return Call("fully_connected", (0,), (1,), {"weights": weights, "scales": np.abs(floats(n))})


def cases() -> dict[str, tuple[Call, tuple[int, ...], tuple[int, ...], int]]:
    """Each kernel of the decode step: the call, lengths of inputs and outputs, and how often a step calls it."""
    table = RANDOM.integers(-127, 128, (VOCAB, DIM)).astype(np.int8)
    angles = floats(CONTEXT, HEAD_DIM // 2)
    shape = {"heads": HEADS, "kv_heads": KV_HEADS, "head_dim": HEAD_DIM, "context": CONTEXT}
    heads = {"heads": HEADS + KV_HEADS, "head_dim": HEAD_DIM}
    turn = Call("rope", (0,), (0,), {"cos": np.cos(angles), "sin": np.sin(angles)}, heads)
    attend = Call("attention", (0,), (1,), {}, {"layer": 0, "cache_bits": 8, **shape})
    look_up = Call("embedding", (), (0,), {"weights": table, "scales": np.abs(floats(VOCAB))})
    norm = Call("rms_norm", (0,), (1,), {"gain": floats(DIM)}, {"epsilon": 1e-5})
    return {
        "embedding": (look_up, (), (DIM,), 1),
        "rms_norm": (norm, (DIM,), (DIM,), 2 * LAYERS + 1),
        "fully_connected 64→128 q|k|v": (fully_connected(QKV, DIM), (DIM,), (QKV,), LAYERS),
        "rope": (turn, (QKV,), (QKV,), LAYERS),
        "attention": (attend, (QKV,), (DIM,), LAYERS),
        "fully_connected 64→64 o": (fully_connected(DIM, DIM), (DIM,), (DIM,), LAYERS),
        "add": (Call("add", (0, 1), (0,)), (DIM, DIM), (DIM,), 2 * LAYERS),
        "fully_connected 64→344 gate|up": (fully_connected(2 * HIDDEN, DIM), (DIM,), (2 * HIDDEN,), LAYERS),
        "swiglu": (Call("swiglu", (0,), (1,), {}, {"bits": 8}), (2 * HIDDEN,), (HIDDEN,), LAYERS),
        "fully_connected 172→64 down": (fully_connected(DIM, HIDDEN), (HIDDEN,), (DIM,), LAYERS),
        "fully_connected 64→512 head": (fully_connected(VOCAB, DIM), (DIM,), (VOCAB,), 1),
        "fully_connected 64→172": (fully_connected(HIDDEN, DIM), (DIM,), (HIDDEN,), 0),
    }


def main() -> None:
    table = cases()
    calls, lengths = [row[0] for row in table.values()], [row[1:3] for row in table.values()]
    totals = dict.fromkeys(POSITIONS, 0)
    with tempfile.TemporaryDirectory() as folder:
        runner = CortexRunner(M4, M4.features, calls, lengths, Path(folder), counting=True)
        print(f"{'kernel':32} {'calls':>5} " + " ".join(f"{f'at {p}':>9}" for p in POSITIONS))
        for i, (name, (call, ins, _, times)) in enumerate(table.items()):
            counts = []
            for position in range(POSITIONS[-1] + 1):
                if call.op != "attention" and position not in POSITIONS:
                    continue
                runner.counting = position in POSITIONS
                runner.run(i, [floats(n) for n in ins], position=position)
                if runner.counting:
                    counts.append(runner.instructions)
                    totals[position] += times * runner.instructions
            macs = call.constants["weights"].size if call.op == "fully_connected" else 0
            per_mac = f"  {counts[0] / macs:.3f} instr/MAC" if macs else ""
            print(f"{name:32} {times:5} " + " ".join(f"{count:9,}" for count in counts) + per_mac)
    print(f"{'decode step':38} " + " ".join(f"{total:9,}" for total in totals.values()))
    print(f"code of these kernels: {runner.cortex.kernel_bytes:,} bytes")


if __name__ == "__main__":
    main()
