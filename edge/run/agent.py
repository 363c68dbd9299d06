"""Runs a .tflite in a process of its own and answers frames on stdin and stdout, as a board does.

    python -m edge.run.agent MODEL --facts JSON [--kernels xnnpack|reference] [--threads N] [--context N]

It needs numpy, LiteRT (or tflite_runtime), session.py and plain_model.py beside it, and three files of firmware_tools
(frames.py, sampler.py, exp.py), so that a Raspberry Pi needs no more than these. A model that hangs, crashes or wants
too much memory takes only this process with it. stdout carries frames alone: what libraries print goes to stderr. Ticks
are nanoseconds of computing, the KV cache included, sampling not.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import importlib.metadata
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge.limits import set_limits
from edge.run.plain_model import PlainModel, PlainSession
from edge.run.session import MAX_PAYLOAD, Refusal, Session, one_line, serve
from firmware_tools.frames import SEED, Kind, Packet
from firmware_tools.sampler import Generator, Sampler

RUNTIMES = ("ai_edge_litert", "tflite_runtime")  # the first that is installed
KERNELS = {"xnnpack": "BUILTIN", "reference": "BUILTIN_REF"}  # names of LiteRT's OpResolverType
STEP_BYTES = 12  # of a GENERATE answer: id u32, ticks u64
PREFILL_COST = 4  # one run of `prefill` takes about as long as chunk / PREFILL_COST runs of `decode`
SMALL_BYTES = 16 << 20  # below this a second thread costs more than it brings
MOST_THREADS = 4
SPARE_BYTES = 4 << 30  # address space beyond what the model's size explains, most of it reserved by threads
TICKS_HZ = 1_000_000_000


def load_runtime() -> tuple[str, Any]:
    """The LiteRT module found first and its name with version; ImportError where there is none."""
    for name in RUNTIMES:
        with contextlib.suppress(ModuleNotFoundError):
            module = importlib.import_module(f"{name}.interpreter")
            return f"{name} {importlib.metadata.version(name)}", module
    raise ImportError(f"none of {', '.join(RUNTIMES)} is installed: pip install ai-edge-litert")


def lite(path: Path, threads: int, kernels: str, runtime: Any) -> Any:
    """LiteRT's interpreter of a file."""
    resolver = getattr(runtime.OpResolverType, KERNELS[kernels])
    # LiteRT opens paths by their bytes, which on Windows are not those of a name that is not ASCII
    source = {"model_path": str(path)} if str(path).isascii() else {"model_content": path.read_bytes()}
    interpreter = runtime.Interpreter(**source, num_threads=threads, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    return interpreter


class Model:
    """The two signatures over one KV cache, which lives in the inputs of `decode`, subgraph 0."""

    def __init__(self, path: Path, kv_heads: int, threads: int, kernels: str, runtime: Any) -> None:
        self._lite = lite(path, threads, kernels, runtime)
        decode = self._lite.get_signature_runner("decode")
        inputs, outputs = decode.get_input_details(), decode.get_output_details()
        prefill = self._lite.get_signature_runner("prefill").get_input_details()
        self.layers = sum(name.startswith("k_") for name in inputs)
        self.vocab_size = int(outputs["logits"]["shape"][0])
        self.chunk = int(prefill["tokens"]["shape"][0])
        self.kv_heads = kv_heads
        self.head_dim = int(outputs["k_new_0"]["shape"][0]) // kv_heads
        self.context = int(inputs["k_0"]["shape"][0]) // (kv_heads * self.head_dim)
        self.kv_cache_bytes = 4 * 2 * self.layers * int(inputs["k_0"]["shape"][0])
        names = [f"{side}_{layer}" for side in "kv" for layer in range(self.layers)]
        self._caches = {name: self._lite.tensor(inputs[name]["index"]) for name in names}
        self._new = {name: self._lite.tensor(outputs[f"{name[0]}_new_{name[2:]}"]["index"]) for name in names}
        self._token = self._lite.tensor(inputs["token"]["index"])
        self._position = self._lite.tensor(inputs["position"]["index"])
        self._logits = self._lite.tensor(outputs["logits"]["index"])
        for cache in self._caches.values():
            cache()[:] = 0  # rows not yet filled are masked, but must be finite
        self.logits: NDArray[np.float32] = np.zeros(self.vocab_size, np.float32)

    def warm_up(self) -> None:
        """Runs both signatures once: LiteRT allocates in the first run, which makes it slower than all others."""
        self.decode(0, 0)
        self._prefill_chunk([0, 0], 0)

    def decode(self, token: int, position: int) -> int:
        """Computes one token and keeps its logits; returns nanoseconds."""
        started = time.perf_counter_ns()
        # views of LiteRT's own memory; none may be held while it runs
        self._token()[0], self._position()[0] = token, position
        self._lite.invoke()
        for name, cache in self._caches.items():
            self._rows(cache)[:, position] = self._new[name]().reshape(self.kv_heads, self.head_dim)
        ticks = time.perf_counter_ns() - started
        self.logits[:] = self._logits()
        return ticks

    def prefill(self, ids: Sequence[int], position: int) -> int:
        """Computes tokens at positions from `position` on and keeps the last one's logits; returns nanoseconds."""
        ticks = 0
        for first in range(0, len(ids), self.chunk):
            part = ids[first : first + self.chunk]
            if PREFILL_COST * len(part) > self.chunk:  # one that is not full is filled with padding
                ticks += self._prefill_chunk(part, position + first)
            else:
                ticks += sum(self.decode(token, position + first + i) for i, token in enumerate(part))
        return ticks

    def _prefill_chunk(self, ids: Sequence[int], position: int) -> int:
        started = time.perf_counter_ns()
        tokens = np.zeros(self.chunk, np.int32)
        tokens[: len(ids)] = ids
        run = self._lite.get_signature_runner("prefill")  # not kept: LiteRT lends no memory while one lives
        outputs = run(
            tokens=tokens,
            position=np.array([position], np.int32),
            length=np.array([len(ids)], np.int32),
            **{name: cache() for name, cache in self._caches.items()},
        )
        del run
        for name, cache in self._caches.items():
            new = outputs[f"{name[0]}_new_{name[2:]}"].reshape(self.kv_heads, self.chunk, self.head_dim)
            self._rows(cache)[:, position : position + len(ids)] = new[:, : len(ids)]
        ticks = time.perf_counter_ns() - started
        self.logits[:] = outputs["logits"]
        return ticks

    def _rows(self, cache: Any) -> NDArray[np.float32]:
        """A view [kv_heads, context, head_dim] of a cache."""
        rows: NDArray[np.float32] = cache().reshape(self.kv_heads, self.context, self.head_dim)
        return rows


class DecoderSession(Session):
    """What a board keeps of a language model: how much of the cache is filled, logits, the sampler."""

    def __init__(self, model: Model, info: Mapping[str, Any]) -> None:
        super().__init__(info)
        self.model = model
        self.context = int(info["context"])
        self.stop_ids = frozenset(info["stop_ids"])
        self.filled = 0
        self.generator = Generator(Sampler())

    def carry_out(self, request: Packet) -> bytes:
        payload, size = request.payload, len(request.payload)
        if request.kind == Kind.PREFILL and size >= 8 and size % 4 == 0:
            position, *ids = struct.unpack(f"<{size // 4}I", payload)
            return self._compute(ids, position, prefill=True)
        if request.kind == Kind.FORWARD and size == 8:
            position, token = struct.unpack("<2I", payload)
            return self._compute([token], position, prefill=False)
        if request.kind == Kind.GENERATE and size == 20:
            return self._generate(*struct.unpack("<HHffQ", payload))
        if request.kind == Kind.LOGITS and size == 4:
            return self._logits(*struct.unpack("<I", payload))
        if request.kind == Kind.ENCODE:
            raise Refusal("this target has no tokenizer of its own; the host encodes")
        return super().carry_out(request)

    def _compute(self, ids: Sequence[int], position: int, prefill: bool) -> bytes:
        if position > self.filled:
            raise Refusal(f"position {position} is too far: the first one not computed is {self.filled}")
        if position + len(ids) > self.context:
            raise Refusal(f"the context ends at position {self.context}")
        if max(ids) >= self.model.vocab_size:
            raise Refusal(f"no token has the id {max(ids)}; ids end at {self.model.vocab_size - 1}")
        self.filled = 0  # a failure on the way leaves nothing to go on from
        ticks = self.model.prefill(ids, position) if prefill else self.model.decode(ids[0], position)
        self.filled = position + len(ids)
        return struct.pack("<Q", ticks)

    def _generate(self, count: int, flags: int, temperature: float, top_p: float, seed: int) -> bytes:
        most = MAX_PAYLOAD // STEP_BYTES
        if not self.filled:
            raise Refusal("nothing to go on from: no position has been computed")
        if not 1 <= count <= most:
            raise Refusal(f"one request generates 1 to {most} tokens, not {count}")
        if not (0 <= temperature <= 1e6 and 0 < top_p <= 1):
            raise Refusal("temperature must be 0 or more, top_p above 0 and at most 1")
        if flags & SEED:
            self.generator = Generator(Sampler(temperature, top_p, seed))
        else:
            self.generator.follow(temperature, top_p)
        steps = b""
        while count and self.filled < self.context:
            token = self.generator.choose(self.model.logits)
            if token in self.stop_ids:
                return steps + struct.pack("<IQ", token, 0)
            steps += struct.pack("<IQ", token, self.model.decode(token, self.filled))
            self.filled += 1
            count -= 1
        return steps

    def _logits(self, first: int) -> bytes:
        if not self.filled:
            raise Refusal("no logits: no position has been computed")
        if first >= self.model.vocab_size:
            raise Refusal(f"logits end at {self.model.vocab_size - 1}")
        return self.model.logits[first : first + MAX_PAYLOAD // 4].astype("<f4").tobytes()


def take_stdout() -> BinaryIO:
    """stdout for frames alone; file descriptor 1 becomes stderr for whoever prints."""
    sys.stdout.flush()
    frames = os.dup(1)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        for descriptor in (0, frames):
            msvcrt.setmode(descriptor, os.O_BINARY)
    return os.fdopen(frames, "wb")


def _of_the_host() -> dict[str, Any]:
    return {
        "arena_bytes": None,
        "stack_bytes": None,
        "can_encode": False,
        "board": "host",
        "emulated": False,
        "ticks_hz": TICKS_HZ,
        "max_payload": MAX_PAYLOAD,
    }


def describe(model: Model, facts: Mapping[str, Any], context: int | None, threads: int, kernels: str) -> dict[str, Any]:
    """The answer to HELLO: what the host knows of the file, and what only the one who runs it knows."""
    return {
        **facts,
        "vocab_size": model.vocab_size,
        "context": min(context or model.context, model.context),
        "layers": model.layers,
        "kv_cache_bytes": model.kv_cache_bytes,
        **_of_the_host(),
        "kernels": kernels,
        "threads": threads,
    }


def start(options: argparse.Namespace) -> Session:
    """Loads the model that the facts are of; ValueError or another of LiteRT's errors where it cannot."""
    facts = json.loads(options.facts)
    size_bytes = options.model.stat().st_size
    set_limits(SPARE_BYTES + 16 * size_bytes)
    if hashlib.sha256(options.model.read_bytes()).hexdigest() != facts.pop("file_sha256"):
        raise ValueError("the file is not the one the host has read")
    threads = options.threads or (1 if size_bytes < SMALL_BYTES else min(os.cpu_count() or 1, MOST_THREADS))
    name, runtime = load_runtime()
    facts["runtime"] = name
    if facts["kind"] == "plain":
        plain = PlainModel(lite(options.model, threads, options.kernels, runtime), facts.pop("signature"))
        return PlainSession(plain, {**facts, **_of_the_host(), "kernels": options.kernels, "threads": threads})
    model = Model(options.model, facts.pop("kv_heads"), threads, options.kernels, runtime)
    model.warm_up()
    return DecoderSession(model, describe(model, facts, options.context, threads, options.kernels))


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves frames until stdin ends; returns the exit code."""
    parser = argparse.ArgumentParser(prog="edge.run.agent", description="Answers frames on stdin and stdout.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--facts", required=True, help="JSON: what the host knows of the file")
    parser.add_argument("--kernels", choices=sorted(KERNELS), default="xnnpack")
    parser.add_argument("--threads", type=int, default=0, help="0: by the size of the model")
    parser.add_argument("--context", type=int, default=0, help="0: that of the model")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host, which then ends our stdin
    answers = take_stdout()
    try:
        session = start(options)
    except (ImportError, MemoryError, OSError, RuntimeError, ValueError) as error:
        print(f"cannot run {options.model}: {one_line(error)}", file=sys.stderr)
        return 1
    with contextlib.suppress(BrokenPipeError):
        serve(session, sys.stdin.buffer, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
