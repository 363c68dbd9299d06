"""What quantization lost, for people: a table of every matrix and scheme, and a picture of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from edge.drawing import Drawing, colours
from edge.make.losses import Loss, Losses
from edge.terminal import one_line

LEFT, PANEL, GAP, TOP, BAR = 90.0, 280.0, 24.0, 92.0, 8.0
SMALLEST_KL = 1e-9  # below it a divergence is what rounding leaves


def text(found: Losses) -> str:
    """A line for each matrix, and for each scheme the errors of its weights and outputs and the KL of it alone."""
    schemes = list(found.together)
    heading = (
        f"Lost by quantizing weights (activations stay float), on {found.tokens:,} tokens, of {one_line(found.source)}"
    )
    names = "".join(f"  {one_line(scheme):>24}" for scheme in schemes)
    columns = "".join(f"  {'weights':>7} {'outputs':>7} {'KL alone':>8}" for _ in schemes)
    lines = [heading, f"{'':12}{names}", f"{'':12}{columns}"]
    for name in dict.fromkeys(loss.matrix for loss in found.losses):
        cells = [_cells(loss) for loss in found.losses if loss.matrix == name]
        lines.append(f"{one_line(name):12}{''.join(cells)}")
    lines.append(f"{'all':12}" + "".join(f"  {'':15} {_kl(found.together[scheme]):>8}" for scheme in schemes))
    lines.append("weights, outputs: signal to noise in dB (6 dB are a bit); KL: nats a token")
    return "\n".join(lines) + "\n"


def _cells(loss: Loss) -> str:
    return f"  {_decibels(loss.weight_db):>7} {_decibels(loss.output_db):>7} {_kl(loss.kl):>8}"


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"


def _kl(value: float) -> str:
    return "0" if value < SMALLEST_KL else f"{value:.2g}" if value < 0.1 else f"{value:.3f}"


def as_json(found: Losses) -> dict[str, Any]:
    """JSON's types."""
    return dataclasses.asdict(found)


def svg(found: Losses, title: str) -> str:
    """Three panels, a row for each matrix and in it a bar for each scheme: weights, outputs, KL of it alone."""
    schemes, names = list(found.together), list(dict.fromkeys(loss.matrix for loss in found.losses))
    of_scheme = colours(schemes)
    row = max(BAR * len(schemes) + 4, 14)
    width = LEFT + 3 * PANEL + 3 * GAP
    drawing = Drawing(width, TOP + row * len(names) + 10, title)
    drawing.text(10, 20, f"{title}, on {found.tokens:,} tokens")
    totals = [(f"{scheme}: KL of all {_kl(found.together[scheme])}", of_scheme[scheme]) for scheme in schemes]
    drawing.legend(10, 44, totals, step=(width - 20) / len(schemes))
    for at, (heading, length) in enumerate(_panels(found.losses)):
        x = LEFT + at * (PANEL + GAP)
        drawing.text(x, TOP - 18, heading)
        for loss in found.losses:
            y = TOP + names.index(loss.matrix) * row + schemes.index(loss.scheme) * BAR
            about = (
                f"{loss.matrix}, {loss.scheme}: weights {_decibels(loss.weight_db)} dB, "
                f"outputs {_decibels(loss.output_db)} dB, KL alone {_kl(loss.kl)}"
            )
            drawing.rectangle(x, y, PANEL * length(loss), BAR - 1, of_scheme[loss.scheme], about)
    for at, name in enumerate(names):
        drawing.text(LEFT - 8, TOP + at * row + row / 2 + 2, name, anchor="end")
    return drawing.svg()


def _panels(losses: Sequence[Loss]) -> list[tuple[str, Callable[[Loss], float]]]:
    """(heading, share of the panel that a loss takes): longer is worse in each."""
    noise = [value for loss in losses for value in (loss.weight_db, loss.output_db) if value is not None]
    best, worst = max(noise, default=60.0) + 3, min(noise, default=0.0)

    def share(value: float | None) -> float:
        return 0.0 if value is None else (best - value) / max(best - worst, 1.0)

    kls = [loss.kl for loss in losses if loss.kl >= SMALLEST_KL] or [1.0]
    low, high = math.floor(math.log10(min(kls))), math.log10(max(kls))

    def power(loss: Loss) -> float:
        return 0.0 if loss.kl < SMALLEST_KL else (math.log10(loss.kl) - low) / max(high - low, 1e-9)

    scale = f"{best:.0f} to {worst:.0f} dB"
    return [
        (f"error of weights, {scale}", lambda loss: share(loss.weight_db)),
        (f"error of outputs, {scale}", lambda loss: share(loss.output_db)),
        (f"KL of it alone, 1e{low} to {_kl(max(kls))}, logarithmic", power),
    ]
