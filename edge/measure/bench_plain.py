"""What one inference of a plain model costs, in the units of the target's own clock."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

import numpy as np

from edge import inputs
from edge.inputs import Array
from edge.measure import circumstances
from edge.measure.bench import in_units, refuse_without_clock
from edge.measure.describe import describe
from edge.measure.profile import profile_of_plain
from edge.measure.record import Inference, Record
from edge.run.plain import PlainRunning
from edge.terminal import track
from firmware_tools.program import Border


def bench_plain(
    running: PlainRunning, specs: Sequence[str], repeats: int, profiled: bool = False, signature: str | None = None
) -> Record:
    """`repeats` inferences of one set of inputs: of those given, else of random ones from a fixed seed.

    profiled: also where the instructions go, of the model by this signature. Where time is seconds, one inference
    before them is thrown away (caches, lazy allocation).
    """
    refuse_without_clock(running.target, running.link)
    random = tuple(_random(border) for border in running.inputs)
    taken = inputs.one(specs, running.inputs, running.words) if specs else random
    seconds = running.link.clock.kind == "seconds"
    before = circumstances.look(running)
    if seconds:
        running.invoke(taken)
    rounds = range(repeats)
    costs = [in_units(running.link, running.invoke(taken)) for _ in (rounds if seconds else track(rounds, "measuring"))]
    result = describe(running, before)
    return dataclasses.replace(
        result,
        inference=Inference(statistics.median(costs), tuple(costs)),
        invalid=circumstances.judge(result.machine, result.before, result.after),
        profile=profile_of_plain(running, signature, taken) if profiled else None,
    )


def _random(border: Border) -> Array:
    """Any stored number where it is quantized, standard normal floats, and zeros for what may be an index."""
    random = np.random.default_rng(0)
    if border.dtype == "float32":
        return random.standard_normal(border.shape).astype(np.float32)
    if border.scale is None:
        return np.zeros(border.shape, border.dtype)
    limits = np.iinfo(border.dtype)
    return random.integers(limits.min, limits.max, border.shape, border.dtype, endpoint=True)
