"""How a prompt is cut for the signature `prefill`, which takes a fixed number of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

# One run of `prefill` takes about as long as chunk / GAIN runs of `decode`. Measured on x86 with XNNPACK: stories260K,
# whose runs are mostly arithmetic, 3.7 runs for 16 tokens and 15 for 64; SmolLM2-135M, whose decode waits for weights
# from memory, 1.3 and 3.2. Constants, since by what a start measures logits would differ in their last digits from
# run to run.
GAIN, GAIN_OF_LARGE = 4, 20
LARGE_BYTES = 16 << 20  # of the file: beyond it the weights do not stay in a CPU's cache


class Chunked(Protocol):
    """A language model whose `prefill` takes `chunk` tokens; what computes returns nanoseconds."""

    chunk: int
    gain: int

    def decode(self, token: int, position: int) -> int: ...
    def prefill_chunk(self, ids: Sequence[int], position: int) -> int: ...


def gain(file_bytes: int) -> int:
    """How many times a token of a full chunk is cheaper than one by `decode`."""
    return GAIN if file_bytes < LARGE_BYTES else GAIN_OF_LARGE


def plan(ids: Sequence[int], chunk: int, gain: int) -> Iterator[Sequence[int]]:
    """Parts for `prefill`, and parts of one token for `decode`: the rest of a prompt, where padding would cost more."""
    for first in range(0, len(ids), chunk):
        part = ids[first : first + chunk]
        if gain * len(part) > chunk:
            yield part
        else:
            yield from ([token] for token in part)


def prefill(model: Chunked, ids: Sequence[int], position: int) -> int:
    """Computes tokens at positions from `position` on; the model keeps the last one's logits. Returns nanoseconds."""
    ticks = 0
    for part in plan(ids, model.chunk, model.gain):
        ticks += model.prefill_chunk(part, position) if len(part) > 1 else model.decode(part[0], position)
        position += len(part)
    return ticks
