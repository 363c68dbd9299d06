"""Checkpoint to .tflite: quantizes, builds both signatures, adds tokenizer and card. The file is docs/model-file.md."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge.make import lengths as of_lengths
from edge.make import tflite
from edge.make.calibrate import Calibration, own_samples
from edge.make.checked import Checked
from edge.make.checkpoints import Architecture, Checkpoint, bias_shapes, shapes_beside
from edge.make.decoder import Decoder, decode_graph, prefill_graph
from edge.make.gapped import check_size
from edge.make.lengths import Lengths
from edge.make.quantize import SCHEMES, STATIC, static_decoder
from edge.make.quantize.activations import calibrated
from edge.make.quantize.layerwise import PARTS, Progress, silent, tokens
from edge.make.quantize.matrices import Keep, Rounding, as_it_is, matrices, needs_texts
from edge.make.quantize.mixed import Budget
from edge.make.spill import Spill
from edge.make.tflite import Subgraph
from edge.replacing import replacing
from firmware_tools import graph
from firmware_tools.errors import BadFile, UserError

CONTRACT, CONTRACT_OF_OPEN_CACHE = b"1.0", b"1.1"  # a file says the lowest version that knows all that is in it
RUNTIMES = ("2.14",)  # of tflite-runtime, older than LiteRT and still the one for 32-bit Raspberry Pis
OLD_SCHEMES = ("int8", "float16", "float32")  # what these compute rightly


def convert(
    checkpoint: Checkpoint,
    scheme: str = "int8",
    context: int | None = None,
    prefill: int | None = None,
    *,
    open_cache: bool | None = None,
    calibration: Calibration | None = None,
    runtime: str | None = None,
    budget: Budget | None = None,
    progress: Progress = silent,
) -> bytes:
    """The bytes of the .tflite of a checkpoint; the same arguments give the same bytes.

    Args:
        checkpoint: what to convert.
        scheme: one of quantize.SCHEMES, the type of the weights; activations are float32 but in quantize.STATIC.
        context: positions of the KV cache, at most those the checkpoint was trained with; by default these, or CONTEXT.
        prefill: tokens of one run of the signature `prefill`, at least 2; by default what lengths.py chooses.
        open_cache: may the cache be given fewer positions than the context? By default what lengths.py chooses.
        calibration: texts for schemes that measure activations; by default they take samples of the model's own.
        runtime: the oldest runtime that must compute the file: None for LiteRT, or one of RUNTIMES.
        budget: of the scheme `mixed`.
        progress: is told of (what, done, all) where rounding takes long.

    Raises:
        BadFile: the checkpoint's weights, card or tokenizer are not what `checkpoints` promises.
        UserError: an argument out of range, or a model larger than a .tflite can hold.
    """
    file = io.BytesIO()
    rounding = Rounding(calibration, budget or Budget(), progress)
    lengths = _lengths(checkpoint, scheme, runtime, context, prefill, open_cache)
    _write(file, checkpoint, scheme, lengths, runtime, rounding, as_it_is)
    model = file.getvalue()
    _read_back(model)
    return model


def convert_to(
    path: Path,
    checkpoint: Checkpoint,
    scheme: str = "int8",
    context: int | None = None,
    prefill: int | None = None,
    *,
    open_cache: bool | None = None,
    calibration: Calibration | None = None,
    runtime: str | None = None,
    budget: Budget | None = None,
    progress: Progress = silent,
) -> graph.Graph:
    """As convert, into a file, whole or not at all; the memory it takes is that of the largest matrix, not the model's
    (but with the schemes of quantize.STATIC, which run the model).

    Returns what is in the file, read back. What is quantized waits in a file without a name, in the folder of the
    .tflite, until all is.
    """
    rounding = Rounding(calibration, budget or Budget(), progress)
    lengths = _lengths(checkpoint, scheme, runtime, context, prefill, open_cache)
    with replacing(path) as file, Spill(path) as spill:
        _write(file, checkpoint, scheme, lengths, runtime, rounding, spill.keep)
        file.flush()
        return _read_back(Path(file.name))


def _lengths(
    checkpoint: Checkpoint,
    scheme: str,
    runtime: str | None,
    context: int | None,
    prefill: int | None,
    open_cache: bool | None,
) -> Lengths:
    """What the file will have, of arguments that are in range."""
    if scheme not in SCHEMES:
        raise UserError(f"{scheme!r} is not a quantization", f"choose one of {', '.join(SCHEMES)}")
    _check_runtime(runtime, scheme)
    if runtime or scheme in STATIC:  # neither is run in the interface that changes lengths as it goes
        open_cache = False
    # machines of the older runtime pay for every row of padding: their prefill is that of small models
    weight_bytes = 0 if runtime else _size_bytes(_checked(checkpoint), scheme)
    return of_lengths.chosen(checkpoint.architecture, weight_bytes, context, prefill, open_cache)


def _write(
    file: BinaryIO,
    checkpoint: Checkpoint,
    scheme: str,
    lengths: Lengths,
    runtime: str | None,
    rounding: Rounding,
    keep: Keep,
) -> None:
    shape = checkpoint.architecture
    weights = _checked(checkpoint)
    check_size(_size_bytes(weights, scheme))
    if scheme in STATIC:
        whole = dataclasses.replace(checkpoint, weights=weights)
        texts = rounding.calibration or own_samples(whole)
        graphs, said = _static_graphs(whole, scheme, lengths, texts), {"calibration": texts.source}
    else:
        if rounding.calibration is None and needs_texts(scheme):
            texts = own_samples(dataclasses.replace(checkpoint, weights=weights), tokens(shape))
            rounding = dataclasses.replace(rounding, calibration=texts)
        rounding = dataclasses.replace(rounding, grids=checkpoint.grids)
        made, said = matrices(shape, weights, scheme, rounding, keep)
        biases = _biases(shape, weights)
        decoder = Decoder(
            shape, lengths.context, made, _norms(weights), biases, lengths.open_cache, scaled_apart=runtime == "2.14"
        )
        graphs = [decode_graph(decoder), prefill_graph(decoder, lengths.prefill)]
    metadata = {
        "edge.contract": CONTRACT_OF_OPEN_CACHE if lengths.open_cache else CONTRACT,
        "edge.tokenizer": checkpoint.tokenizer,
        "edge.card": card_json(checkpoint, scheme, lengths, said),
    }
    tflite.write(graphs, metadata, "edge decoder 1.0", file)


def _read_back(model: bytes | Path) -> graph.Graph:
    """The reader's rules for card and tokenizer are the contract's."""
    try:
        return graph.read(model)
    except BadFile as error:
        cause = error.message.partition("is not a valid .tflite file: ")[2] or error.message
        hint = "docs/model-file.md says what card and tokenizer must hold"
        raise BadFile(f"the checkpoint does not make a model: {cause}", hint) from error


def _static_graphs(checkpoint: Checkpoint, scheme: str, lengths: Lengths, texts: Calibration) -> list[Subgraph]:
    """Both signatures over integers, measured on texts."""
    decoder = calibrated(checkpoint, scheme, lengths.context, texts)
    return [static_decoder.decode_graph(decoder), static_decoder.prefill_graph(decoder, lengths.prefill)]


def save(model: bytes, path: Path) -> None:
    """Writes a file whole or not at all: to a temporary name beside it, then renamed; UserError where that fails."""
    with replacing(path) as file:
        file.write(model)


def card_json(checkpoint: Checkpoint, scheme: str, lengths: Lengths, said: Mapping[str, Any] | None = None) -> bytes:
    """The metadata `edge.card`: the checkpoint's card and what the conversion decided, ASCII JSON, keys sorted."""
    shape = checkpoint.architecture
    architecture = {
        "vocab_size": shape.vocab_size,
        "dim": shape.dim,
        "hidden_dim": shape.hidden_dim,
        "layers": shape.layers,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "context": lengths.context,
        "prefill": lengths.prefill,
        "rope_theta": shape.rope_theta,
        "norm_eps": shape.norm_eps,
        **({} if shape.rope_scaling is None else {"rope_scaling": dataclasses.asdict(shape.rope_scaling)}),
    }
    card = {**checkpoint.card, "quantization": scheme, "architecture": architecture, **(said or {})}
    try:
        return json.dumps(card, sort_keys=True, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError) as error:
        raise BadFile(f"the checkpoint's card is not JSON: {error}", "use strings, finite numbers and lists") from error


