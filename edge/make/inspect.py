"""What is in a .tflite file, and what it needs on a board."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.make import memory_plan
from edge.make.memory_plan import Region
from edge.terminal import clean, one_line
from firmware_tools import boards, costs, graph, lower, placing, vocabulary
from firmware_tools.bfp_program import for_board
from firmware_tools.boards import Board
from firmware_tools.build import Image
from firmware_tools.compile import (
    Needs,
    check_options,
    decoder_needs,
    decoder_program,
    is_decoder,
    needs,
    rows_at_once,
)
from firmware_tools.errors import UserError
from firmware_tools.lower import Refusal
from firmware_tools.program import DecoderProgram, Program, UnfusedProgram

EARLY = 15  # a position that most models have, for predictions
CODE_BYTES = 32 << 10  # what code takes at most, before `build` has said it exactly


@dataclass(frozen=True)
class Fit:
    """What a model needs on a board, before anything is built; code is an upper bound. missing: 0 where it fits.

    The two costs of a token: weight_bytes_read; predicted: position -> instructions, from the graph alone, empty where
    a kernel was never measured. weights_in and code_in: `flash` or `ram`, where `build` will have them as far as that
    can be told before; None where nothing fits. reading_s: the time that reading the weights takes by the board's
    facts, which no kernel can be faster than; None where they do not say.
    """

    board: str
    weight_bytes: int
    vocabulary_bytes: int
    code_bytes: int
    arena_bytes: int
    kv_cache_bytes: int
    stack_bytes: int
    flash_missing_bytes: int
    ram_missing_bytes: int
    can_encode: bool
    weight_bytes_read: int
    predicted: Mapping[str, int] = field(default_factory=dict)
    input_bytes: int = 0
    weights_in: str | None = None
    code_in: str | None = None
    reading_s: float | None = None


@dataclass(frozen=True)
class Summary:
    """A file as stored (signatures, ops) and as the compiler sees it (calls, fits, arena).

    signatures: name -> tensor -> "dtype[shape]", inputs before outputs. ops: signature -> op -> how often. calls: fused
    op -> how often. arena: for the board that was asked for. kind: `decoder`, a language model of ours, or `plain`.
    reason: why the compiler does not take the file, or None; unsupported: all operators that no board computes.
    unfused: a language model in whose graph something is not understood, so that plain ops compute it, slower.
    """

    name: str
    file_bytes: int
    sha256: str
    file_sha256: str
    contract: str | None
    parameters: int | None
    card: Mapping[str, Any]
    signatures: Mapping[str, Mapping[str, str]]
    ops: Mapping[str, Mapping[str, int]]
    calls: Mapping[str, int] = field(default_factory=dict)
    fits: tuple[Fit, ...] = ()
    arena: tuple[Region, ...] = ()
    reason: str | None = None
    kind: str = "plain"
    hint: str | None = None
    unsupported: tuple[Refusal, ...] = ()
    unfused: bool = False


def summarize(
    path: Path, board: str | None = None, context: int | None = None, signature: str | None = None
) -> Summary:
    """Reads and verifies a model; board: only this one, and its memory plan. context, signature: as `build` has them.

    BadFile for what is not a .tflite; any other .tflite has a summary, which says why it is not compiled.
    """
    chosen = [boards.load(board)] if board else [boards.load(name) for name in boards.names()]
    model = graph.read(path)
    summary = _stored(model, path)
    try:
        program = decoder_program(model, context) if is_decoder(model) else lower.program(model, signature)
        check_options(model, context, signature)
        fits = _fits(model, program, chosen, signature)
    except UserError as error:
        refused = () if is_decoder(model) else _refusals(model, signature)
        return dataclasses.replace(summary, reason=error.message, hint=error.hint or None, unsupported=refused)
    return dataclasses.replace(
        summary,
        parameters=_parameters(program),
        calls=dict(Counter(call.op for call in program.calls)),
        unfused=isinstance(program, UnfusedProgram),
        fits=fits,
        arena=_regions(_on(program, chosen[0]), chosen[0]) if board else (),
    )


def stored(path: Path, model: graph.Graph, parameters: int) -> Summary:
    """A model that has just been written to path, as stored: it is not laid out for boards, which takes time."""
    return dataclasses.replace(_stored(model, path), parameters=parameters)


def _on(program: Program, board: Board) -> Program:
    """The program as the board computes it: a recognised language model may be integers throughout."""
    if isinstance(program, UnfusedProgram) or not isinstance(program, DecoderProgram):
        return program
    return for_board(program, board)


def _regions(program: Program, board: Board) -> tuple[Region, ...]:
    return memory_plan.regions(program, board, rows_at_once(board, program))


def _refusals(model: graph.Graph, signature: str | None) -> tuple[Refusal, ...]:
    try:
        return lower.refusals(model, signature)
    except UserError:  # of a signature that is not there: the reason says so
        return ()


def _stored(model: graph.Graph, path: Path) -> Summary:
    return Summary(
        name=str(model.card.get("name", path.name)),
        file_bytes=model.file_bytes,
        sha256=model.sha256,
        file_sha256=model.file_sha256,
        contract=model.contract,
        parameters=None,
        card=model.card,
        signatures={name: _border(signature) for name, signature in model.signatures.items()} or _main(model),
        ops={name: _ops(model.subgraphs[signature.subgraph]) for name, signature in model.signatures.items()}
        or {subgraph.name or f"subgraph {index}": _ops(subgraph) for index, subgraph in enumerate(model.subgraphs)},
        kind="decoder" if is_decoder(model) else "plain",
    )


def _main(model: graph.Graph) -> dict[str, dict[str, str]]:
    """The border of the first subgraph, as that of a signature: what a file without any is called by."""
    subgraph = model.subgraphs[0]
    tensors = [subgraph.tensors[index] for index in (*subgraph.inputs, *subgraph.outputs)]
    return {subgraph.name or "subgraph 0": {tensor.name: _typed(tensor) for tensor in tensors}}


def _ops(subgraph: graph.Subgraph) -> dict[str, int]:
    return dict(Counter(operator.op for operator in subgraph.operators).most_common())


def _border(signature: graph.Signature) -> dict[str, str]:
    tensors = [*signature.inputs.items(), *signature.outputs.items()]
    return {name: _typed(tensor) for name, tensor in tensors}


def _typed(tensor: graph.Tensor) -> str:
    return f"{tensor.dtype}{list(tensor.shape)}"


def _parameters(program: Program) -> int:
    """Trained numbers, each counted once: weights, gains and biases, not scales and tables."""
    trained = {
        id(array): array.size
        for call in program.calls
        for name, array in call.constants.items()
        if name in ("weights", "gain", "bias")
    }
    return sum(trained.values())


def _fits(model: graph.Graph, program: Program, chosen: Sequence[Board], signature: str | None) -> tuple[Fit, ...]:
    """One for each board; the model is laid out once for all cores that can do the same: that decides what it takes."""
    tokenizer = vocabulary.read(model.tokenizer) if is_decoder(model) else None
    laid_out: dict[frozenset[str], tuple[Program, Needs, int]] = {}
    fits = []
    for board in chosen:
        if board.features not in laid_out:
            if tokenizer is not None and isinstance(program, DecoderProgram):
                memory = decoder_needs(program, tokenizer, board)
            else:
                memory = needs(model, board, signature=signature)
            computed = _on(program, board)
            laid_out[board.features] = computed, memory, costs.weight_bytes(computed, board)
        fits.append(_fit(board, *laid_out[board.features]))
    return tuple(fits)


def _fit(board: Board, program: Program, memory: Needs, weight_bytes_read: int) -> Fit:
    flash = memory.weight_bytes + memory.vocabulary_bytes + CODE_BYTES
    ram = memory.arena_bytes + memory.kv_cache_bytes + memory.input_bytes + board.stack_bytes
    buffers = {".arena": memory.arena_bytes + memory.input_bytes, ".kv_cache": memory.kv_cache_bytes}
    layout = placing.expected(board, memory.weight_bytes, buffers, CODE_BYTES)
    rate = (board.ram if layout and layout.weights == "ram" else board.flash).bytes_per_s
    return Fit(
        board=board.name,
        weight_bytes=memory.weight_bytes,
        vocabulary_bytes=memory.vocabulary_bytes,
        code_bytes=CODE_BYTES,
        arena_bytes=memory.arena_bytes,
        kv_cache_bytes=memory.kv_cache_bytes,
        stack_bytes=board.stack_bytes,
        flash_missing_bytes=max(0, flash - board.flash.size_bytes),
        ram_missing_bytes=max(0, ram - sum(one.size_bytes for one in board.rams)),
        can_encode=memory.can_encode,
        weight_bytes_read=weight_bytes_read,
        predicted=_predicted(program, board) if isinstance(program, DecoderProgram) else {},
        input_bytes=memory.input_bytes,
        weights_in=layout.weights if layout else None,
        code_in=layout.code if layout else None,
        reading_s=weight_bytes_read / rate if rate and layout else None,
    )


def _predicted(program: DecoderProgram, board: Board) -> dict[str, int]:
    positions = sorted({min(EARLY, program.context - 1), program.context - 1})
    counts = {str(position): costs.predict(program, board, position) for position in positions}
    return {position: count for position, count in counts.items() if count is not None}


# -------------------------------------------------------------------------------------------------- as data and as text


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary as JSON's types."""
    return dataclasses.asdict(summary)


