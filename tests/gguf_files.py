"""Small GGUF files, written by the package `gguf` from a checkpoint of ours as llama.cpp's convert script would."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.quants import dequantize, quantize

from edge.make.checkpoints import Architecture, Checkpoint
from edge.make.checkpoints.gguf import BIASES, OF_LAYER, TENSORS
from firmware_tools import vocabulary

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def interleaved(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows of q or k for RoPE on the pairs (2i, 2i + 1), from those for the pairs (i, i + head_dim / 2)."""
    heads = rows.reshape(-1, 2, head_dim // 2, rows[0].size)
    return heads.swapaxes(1, 2).reshape(rows.shape)


def theirs(name: str) -> str:
    """llama.cpp's name of a weight of ours."""
    if name in TENSORS:
        return TENSORS[name]
    layer, _, ours = name.partition(".")
    return f"blk.{layer}.{(OF_LAYER | BIASES)[ours]}"


def fields(shape: Architecture, kind: str = "llama") -> dict[str, Any]:
    """The key-value pairs of an architecture."""
    pairs = {
        "llama.block_count": shape.layers,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.dim,
        "llama.feed_forward_length": shape.hidden_dim,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": float(shape.norm_eps),
        "llama.rope.freq_base": float(shape.rope_theta),
        "llama.rope.dimension_count": shape.head_dim,
        "llama.vocab_size": shape.vocab_size,
    }
    if shape.head_dim * shape.heads != shape.dim:
        pairs |= {"llama.attention.key_length": shape.head_dim, "llama.attention.value_length": shape.head_dim}
    return {key.replace("llama", kind): value for key, value in pairs.items()}


def sentence_piece(checkpoint: Checkpoint) -> dict[str, Any]:
    """The tokenizer of tests/tiny.py (unknown, BOS, EOS, bytes, then pieces by score) as llama.cpp keeps one."""
    pieces = [piece.decode() for piece in vocabulary.read(checkpoint.tokenizer).pieces[259:]]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [piece.replace(" ", vocabulary.WORD_MARK) for piece in pieces]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(id) for id in range(len(tokens))],
        "tokenizer.ggml.token_type": [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(pieces)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def write(
    path: Path,
    checkpoint: Checkpoint,
    kind: Type = Type.F32,
    changes: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray | None] | None = None,
    raw: Mapping[str, np.ndarray] | None = None,
    architecture: str = "llama",
) -> Path:
    """Writes a checkpoint with its matrices in a type.

    changes replaces key-value pairs (None leaves one out), tensors adds or leaves out some by their names in the file,
    raw gives blocks of the type kind, uint8 [rows, bytes], for weights of ours.
    """
    values = {"general.name": "tiny", **fields(checkpoint.architecture, architecture), **sentence_piece(checkpoint)}
    writer = GGUFWriter(path, architecture)
    for key, value in {**values, **(changes or {})}.items():
        add(writer, key, value)
    content: dict[str, tuple[np.ndarray, Type]] = {}
    for name, weight in checkpoint.weights.items():
        if name in (raw or {}):
            content[theirs(name)] = ((raw or {})[name], kind)
        else:
            turned = architecture == "llama" and name.endswith((".q", ".k", ".q_bias", ".k_bias"))
            rows = interleaved(weight, checkpoint.architecture.head_dim) if turned else weight
            stored = kind if weight.ndim == 2 else Type.F32
            content[theirs(name)] = (quantize(rows, stored), stored)
    for name, weight in (tensors or {}).items():
        content.pop(name, None)
        if weight is not None:
            content[name] = (weight, Type.F32)
    for name, (data, stored) in content.items():
        writer.add_tensor(name, data, raw_dtype=None if stored in (Type.F32, Type.F16) else stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add(writer: GGUFWriter, key: str, value: Any) -> None:
    if key == "general.architecture":
        writer.kv_data[0][key].value = value
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, np.generic):
        writer.add_key_value(key, value.item(), gguf.GGUFValueType.INT32)
    elif value is not None:
        add_scalar = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add_scalar[type(value)](key, value)


def rounded(weight: np.ndarray, kind: Type) -> np.ndarray:
    """What is left of a matrix in a type, by the package's own rules."""
    return dequantize(quantize(weight, kind), kind)


def blocks(kind: Type, rows: int, columns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random blocks of a type, uint8 [rows, bytes], and the finite numbers that they are, float32 [rows, columns]."""
    size, size_bytes = gguf.GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(seed)
    count = rows * columns // size
    found: list[np.ndarray] = []
    with np.errstate(all="ignore"):
        while sum(map(len, found)) < count:
            some = random.integers(0, 256, (4 * count, size_bytes), np.uint8)
            numbers = dequantize(some, kind)
            found.append(some[np.isfinite(numbers).all(axis=1) & (np.abs(numbers).max(axis=1) < 1e4)])
    chosen = np.concatenate(found)[:count].reshape(rows, -1)
    return chosen, dequantize(chosen, kind)
