"""Checkpoint formats: one stem each. `X.py` has `SUFFIXES` and `load(path, tokenizer_path) -> Checkpoint`.

The file name is the format's name; which one reads a file is asked of each stem's `recognises(path) -> bool`. A file
that is wrong, truncated or oversized is one BadFile. To add a format, write the stem and name it in the README.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import BadFile

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Architecture:
    """The hyperparameters of a Llama-family decoder.

    RoPE rotates the pairs (i, i + head_dim / 2) of each head ("half-split", as in Hugging Face's Llama); a reader of a
    format with other pairs permutes the rows of q and k.
    """

    vocab_size: int
    dim: int
    hidden_dim: int
    layers: int
    heads: int
    kv_heads: int
    context: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


@dataclass(frozen=True)
class Checkpoint:
    """A model as trained.

    weights, all float32: `embedding` [vocab, dim], `head` [vocab, dim] only where it is not tied to the embedding,
    `final_norm` [dim], and for each layer i `i.attention_norm` [dim], `i.q` [heads * head_dim, dim], `i.k`, `i.v`
    [kv_heads * head_dim, dim], `i.o` [dim, heads * head_dim], `i.ffn_norm` [dim], `i.gate`, `i.up` [hidden, dim],
    `i.down` [dim, hidden]. A weight computes y = W x. tokenizer is a tokenizer.json (Hugging Face tokenizers).
    card has at least name, licence, source, bos_id (or None), stop_ids, template {before, after}.
    """

    architecture: Architecture
    weights: Weights
    tokenizer: bytes
    card: Mapping[str, Any]


def names() -> tuple[str, ...]:
    """Every format's name, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(path: Path, tokenizer: Path | None = None) -> Checkpoint:
    """Reads a checkpoint of any known format; tokenizer is for formats that keep it in a second file."""
    if not path.exists():
        raise BadFile(f"{path} does not exist", "give the path of a checkpoint")
    for name in names():
        module = importlib.import_module(f"{__name__}.{name}")
        if module.recognises(path):
            checkpoint: Checkpoint = module.load(path, tokenizer)
            return checkpoint
    raise BadFile(f"{path} is not a checkpoint of a known format", f"formats: {', '.join(names())}")
