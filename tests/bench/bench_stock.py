"""Ours against stock converters on the same weights, as one Markdown table (kept in docs/quantization.md).

    python tests/bench/bench_stock.py CHECKPOINT [--tokenizer FILE] [--tokens 4096] [--calibration 512] [--only WORD]

Every file is measured with its signature `decode` on texts that the float model samples, disjoint from those that
calibrate; KL is against the float model in numpy. ai-edge-quantizer quantizes our float32 graph, and for its static
schemes also TensorFlow's, whose mask adds -300; TensorFlow converts a decoder rebuilt from the same weights.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent.parent)]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from edge.make import checkpoints  # noqa: E402
from edge.make.calibrate import own_samples  # noqa: E402
from edge.make.convert import convert  # noqa: E402
from edge.make.forward import forward, log_softmax  # noqa: E402
from edge.make.quantize import SCHEMES  # noqa: E402
from edge.measure import figures  # noqa: E402
from edge.measure.record import Outcomes  # noqa: E402
from firmware_tools import graph  # noqa: E402
from tests import stock  # noqa: E402

HEADER = (
    "| converter | scheme | file bytes | weight bytes | perplexity | KL, XNNPACK | KL, reference kernels | top-1 |",
    "|---|---|---|---|---|---|---|---|",
)
CALIBRATION_SEED, TEXT_SEED = 1, 2


@dataclass(frozen=True)
class Texts:
    """What is measured on: ids [texts, T], and the float model's log-probabilities after each."""

    checkpoint: checkpoints.Checkpoint
    ids: Any
    truth: Any


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--calibration", type=int, default=512)
    parser.add_argument("--only", default="", help="rows that have this in their converter or scheme")
    options = parser.parse_args()
    checkpoint = checkpoints.load(options.checkpoint, options.tokenizer)
    ids = np.stack(own_samples(checkpoint, options.tokens, TEXT_SEED).ids)
    truth = log_softmax(forward(checkpoint.architecture, checkpoint.weights, ids))
    texts = Texts(checkpoint, ids, truth)
    print(f"{checkpoint.card['name']}, {ids.shape[0] * (ids.shape[1] - 1):,} tokens predicted\n")
    print("\n".join(HEADER), flush=True)
    for converter, scheme, make in files(checkpoint, ids.shape[1], options.calibration):
        if options.only not in f"{converter} {scheme}":
            continue
        try:
            print(row(converter, scheme, make(), texts), flush=True)
        except Exception as error:  # theirs raise anything
            why = str(error).strip().splitlines()[0].replace("|", "/")[:120]
            print(f"| {converter} | {scheme} | no file: {why} | – | – | – | – | – |", flush=True)


def files(
    checkpoint: checkpoints.Checkpoint, context: int, tokens: int
) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """(converter, scheme, what makes the file) of every row."""
    for scheme in SCHEMES:
        yield "edge", scheme, lambda scheme=scheme: convert(checkpoint, scheme, context)
    ours = stock.decode_only(convert(checkpoint, "float32", context))
    theirs = stock.tensorflow(checkpoint, context, "float32")
    texts = own_samples(checkpoint, tokens, CALIBRATION_SEED).ids
    steps = {id(data): list(stock.calibration_inputs(checkpoint, data, texts)) for data in (ours, theirs)}
    for name, (_, calibrated) in stock.AEQ.items():
        if not calibrated:
            yield "AI Edge Quantizer", name, lambda name=name: stock.quantizer(ours, name)
            continue
        for source, data in (("our graph", ours), ("TensorFlow's graph", theirs)):
            for ranges, true in (("its moving average", False), ("true ranges", True)):
                yield (
                    "AI Edge Quantizer",
                    f"{name}, {source}, {ranges}",
                    lambda name=name, data=data, true=true: stock.quantizer(data, name, steps[id(data)], true),
                )
    for form in ("float32", "dynamic range", "int8", "int16x8"):
        yield (
            "TensorFlow",
            form,
            lambda form=form: stock.tensorflow(checkpoint, context, form, steps[id(theirs)]),
        )


def row(converter: str, scheme: str, data: bytes, texts: Texts) -> str:
    """A line of the table."""
    outcomes = measured(data, texts, "xnnpack")
    found = figures.intervals(outcomes)
    cells = [converter, scheme, f"{len(data):,}", f"{weight_bytes(data):,}"]
    sums = [float(np.sum(column)) for column in (outcomes.nats, outcomes.kl, outcomes.agreed, outcomes.tokens)]
    cells.append(cell(float(np.exp(sums[0] / sums[3])), found.perplexity))
    cells.append(cell(sums[1] / sums[3], found.kl))
    other = measured(data, texts, "reference")
    cells.append(number(float(np.sum(other.kl)) / sums[3]))
    cells.append(cell(sums[2] / sums[3], found.top1))
    return "| " + " | ".join(cells) + " |"


def cell(value: float, interval: tuple[float, ...] | None) -> str:
    return number(value) + (f" ({number(interval[0])}–{number(interval[1])})" if interval else "")


def number(value: float) -> str:
    if not np.isfinite(value):
        return "not finite"
    return f"{value:.3f}" if value >= 0.1 else "0" if value < 1e-7 else f"{value:.2g}"


def measured(data: bytes, texts: Texts, kernels: str) -> Outcomes:
    """Block by block, as `edge eval` keeps it."""
    shape, (count, length) = texts.checkpoint.architecture, texts.ids.shape
    rows = np.empty_like(texts.truth)
    for at, ids in enumerate(texts.ids):
        loop = stock.Loop(data, shape.kv_heads, shape.head_dim, length, kernels)
        for position, token in enumerate(map(int, ids)):
            rows[at, position] = log_softmax(loop.decode(token, position))
    rows, truth = rows[:, :-1], texts.truth[:, :-1]
    nats = -np.take_along_axis(rows, texts.ids[:, 1:, None].astype(np.int64), axis=2).reshape(-1)
    kl = (np.exp(truth) * (truth - rows)).sum(axis=2).reshape(-1)
    agreed = (truth.argmax(axis=2) == rows.argmax(axis=2)).reshape(-1)
    parts = figures.blocks(count * (length - 1))
    return Outcomes(
        tokens=tuple(part.stop - part.start for part in parts),
        nats=tuple(float(nats[part].sum()) for part in parts),
        kl=tuple(max(float(kl[part].sum()), 0.0) for part in parts),
        agreed=tuple(int(agreed[part].sum()) for part in parts),
    )


def weight_bytes(data: bytes) -> int:
    """Constants of `decode` with their scales, shared ones once."""
    facts = graph.read(data)
    found: dict[object, int] = {}
    for tensor in facts.subgraphs[facts.signatures["decode"].subgraph].tensors:
        if tensor.stored is not None:
            packed = tensor.stored.buffer if isinstance(tensor.stored, graph.Nibbles) else tensor.stored
            found[tensor.buffer] = packed.nbytes
            if tensor.quantization is not None and tensor.quantization.scale.size:
                found[tensor.buffer, "scales"] = tensor.quantization.scale.nbytes
    return sum(found.values())


if __name__ == "__main__":
    main()
