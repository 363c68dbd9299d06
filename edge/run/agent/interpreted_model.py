"""A language model in an Interpreter: what tflite_runtime 2.14 has, and what LiteRT's reference kernels need.

(LiteRT's CompiledModel has reference kernels of its own, which differ from the Interpreter's in the last digits.) The
KV cache lives in the inputs of `decode`, subgraph 0. An open cache is taken whole.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.run.agent import chunks
from edge.run.agent.runtimes import Runtime, interpreter


class InterpretedModel:
    """The two signatures over one KV cache; logits are those of the last token computed."""

    def __init__(self, path: Path, kv_heads: int, threads: int, kernels: str, runtime: Runtime) -> None:
        self._lite = interpreter(path, threads, kernels, runtime)
        decode = self._lite.get_signature_runner("decode")
        inputs, outputs = decode.get_input_details(), decode.get_output_details()
        prefill = self._lite.get_signature_runner("prefill").get_input_details()
        self.layers = sum(name.startswith("k_") for name in inputs)
        self.gain = chunks.gain(path.stat().st_size)
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
        self.prefill_chunk([0, 0], 0)

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
        return chunks.prefill(self, ids, position)

    def prefill_chunk(self, ids: Sequence[int], position: int) -> int:
        """The same for 2 to `chunk` tokens, in one run of the signature; the rest of it is padding."""
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
