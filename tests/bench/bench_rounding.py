"""Prints what fewer bits cost: KL in LiteRT with XNNPACK, weight bytes over int8's, and round to nearest beside it.

python tests/bench/bench_rounding.py CHECKPOINT [--tokens 2048] [--device]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

from lite import Model  # noqa: E402
from oracle import divergence, sample  # noqa: E402
from test_rounding import weight_bytes  # noqa: E402

from edge.make import checkpoints, convert  # noqa: E402
from edge.make.calibrate import own_samples  # noqa: E402
from edge.make.quantize.layerwise import tokens  # noqa: E402
from edge.make.quantize.matrices import Rounding  # noqa: E402
from edge.make.quantize.mixed import Budget  # noqa: E402
from firmware_tools import fuse, graph, interpret  # noqa: E402

TEXT = 256  # tokens of one sampled text
SIZES, KLS = (0.65, 0.7, 0.72, 0.8), (0.05, 0.02, 0.01)
Texts = list[tuple[list[int], np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--device", action="store_true")
    options = parser.parse_args()
    checkpoint = checkpoints.load(options.checkpoint)
    texts = [sample(checkpoint, TEXT, seed) for seed in range(options.tokens // TEXT)]
    calibration = own_samples(checkpoint, tokens(checkpoint.architecture))
    whole = weight_bytes(convert.convert(checkpoint, "int8", TEXT))
    cases = [(scheme, scheme, None) for scheme in ("int8", "int4-32", "int4-64", "int4")]
    cases += [(f"mixed --max-size {size}", "mixed", Budget(size=size)) for size in SIZES]
    cases += [(f"mixed --max-kl {kl}", "mixed", Budget(kl=kl)) for kl in KLS]
    for name, scheme, budget in cases:
        started = time.perf_counter()
        data = convert.convert(checkpoint, scheme, TEXT, calibration=calibration, budget=budget)
        seconds = time.perf_counter() - started
        line = f"{name:20} {weight_bytes(data) / whole:6.1%} {len(data):9,} bytes, KL {kl_of(data, texts):.5f}"
        if scheme != "mixed":
            line += f" (round to nearest {kl_of(rounded_to_nearest(checkpoint, scheme), texts):.5f})"
        if options.device:
            line += f", device {device_kl(data, texts):.5f} over {2 * TEXT} tokens"
        print(f"{line}, {seconds:.1f} s after sampling", flush=True)


def rounded_to_nearest(checkpoint: checkpoints.Checkpoint, scheme: str) -> bytes:
    """The same file without compensation."""
    kept = convert.matrices
    convert.matrices = lambda shape, weights, scheme, rounding, keep: kept(shape, weights, scheme, Rounding(), keep)
    try:
        return convert.convert(checkpoint, scheme, TEXT)
    finally:
        convert.matrices = kept


def kl_of(data: bytes, texts: Texts) -> float:
    rows = []
    for ids, _ in texts:
        model = Model(data, "xnnpack")
        rows += [model.decode(token, position) for position, token in enumerate(ids)]
    return divergence(np.concatenate([logits for _, logits in texts]), np.array(rows))


def device_kl(data: bytes, texts: Texts) -> float:
    """Of the numpy model of the device, with its int8 KV cache."""
    program, rows = fuse.program(graph.read(data)), []
    for ids, _ in texts[:2]:
        run = interpret.start(program)
        rows += [interpret.step(program, run, token, position) for position, token in enumerate(ids)]
    return divergence(np.concatenate([logits for _, logits in texts[:2]]), np.array(rows))


if __name__ == "__main__":
    main()
