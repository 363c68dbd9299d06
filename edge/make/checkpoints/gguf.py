"""GGUF, the file of llama.cpp: models of the Llama family, quantized or not (extra `gguf`).

`general.architecture` is llama or qwen2. Rows of q and k are stored for RoPE on the pairs (2i, 2i + 1) in a llama, and
half-split as here in a qwen2. Weights are read and dequantized one by one, when they are asked for. What the file says
beyond what our decoder computes (experts, sliding windows, other norms …) is refused by its name, and so is every
tensor that has no place in it. The chat template becomes pieces of the card (make/formats/chat_template.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make import rope
from edge.make.checkpoints import Architecture, Checkpoint, Grid, RopeScaling, shapes_beside
from edge.make.checkpoints.llama2c import half_split
from edge.make.formats import chat_template, gguf_file, gguf_grid, gguf_tokenizer
from edge.make.formats.gguf_file import GgufFile
from firmware_tools import vocabulary
from firmware_tools.errors import BadFile

SUFFIXES = (".gguf",)
ARCHITECTURES = ("llama", "qwen2")
MOST = {"layers": 1 << 10, "dim": 1 << 16, "hidden_dim": 1 << 18, "heads": 1 << 10, "kv_heads": 1 << 10}
MOST |= {"context": 1 << 20}
NUMBERS = (("norm_eps", "attention.layer_norm_rms_epsilon", 1.0), ("rope_theta", "rope.freq_base", 1e12))
KEYS = {
    "layers": "block_count",
    "dim": "embedding_length",
    "hidden_dim": "feed_forward_length",
    "heads": "attention.head_count",
    "kv_heads": "attention.head_count_kv",
    "context": "context_length",
}
# keys of an architecture that change what is computed: the value that changes nothing, and what it is about
DIFFERENT: dict[str, tuple[Any, str]] = {
    "expert_count": (0, "a mixture of experts"),
    "attention.sliding_window": (0, "attention in a sliding window"),
    "attention.causal": (True, "attention that is not causal"),
    "rope.scaling.attn_factor": (1.0, "another scaling of RoPE"),
    "rope.scale_linear": (1.0, "another scaling of RoPE"),
    "attn_logit_softcapping": (0.0, "capped attention scores"),
    "final_logit_softcapping": (0.0, "capped logits"),
    "logit_scale": (1.0, "scaled logits"),
    "residual_scale": (1.0, "a scaled residual"),
    "embedding_scale": (1.0, "a scaled embedding"),
    "attention.scale": (0.0, "another scale of attention scores"),
    "use_parallel_residual": (False, "a parallel residual"),
}
TENSORS = {"embedding": "token_embd.weight", "final_norm": "output_norm.weight", "head": "output.weight"}
OF_LAYER = {
    "attention_norm": "attn_norm.weight",
    "q": "attn_q.weight",
    "k": "attn_k.weight",
    "v": "attn_v.weight",
    "o": "attn_output.weight",
    "ffn_norm": "ffn_norm.weight",
    "gate": "ffn_gate.weight",
    "up": "ffn_up.weight",
    "down": "ffn_down.weight",
}
BIASES = {
    f"{ours}_bias": f"{theirs.removesuffix('weight')}bias" for ours, theirs in OF_LAYER.items() if "norm" not in ours
}
ROPE_FACTORS = "rope_freqs.weight"  # what each frequency is divided by; the numbers that they come from are not kept
LOW, HIGH, ORIGINAL_CONTEXT = 1.0, 4.0, 8192  # of every Llama 3.1 to 3.3
HINT = "read are decoders as llama.cpp writes them for Llama, SmolLM and their like"


def recognises(path: Path) -> bool:
    """Whether the file has the suffix, or begins as the format does."""
    if not path.is_file() or path.suffix in SUFFIXES:
        return path.is_file()
    try:
        with path.open("rb") as file:
            return file.read(4) == gguf_file.MAGIC
    except OSError:
        return False


def load(path: Path, tokenizer: Path | None = None) -> Checkpoint:
    """Reads the head of a file, its weights later one by one; tokenizer, a tokenizer.json, replaces the one inside.

    BadFile where the file is damaged, or where the model is not one that our decoder computes.
    """
    file = gguf_file.read(path)
    kind = file.values.get("general.architecture")
    if kind not in ARCHITECTURES:
        known = " or ".join(ARCHITECTURES)
        raise BadFile(f"{path} is a model of the architecture {str(kind)[:60]!a}, not {known}", HINT)
    shape = _architecture(file, kind)
    names = _names(shape, file)
    _check_shapes(shape, names, file)
    bos, stops = gguf_tokenizer.ends(file.values, str(path))
    if len(file.values["tokenizer.ggml.tokens"]) != shape.vocab_size:
        count = len(file.values["tokenizer.ggml.tokens"])
        raise BadFile(f"{path} has {count} tokens and an embedding of {shape.vocab_size}", HINT)
    try:
        json = gguf_tokenizer.tokenizer(file.values, str(path)) if tokenizer is None else tokenizer.read_bytes()
    except OSError as error:
        raise BadFile(f"cannot read the tokenizer {tokenizer}: {error.strerror}", "give a tokenizer.json") from error
    paired = shape.head_dim if kind == "llama" else 0
    chat = chat_template.taken_over(
        file.values.get("tokenizer.chat_template"),
        gguf_tokenizer.special_names(file.values, str(path)),
        vocabulary.added_tokens(json),
        bos,
    )
    card = {**_card(file, bos, chat.ends(stops)), **chat.keys}
    notes = () if chat.note is None else (chat.note,)
    return Checkpoint(shape, Weights(file, names, paired), json, card, Grids(file, names, paired), notes)


class Weights(Mapping[str, NDArray[np.float32]]):
    """The weights of a Checkpoint, each read from the file and dequantized when it is asked for; none is kept.

    paired: the head dimension where rows of q and k are stored for the pairs (2i, 2i + 1), else 0.
    """

    def __init__(self, file: GgufFile, names: Mapping[str, str], paired: int) -> None:
        self.file = file
        self.names = names  # ours -> the file's
        self.paired = paired

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        weight = self.file.weight(self.names[name])
        if not self.paired or not name.endswith((".q", ".k", ".q_bias", ".k_bias")):
            return weight
        return half_split(weight.reshape(len(weight), -1), self.paired).reshape(weight.shape)

    def __contains__(self, name: object) -> bool:
        return name in self.names  # and not by reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class Grids(Mapping[str, Grid]):
    """Those weights that the file has in blocks of 4 bits, each read when it is asked for; paired as in Weights."""

    def __init__(self, file: GgufFile, names: Mapping[str, str], paired: int) -> None:
        self.file = file
        self.names = {ours: theirs for ours, theirs in names.items() if file.tensors[theirs].type in gguf_grid.HALVES}
        self.paired = paired

    def __getitem__(self, name: str) -> Grid:
        theirs = self.names[name]
        grid = gguf_grid.grid(self.file.raw(theirs), self.file.tensors[theirs].type)
        if not self.paired or not name.endswith((".q", ".k")):
            return grid
        order = half_split(np.arange(len(grid.values), dtype=np.float32)[:, None], self.paired)[:, 0].astype(np.int64)
        return Grid(grid.values[order], grid.scales[order], grid.offsets[order])

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _architecture(file: GgufFile, kind: str) -> Architecture:
    """The architecture, each number in range; BadFile that names what our decoder does not compute."""
    values, path = file.values, file.path
    for key, (same, what) in DIFFERENT.items():
        value = values.get(f"{kind}.{key}", same)
        if isinstance(value, np.ndarray) or value != same:
            raise BadFile(f"{path} has {what} ({kind}.{key} = {str(value)[:40]!a}), which is not supported", HINT)
    sizes: dict[str, Any] = {name: values.get(f"{kind}.{key}") for name, key in KEYS.items()}
    sizes["kv_heads"] = sizes["heads"] if sizes["kv_heads"] is None else sizes["kv_heads"]
    for name, most in MOST.items():
        if type(sizes[name]) is not int or not 1 <= sizes[name] <= most:
            raise BadFile(f"{path} has {kind}.{KEYS[name]} = {str(sizes[name])[:40]!a}, no number up to {most}", HINT)
    for name, key, largest in NUMBERS:
        number = values.get(f"{kind}.{key}", 10000.0 if name == "rope_theta" else None)
        if type(number) is not float or not 0 < number < largest:
            raise BadFile(f"{path} has {kind}.{key} = {str(number)[:40]!a}, no number below {largest:g}", HINT)
        sizes[name] = float(str(np.float32(number)))  # 1e-05, not 9.9999997e-06
    embedding = file.tensors.get(TENSORS["embedding"])
    if embedding is None or len(embedding.shape) != 2 or embedding.shape[0] > 1 << 20:
        raise BadFile(f"{path} has no embedding {TENSORS['embedding']} of two dimensions", HINT)
    sizes["head_dim"] = values.get(f"{kind}.attention.key_length", 0)
    if type(sizes["head_dim"]) is not int or not 0 <= sizes["head_dim"] <= 1 << 12:
        raise BadFile(f"{path} has {kind}.attention.key_length = {str(sizes['head_dim'])[:40]!a}", HINT)
    shape = Architecture(embedding.shape[0], **sizes)
    _check_heads(file, kind, shape)
    return replace(shape, rope_scaling=_rope_scaling(file, kind, shape))


def _check_heads(file: GgufFile, kind: str, shape: Architecture) -> None:
    """Heads in whole groups and of an even size, with RoPE on the whole of each."""
    stated = f"{kind}.attention.key_length" in file.values
    if shape.dim % shape.heads and not stated or shape.heads % shape.kv_heads or shape.head_dim % 2:
        raise BadFile(
            f"{file.path} has {shape.heads} heads and {shape.kv_heads} of keys for {shape.dim} dimensions", HINT
        )
    for key in ("attention.value_length", "rope.dimension_count"):
        size = file.values.get(f"{kind}.{key}", shape.head_dim)
        if size != shape.head_dim:
            raise BadFile(f"{file.path} has {kind}.{key} = {size}, where a head has {shape.head_dim} dimensions", HINT)


def _rope_scaling(file: GgufFile, kind: str, shape: Architecture) -> RopeScaling | None:
    """`linear` by its factor, Llama 3's by the factors of its frequencies; BadFile for any other."""
    scaling = file.values.get(f"{kind}.rope.scaling.type", "none")
    factor = file.values.get(f"{kind}.rope.scaling.factor", 1.0)
    if scaling == "linear" and type(factor) is float and 1.0 <= factor <= 1e6 and ROPE_FACTORS not in file.tensors:
        return RopeScaling("linear", factor)
    if scaling != "none":
        raise BadFile(f"{file.path} scales RoPE by {str(scaling)[:40]!a}, which is not supported", HINT)
    if ROPE_FACTORS not in file.tensors:
        return None
    if file.tensors[ROPE_FACTORS].shape == (shape.head_dim // 2,):
        factors = file.weight(ROPE_FACTORS)
        if bool((factors == 1).all()):
            return None
        found = RopeScaling("llama3", float(factors.max()), LOW, HIGH, ORIGINAL_CONTEXT)
        slowed = (
            rope.frequencies(shape) / rope.frequencies(replace(shape, rope_scaling=found)) if found.is_sound() else 0
        )
        if np.allclose(factors, slowed, rtol=1e-4):
            return found
    raise BadFile(f"{file.path} has {ROPE_FACTORS} other than Llama 3's, which is not supported", HINT)


def _names(shape: Architecture, file: GgufFile) -> dict[str, str]:
    """Our names of the weights -> the file's; BadFile where one is missing or has no place in our decoder."""
    names = {ours: theirs for ours, theirs in TENSORS.items() if ours != "head" or theirs in file.tensors}
    for layer in range(shape.layers):
        names |= {f"{layer}.{ours}": f"blk.{layer}.{theirs}" for ours, theirs in OF_LAYER.items()}
        biases = {f"{layer}.{ours}": f"blk.{layer}.{theirs}" for ours, theirs in BIASES.items()}
        names |= {ours: theirs for ours, theirs in biases.items() if theirs in file.tensors}
    known = {*names.values(), ROPE_FACTORS}
    strays = [name for name in file.tensors if name not in known]
    if strays:
        raise BadFile(f"{file.path} has the tensor {strays[0][:60]!a}, which is not in our decoder", HINT)
    missing = [theirs for theirs in names.values() if theirs not in file.tensors]
    if missing:
        raise BadFile(f"{file.path} has no tensor {missing[0]}", HINT)
    return names


def _check_shapes(shape: Architecture, names: Mapping[str, str], file: GgufFile) -> None:
    for ours, size in shapes_beside(shape, names).items():
        found = file.tensors[names[ours]].shape
        if found != size:
            theirs, right = (" x ".join(map(str, each)) for each in (found, size))
            raise BadFile(f"{file.path} has {names[ours]} of {theirs}, where {right} belongs", HINT)


def _card(file: GgufFile, bos: int | None, stops: list[int]) -> dict[str, Any]:
    digest = hashlib.sha256()
    with file.path.open("rb") as content:
        while part := content.read(1 << 20):
            digest.update(part)
    types = sorted({gguf_file.type_name(tensor.type) for tensor in file.tensors.values() if len(tensor.shape) == 2})
    name, licence = (file.values.get(f"general.{key}") for key in ("name", "license"))
    return {
        "name": name[:200] if isinstance(name, str) and name.strip() else file.path.stem,
        "licence": licence[:200] if isinstance(licence, str) else "not stated by the checkpoint",
        "source": f"GGUF {file.path.name[:200]} ({', '.join(types)}), sha256 {digest.hexdigest()}",
        "bos_id": bos,
        "stop_ids": stops[:32],
    }
