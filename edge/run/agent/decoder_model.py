"""A language model in LiteRT's CompiledModel, over a KV cache and logits that lie in this process's own memory.

Nothing is copied on the way: LiteRT reads tokens and cache where numpy writes them, and numpy reads logits where LiteRT
writes them. LiteRT ties only memory that begins at a multiple of 64 bytes, and copies other memory without a word.

Where the file leaves the cache's length open (docs/model-file.md), LiteRT gets no more rows than hold what is filled,
since attention reads all rows, filled or not; tied to memory of another length, it lays out its own anew. All lengths
share one piece of memory, of which only what was needed so far is ever touched. A cache that grows or shrinks is laid
out anew in place: [G, S, D] -> [G, S', D].
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.run.agent import chunks
from edge.run.agent.runtimes import Runtime, compiled

Floats = NDArray[np.float32]
ALIGNMENT = 64  # bytes
LARGE_BYTES = 1 << 20
SPARE = 64  # bytes behind an array that XNNPACK's kernels may read, though they do not use them
STEP = 64  # positions by which an open cache grows: laying out anew takes LiteRT less than a token


@dataclass(frozen=True)
class Run:
    """One signature, tied: its number and the TensorBuffers of its inputs and outputs."""

    number: int
    inputs: list[Any]
    outputs: list[Any]


@dataclass(frozen=True)
class Length:
    """The cache laid out for `positions`: a view [2 * layers, kv_heads, positions, head_dim], keys first."""

    positions: int
    rows: Floats
    decode: Run
    prefill: Run


class DecoderModel:
    """The signatures over one KV cache; logits are those of the last token computed, and the next run's place."""

    def __init__(
        self,
        path: Path,
        kv_heads: int,
        threads: int,
        runtime: Runtime,
        *,
        step: int | None = None,
        weight_cache: str = "",
    ) -> None:
        self._path = path
        self._lite, self._tensor_buffer = compiled(path, threads, weight_cache, runtime)
        inputs, outputs = self._details("decode")
        self.layers = sum(name.startswith("k_") for name in inputs)
        self.kv_heads = kv_heads
        self.gain = chunks.gain(path.stat().st_size)
        self.vocab_size = _size(outputs["logits"])
        self.head_dim = _size(outputs["k_new_0"]) // kv_heads
        self.context = _size(inputs["k_0"]) // (kv_heads * self.head_dim)
        self.chunk = _size(self._details("prefill")[0]["tokens"])
        self.kv_cache_bytes = 4 * 2 * self.layers * _size(inputs["k_0"])
        self._names = [f"{side}_{layer}" for side in "kv" for layer in range(self.layers)]
        self.logits = _aligned(self.vocab_size)
        self._token, self._position, self._length = (_aligned(1, np.int32) for _ in range(3))
        self._tokens = _aligned(self.chunk, np.int32)
        self._new_row, new_row = self._block(1)
        self._new_rows, new_rows = self._block(self.chunk)
        self._check_ties()
        tied = {"logits": self._tie(self.logits), "position": self._tie(self._position)}
        self._tied = {
            "decode": {**tied, "token": self._tie(self._token), **self._by_name(new_row, "_new")},
            "prefill": {
                **tied,
                **{"tokens": self._tie(self._tokens), "length": self._tie(self._length)},
                **self._by_name(new_rows, "_new"),
            },
        }
        self._step = step or self.context
        self._memory = _aligned(2 * self.layers * _padded(self.kv_heads * self.context * self.head_dim))
        self._lengths: dict[int, Length] = {}
        self._current = self._length_for(1)

    def _details(self, signature: str) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._lite.get_input_tensor_details(signature), self._lite.get_output_tensor_details(signature)

    def _length_for(self, positions: int) -> Length:
        """The shortest that holds so many; each is tied once."""
        length = min(-(-positions // self._step) * self._step, self.context)
        if length not in self._lengths:
            rows, flat = self._block(length, self._memory)
            caches = self._by_name(flat)
            runs = [self._run(name, {**tied, **caches}) for name, tied in self._tied.items()]
            self._lengths[length] = Length(length, rows, *runs)
        return self._lengths[length]

    def _block(self, rows: int, memory: Floats | None = None) -> tuple[Floats, Floats]:
        """A view [2 * layers, kv_heads, rows, head_dim] of one piece of memory, and as the signatures take it: flat."""
        size = self.kv_heads * rows * self.head_dim
        if memory is None:
            memory = _aligned(2 * self.layers * _padded(size))
        flat = memory[: 2 * self.layers * _padded(size)].reshape(2 * self.layers, -1)[:, :size]
        view = flat.reshape(2 * self.layers, self.kv_heads, rows, self.head_dim)
        assert np.shares_memory(flat[:1], view[:1])
        return view, flat

    def _by_name(self, flat: Floats, ending: str = "") -> dict[str, Any]:
        return {f"{name[0]}{ending}{name[1:]}": self._tie(row) for name, row in zip(self._names, flat, strict=True)}

    def _tie(self, array: NDArray[Any]) -> Any:
        """A TensorBuffer over an array's own memory; RuntimeError where it is not."""
        if array.ctypes.data % ALIGNMENT:
            raise RuntimeError(f"memory at {array.ctypes.data:#x} cannot be shared with LiteRT: it is not aligned")
        return self._tensor_buffer.create_from_host_memory(array)

    def _check_ties(self) -> None:
        """RuntimeError where what is written in an array is not read through LiteRT's TensorBuffer over it.

        One for all: asking each would touch pages of the whole cache.
        """
        tensor_buffer = self._tie(self.logits)
        for sign in (1, 0):
            self.logits[0] = sign
            if tensor_buffer.read(1, self.logits.dtype)[0] != sign:
                raise RuntimeError("LiteRT has copied memory that it was to share")

    def _run(self, name: str, tied: Mapping[str, Any]) -> Run:
        """A signature with what its tensors are tied to; ValueError where its tensors are not those of the contract."""
        (inputs, outputs), signatures = self._details(name), self._lite.get_signature_list()
        for tensor, detail in (*inputs.items(), *outputs.items()):
            if tensor not in tied or not self._fits(tensor, tied[tensor].get_tensor_details(), detail):
                raise ValueError(f"{name} has a tensor {tensor} that is not as the file's contract says")
        ordered = ([tied[tensor] for tensor in signatures[name][side]] for side in ("inputs", "outputs"))
        return Run(self._lite.get_signature_index(name), *ordered)

    def _fits(self, tensor: str, ours: Mapping[str, Any], detail: Mapping[str, Any]) -> bool:
        """A cache's length is that of the run before, where it is open: how many positions is the host's to check."""
        open_length = tensor in self._names and self._step < self.context
        return ours["dtype"] == detail["dtype"] and (open_length or ours["shape"] == detail["shape"])

    def warm_up(self) -> None:
        """Decodes once: the first run reads the pages of all weights, which takes a third longer than any other.

        A first `prefill` after it takes 3 % longer (measured), less than what it would cost every start.
        """
        self.decode(0, 0)
        _let_go(self._path)

    def decode(self, token: int, position: int) -> int:
        """Computes one token and keeps its logits; returns nanoseconds."""
        started = time.perf_counter_ns()
        length = self._laid_out(position, 1)
        self._token[0], self._position[0] = token, position
        self._lite.run_by_index(length.decode.number, length.decode.inputs, length.decode.outputs)
        length.rows[:, :, position] = self._new_row[:, :, 0]
        return time.perf_counter_ns() - started

    def prefill(self, ids: Sequence[int], position: int) -> int:
        """Computes tokens at positions from `position` on and keeps the last one's logits; returns nanoseconds."""
        return chunks.prefill(self, ids, position)

    def prefill_chunk(self, ids: Sequence[int], position: int) -> int:
        """The same for 2 to `chunk` tokens, in one run of the signature; the rest of it is padding."""
        started = time.perf_counter_ns()
        count = len(ids)
        length = self._laid_out(position, count)
        self._tokens[:count], self._tokens[count:] = ids, 0
        self._position[0], self._length[0] = position, count
        self._lite.run_by_index(length.prefill.number, length.prefill.inputs, length.prefill.outputs)
        length.rows[:, :, position : position + count] = self._new_rows[:, :, :count]
        return time.perf_counter_ns() - started

    def _laid_out(self, filled: int, count: int) -> Length:
        """The shortest length that holds count rows more than the filled ones, which are there when this returns."""
        length = self._length_for(filled + count)
        if length is not self._current:
            _move(self._current, length, filled)
            self._current = length
        return length


def _move(old: Length, new: Length, filled: int) -> None:
    """Lays the filled rows out anew. Old and new lie in one memory, so that the order is from the end when it grows."""
    places = list(np.ndindex(old.rows.shape[:2]))
    for place in reversed(places) if new.positions > old.positions else places:
        new.rows[place][:filled] = old.rows[place][:filled]


def _let_go(path: Path) -> None:
    """Gives back the pages of the model's file that loading it touched, one beside each matrix and what came with it.

    All but the embedding is read from the packed weights from now on; a page that is needed comes back by itself.
    """
    if sys.platform != "linux":
        return
    name = str(path.resolve())
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == name and fields[1].startswith("r--"):  # nobody has written into it
            start, end = (int(place, 16) for place in fields[0].split("-"))
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def _size(detail: Mapping[str, Any]) -> int:
    return int(np.prod(detail["shape"]))


def _padded(size: int) -> int:
    """So many float32 that what comes behind them is aligned, too."""
    step = ALIGNMENT // 4
    return -(-size // step) * step


def _aligned(size: int, dtype: type[np.generic] = np.float32) -> NDArray[Any]:
    """Zeros that begin where LiteRT can share them; pages that nobody touches take no memory."""
    length = size * np.dtype(dtype).itemsize
    raw = _zeros(length + ALIGNMENT + SPARE)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + length].view(dtype)


def _zeros(length: int) -> NDArray[np.uint8]:
    """Bytes; on Linux in small pages, where numpy asks for pages of 2 MB, each taken whole at the first touch."""
    if sys.platform != "linux" or length < LARGE_BYTES:
        return np.zeros(length, np.uint8)
    memory = mmap.mmap(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without large pages
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.uint8)
