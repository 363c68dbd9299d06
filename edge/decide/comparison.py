"""Models beside each other on the same data: every figure with its interval, and what tells each from the first.

Made from records alone. A comparison is also a file, `edge.comparison/1`: an object with `names` and `runs` (the
records, in the order given) and `differences`, which are there for readers of other programs and are made anew from the
runs by ours. `edge report` reads its runs.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from edge.measure import figures
from edge.measure import record as records
from edge.measure.bootstrap import RESAMPLES, SEED, SMALLEST
from edge.measure.figures import BLOCK_TOKENS, FIGURES, Difference, Figure
from edge.measure.record import Accuracy, Outcomes, Record
from edge.terminal import one_line


@dataclass(frozen=True)
class Comparison:
    """Runs on the same data, each under the name that the user knows it by; the first is what others are held to."""

    names: tuple[str, ...]
    runs: tuple[Record, ...]

    @property
    def accuracies(self) -> list[Accuracy]:
        return [run.accuracy or Accuracy() for run in self.runs]


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON's types."""
    base, *others = comparison.accuracies
    differences = [
        {
            "figure": figure.name,
            "run": comparison.names[at],
            "base": comparison.names[0],
            "says": figures.word(figure, found),
            **dataclasses.asdict(found),
        }
        for figure in FIGURES
        for at, other in enumerate(others, 1)
        if (found := figures.difference(figure, other, base)) is not None
    ]
    return json.loads(  # type: ignore[no-any-return]
        json.dumps(
            {
                "schema": records.COMPARISON,
                "names": comparison.names,
                "runs": [records.to_json(run) for run in comparison.runs],
                "resamples": RESAMPLES,
                "seed": SEED,
                "differences": differences,
            },
            allow_nan=False,
        )
    )


def text(comparison: Comparison) -> str:
    """The table for a terminal: a part for each figure, in it a line for each model."""
    lines = [_heading(comparison)]
    width = max(len(one_line(name)) for name in comparison.names)
    for figure in FIGURES:
        rows = [_row(comparison, figure, at) for at in range(len(comparison.runs))]
        if any(rows):
            lines.append(f"{figure.heading:{width + 36}}  less {one_line(comparison.names[0])}")
            lines += [
                f"  {one_line(name):{width}}  {value:32}  {less}".rstrip()
                for name, row in zip(comparison.names, rows, strict=True)
                for value, less in [row or ("–", "")]
            ]
    return "\n".join([*lines, _method(comparison)]) + "\n"


def _heading(comparison: Comparison) -> str:
    first = comparison.runs[0]
    kernels = first.tools.get("kernels")
    where = one_line(first.target) + (f" ({one_line(kernels)})" if kernels and first.target == "host" else "")
    accuracy = comparison.accuracies[0]
    if accuracy.tokens is not None:
        contexts = {run.context for run in comparison.runs}
        pieces = f" in pieces of {contexts.pop()}" if len(contexts) == 1 else ""
        against = f"; KL and top-1 against {one_line(accuracy.reference.name)}" if accuracy.reference else ""
        return f"{len(comparison.runs)} models on {where}, {accuracy.tokens:,} tokens{pieces}{against}"
    if accuracy.task is not None:
        sample = f"{accuracy.sample_size} of {accuracy.task_size} examples of {one_line(accuracy.task)}"
        return f"{len(comparison.runs)} models on {where}, {sample}, {one_line(accuracy.sampling or 'greedy')}"
    return f"{len(comparison.runs)} models on {where}, {accuracy.sample_size} samples"


def _row(comparison: Comparison, figure: Figure, at: int) -> tuple[str, str] | None:
    """A figure with its interval, and its difference to the first model's; None where it was not measured."""
    accuracy = comparison.accuracies[at]
    value = getattr(accuracy, figure.name)
    if value is None:
        return None
    interval = figures.interval_of(figure, accuracy)
    cell = _number(value) + (f"  ({_number(interval[0])}–{_number(interval[1])})" if interval else "  (no interval)")
    found = figures.difference(figure, accuracy, comparison.accuracies[0]) if at else None
    return cell, _difference(figure, found) if found else "" if at == 0 else "not on the same data"


def _difference(figure: Figure, found: Difference) -> str:
    says = figures.word(figure, found)
    if found.same:
        return says
    between = f" ({_signed(found.interval_95[0])} to {_signed(found.interval_95[1])})" if found.interval_95 else ""
    return f"{_signed(found.value)}{between}: {says}"


def _number(value: float) -> str:
    """Three places, or three digits where those say little."""
    return (
        f"{value:.3f}" if value == 0 or abs(value) >= 0.1 else f"{value:.3g}" if abs(value) >= 1e-5 else f"{value:.0e}"
    )


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "-") + _number(abs(value))


def _method(comparison: Comparison) -> str:
    """What the intervals are of."""
    accuracy = comparison.accuracies[0]
    outcomes = accuracy.outcomes or Outcomes()
    units = len(outcomes.tokens or outcomes.right or outcomes.changed or ())
    kind = f"blocks of {min(outcomes.tokens)} tokens" if outcomes.tokens else "examples" if accuracy.task else "samples"
    shares = "" if outcomes.tokens else "; of shares by themselves Wilson's"
    if units < SMALLEST:
        least = f"{SMALLEST} blocks of {BLOCK_TOKENS} tokens" if outcomes.tokens else f"{SMALLEST} {kind}"
        return f"Too little data for the intervals of differences: they take {least}{shares}."
    return (
        f"95 % intervals: {RESAMPLES:,} resamples of {units} {kind} (seed {SEED}){shares}; differences are paired.\n"
        "Each interval stands by itself: of twenty comparisons of equals one is told apart by chance."
    )
