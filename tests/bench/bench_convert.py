"""Prints what a checkpoint costs as .tflite: bytes, seconds, KL divergence by kernel set, time a token on this host.

python tests/bench/bench_convert.py CHECKPOINT [--tokens 2560] [--context 128 --context 512]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

from lite import RESOLVERS, Model  # noqa: E402
from oracle import divergence, sample  # noqa: E402

from edge.make import checkpoints  # noqa: E402
from edge.make.convert import convert, save  # noqa: E402
from edge.make.quantize import BLOCKS, SCHEMES  # noqa: E402
from edge.run.host import open_host  # noqa: E402
from firmware_tools.sampler import Sampler  # noqa: E402

TEXT = 256  # tokens of one sampled text


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tokens", type=int, default=2560)
    parser.add_argument("--context", type=int, action="append")
    options = parser.parse_args()
    checkpoint = checkpoints.load(options.checkpoint)
    columns = (checkpoint.architecture.dim, checkpoint.architecture.hidden_dim)
    schemes = [scheme for scheme in SCHEMES if any(size % (BLOCKS.get(scheme) or 1) == 0 for size in columns)]
    for scheme in schemes:
        for context in options.context or [128, 512]:
            print_cost(checkpoint, scheme, context)
    texts = [sample(checkpoint, TEXT, seed) for seed in range(options.tokens // TEXT)]
    for scheme in schemes:
        for kernels in RESOLVERS:
            print_quality(convert(checkpoint, scheme, TEXT), scheme, kernels, texts)


def print_cost(checkpoint: checkpoints.Checkpoint, scheme: str, context: int) -> None:
    started = time.perf_counter()
    data = convert(checkpoint, scheme, context)
    seconds = time.perf_counter() - started
    path = Path(f"bench-{scheme}-{context}.tflite")
    save(data, path)
    try:
        for kernels in RESOLVERS:
            with open_host(path, kernels=kernels) as link:
                prefill_ns = statistics.median(link.prefill([1] * 64) or 0 for _ in range(9)) / 64
                steps = link.generate(60, Sampler(1.0, 1.0, 1), seed=True)
                decode_ns = statistics.median(step.ticks for step in steps if step.ticks)
            print(
                f"{scheme:8} context {context:4}: {len(data):9,} bytes in {seconds:.3f} s; {kernels:9} "
                f"prefill {prefill_ns / 1000:6.1f}, decode {decode_ns / 1000:6.1f} µs a token"
            )
    finally:
        path.unlink()


def print_quality(data: bytes, scheme: str, kernels: str, texts: list[tuple[list[int], np.ndarray]]) -> None:
    rows = []
    for tokens, _ in texts:
        model = Model(data, kernels)
        rows += [model.decode(token, position) for position, token in enumerate(tokens)]
    truth = np.concatenate([logits for _, logits in texts])
    top1 = float((truth.argmax(axis=1) == np.array(rows).argmax(axis=1)).mean())
    kl = divergence(truth, np.array(rows))
    print(f"{scheme:8} {kernels:9}: KL {kl:.2g} nats per token, top-1 {top1:.4f} over {len(rows)} tokens")


if __name__ == "__main__":
    main()
