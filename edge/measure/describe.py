"""A record that says what runs where, by which tools, and has no measurement yet."""

from __future__ import annotations

import hashlib
import platform
from datetime import datetime, timezone
from importlib import metadata

from edge import __version__
from edge.measure.record import Image, Memory, Model, Record
from edge.run.target import Running

TOOLS = ("ai-edge-litert", "numpy", "pyserial", "tokenizers", "unicorn", "ziglang")


def describe(running: Running) -> Record:
    """The record of a running model, all measurements absent."""
    model, image = running.model, running.image
    return Record(
        model=Model(
            name=str(model.card["name"]),
            sha256=model.sha256,
            file_sha256=model.file_sha256,
            tokenizer_sha256=hashlib.sha256(model.tokenizer).hexdigest(),
            quantization=model.card.get("quantization"),
        ),
        image=Image(image.sha256 if image else None),
        target=running.target,
        board=running.target.partition("@")[0],
        emulated=running.info.emulated,
        clock=running.link.clock.kind,
        context=running.context,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        tools={**tools(), **_kernels(running)},
        memory=_memory(running),
    )


def _memory(running: Running) -> Memory:
    """What the image takes where it was built here; else what the device or the agent says of itself."""
    if running.image is None:
        info = running.info
        return Memory(
            weight_bytes=info.weight_bytes,
            vocabulary_bytes=info.vocabulary_bytes,
            arena_bytes=info.arena_bytes,
            kv_cache_bytes=info.kv_cache_bytes,
            stack_bytes=info.stack_bytes,
        )
    sizes = running.image.sizes
    return Memory(
        code_bytes=sizes.code_bytes,
        weight_bytes=sizes.weight_bytes,
        vocabulary_bytes=sizes.vocabulary_bytes,
        arena_bytes=sizes.arena_bytes,
        kv_cache_bytes=sizes.kv_cache_bytes,
        stack_bytes=sizes.stack_bytes,
    )


def _kernels(running: Running) -> dict[str, str]:
    """On the host, what computed: the runtime, its set of kernels and its threads."""
    raw = running.info.raw if running.image is None and running.target == "host" else {}
    return {key: str(raw[key]) for key in ("runtime", "kernels", "threads") if key in raw}


def tools() -> dict[str, str]:
    """Versions of what took part, and of the system."""
    found = {"edge": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
