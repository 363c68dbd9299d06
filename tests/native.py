"""A compiled model as a library of this machine: `edge_step` and the facts through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools import boards
from firmware_tools.build import build_host
from firmware_tools.compile import RUNTIME, Sources

# the portable kernels: those that any core can run
HOST = replace(boards.load("virtual-m4"), features=frozenset({"fpu"}))


class Facts(ctypes.Structure):
    """runtime/model.h: edge_facts."""

    _fields_ = [
        ("vocab_size", ctypes.c_uint32),
        ("context", ctypes.c_uint32),
        ("rows", ctypes.c_uint32),
        ("logits_offset_bytes", ctypes.c_uint32),
        ("bos_id", ctypes.c_uint32),
        ("stop_ids", ctypes.POINTER(ctypes.c_uint32)),
        ("stop_count", ctypes.c_size_t),
        ("before", ctypes.c_char_p),
        ("after", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("sha256", ctypes.c_char_p),
        ("info", ctypes.c_char_p),
    ]


class Native:
    """Sources compiled for this machine in folder; sanitize: undefined behaviour ends the process."""

    def __init__(self, sources: Sources, folder: Path, sanitize: bool = False) -> None:
        for name, text in sources.files.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        generated = [folder / name for name in sources.files if name.endswith(".c")]
        files = [*generated, *sources.kernels, RUNTIME / "tokenizer.c"]
        path = folder / ("checked.so" if sanitize else "model.so")
        self.library = ctypes.CDLL(str(build_host(files, [folder, *sources.includes], path, sanitize=sanitize)))
        self.facts = Facts.in_dll(self.library, "edge_model")
        self._arena = (ctypes.c_uint8 * sources.arena_bytes).in_dll(self.library, "edge_arena")
        self._kv_cache = (ctypes.c_uint8 * max(sources.kv_cache_bytes, 1)).in_dll(self.library, "edge_kv_cache")

    def step(self, token: int, position: int, want_logits: bool = True) -> NDArray[np.float32]:
        """Logits float32 [vocab_size]; whatever their memory holds where they are not wanted."""
        return self.steps([token], position, want_logits)

    def steps(self, tokens: Sequence[int], position: int, want_logits: bool = True) -> NDArray[np.float32]:
        """Up to `rows` tokens at once; the logits of the last."""
        ids = (ctypes.c_uint32 * len(tokens))(*tokens)
        count, at = ctypes.c_uint32(len(tokens)), ctypes.c_uint32(position)
        self.library.edge_step(self._arena, self._kv_cache, ids, count, at, ctypes.c_int(want_logits))
        offset, size = self.facts.logits_offset_bytes, self.facts.vocab_size
        return np.frombuffer(bytes(self._arena), np.float32, size, offset).copy()


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equality that tells 0 from -0 and NaN from NaN."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
