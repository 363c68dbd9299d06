"""Formats of SOURCE: one stem each, whose file name is the format's name.

`recognises(path) -> bool` says whether a file or folder is of this format. A stem is of one of two kinds:

    load(path, tokenizer_path) -> Checkpoint    a language model, which edge.make.convert quantizes and writes
    convert(path, request) -> bytes             any other model: the .tflite that a Request asks for

A file that is wrong, truncated or oversized is one BadFile, and what the format needs and the machine lacks one
MissingTool. A `convert` refuses those of PLAIN_SCHEMES that it cannot do in one UserError that names the others. To
add a format, write the stem and name it in the README.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import BadFile, UserError

Weights = Mapping[str, NDArray[np.float32]]

# of models that are no decoders: int8 is TFLite's dynamic range, int8-static and int16x8 are integers throughout
PLAIN_SCHEMES = ("int8", "int8-static", "int16x8", "float16", "float32")
HUB = "hf:"  # begins the name of a model that is not here, but on the Hugging Face Hub
EXPORT = "model.save_pretrained('FOLDER', safe_serialization=True) in the program that has the model; give that folder"


@dataclass(frozen=True)
class RopeScaling:
    """How RoPE's frequencies differ from theta^(-2i / head_dim), for contexts longer than those trained with at first.

    kind is `linear` (all are divided by factor), `llama3` or `yarn`: those that make at least `high` turns within
    original_context are kept, those that make at most `low` are divided, and between them goes a ramp (make/rope.py).
    YaRN also multiplies attention scores by a constant: a reader of a format multiplies q by it.
    """

    kind: str
    factor: float
    low: float = 1.0
    high: float = 4.0
    original_context: int = 0

    def is_sound(self) -> bool:
        """Are all numbers in range?"""
        if self.kind not in ("linear", "llama3", "yarn") or not 1.0 <= self.factor <= 1e6:
            return False
        return self.kind == "linear" or 1 <= self.original_context <= 1 << 30 and 0 < self.low < self.high <= 1e6


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
    head_dim: int = 0  # 0: dim / heads
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        if not self.head_dim and self.heads > 0:
            object.__setattr__(self, "head_dim", self.dim // self.heads)


@dataclass(frozen=True)
class Grid:
    """A matrix as its source has it, in blocks of 4 bits: a weight is scale * value + offset.

    values are int8 [rows, columns], -8 to 7, scales and offsets float32 [rows, blocks].
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]
    offsets: NDArray[np.float32]


@dataclass(frozen=True)
class Checkpoint:
    """A model as trained.

    weights, all float32: `embedding` [vocab, dim], `head` [vocab, dim] only where it is not tied to the embedding,
    `final_norm` [dim], and for each layer i `i.attention_norm` [dim], `i.q` [heads * head_dim, dim], `i.k`, `i.v`
    [kv_heads * head_dim, dim], `i.o` [dim, heads * head_dim], `i.ffn_norm` [dim], `i.gate`, `i.up` [hidden, dim],
    `i.down` [dim, hidden]. A weight computes y = W x, or W x + b where a matrix of a layer has a bias, `i.q_bias` and
    so on [rows]. tokenizer is a tokenizer.json (Hugging Face tokenizers).
    card has at least name, licence, source, bos_id (or None), stop_ids, template {before, after}; of a chat model also
    chat (edge/turns.py). grids has, by the same names, those weights that lie on such a grid. notes: what was left out
    of the source, for the one who converts it.
    """

    architecture: Architecture
    weights: Weights
    tokenizer: bytes
    card: Mapping[str, Any]
    grids: Mapping[str, Grid] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def expected_shapes(shape: Architecture, tied: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of a Checkpoint with this architecture."""
    dim, query, key_value = shape.dim, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer = {
        "attention_norm": (dim,),
        "q": (query, dim),
        "k": (key_value, dim),
        "v": (key_value, dim),
        "o": (dim, query),
        "ffn_norm": (dim,),
        "gate": (shape.hidden_dim, dim),
        "up": (shape.hidden_dim, dim),
        "down": (dim, shape.hidden_dim),
    }
    shapes: dict[str, tuple[int, ...]] = {"embedding": (shape.vocab_size, dim), "final_norm": (dim,)}
    if not tied:
        shapes["head"] = (shape.vocab_size, dim)
    shapes.update({f"{index}.{name}": size for index in range(shape.layers) for name, size in layer.items()})
    return shapes


def bias_shapes(shape: Architecture) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the biases that a Checkpoint may have, each by itself."""
    matrices = {name: size for name, size in expected_shapes(shape, tied=True).items() if len(size) == 2}
    return {f"{name}_bias": size[:1] for name, size in matrices.items() if name != "embedding"}


def shapes_beside(shape: Architecture, names: Container[str]) -> dict[str, tuple[int, ...]]:
    """The weights that a Checkpoint needs which has these names: a head and biases only where they are among them."""
    biases = {name: size for name, size in bias_shapes(shape).items() if name in names}
    return expected_shapes(shape, "head" not in names) | biases


@dataclass(frozen=True)
class Request:
    """What `edge convert` asks of a source that is no language model.

    scheme: a name of `--quantize`. calibrate: what `--calibrate` gave, each a file or NAME=FILE as `--input` of
    `edge eval` takes them. signature: which way into the model, where it has several; None for the main one.
    """

    scheme: str = "int8"
    calibrate: tuple[str, ...] = ()
    signature: str | None = None


def names() -> tuple[str, ...]:
    """Every format's name, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def format_of(path: Path) -> ModuleType:
    """The stem that reads a file or folder; BadFile where none does."""
    if not path.exists() and not path.as_posix().startswith(HUB):
        raise BadFile(f"{path} does not exist", "give the path of a checkpoint, or hf:org/name")
    if _is_pickle(path):
        raise BadFile(f"{path} is a Python pickle, which is not read: it may run any program", EXPORT)
    for name in names():
        module = importlib.import_module(f"{__name__}.{name}")
        if module.recognises(path):
            return module
    raise BadFile(f"{path} is not a checkpoint of a known format", f"formats: {', '.join(names())}")


def _is_pickle(path: Path) -> bool:
    """Is this what torch.save or pickle writes? A checkpoint of llama2.c whose dim begins alike has a 0 third."""
    if path.suffix not in (".bin", ".pt", ".pth", ".ckpt", ".pkl") or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4)
    raw = len(start) == 4 and start[0] == 0x80 and 2 <= start[1] <= 5 and start[2] != 0
    return raw or start == b"PK\x03\x04"


def is_plain(path: Path) -> bool:
    """Is this no language model, so that its stem makes the .tflite by itself?"""
    return hasattr(format_of(path), "convert")


def load(path: Path, tokenizer: Path | None = None) -> Checkpoint:
    """Reads a language model of any known format; tokenizer is for formats that keep it in a second file."""
    stem = format_of(path)
    if hasattr(stem, "convert"):
        raise BadFile(f"{path} is not a language model of the Llama family", "`edge convert` takes it as a plain model")
    checkpoint: Checkpoint = stem.load(path, tokenizer)
    return checkpoint


def convert_plain(path: Path, request: Request) -> bytes:
    """The .tflite of a source that is no language model; raises what its stem raises."""
    if request.scheme not in PLAIN_SCHEMES:
        raise UserError(
            f"{path.name} is no language model of the Llama family, and {request.scheme} is for those alone",
            f"choose --quantize {', '.join(PLAIN_SCHEMES)}",
        )
    model: bytes = format_of(path).convert(path, request)
    return model