def title(summary: Summary) -> str:
    """The model in a line."""
    kind = summary.card.get("quantization", "a plain model")
    count = "" if summary.parameters is None else f", {summary.parameters:,} parameters"
    return one_line(f"{summary.name}: {kind}{count}, {summary.file_bytes:,} bytes, sha256 {summary.sha256[:12]}")


def text(summary: Summary) -> str:
    """The summary for a terminal."""
    shape = summary.card.get("architecture", {})
    lines = [title(summary)]
    lines += ["  " + ", ".join(f"{key} {value}" for key, value in shape.items())] if shape else []
    for name, tensors in summary.signatures.items():
        lines += [f"signature {one_line(name)}", *_grouped(tensors)]
        lines += ["  ops: " + ", ".join(f"{count} {op}" for op, count in summary.ops.get(name, {}).items())]
    for name, ops in summary.ops.items():
        if name not in summary.signatures:
            lines.append(f"{one_line(name)}: " + ", ".join(f"{count} {op}" for op, count in ops.items()))
    if summary.reason:
        lines.append(f"not compiled: {one_line(summary.reason)}")
        lines += [f"  hint: {one_line(summary.hint)}"] if summary.hint else []
    if summary.unfused:
        lines.append("not recognised as a whole: plain ops compute it, with its whole context in float32, and slower")
    if summary.calls:
        lines.append("on a board: " + ", ".join(f"{count} {op}" for op, count in summary.calls.items()))
    for fit in summary.fits:
        lines += _fit_lines(fit, summary.kind)
    if summary.arena:
        lines.append(memory_plan.text(summary.arena))
    return clean("\n".join(lines) + "\n")


