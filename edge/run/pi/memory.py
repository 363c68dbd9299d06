"""How much memory a model takes in LiteRT, estimated from its file before it is copied anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.run.pi.computer import MB, Computer
from firmware_tools.errors import DoesNotFit
from firmware_tools.graph import NUMPY_DTYPES, Graph, Subgraph, Tensor

# Python, numpy, the runtime and what these allocate. Peaks measured on x86_64 with a full context, of SmolLM2-135M in
# int8: LiteRT takes 222 to 230 MB with 128 positions, 249 with 512 and 351 with 2,048, estimated as 231, 249 and 346;
# tflite-runtime 2.14 takes 283 with 128, estimated as 289; LiteRT 58 with a model of 0.2 MB. ARM was not measured.
RUNTIME_BYTES = 60 * MB
TOUCHED = {64: 0.22, 32: 0.65}  # of the file is in memory beside the packed weights, by the runtime of that many bits

SHORT = 64  # positions, below which a context is of no use


@dataclass(frozen=True)
class Need:
    """Bytes by what they are for. Weights are what the runtime packs, once for all signatures."""

    weights_bytes: int
    file_bytes: int
    cache_bytes: int
    activations_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.file_bytes + self.cache_bytes + self.activations_bytes + RUNTIME_BYTES

    def text(self) -> str:
        parts = [
            (self.weights_bytes, "packed weights"),
            (self.file_bytes, "of the file"),
            (self.cache_bytes, "KV cache"),
        ]
        parts += [(self.activations_bytes, "activations"), (RUNTIME_BYTES, "runtime")]
        return ", ".join(f"{size / MB:,.0f} MB {name}" for size, name in parts if size >= MB)


def need(model: Graph, bits: int) -> Need:
    """bits: of the other computer's Python, which decides the runtime."""
    weights_bytes = max(map(_constants, model.subgraphs), default=0)
    return Need(
        weights_bytes=weights_bytes,
        file_bytes=int(TOUCHED[bits] * weights_bytes),
        cache_bytes=_cache_bytes(model) if model.contract else 0,
        activations_bytes=max(map(_widest, model.subgraphs), default=0),
    )


def _cache_bytes(model: Graph) -> int:
    """Of the KV cache over the whole context; one whose length is open has the shorter ones in the same memory."""
    inputs = model.signatures["decode"].inputs
    return sum(_size(tensor) for name, tensor in inputs.items() if name[:2] in ("k_", "v_"))


def refuse(model: Graph, computer: Computer, name: str) -> Need:
    """What a model needs; DoesNotFit where the computer has less than that left."""
    needed = need(model, computer.bits)
    free = computer.memory_available_bytes
    if free is not None and needed.total_bytes > free:
        hint = "a smaller model, or one of fewer bits: edge convert --quantize int4"
        if (context := _context_that_fits(model, needed, free)) >= SHORT:
            hint = f"a shorter context: edge convert --context {context} makes a file that has room"
        raise DoesNotFit(
            f"{name} has {free / MB:,.0f} MB of memory left, and the model needs about "
            f"{needed.total_bytes / MB:,.0f} MB ({needed.text()})",
            f"{hint}; or end what else runs there",
        )
    return needed


def _context_that_fits(model: Graph, needed: Need, free_bytes: int) -> int:
    """How many positions of the KV cache there is room for; 0 for a model that has none."""
    if not needed.cache_bytes:
        return 0
    left = free_bytes - (needed.total_bytes - needed.cache_bytes)
    context = int(model.card["architecture"]["context"])
    return max(0, left) * context // needed.cache_bytes // 32 * 32


def _constants(subgraph: Subgraph) -> int:
    found = {tensor.buffer: tensor.stored for tensor in subgraph.tensors if tensor.stored is not None}
    return sum(stored.nbytes if isinstance(stored, np.ndarray) else stored.buffer.nbytes for stored in found.values())


def _size(tensor: Tensor) -> int:
    itemsize = NUMPY_DTYPES[tensor.dtype].itemsize if tensor.dtype in NUMPY_DTYPES else 1
    return int(np.prod([max(n, 1) for n in tensor.shape], dtype=np.int64)) * itemsize


def _widest(subgraph: Subgraph) -> int:
    """Of the operator that has most at once: its inputs and outputs that are computed, the KV cache not among them."""
    computed = {t.index: _size(t) for t in subgraph.tensors if t.stored is None and t.index not in subgraph.inputs}
    return max(
        (sum(computed.get(i, 0) for i in (*operator.inputs, *operator.outputs)) for operator in subgraph.operators),
        default=0,
    )