def _check_runtime(runtime: str | None, scheme: str) -> None:
    """UserError where an older runtime would not compute a scheme, or is not known."""
    if runtime is None:
        return
    if runtime not in RUNTIMES:
        raise UserError(f"{runtime!r} is not a runtime that files are written for", f"one of {', '.join(RUNTIMES)}")
    if scheme not in OLD_SCHEMES:
        raise UserError(
            f"tflite-runtime {runtime} does not compute {scheme} files", f"choose one of {', '.join(OLD_SCHEMES)}"
        )


def parameters(checkpoint: Checkpoint) -> int:
    """Trained numbers, those of a tied head once."""
    return sum(math.prod(size) for size in _checked(checkpoint).shapes.values())


def _checked(checkpoint: Checkpoint) -> Checked:
    """The weights, and whether the architecture is one that a decoder can have."""
    shape = checkpoint.architecture
    even = shape.head_dim % 2 == 0 and shape.head_dim > 0
    if shape.layers < 1 or shape.kv_heads < 1 or shape.heads % shape.kv_heads or not even:
        raise BadFile(f"no decoder has this shape: {shape}", "heads divide dim into even parts, kv_heads divide heads")
    if shape.rope_scaling is not None and not shape.rope_scaling.is_sound():
        raise BadFile(f"no decoder has this shape: {shape}", "edge/make/checkpoints says what rope_scaling may be")
    return Checked(checkpoint.weights, shapes_beside(shape, checkpoint.weights))


def _size_bytes(weights: Checked, scheme: str) -> int:
    """What the weights take in the file, at least."""
    bits = {"float32": 32, "float16": 16, "int8": 8}
    fine = bits.get(scheme, 8)  # of embedding and head
    coarse = bits.get(scheme, 8 if scheme in STATIC else 4)
    matrices = {name: math.prod(size) for name, size in weights.shapes.items() if len(size) == 2}
    return sum(size * (fine if name in ("embedding", "head") else coarse) // 8 for name, size in matrices.items())


def _biases(shape: Architecture, weights: Checked) -> dict[str, NDArray[np.float32]]:
    """The biases of the file's matrices; a part that has none has zeros where its neighbours have one."""
    sizes = bias_shapes(shape)
    biases = {}
    for layer in range(shape.layers):
        for name, sources in PARTS.items():
            keys = [f"{layer}.{source}_bias" for source in sources]
            if any(key in weights for key in keys):
                parts = [weights[key] if key in weights else np.zeros(sizes[key], np.float32) for key in keys]
                biases[f"{layer}.{name}"] = np.concatenate(parts)
    return biases


def _norms(weights: Checked) -> dict[str, NDArray[np.float32]]:
    return {name: weights[name] for name in weights if name.endswith("_norm")}
