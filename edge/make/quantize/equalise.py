"""Rescales a layer's matrices so that the channels of an activation become alike: exact in float, kinder to integers.

One scale serves all channels of an integer tensor, so the channel that reaches furthest sets the steps of all. Where a
factor can be moved through the graph it is: the gain of an RMSNorm divided by s with the columns behind it times s,
the rows of `up` divided by s with the columns of `down` times s. How far to go is searched for each layer and place:
the exponents with the least squared error of what comes out, activations and weights rounded to 8 bits (the idea of
SmoothQuant, Xiao et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make.quantize import per_row
from edge.make.quantize.integers import Grid, least_error

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
ROWS = 1024  # of the activations, spread over all, are enough to choose by
Array = NDArray[Any]


def equalised(own: dict[str, Array], facts: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """A layer's weights by their names without the layer, and its activations [n, size]: both rescaled."""
    own, facts = dict(own), dict(facts)
    for norm, names in (("attention_norm", ("q", "k", "v")), ("ffn_norm", ("gate", "up"))):
        _norm(own, facts, norm, names)
    _up_down(own, facts)
    return own, facts


def _norm(own: dict[str, Array], facts: dict[str, Array], norm: str, names: Sequence[str]) -> None:
    rows = _spread(facts[norm])
    wanted = [rows @ own[name].T for name in names]
    furthest = [_furthest(facts[norm]), 1 / _furthest(np.concatenate([own[name] for name in names]))]

    def error(factors: Array) -> float:
        rounded = _rounded(rows / factors)
        made = (rounded @ _rounded_weights(own[name] * factors).T for name in names)
        return sum(_error(a, b) for a, b in zip(made, wanted, strict=True))

    factors = _best(furthest, error)
    own[norm] = own[norm] / factors
    facts[norm] = facts[norm] / factors
    own.update({name: own[name] * factors for name in names})


def _up_down(own: dict[str, Array], facts: dict[str, Array]) -> None:
    silu, up = _spread(facts["silu"]), _spread(facts["up"])
    wanted = (silu * up) @ own["down"].T
    silu = _rounded(silu)

    def error(factors: Array) -> float:
        rows = _rounded(silu * _rounded(up / factors))
        return _error(rows @ _rounded_weights(own["down"] * factors).T, wanted)

    factors = _best([_furthest(facts["swiglu"]), _furthest(facts["up"])], error)
    own["up"], own["down"] = own["up"] / factors[:, None], own["down"] * factors
    if "up_bias" in own:
        own["up_bias"] = own["up_bias"] / factors
    facts["up"], facts["swiglu"] = facts["up"] / factors, facts["swiglu"] / factors


def _best(furthest: Sequence[Array], error: Callable[[Array], float]) -> Array:
    """The factors [channels], a product of powers of how far channels reach, whose error is least."""

    def factors(exponents: tuple[float, ...]) -> Array:
        logs = sum(exponent * np.log(reach) for exponent, reach in zip(exponents, furthest, strict=True))
        return np.asarray(np.exp(logs - np.mean(logs)), np.float32)

    candidates = [factors(exponents) for exponents in product(EXPONENTS, repeat=len(furthest))]
    return min(candidates, key=error)


def _furthest(rows: Array) -> Array:
    """How far each column reaches; never 0."""
    reach = np.abs(rows).max(axis=0)
    return np.asarray(np.maximum(reach, max(1e-3 * float(reach.max()), 1e-30)), np.float32)


def _spread(rows: Array) -> Array:
    return rows[:: -(-len(rows) // ROWS)]


def _rounded(values: Array) -> Array:
    grid: Grid = least_error(values)
    return np.asarray((grid.numbers(values).astype(np.float32) - grid.zero_point) * grid.scale, np.float32)


def _rounded_weights(weights: Array) -> Array:
    return per_row(np.asarray(weights, np.float32), 8).dequantized()


def _error(made: Array, wanted: Array) -> float:
    """Squared error, in parts of what is wanted."""
    return float(np.mean(np.square(made - wanted)) / max(float(np.mean(np.square(wanted))), 1e-30))
