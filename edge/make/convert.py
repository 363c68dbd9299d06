"""Checkpoint to .tflite: quantizes, builds both signatures, adds tokenizer and card. The file is docs/model-file.md."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.make import tflite
from edge.make.checkpoints import Architecture, Checkpoint
from edge.make.decoder import Decoder, decode_graph, prefill_graph
from edge.make.quantize import SCHEMES, Matrix, quantize
from firmware_tools import graph
from firmware_tools.errors import BadFile, UserError

CONTRACT = b"1.0"
PREFILL = 16  # tokens of one run of the signature `prefill`, where the caller does not say
LARGEST_BYTES = (1 << 31) - (1 << 20)  # a flatbuffer's offsets have 31 bits


def convert(
    checkpoint: Checkpoint, scheme: str = "int8", context: int | None = None, prefill: int | None = None
) -> bytes:
    """The bytes of the .tflite of a checkpoint; the same arguments give the same bytes.

    Args:
        checkpoint: what to convert.
        scheme: one of quantize.SCHEMES, the type of the weights; activations are float32.
        context: positions of the KV cache, at most (and by default) those the checkpoint was trained with.
        prefill: tokens of one run of the signature `prefill`, at least 2; by default 16 or the context.

    Raises:
        BadFile: the checkpoint's weights, card or tokenizer are not what `checkpoints` promises.
        UserError: an argument out of range, or a model larger than a .tflite can hold.
    """
    shape = checkpoint.architecture
    context = shape.context if context is None else context
    prefill = min(PREFILL, context) if prefill is None else prefill
    _check_arguments(shape, scheme, context, prefill)
    _check_weights(checkpoint)
    size_bytes = sum(weight.size for weight in checkpoint.weights.values()) * (4 if scheme == "float32" else 1)
    if size_bytes > LARGEST_BYTES:
        raise UserError(f"the model needs {size_bytes} bytes, a .tflite holds {LARGEST_BYTES}", "take a smaller model")
    decoder = Decoder(shape, context, _matrices(checkpoint, scheme), _norms(checkpoint))
    metadata = {
        "edge.contract": CONTRACT,
        "edge.tokenizer": checkpoint.tokenizer,
        "edge.card": card_json(checkpoint, scheme, context, prefill),
    }
    model = tflite.serialize([decode_graph(decoder), prefill_graph(decoder, prefill)], metadata, "edge decoder 1.0")
    try:
        graph.read(model)  # the reader's rules for card and tokenizer are the contract's
    except BadFile as error:
        cause = error.message.removeprefix("the model is not a valid .tflite file: ")
        hint = "docs/model-file.md says what card and tokenizer must hold"
        raise BadFile(f"the checkpoint does not make a model: {cause}", hint) from error
    return model


def save(model: bytes, path: Path) -> None:
    """Writes a file whole or not at all: to a temporary name beside it, then renamed; UserError where that fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(model)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", "choose another place with -o") from error
    finally:
        temporary.unlink(missing_ok=True)


def card_json(checkpoint: Checkpoint, scheme: str, context: int, prefill: int) -> bytes:
    """The metadata `edge.card`: the checkpoint's card with what the conversion decided, ASCII JSON with sorted keys."""
    shape = checkpoint.architecture
    architecture = {
        "vocab_size": shape.vocab_size,
        "dim": shape.dim,
        "hidden_dim": shape.hidden_dim,
        "layers": shape.layers,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "context": context,
        "prefill": prefill,
        "rope_theta": shape.rope_theta,
        "norm_eps": shape.norm_eps,
    }
    card = {**checkpoint.card, "quantization": scheme, "architecture": architecture}
    try:
        return json.dumps(card, sort_keys=True, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError) as error:
        raise BadFile(f"the checkpoint's card is not JSON: {error}", "use strings, finite numbers and lists") from error


def _check_arguments(shape: Architecture, scheme: str, context: int, prefill: int) -> None:
    if scheme not in SCHEMES:
        raise UserError(f"{scheme!r} is not a quantization", f"choose one of {', '.join(SCHEMES)}")
    if not 2 <= context <= shape.context:
        hint = f"choose 2 to {shape.context}, what the checkpoint was trained with"
        raise UserError(f"a context of {context} positions is out of range", hint)
    if not 2 <= prefill <= context:
        raise UserError(f"a prefill of {prefill} tokens is out of range", f"choose 2 to {context}, the context")


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


def _check_weights(checkpoint: Checkpoint) -> None:
    shape = checkpoint.architecture
    even = shape.head_dim % 2 == 0 and shape.dim == shape.heads * shape.head_dim
    if shape.layers < 1 or shape.kv_heads < 1 or shape.heads % shape.kv_heads or not even:
        raise BadFile(f"no decoder has this shape: {shape}", "heads divide dim into even parts, kv_heads divide heads")
    for name, size in expected_shapes(shape, "head" not in checkpoint.weights).items():
        weight = checkpoint.weights.get(name)
        if weight is None or weight.shape != size or weight.dtype != np.float32:
            found = "nothing" if weight is None else f"{weight.dtype} {list(weight.shape)}"
            raise BadFile(
                f"the weight {name!r} should be float32 {list(size)} and is {found}", "train or export it again"
            )
        if not np.isfinite(weight).all():
            raise BadFile(
                f"the weight {name!r} holds values that are not finite", "the training diverged, or the file is damaged"
            )


def _matrices(checkpoint: Checkpoint, scheme: str) -> dict[str, Matrix]:
    weights = checkpoint.weights
    matrices = {"embedding": quantize(weights["embedding"], scheme, coarse=False)}
    if "head" in weights:
        matrices["head"] = quantize(weights["head"], scheme, coarse=False)
    else:
        matrices["head"] = matrices["embedding"]
    for layer in range(checkpoint.architecture.layers):
        parts = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
        for name, sources in parts.items():
            stacked = np.concatenate([weights[f"{layer}.{source}"] for source in sources])
            matrices[f"{layer}.{name}"] = quantize(stacked, scheme)
    return matrices


def _norms(checkpoint: Checkpoint) -> dict[str, NDArray[np.float32]]:
    return {name: weight for name, weight in checkpoint.weights.items() if name.endswith("_norm")}
