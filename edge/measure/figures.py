"""The figures of accuracy, as functions of what a record keeps of every block or example, with their 95 % intervals.

Everything here is made from records alone, so that two runs can be compared whenever and wherever they were made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.measure.bootstrap import RESAMPLES, Array, Statistic, interval
from edge.measure.record import Accuracy, Intervals, Outcomes
from edge.shares import wilson

# of a block of text, at least: of stories260K on its own samples and on Shakespeare the true spread of a mean over
# tokens is 1.37 and 1.83 times what independent tokens would have, and blocks of 32 show 1.28 and 1.71 of it
BLOCK_TOKENS = 32
MOST_BLOCKS = 128


@dataclass(frozen=True)
class Figure:
    """A figure: its field of Accuracy, what it is called, and the figure of the sums of two columns of Outcomes."""

    name: str
    heading: str
    columns: tuple[str, str]
    statistic: Statistic
    more_is_better: bool = False


def _ratio(sums: Array) -> Array:
    return np.asarray(sums[..., 0] / sums[..., 1])


FIGURES = (
    Figure("perplexity", "perplexity", ("nats", "tokens"), lambda sums: np.exp(_ratio(sums))),
    Figure("bits_per_byte", "bits a byte", ("nats", "bytes"), lambda sums: _ratio(sums) / math.log(2)),
    Figure("kl", "KL, nats a token", ("kl", "tokens"), _ratio),
    Figure("top1", "top-1 agreement", ("agreed", "tokens"), _ratio, more_is_better=True),
    Figure("exact_match", "exact match", ("right", ""), _ratio, more_is_better=True),
    Figure("accuracy", "accuracy", ("right", ""), _ratio, more_is_better=True),
    Figure("disagreement", "another class than the reference", ("changed", ""), _ratio),
)


@dataclass(frozen=True)
class Difference:
    """A figure of one run less that of another, on the same units; no interval where there are too few of them.

    same: no unit differs.
    """

    value: float
    interval_95: tuple[float, float] | None
    same: bool


def blocks(count: int) -> list[slice]:
    """So many tokens as blocks of nearly equal length that follow each other, at most MOST_BLOCKS of them."""
    parts = max(min(count // BLOCK_TOKENS, MOST_BLOCKS), 1)
    edges = [count * at // parts for at in range(parts + 1)]
    return [slice(start, end) for start, end in zip(edges, edges[1:], strict=False)]


def units(figure: Figure, outcomes: Outcomes) -> Array | None:
    """What the figure sums up, [units, 2]; None where it was not measured."""
    first = _column(getattr(outcomes, figure.columns[0]))
    if first is None or not len(first):
        return None
    second = _column(getattr(outcomes, figure.columns[1])) if figure.columns[1] else np.ones(len(first))
    return None if second is None else np.stack([first, second], axis=1)


def marks(outcomes: Array) -> str:
    """Booleans as a record keeps them: a character each, 1 for True."""
    return "".join("1" if outcome else "0" for outcome in outcomes)


def _column(values: Sequence[float] | str | None) -> Array | None:
    return None if values is None else np.array([float(value) for value in values])


def intervals(outcomes: Outcomes) -> Intervals:
    """The interval of every figure that is no plain share of independent examples (those have Wilson's)."""
    found, count = {}, 0
    for figure in FIGURES:
        rows = units(figure, outcomes) if figure.columns[1] else None
        if rows is not None and rows[:, 1].sum() > 0:
            found[figure.name], count = _interval(figure, rows), len(rows)
    if outcomes.changed:
        count = len(outcomes.changed)
        found["disagreement"] = wilson(outcomes.changed.count("1"), count)
    return Intervals(resamples=RESAMPLES, units=count, **found)


def _interval(figure: Figure, rows: Array) -> tuple[float, float] | None:
    """By resampling; a share reaches as far as it would of independent tokens, at least: of 0 misses 0 is not known."""
    found = interval(rows, figure.statistic)
    if found is None or figure.name != "top1":
        return found
    low, high = wilson(int(rows[:, 0].sum()), int(rows[:, 1].sum()))
    return min(found[0], low), max(found[1], high)


def interval_of(figure: Figure, accuracy: Accuracy) -> tuple[float, ...] | None:
    """The 95 % interval of a figure as the record has it."""
    if figure.name in ("exact_match", "accuracy"):
        return accuracy.interval_95
    return None if accuracy.intervals_95 is None else getattr(accuracy.intervals_95, figure.name)


def difference(figure: Figure, run: Accuracy, base: Accuracy) -> Difference | None:
    """run less base, paired unit by unit; None where either was not measured, or not on the same units."""
    if run.outcomes is None or base.outcomes is None or run.data_sha256 != base.data_sha256:
        return None
    a, b = units(figure, run.outcomes), units(figure, base.outcomes)
    if a is None or b is None or a.shape != b.shape or (a[:, 1] != b[:, 1]).any():
        return None

    def less(sums: Array) -> Array:
        return np.asarray(figure.statistic(sums[..., [0, 2]]) - figure.statistic(sums[..., [1, 2]]))

    both = np.stack([a[:, 0], b[:, 0], a[:, 1]], axis=1)
    return Difference(float(less(both.sum(axis=0))), interval(both, less), bool((a == b).all()))


def word(figure: Figure, found: Difference) -> str:
    """What a difference says, plainly."""
    if found.same:
        return "the same throughout"
    if found.interval_95 is None:
        return "too little data to tell"
    low, high = found.interval_95
    if low <= 0 <= high:
        return "no difference told apart"
    return "better" if (low > 0) == figure.more_is_better else "worse"
