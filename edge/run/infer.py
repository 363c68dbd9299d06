"""One inference of a plain model: numbers in, the likeliest classes or all outputs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import inputs
from edge.run.plain import PlainRunning
from edge.terminal import clean, one_line
from firmware_tools.errors import BadFile, UserError

TOP = 5
MOST_SHOWN = 64  # numbers of an output that a terminal is given
Array = NDArray[Any]


@dataclass(frozen=True)
class Output:
    """An output: stored numbers, and the real ones that they stand for."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stored: Array
    real: Array


@dataclass(frozen=True)
class Inference:
    """What came out; ticks in the unit of clock (`instructions`, `seconds`), None where nothing counts.

    top: the likeliest classes of the first output with their scores, where labels were given.
    """

    target: str
    clock: str
    cost: float | None
    outputs: tuple[Output, ...]
    top: tuple[tuple[str, float], ...] = ()


def infer(running: PlainRunning, specs: Sequence[str], labels: Path | None) -> Inference:
    """One inference of what `--input` gives; labels: a file with the name of each class on a line."""
    names = None if labels is None else read_labels(labels, running)
    taken = inputs.one(specs, running.inputs, running.words)
    ticks = running.invoke(taken)
    outputs = []
    for index, border in enumerate(running.outputs):
        stored = running.output(index)
        outputs.append(Output(border.name, border.dtype, border.shape, stored, inputs.as_real(stored, border)))
    cost = None if ticks is None else ticks * running.link.clock.per_tick
    top = () if names is None else _top(outputs[0].real, names)
    return Inference(running.target, running.link.clock.kind, cost, tuple(outputs), top)


def read_labels(path: Path, running: PlainRunning) -> list[str]:
    """The names of the classes; UserError unless there is one for each."""
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}", "give a text with a class on each line") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is not text", "give a text with a class on each line") from error
    classes = running.outputs[0].size
    if len(names) != classes:
        raise UserError(
            f"{path} has {len(names)} labels, and the model's first output {classes} numbers",
            "give a text with a class on each line",
        )
    return names


def _top(scores: Array, names: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The classes of the largest scores; the lower index first where they are equal."""
    flat = scores.reshape(-1)
    order = np.argsort(-flat.astype(np.float64), kind="stable")[:TOP]
    return tuple((names[i], float(flat[i])) for i in order)


def text(inference: Inference) -> str:
    """For a terminal."""
    if inference.top:
        width = max(len(one_line(name)) for name, _ in inference.top)
        return "".join(f"{one_line(name):{width}}  {score:.3f}\n" for name, score in inference.top)
    lines = []
    for output in inference.outputs:
        lines.append(f"{one_line(output.name)}: {output.dtype}{list(output.shape)}")
        numbers = output.real.reshape(-1)
        shown = " ".join(f"{number:.6g}" for number in numbers[:MOST_SHOWN].tolist())
        more = f" … {numbers.size - MOST_SHOWN} more; --json prints all" if numbers.size > MOST_SHOWN else ""
        lines.append(f"  {shown}{more}")
    return clean("\n".join(lines) + "\n")


def as_json(inference: Inference) -> dict[str, Any]:
    """As JSON's types; a number that is not finite is null."""
    return {
        "target": inference.target,
        "clock": inference.clock,
        "cost": inference.cost,
        "outputs": [
            {
                "name": output.name,
                "dtype": output.dtype,
                "shape": list(output.shape),
                "stored": _finite(output.stored),
                "real": _finite(output.real),
            }
            for output in inference.outputs
        ],
        "top": [{"label": label, "score": score} for label, score in inference.top],
    }


def _finite(array: Array) -> list[Any]:
    flat = array.reshape(-1)
    return [value if np.isfinite(value) else None for value in flat.tolist()]
