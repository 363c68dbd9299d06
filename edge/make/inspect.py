"""What is in a .tflite file, and what it needs on a board."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.make import memory_plan
from edge.make.memory_plan import Region
from edge.terminal import clean, one_line
from firmware_tools import boards, costs, fuse, graph
from firmware_tools.boards import Board
from firmware_tools.build import Image
from firmware_tools.compile import needs, rows_at_once
from firmware_tools.errors import UserError
from firmware_tools.program import DecoderProgram, Program

EARLY = 15  # a position that most models have, for predictions
CODE_BYTES = 32 << 10  # what code takes at most, before `build` has said it exactly


@dataclass(frozen=True)
class Fit:
    """What a model needs on a board, before anything is built; code is an upper bound. missing: 0 where it fits.

    predicted: position -> instructions of a token there, from the graph alone; empty where a kernel was never measured.
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
    predicted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """A file as stored (signatures, ops) and as the compiler sees it (calls, fits, arena).

    signatures: name -> tensor -> "dtype[shape]", inputs before outputs. ops: signature -> op -> how often. calls: fused
    op -> how often. arena: for the board that was asked for. reason: why the compiler does not take the file, or None.
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


def summarize(path: Path, board: str | None = None, context: int | None = None) -> Summary:
    """Reads and verifies a model; board: only this one, and its memory plan. context: as `build --context`.

    BadFile for what is not a .tflite; any other .tflite has a summary, which says why it is not compiled.
    """
    chosen = [boards.load(board)] if board else [boards.load(name) for name in boards.names()]
    model = graph.read(path)
    summary = _stored(model, path)
    try:
        program = fuse.program(model, context)
        fits = tuple(_fit(model, program, board, context) for board in chosen)
    except UserError as error:
        return dataclasses.replace(summary, reason=error.message)
    return dataclasses.replace(
        summary,
        parameters=_parameters(program),
        calls=dict(Counter(call.op for call in program.calls)),
        fits=fits,
        arena=memory_plan.regions(program, chosen[0], rows_at_once(chosen[0])) if board else (),
    )


def _stored(model: graph.Graph, path: Path) -> Summary:
    return Summary(
        name=str(model.card.get("name", path.name)),
        file_bytes=model.file_bytes,
        sha256=model.sha256,
        file_sha256=model.file_sha256,
        contract=model.contract,
        parameters=None,
        card=model.card,
        signatures={name: _border(signature) for name, signature in model.signatures.items()},
        ops={name: _ops(model.subgraphs[signature.subgraph]) for name, signature in model.signatures.items()}
        or {subgraph.name or f"subgraph {index}": _ops(subgraph) for index, subgraph in enumerate(model.subgraphs)},
    )


def _ops(subgraph: graph.Subgraph) -> dict[str, int]:
    return dict(Counter(operator.op for operator in subgraph.operators).most_common())


def _border(signature: graph.Signature) -> dict[str, str]:
    tensors = [*signature.inputs.items(), *signature.outputs.items()]
    return {name: f"{tensor.dtype}{list(tensor.shape)}" for name, tensor in tensors}


def _parameters(program: Program) -> int:
    """Trained numbers, each counted once: weights, gains and biases, not scales and tables."""
    trained = {
        id(array): array.size
        for call in program.calls
        for name, array in call.constants.items()
        if name in ("weights", "gain", "bias")
    }
    return sum(trained.values())


def _fit(model: graph.Graph, program: DecoderProgram, board: Board, context: int | None) -> Fit:
    memory = needs(model, board, context)
    flash = memory.weight_bytes + memory.vocabulary_bytes + CODE_BYTES
    ram = memory.arena_bytes + memory.kv_cache_bytes + board.stack_bytes
    return Fit(
        board=board.name,
        weight_bytes=memory.weight_bytes,
        vocabulary_bytes=memory.vocabulary_bytes,
        code_bytes=CODE_BYTES,
        arena_bytes=memory.arena_bytes,
        kv_cache_bytes=memory.kv_cache_bytes,
        stack_bytes=board.stack_bytes,
        flash_missing_bytes=max(0, flash - board.flash.size_bytes),
        ram_missing_bytes=max(0, ram - board.ram.size_bytes),
        can_encode=memory.can_encode,
        predicted=_predicted(program, board),
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
    kind = summary.card.get("quantization", "not a language model of edge")
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
        lines.append(f"not compiled for boards: {one_line(summary.reason)}")
    if summary.calls:
        lines.append("on a board: " + ", ".join(f"{count} {op}" for op, count in summary.calls.items()))
    for fit in summary.fits:
        lines += _fit_lines(fit)
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


def _fit_lines(fit: Fit) -> Iterator[str]:
    missing = [
        f"{count:,} bytes of {region} are missing"
        for region, count in (("flash", fit.flash_missing_bytes), ("RAM", fit.ram_missing_bytes))
        if count
    ]
    encoder = "text or ids" if fit.can_encode else "ids; it cannot encode this tokenizer"
    yield f"{fit.board}: " + ("; ".join(missing) if missing else f"fits; takes {encoder}")
    yield (
        f"  flash: weights {fit.weight_bytes:,}, vocabulary {fit.vocabulary_bytes:,}, "
        f"code at most {fit.code_bytes:,} bytes"
    )
    yield f"  RAM: arena {fit.arena_bytes:,}, KV cache {fit.kv_cache_bytes:,}, stack {fit.stack_bytes:,} bytes"
    if fit.predicted:
        counts = ", ".join(f"{count:,} at position {position}" for position, count in fit.predicted.items())
        yield f"  instructions per token, predicted from the graph: {counts}"


def image_json(image: Image) -> dict[str, Any]:
    """What `edge build` has made, as JSON's types: facts, sizes and hash."""
    return {**dataclasses.asdict(image.facts), "sha256": image.sha256, "sizes": dataclasses.asdict(image.sizes)}


def image_text(image: Image, folder: Path) -> str:
    """What `edge build` has made."""
    sizes = image.sizes
    lines = [
        f"{folder}: {image.facts.name} for {image.board}, context {image.facts.context}, sha256 {image.sha256[:12]}",
        f"  flash {sizes.flash_bytes:,} bytes: code {sizes.code_bytes:,}, weights {sizes.weight_bytes:,}, "
        f"vocabulary {sizes.vocabulary_bytes:,}",
        f"  RAM {sizes.ram_bytes:,} bytes: arena {sizes.arena_bytes:,}, KV cache {sizes.kv_cache_bytes:,}, "
        f"stack {sizes.stack_bytes:,}",
    ]
    if not image.facts.can_encode:
        lines.append("  it takes token ids and gives text: this tokenizer is not one that it can encode with")
    return clean("\n".join(lines) + "\n")
