"""What reading a prompt and computing a token cost, in the units of the target's own clock.

An emulated board counts instructions: they do not vary, so a prompt is read once. Hardware tells seconds: one round is
thrown away first (caches, lazy allocation), then every repeat is kept.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

import numpy as np

from edge.measure import circumstances
from edge.measure.describe import describe
from edge.measure.record import Decode, Prefill, Record
from edge.run.generate import prompt_ids
from edge.run.target import Running
from edge.terminal import track
from firmware_tools import boards, emulators
from firmware_tools.errors import UserError
from firmware_tools.link import Link

PROMPT_TOKENS = 16  # without --position and --prompt


def bench(
    running: Running, *, position: int | None = None, prompt: str | None = None, tokens: int | None = None, repeats: int
) -> Record:
    """Measures prefill per token and decoding.

    With position P: P tokens are read, then one token is computed at position P, `repeats` times (P + 1 positions
    attended). Else a prompt is read and `tokens` tokens (16, or what the context has room for) are computed after it,
    and all of that `repeats` times. Which tokens they are does not matter for the cost: a fixed seed draws them.
    """
    refuse_without_clock(running.target, running.link)
    ids = _prompt(running, position, prompt)
    count = 1 if position is not None else _count(running, len(ids), tokens)
    seconds = running.link.clock.kind == "seconds"
    prefill: list[float] = []
    decode: list[float] = []
    before = circumstances.look(running)
    rounds = range(-1 if seconds else 0, repeats)
    for round_ in rounds if seconds else track(rounds, "measuring"):  # a bar that moves would take part in a time
        read = _read(running, ids) if round_ <= 0 or seconds else None
        steps = _decode(running, len(ids), count)
        if round_ >= 0:
            prefill += [read] if read is not None else []
            decode += steps
    result = describe(running, before)
    return dataclasses.replace(
        result,
        invalid=circumstances.judge(result.machine, result.before, result.after),
        prefill=Prefill(statistics.median(prefill), len(ids)) if prefill else Prefill(),
        decode=Decode(statistics.median(decode), tuple(decode), len(ids), count),
    )


def _prompt(running: Running, position: int | None, prompt: str | None) -> list[int]:
    """The ids that fill the cache before the measurement."""
    if position is None and prompt is not None:
        return prompt_ids(running, prompt)[: running.context - 1]
    if position is None:
        return _ids(running, min(PROMPT_TOKENS, running.context - 1))
    if not 0 <= position < running.context:
        raise UserError(
            f"position {position} is not in the cache, which holds 0 to {running.context - 1}",
            "a larger --context of convert and build makes room",
        )
    return _ids(running, position)


def _ids(running: Running, count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(0).integers(running.info.vocab_size, size=count)]


def _count(running: Running, used: int, tokens: int | None) -> int:
    room = running.context - used
    if tokens is not None and tokens > room:
        raise UserError(
            f"{tokens} tokens after a prompt of {used} do not fit the context of {running.context}",
            f"--tokens {room} does",
        )
    return tokens or min(PROMPT_TOKENS, room)


def _read(running: Running, ids: Sequence[int]) -> float | None:
    """Units per token of reading ids from an empty context; None where there is nothing to read."""
    if not ids:
        return None
    return in_units(running.link, running.link.prefill(ids)) / len(ids)


def _decode(running: Running, position: int, count: int) -> list[float]:
    """Units of each of count steps from position on."""
    ids = _ids(running, position + count)[position:]
    return [in_units(running.link, running.link.forward(token, position + at)) for at, token in enumerate(ids)]


def refuse_without_clock(target: str, link: Link) -> None:
    """UserError where nothing can be measured."""
    if link.clock.counting:
        return
    if link.clock.kind == "seconds":
        raise UserError(
            f"{target} counts nothing: an emulated computer has no time",
            "edge run and edge eval work there; measure on hardware",
        )
    raise UserError(f"{target} counts nothing: an emulated board has no time", _who_counts(target))


def _who_counts(target: str) -> str:
    """An emulated board at a port has an emulator that counts; one in an emulator without a counter, only relatives."""
    name, _, where = target.partition("@")
    if where not in emulators.names():
        return "--on BOARD@emulator counts"
    cpu = boards.load(name).cpu
    same = [one for one in map(boards.load, boards.names()) if one.clock == "instructions" and one.cpu == cpu]
    return f"{where} has no counter for it; --on {same[0].name} counts what the same core executes" if same else ""


def in_units(link: Link, ticks: int | None) -> float:
    """Ticks in the clock's unit; instructions stay whole numbers."""
    assert ticks is not None, "a clock that counts tells"
    amount = ticks * link.clock.per_tick
    return int(amount) if link.clock.kind == "instructions" and amount == int(amount) else amount
