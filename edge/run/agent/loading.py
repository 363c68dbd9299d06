"""How a model is loaded: runtime, threads, packed weights; and what HELLO says of it."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.limits import set_limits
from edge.run.agent import machine, weight_cache
from edge.run.agent.checked_file import CheckedFile
from edge.run.agent.decoder_model import STEP, DecoderModel
from edge.run.agent.decoder_session import Decoder, DecoderSession
from edge.run.agent.interpreted_model import InterpretedModel
from edge.run.agent.packing import SPARE_BYTES, pack
from edge.run.agent.plain_model import PlainModel, PlainSession
from edge.run.agent.runtimes import Runtime, compiles, find_runtime, interpreter, refuse_form
from edge.run.agent.session import MAX_PAYLOAD, Session

SMALL_BYTES = 16 << 20  # below this a second thread costs more than it brings, and packing takes no time worth a file
MOST_THREADS = 4
TICKS_HZ = 1_000_000_000


def _of_the_host() -> dict[str, Any]:
    return {
        "arena_bytes": None,
        "stack_bytes": None,
        "can_encode": False,
        "board": "host",
        "emulated": machine.emulated() is not None,
        "facts": True,  # it answers FACTS
        "ticks_hz": TICKS_HZ,
        "max_payload": MAX_PAYLOAD,
    }


def describe(model: Decoder, facts: Mapping[str, Any], context: int | None) -> dict[str, Any]:
    """The answer to HELLO: what the host knows of the file, and what only the one who runs it knows."""
    return {
        **facts,
        "vocab_size": model.vocab_size,
        "context": min(context or model.context, model.context),
        "layers": model.layers,
        "kv_cache_bytes": model.kv_cache_bytes,
        **_of_the_host(),
    }


def cores() -> int:
    """Physical cores that this process may use: two threads of one core only take turns in matrix products."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = Path("/sys/devices/system/cpu")
    found = set()
    for number in usable:
        with contextlib.suppress(OSError):
            found.add((siblings / f"cpu{number}" / "topology" / "thread_siblings_list").read_text())
    return len(found) or len(usable) or 1


def choose_threads(wanted: int, size_bytes: int) -> int:
    """How many threads LiteRT gets; wanted: 0 for as many as bring something."""
    return wanted or (1 if size_bytes < SMALL_BYTES else min(cores(), MOST_THREADS))


@dataclass(frozen=True)
class Packed:
    """Where packed weights are kept: state is `cold` (packed just now), `warm` or `none`, and why says why none."""

    path: str = ""
    state: str = "none"
    why: str = ""

    def facts(self) -> dict[str, str]:
        return {"weight_cache": self.state, **({"weight_cache_none_because": self.why} if self.why else {})}


def packed_weights(model: Path, folder: Path, runtime: Runtime, checked: CheckedFile) -> Packed:
    """The model's packed weights from the folder, which are made if they are not there."""
    try:
        key = weight_cache.key(checked.sha256, str(runtime))
        path = weight_cache.find(weight_cache.private(folder), key)
        if path:
            return Packed(str(path), "warm")
        part = weight_cache.temporary(folder, key, model.stat().st_size)
        try:
            pack(model, part)
            checked.expect()  # else what was packed may be of another model
            return Packed(str(weight_cache.keep(part, key)), "cold")
        finally:
            part.unlink(missing_ok=True)
    except weight_cache.NoCache as error:
        return Packed(why=str(error))


def start_decoder(
    options: argparse.Namespace, facts: dict[str, Any], checked: CheckedFile, runtime: Runtime
) -> Session:
    """The session of a language model, warmed up."""
    size_bytes, kv_heads = options.model.stat().st_size, facts.pop("kv_heads")
    step = STEP if facts.pop("open_cache", False) else None
    threads, packed = choose_threads(options.threads, size_bytes), Packed()
    model: Decoder
    compiled = options.kernels == "xnnpack" and compiles(runtime)
    if not compiled:
        model = InterpretedModel(options.model, kv_heads, threads, options.kernels, runtime)
    else:
        if options.cache and size_bytes >= SMALL_BYTES:
            packed = packed_weights(options.model, Path(options.cache), runtime, checked)
        model = DecoderModel(options.model, kv_heads, threads, runtime, step=step, weight_cache=packed.path)
    model.warm_up()
    api = "CompiledModel" if compiled else "Interpreter"
    said = {"api": api, "kernels": options.kernels, "threads": threads, **packed.facts()}
    return DecoderSession(model, {**describe(model, facts, options.context), **said})


def start(options: argparse.Namespace, facts: dict[str, Any], checked: CheckedFile) -> Session:
    """Loads the model that the facts are of; ValueError or another of LiteRT's errors where it cannot."""
    size_bytes = options.model.stat().st_size
    set_limits(SPARE_BYTES + 16 * size_bytes)
    runtime = find_runtime()
    refuse_form(runtime, facts.pop("old_form", False))
    facts["runtime"] = str(runtime)
    if facts["kind"] == "plain":
        checked.expect()
        threads = choose_threads(options.threads, size_bytes)
        lite = interpreter(options.model, threads, options.kernels, runtime)
        said = {"kernels": options.kernels, "threads": threads, **Packed().facts()}
        return PlainSession(PlainModel(lite, facts.pop("signature")), {**facts, **_of_the_host(), **said})
    session = start_decoder(options, facts, checked, runtime)
    checked.expect()
    return session
