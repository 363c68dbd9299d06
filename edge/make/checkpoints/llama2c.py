"""llama2.c checkpoints, the first ("legacy", version 0) format of https://github.com/karpathy/llama2.c.

Seven int32: dim, hidden_dim, layers, heads, kv_heads, vocab_size (negative where the head is not tied to the
embedding) and context. Then float32 arrays, all layers of one kind together: embedding, attention norms, wq, wk, wv,
wo, FFN norms, w1 (gate), w2 (down), w3 (up), final norm, two RoPE tables (not used), and the head where it is not tied.
Little-endian, nothing else in the file. RoPE there rotates the pairs (2i, 2i + 1). The tokenizer is a second file.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.make.checkpoints import Architecture, Checkpoint
from firmware_tools.errors import BadFile

SUFFIXES = (".bin",)
HEADER = struct.Struct("<7i")
NAMES = ("dim", "hidden_dim", "layers", "heads", "kv_heads", "vocab_size", "context")
LARGEST = (1 << 16, 1 << 18, 1 << 10, 1 << 10, 1 << 10, 1 << 20, 1 << 20)  # beyond these it is no model but noise
NEWER_MAGIC = 0x616B3432  # "ak42" begins versions 1 and 2
BOS, EOS = 1, 2  # of every tokenizer that llama2.c trains; BOS also parts one text from the next
HINT = "give a version 0 checkpoint as llama2.c's export.py writes it"


def recognises(path: Path) -> bool:
    """Whether the file has the suffix, or begins with a header of this format."""
    if not path.is_file() or path.suffix in SUFFIXES:
        return path.is_file()
    try:
        with path.open("rb") as file:
            header = file.read(HEADER.size)
    except OSError:
        return False
    return len(header) == HEADER.size and not _faults(header)


def load(path: Path, tokenizer: Path | None = None) -> Checkpoint:
    """Reads a checkpoint and its tokenizer, by default the tok*.bin beside it; BadFile where either is not right."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER.size)
            size_bytes = path.stat().st_size
            shape, tied = _header(path, header, size_bytes)  # before anything is allocated
            data = file.read()
    except OSError as error:
        raise BadFile(f"cannot read {path}: {error.strerror}", HINT) from error
    if len(header) + len(data) != size_bytes:
        raise BadFile(f"{path} changed while it was read", "try again")
    card = {
        "name": path.stem,
        "licence": "not stated by the checkpoint",
        "source": f"llama2.c checkpoint {path.name}, sha256 {hashlib.sha256(header + data).hexdigest()}",
        "bos_id": BOS,
        "stop_ids": [BOS, EOS],
        "template": {"before": "", "after": ""},
    }
    return Checkpoint(shape, _weights(shape, tied, data), _tokenizer(path, tokenizer, shape.vocab_size), card)


def _faults(header: bytes) -> list[str]:
    """What no checkpoint's header would hold, in words."""
    values = dict(zip(NAMES, HEADER.unpack(header), strict=True))
    values["vocab_size"] = abs(values["vocab_size"])
    faults = [
        f"{name} = {value}"
        for (name, value), most in zip(values.items(), LARGEST, strict=True)
        if not 1 <= value <= most
    ]
    if faults:
        return faults
    if values["dim"] % values["heads"] or values["dim"] // values["heads"] % 2:
        faults.append(f"dim = {values['dim']} for {values['heads']} heads")
    if values["heads"] % values["kv_heads"]:
        faults.append(f"{values['heads']} heads for {values['kv_heads']} kv_heads")
    return faults