def _grouped(tensors: Mapping[str, str]) -> Iterator[str]:
    """A line for each kind of tensor: those of all layers are one kind."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for name, kind in tensors.items():
        stem = name.rstrip("0123456789")
        kinds.setdefault((stem if stem.endswith("_") else name, kind), []).append(name)
    for (_, kind), names in kinds.items():
        yield f"  {one_line(names[0])}" + (f" … {one_line(names[-1])}" if len(names) > 1 else "") + f": {kind}"


def _fit_lines(fit: Fit, kind: str) -> Iterator[str]:
    missing = [
        f"{count:,} bytes of {region} are missing"
        for region, count in (("flash", fit.flash_missing_bytes), ("RAM", fit.ram_missing_bytes))
        if count
    ]
    encoder = "text or ids" if fit.can_encode else "ids; it cannot encode this tokenizer"
    fits = f"fits; takes {encoder}" if kind == "decoder" else "fits"
    yield f"{fit.board}: " + ("; ".join(missing) if missing else fits)
    tables, kept = f"weights {fit.weight_bytes:,}", f"inputs {fit.input_bytes:,}, state {fit.kv_cache_bytes:,}"
    if kind == "decoder":
        tables, kept = f"{tables}, vocabulary {fit.vocabulary_bytes:,}", f"KV cache {fit.kv_cache_bytes:,}"
    yield f"  flash: {tables}, code at most {fit.code_bytes:,} bytes"
    yield f"  RAM: arena {fit.arena_bytes:,}, {kept}, stack {fit.stack_bytes:,} bytes"
    if kind == "decoder":
        counts = ", ".join(f"{count:,} instructions at position {at}" for at, count in fit.predicted.items())
        takes = counts and f" and takes, as predicted, {counts}"
        yield f"  a token reads {fit.weight_bytes_read:,} weight bytes{takes}"
        if fit.reading_s is not None:
            place = "RAM" if fit.weights_in == "ram" else fit.weights_in
            yield f"  by the board's facts, reading them from {place} takes {fit.reading_s * 1e3:.2f} ms"
    if copied := _copied(fit.weights_in, fit.code_in):
        yield f"  copied to RAM at start: {copied}"


def _copied(weights_in: str | None, code_in: str | None) -> str:
    """What lies in flash and is copied to RAM, in words."""
    return ", ".join(what for what, at in (("weights", weights_in), ("kernels", code_in)) if at == "ram")


def image_json(image: Image) -> dict[str, Any]:
    """What `edge build` has made, as JSON's types: facts, sizes and hash."""
    return {**dataclasses.asdict(image.facts), "sha256": image.sha256, "sizes": dataclasses.asdict(image.sizes)}


def image_text(image: Image, folder: Path) -> str:
    """What `edge build` has made."""
    sizes, is_text = image.sizes, image.facts.kind == "decoder"
    context = f", context {image.facts.context}" if is_text else ""
    vocabulary = f", vocabulary {sizes.vocabulary_bytes:,}" if is_text else ""
    lines = [
        f"{folder}: {image.facts.name} for {image.board}{context}, sha256 {image.sha256[:12]}",
        f"  flash {sizes.flash_bytes:,} bytes: code {sizes.code_bytes:,}, weights {sizes.weight_bytes:,}{vocabulary}",
        f"  RAM {sizes.ram_bytes:,} bytes: arena {sizes.arena_bytes:,}, "
        f"{'KV cache' if is_text else 'state'} {sizes.kv_cache_bytes:,}, stack {sizes.stack_bytes:,}",
        f"  of the board's: {', '.join(f'{r.name} {r.used_bytes:,} of {r.size_bytes:,}' for r in sizes.regions)} bytes",
    ]
    if copied := _copied(image.facts.weights_in, image.facts.code_in):
        lines.append(f"  copied to RAM at start: {copied}")
    if is_text and not image.facts.can_encode:
        lines.append("  it takes token ids and gives text: this tokenizer is not one that it can encode with")
    lines += [f"  {one_line(action)}" for action in image.facts.actions]
    return clean("\n".join(lines) + "\n")
