"""Compensated rounding of a whole model, a layer at a time.

Each matrix is rounded on what the rounded layers before it give, and towards what the float model computes: the outputs
aimed at are those of the float matrix on the float model's activations, and a matrix that adds to the residual stream
also takes back what the stream has drifted by. Two streams of hidden states are kept, and the weights of one layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make.checkpoints import Architecture, Weights
from edge.make.forward import INPUT_OF, attention, feed_forward, product
from edge.make.quantize import Matrix
from edge.make.quantize.rounding import Form, compensated, damp

PARTS = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}  # matrix -> weights in it
HALF = {"qkv": attention, "o": attention, "gate_up": feed_forward, "down": feed_forward}  # of the layer, it is in

LEAST_TOKENS, MOST_TOKENS = 2048, 16384  # of calibration texts
WORK = 3 << 37  # tokens times parameters, between those

Array = NDArray[np.float32]
Texts = Sequence[NDArray[Any]]
Progress = Callable[[str, int, int], None]  # of (what, done, all)


def tokens(shape: Architecture) -> int:
    """Tokens to calibrate on: more where that takes seconds, as errors of rounding go on falling with them."""
    each = shape.dim * (2 * shape.dim + 3 * shape.hidden_dim)
    return int(np.clip(WORK // (each * shape.layers), LEAST_TOKENS, MOST_TOKENS))


def silent(what: str, done: int, of: int) -> None:
    """Shows no progress."""


class _Enough(Exception):
    """The activation was reached, and what follows it is not wanted."""


def compensated_layers(
    shape: Architecture,
    weights: Weights,
    embedding: Matrix,
    texts: Texts,
    form_of: Callable[[str], Form],
    progress: Progress = silent,
    keep: Callable[[Matrix], Matrix] = lambda matrix: matrix,
) -> dict[str, Matrix]:
    """Every layer's matrices (`i.qkv`, `i.o`, `i.gate_up`, `i.down`) rounded over texts of token ids.

    form_of says for each name how it is stored. keep puts a matrix aside.
    """
    ids, counts = padded(texts)
    exact = np.asarray(weights["embedding"][ids], np.float32)
    rough = rows(embedding, ids)
    made: dict[str, Matrix] = {}
    for index in range(shape.layers):
        names = [name for name in weights if name.startswith(f"{index}.")]
        one = _Layer(shape, index, {name: weights[name] for name in names}, counts)
        exact = one.aim(exact)
        for name in PARTS:
            matrix, rough = one.round(name, rough, form_of(f"{index}.{name}"))
            made[f"{index}.{name}"] = keep(matrix)
        progress("rounding", index + 1, shape.layers)
    return made


def parts_of(weights: Weights, index: int, name: str, matrix: Matrix) -> dict[str, Array]:
    """The weights, by their names in a checkpoint, that a layer's matrix holds one above the other."""
    ends = np.cumsum([len(weights[f"{index}.{part}"]) for part in PARTS[name]])
    pieces = np.split(matrix.dequantized(), ends[:-1])
    return {f"{index}.{part}": piece for part, piece in zip(PARTS[name], pieces, strict=True)}


def padded(texts: Texts) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Texts as ids [B, T], padded at their ends, which no earlier token sees; and where [B, T] there is no padding."""
    longest = max(text.size for text in texts)
    ids, counts = np.zeros((len(texts), longest), np.int64), np.zeros((len(texts), longest), np.bool_)
    for row, text in enumerate(texts):
        ids[row, : text.size], counts[row, : text.size] = text, True
    return ids, counts


def rows(embedding: Matrix, ids: NDArray[Any]) -> Array:
    """Rows of the table, [B, T, dim]."""
    values = embedding.values[ids].astype(np.float32)
    return values if embedding.scales is None else np.asarray(values * embedding.scales[ids][..., None], np.float32)


class _Layer:
    """One layer while it is rounded: the float weights, those rounded so far, and what the float layer computed."""

    def __init__(
        self, shape: Architecture, index: int, weights: Mapping[str, Array], counts: NDArray[np.bool_]
    ) -> None:
        self.shape, self.index, self.counts = shape, index, counts
        self.weights = weights
        self.rough = dict(weights)
        self.inputs: dict[str, Array] = {}  # activation -> what the float layer computed
        self.streams: dict[str, Array] = {}  # matrix that adds to the residual stream -> the float one before it

    def aim(self, x: Array) -> Array:
        """Runs the float layer; what it gives, with what its matrices are given and the streams they add to kept."""
        wanted = {f"{self.index}.{name}" for name in INPUT_OF.values()}

        def keep(name: str, activation: Array) -> None:
            if name in wanted:
                self.inputs[name.split(".")[1]] = activation

        self.streams["o"] = x
        x = attention(self.shape, self.weights, self.index, x, keep)
        self.streams["down"] = x
        return feed_forward(self.shape, self.weights, self.index, x, keep)

    def round(self, name: str, x: Array, form: Form) -> tuple[Matrix, Array]:
        """The matrix rounded on the residual stream x that all rounded before it give; and the stream behind it."""
        weights = np.concatenate([self.weights[f"{self.index}.{part}"] for part in PARTS[name]])
        seen = self._input(name, x)
        given, wanted = seen[self.counts], self.inputs[INPUT_OF[name]][self.counts]
        missing = (wanted - given) @ weights.T
        if name in self.streams:
            missing += (self.streams[name] - x)[self.counts]
        moments = (given.T @ given).astype(np.float64) / len(given)
        shift = np.linalg.solve(damp(moments), (given.T @ missing).astype(np.float64) / len(given))
        matrix = compensated(np.asarray(weights + shift.T, np.float32), moments, form)
        self.rough.update(parts_of(self.weights, self.index, name, matrix))
        return matrix, x + product(self.rough, f"{self.index}.{name}", seen) if name in self.streams else x

    def _input(self, name: str, x: Array) -> Array:
        """What the matrix is multiplied with, in the layer as rounded so far."""
        found: list[Array] = []

        def observe(key: str, activation: Array) -> None:
            if key.endswith(f".{INPUT_OF[name]}"):
                found.append(activation)
                raise _Enough

        with contextlib.suppress(_Enough):
            HALF[name](self.shape, self.rough, self.index, x, observe)
        return found[0]