def _header(path: Path, header: bytes, size_bytes: int) -> tuple[Architecture, bool]:
    """The architecture and whether the head is tied; BadFile where header or file size cannot be."""
    if len(header) < HEADER.size:
        raise BadFile(f"{path} is cut off: {size_bytes} bytes, a header has {HEADER.size}", HINT)
    if HEADER.unpack(header)[0] == NEWER_MAGIC:
        raise BadFile(f"{path} is a llama2.c checkpoint of a newer version", HINT)
    faults = _faults(header)
    if faults:
        raise BadFile(f"{path} is not a llama2.c checkpoint: its header says {', '.join(faults)}", HINT)
    dim, hidden_dim, layers, heads, kv_heads, vocab_size, context = HEADER.unpack(header)
    shape = Architecture(abs(vocab_size), dim, hidden_dim, layers, heads, kv_heads, context)
    tied = vocab_size > 0
    expected = HEADER.size + 4 * sum(int(np.prod(size)) for _, size in _arrays(shape, tied))
    if size_bytes != expected:
        fault = "cut off" if size_bytes < expected else "too long"
        raise BadFile(f"{path} is {fault}: {size_bytes} bytes, its header says {expected}", "copy or download it again")
    return shape, tied


def _arrays(shape: Architecture, tied: bool) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the arrays in the order of the file."""
    layers, dim, key_value = shape.layers, shape.dim, shape.kv_heads * shape.head_dim
    arrays: list[tuple[str, tuple[int, ...]]] = [
        ("embedding", (shape.vocab_size, dim)),
        ("attention_norm", (layers, dim)),
        ("q", (layers, dim, dim)),
        ("k", (layers, key_value, dim)),
        ("v", (layers, key_value, dim)),
        ("o", (layers, dim, dim)),
        ("ffn_norm", (layers, dim)),
        ("gate", (layers, shape.hidden_dim, dim)),
        ("down", (layers, dim, shape.hidden_dim)),
        ("up", (layers, shape.hidden_dim, dim)),
        ("final_norm", (dim,)),
        ("rope", (2, shape.context, shape.head_dim // 2)),
    ]
    return arrays if tied else [*arrays, ("head", (shape.vocab_size, dim))]


def _weights(shape: Architecture, tied: bool, data: bytes) -> dict[str, NDArray[np.float32]]:
    values = np.frombuffer(data, "<f4").astype(np.float32)
    weights: dict[str, NDArray[np.float32]] = {}
    at = 0
    for name, size in _arrays(shape, tied):
        array = values[at : at + int(np.prod(size))].reshape(size)
        at += array.size
        if name in ("embedding", "final_norm", "head"):
            weights[name] = array
        elif name != "rope":
            for layer in range(shape.layers):
                weights[f"{layer}.{name}"] = half_split(array[layer], shape.head_dim) if name in "qk" else array[layer]
    return weights


def half_split(rows: NDArray[np.float32], head_dim: int) -> NDArray[np.float32]:
    """Rows of q or k reordered in each head, so that the RoPE pair (2i, 2i + 1) becomes (i, i + head_dim / 2)."""
    pairs = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])
    return np.ascontiguousarray(pairs.transpose(0, 2, 1, 3).reshape(rows.shape))


def _tokenizer(path: Path, tokenizer: Path | None, vocab_size: int) -> bytes:
    """tokenizer.json of the file given, or of the one beside the checkpoint."""
    from edge.tokenizer import from_llama2c  # here, so that recognising a file stays quick

    found = _beside(path, vocab_size) if tokenizer is None else tokenizer
    try:
        data = found.read_bytes()
    except OSError as error:
        raise BadFile(
            f"cannot read the tokenizer {found}: {error.strerror}", "give it with --tokenizer FILE"
        ) from error
    return data if found.suffix == ".json" else from_llama2c(data)


def _beside(path: Path, vocab_size: int) -> Path:
    """tok<vocab_size>.bin, else tokenizer.bin, else the only tok*.bin in the checkpoint's folder."""
    present = sorted(path.parent.glob("tok*.bin"))
    for name in (f"tok{vocab_size}.bin", "tokenizer.bin"):
        if path.with_name(name) in present:
            return path.with_name(name)
    if len(present) != 1:
        what = "no tokenizer (tok*.bin)" if not present else f"more than one tokenizer ({len(present)} tok*.bin)"
        raise BadFile(f"there is {what} beside {path}", "give it with --tokenizer FILE")
    return present[0]
