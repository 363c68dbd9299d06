"""A record that says what runs where, by which tools, and has no measurement yet."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from edge import __version__
from edge.measure import circumstances
from edge.measure.record import Image, Memory, Model, Record
from edge.run.plain import PlainRunning
from edge.run.target import Running
from firmware_tools.graph import Graph

TOOLS = ("ai-edge-litert", "numpy", "pyserial", "tokenizers", "unicorn", "ziglang")
COMPUTED_BY = ("runtime", "api", "kernels", "threads", "weight_cache", "weight_cache_none_because")  # keys of HELLO


def describe(running: Running | PlainRunning, before: Mapping[str, Any] | None = None) -> Record:
    """The record of a running model, all measurements absent.

    before: what `circumstances.look` found before it was measured; what it finds now is then what came after.
    """
    model = running.model
    after = None if before is None else circumstances.look(running)
    return Record(
        model=Model(
            name=model.name,
            sha256=model.sha256,
            file_sha256=model.file_sha256,
            tokenizer_sha256=hashlib.sha256(model.tokenizer).hexdigest() if model.tokenizer else None,
            quantization=model.card.get("quantization") or quantization(model),
        ),
        image=_image(running),
        target=running.target,
        # a board is named by who asks, since that was checked; a computer names itself
        board=running.info.board if circumstances.is_computer(running) else running.target.partition("@")[0],
        emulated=running.info.emulated,
        clock=running.link.clock.kind,
        context=running.context if isinstance(running, Running) else None,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        tools={**tools(), **_kernels(running)},
        memory=_memory(running),
        machine=circumstances.machine(before),
        before=circumstances.moment(before),
        after=circumstances.moment(after),
        trouble=running.info.trouble,
        clock_hz=_clock_hz(running),
    )


def quantization(model: Graph) -> str:
    """In what a plain model computes: the types of its computed tensors, and those of its weights where they differ."""
    computed = {
        subgraph.tensors[index].dtype
        for subgraph in model.subgraphs
        for operator in subgraph.operators
        for index in operator.outputs
    } & {"float32", "int8", "uint8", "int16"}
    quantized = any(t.data is not None and t.dtype == "int8" for subgraph in model.subgraphs for t in subgraph.tensors)
    names = "/".join(sorted(computed)) or "unknown"
    return "float32, int8 weights" if computed == {"float32"} and quantized else names


def _image(running: Running | PlainRunning) -> Image:
    """What was built here, and what the firmware that runs says it is."""
    built = running.image
    return Image(built.sha256 if built else None, built.facts.toolchain if built else None, running.info.image)


def _clock_hz(running: Running | PlainRunning) -> int | None:
    """Only a board of silicon has one: what is emulated has no seconds, and a computer tells of itself elsewhere."""
    is_board, is_timed = running.info.image is not None, running.link.clock.kind == "seconds"
    return running.info.ticks_hz if is_board and is_timed and not running.info.emulated else None


def _memory(running: Running | PlainRunning) -> Memory:
    """What the image takes where it was built here; else what the device or the agent says of itself."""
    if running.image is None:
        info = running.info
        return Memory(
            weight_bytes=info.weight_bytes,
            vocabulary_bytes=info.vocabulary_bytes,
            arena_bytes=info.arena_bytes,
            kv_cache_bytes=info.kv_cache_bytes,
            stack_bytes=info.stack_bytes,
            input_bytes=_input_bytes(running),
            weights_in=info.weights_in,
        )
    sizes = running.image.sizes
    return Memory(
        code_bytes=sizes.code_bytes,
        weight_bytes=sizes.weight_bytes,
        vocabulary_bytes=sizes.vocabulary_bytes,
        arena_bytes=sizes.arena_bytes,
        kv_cache_bytes=sizes.kv_cache_bytes,
        stack_bytes=sizes.stack_bytes,
        input_bytes=_input_bytes(running),
        weights_in=running.image.facts.weights_in,
    )


def _input_bytes(running: Running | PlainRunning) -> int | None:
    return sum(border.size_bytes for border in running.inputs) if isinstance(running, PlainRunning) else None


def _kernels(running: Running | PlainRunning) -> dict[str, str]:
    """On a computer, what computed: the runtime, its set of kernels, its threads, and how its weights were packed."""
    raw = running.info.raw if circumstances.is_computer(running) else {}
    return {key: str(raw[key])[:200] for key in COMPUTED_BY if key in raw}


def tools() -> dict[str, str]:
    """Versions of what took part, and of the system."""
    found = {"edge": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
