"""SmolLM2-135M from its GGUF: what each scheme loses, and how long a token takes, measured side by side in LiteRT.

python tests/bench/bench_smollm2_quality.py [MODEL.gguf] [--quantize int8 …] [--texts 16] [--seed 4] [--text FILE]

The truth is the float32 file of the same weights. It samples texts of 128 tokens (temperature 1, from BOS), or reads
the first of FILE; KL, perplexity and top-1 are over every position. Speed is taken in turns, a few tokens of each file
after the other, so that what else the machine does is the same for all: compare the ratios. CPU time is of 1 thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_smollm2 import packaged

from edge.make import checkpoints
from edge.make.convert import convert, save
from edge.make.forward import log_softmax
from edge.run.agent.decoder_model import DecoderModel
from edge.run.agent.runtimes import find_runtime
from edge.tokenizer import from_card

LENGTH = 128  # tokens of a text
CONTEXT, PREFILL = 256, 64
TURNS, TOKENS = 12, 6  # tokens of a file in each turn


def opened(path: Path, threads: int, kv_heads: int) -> DecoderModel:
    return DecoderModel(path, kv_heads, threads, find_runtime())


def logits_of(
    model: DecoderModel, next_of: Callable[[int, np.ndarray], int], first: int
) -> tuple[np.ndarray, np.ndarray]:
    """One text: its LENGTH + 1 ids, each chosen by next_of(position, logits), and the logits of LENGTH positions."""
    ids, rows = [first], []
    for position in range(LENGTH):
        model.decode(ids[-1], position)
        rows.append(model.logits.copy())
        ids.append(next_of(position, rows[-1]))
    return np.array(ids), np.array(rows)


def drawn(random: np.random.Generator) -> Callable[[int, np.ndarray], int]:
    def draw(position: int, logits: np.ndarray) -> int:
        sums = np.exp(log_softmax(logits)).cumsum()
        return int(min(np.searchsorted(sums, random.random() * sums[-1], "right"), logits.size - 1))

    return draw


def follows(ids: np.ndarray) -> Callable[[int, np.ndarray], int]:
    return lambda position, logits: int(ids[position + 1])


def losses(truth: np.ndarray, logits: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, ...]:
    """By position: KL, whether the likeliest token is the same, nats of what comes next."""
    p, q = log_softmax(truth), log_softmax(logits)
    kl = (np.exp(p) * (p - q)).sum(axis=1)
    return kl, p.argmax(axis=1) == q.argmax(axis=1), -q[np.arange(LENGTH), ids[1:]], -p[np.arange(LENGTH), ids[1:]]


def print_quality(
    paths: dict[str, Path], truth: Path, texts: list[np.ndarray | None], options: argparse.Namespace
) -> None:
    float_model = opened(truth, 2, options.kv_heads)
    models = {name: opened(path, 2, options.kv_heads) for name, path in paths.items()}
    random = np.random.default_rng(options.seed)
    found: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in models}
    for text in texts:
        choose = drawn(random) if text is None else follows(text)
        ids, rows = logits_of(float_model, choose, options.bos if text is None else int(text[0]))
        for name, model in models.items():
            found[name].append(losses(rows, logits_of(model, follows(ids), int(ids[0]))[1], ids))
    for name, parts in found.items():
        kl, same, nats, true = (np.concatenate(each) for each in zip(*parts, strict=True))
        spread = np.std([part[0].mean() for part in parts], ddof=1) / np.sqrt(len(parts))
        ppl, float_ppl = np.exp(nats.mean()), np.exp(true.mean())
        print(
            f"{name}: KL {kl.mean():.4f} (standard error over texts {spread:.4f}), perplexity {ppl:.3f} against "
            f"{float_ppl:.3f} ({100 * (ppl / float_ppl - 1):+.2f} %), top-1 {same.mean():.4f}, {kl.size} tokens, "
            f"{paths[name].stat().st_size:,} bytes"
        )


def print_speed(paths: dict[str, Path], threads: int, kv_heads: int) -> None:
    models = {name: opened(path, threads, kv_heads) for name, path in paths.items()}
    for model in models.values():
        model.warm_up()
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for turn in range(TURNS):
        for name, model in models.items():
            for step in range(TOKENS):
                with_clocks(taken, (name, "decode"), lambda m=model, at=turn * TOKENS + step: m.decode(100, at))
        for name, model in models.items():
            with_clocks(taken, (name, "prefill"), lambda m=model: m.prefill(list(range(100, 100 + PREFILL)), 0))
    for (name, what), each in taken.items():
        wall, cpu = np.median(np.array(each), axis=0) * 1e3
        print(f"{name} {what}, {threads} threads: median {wall:.1f} ms, CPU {cpu:.1f} ms")


def with_clocks(taken: dict, key: tuple[str, str], run: Callable[[], int]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    taken.setdefault(key, []).append((time.perf_counter() - wall, time.process_time() - cpu))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--quantize", action="append")
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--text", type=Path)
    options = parser.parse_args()
    checkpoint = checkpoints.load(options.source or packaged())
    options.kv_heads = checkpoint.architecture.kv_heads
    tokenizer = from_card(checkpoint.tokenizer, checkpoint.card)
    options.bos = tokenizer.bos_id if tokenizer.bos_id is not None else 0
    texts: list[np.ndarray | None] = [None] * options.texts
    if options.text is not None:
        ids = np.array(tokenizer.encode(options.text.read_text(encoding="utf-8")))
        texts = [np.append(options.bos, ids[at : at + LENGTH]) for at in range(0, options.texts * LENGTH, LENGTH)]
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            name: Path(folder) / f"{name}.tflite" for name in ["float32", *(options.quantize or ["int8", "int4-grid"])]
        }
        for name, path in paths.items():
            save(convert(checkpoint, name, CONTEXT, PREFILL), path)
        truth = paths.pop("float32")
        print_quality(paths, truth, texts, options)
        for threads in (1, 2):
            print_speed(paths, threads, options.kv_heads)


if __name__ == "__main__":
    main()
