"""Bits for each matrix of the layers, chosen by what it would cost: the scheme `mixed`.

Sensitivity first: each matrix alone is stored in 4 bits, and the real forward pass says by how much the next-token
distribution then moves (KL divergence from the float model). Matrices are taken in the order of that cost for each byte
saved: as many as a budget of bytes asks for, or as a budget of KL allows. For the latter the whole model is rounded and
measured, since costs do not simply add up, on texts that no rounding has seen.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make.checkpoints import Architecture, Weights
from edge.make.forward import INPUT_OF, divergence, embed, forward, head, layer, unseen
from edge.make.quantize import Matrix, per_row
from edge.make.quantize.layerwise import PARTS, Progress, Texts, compensated_layers, padded, parts_of, rows, silent
from edge.make.quantize.rounding import Form, compensated, int4_form, size_bytes
from firmware_tools.errors import UserError

FINE = Form(8)
BLOCK = 32  # columns of a block of int4, where rows hold whole blocks
MOST_KL = 0.05  # nats a token, where the caller does not say
HELD_OUT = 8  # one text in so many judges, the others are rounded on
MOST_LOGITS = 1 << 25  # of the texts that judge; more would cost memory


@dataclass(frozen=True)
class Budget:
    """One of: kl, nats a token at most; size, bytes of weights and scales at most, as a share of the int8 file's."""

    kl: float | None = None
    size: float | None = None


@dataclass(frozen=True)
class Chosen:
    """Matrices of all layers, the form of each, what they measure on held-out texts, and their share of int8's size.

    sensitivity: what each matrix alone would cost in 4 bits, nats a token.
    """

    matrices: Mapping[str, Matrix]
    forms: Mapping[str, Form]
    sensitivity: Mapping[str, float]
    kl: float
    size: float

    def card(self) -> dict[str, Any]:
        """For the card of the file: what each matrix got, and what was measured."""
        names = {name: form_name(form) for name, form in self.forms.items()}
        return {"matrices": names, "kl": float(f"{self.kl:.4g}"), "size": float(f"{self.size:.4g}")}


def form_name(form: Form) -> str:
    """The form as a scheme is called."""
    return f"int{form.bits}" + (f"-{form.block}" if form.block else "")


def text(card: Mapping[str, Any]) -> str:
    """The choice for a terminal, a line for each form, from the entry `mixed` of a card."""
    forms = sorted(set(card["matrices"].values()))
    lines = [f"  {form}: {' '.join(name for name, had in card['matrices'].items() if had == form)}" for form in forms]
    measured = f"  KL {card['kl']:.4g} nats a token on texts held out, by the weights alone"
    return "\n".join([*lines, f"{measured}; {card['size']:.1%} of int8's weight bytes"]) + "\n"


def choose(
    shape: Architecture, weights: Weights, embedding: Matrix, texts: Texts, budget: Budget, progress: Progress = silent
) -> Chosen:
    """The smallest model within a budget of KL, or the best found within one of size; UserError where none is."""
    judging = list(texts[::HELD_OUT])[: max(1, MOST_LOGITS // (shape.vocab_size * max(text.size for text in texts)))]
    rounding = [text for index, text in enumerate(texts) if index % HELD_OUT] or judging
    model = _Model(shape, weights, embedding, rounding, judging, progress)
    sensitivity = model.sensitivity()
    order = sorted(sensitivity, key=lambda name: (sensitivity[name] / model.saving(name), name))
    if budget.size is not None:
        return model.measured(model.fewest(order, budget.size), sensitivity)
    return _within(model, order, sensitivity, MOST_KL if budget.kl is None else budget.kl)


def _within(model: _Model, order: Sequence[str], sensitivity: Mapping[str, float], kl: float) -> Chosen:
    """As many matrices in 4 bits as kl allows: bisection, which begins where the single costs add up to it."""
    sums = list(accumulate(sensitivity[name] for name in order))
    guess = sum(total <= kl for total in sums)
    lowest, highest, best = 0, len(order), None
    while lowest <= highest:
        tried = model.measured(order[:guess], sensitivity)
        if tried.kl <= kl:
            best, lowest = tried, guess + 1
        else:
            highest = guess - 1
        guess = (lowest + highest) // 2
    if best is None:
        what = f"with all matrices in int8 the model is {tried.kl:.2g} nats a token from the float model"
        raise UserError(f"a KL of {kl:g} cannot be reached: {what}", "allow more, or take --quantize float32")
    return best


class _Model:
    """The float model with its texts, and what becomes of it in fewer bits."""

    def __init__(
        self,
        shape: Architecture,
        weights: Weights,
        embedding: Matrix,
        rounding: Texts,
        judging: Texts,
        progress: Progress,
    ) -> None:
        self.shape, self.weights, self.embedding, self.progress = shape, weights, embedding, progress
        self.rounding, self.judging = rounding, padded(judging)
        self.truth = forward(shape, weights, self.judging[0])[self.judging[1]]
        self.shapes = {f"{i}.{name}": _size(weights, i, name) for i in range(shape.layers) for name in PARTS}
        self.coarse = {name: int4_form(size[1], BLOCK) for name, size in self.shapes.items()}
        self.kept_bytes = size_bytes(embedding.values.shape, FINE) * (2 if "head" in weights else 1)
        self.fine_bytes = self.kept_bytes + sum(size_bytes(size, FINE) for size in self.shapes.values())

    def saving(self, name: str) -> int:
        """Bytes that the matrix saves in 4 bits."""
        return size_bytes(self.shapes[name], FINE) - size_bytes(self.shapes[name], self.coarse[name])

    def size(self, coarse: Sequence[str]) -> float:
        """Of weights and scales over the int8 file's, with these matrices in 4 bits."""
        return 1 - sum(map(self.saving, coarse)) / self.fine_bytes

    def fewest(self, order: Sequence[str], size: float) -> list[str]:
        """The matrices that have 4 bits for this size: the first of an order, without those that can be spared."""
        for count in range(len(order) + 1):
            if self.size(order[:count]) <= size:
                return self._spared(order[:count], size)
        least = f"with all layers in 4 bits {self.size(order):.1%} remain"
        raise UserError(f"a size of {size:.1%} of int8's cannot be reached: {least}", "embedding and head stay int8")

    def _spared(self, order: Sequence[str], size: float) -> list[str]:
        """The order without matrices, the last first, whose bytes the size can bear after all."""
        coarse = list(order)
        for name in reversed(order):
            without = [other for other in coarse if other != name]
            if self.size(without) <= size:
                coarse = without
        return coarse

    def sensitivity(self) -> dict[str, float]:
        """Matrix -> KL of the model with this matrix alone in 4 bits."""
        ids, counts = padded(self.rounding)
        x, judged = embed(self.weights, ids), embed(self.weights, self.judging[0])
        found: dict[str, float] = {}
        for index in range(self.shape.layers):
            own = {name: self.weights[name] for name in self.weights if name.startswith(f"{index}.")}
            moments: dict[str, Any] = {}

            def observe(key: str, activation: NDArray[Any], moments: dict[str, Any] = moments) -> None:
                if (short := key.split(".")[-1]) in INPUT_OF.values():
                    rows = activation[counts]
                    moments[short] = (rows.T @ rows).astype(np.float64) / len(rows)

            x = layer(self.shape, own, index, x, observe)
            for name, parts in PARTS.items():
                full = f"{index}.{name}"
                stacked = np.concatenate([own[f"{index}.{part}"] for part in parts])
                matrix = compensated(stacked, moments[INPUT_OF[name]], self.coarse[full])
                changed = ChainMap(parts_of(own, index, name, matrix), own)
                found[full] = self._from(index, judged, changed)
                self.progress("sensitivity", len(found), len(self.shapes))
            judged = layer(self.shape, own, index, judged)
        return found

    def _from(self, index: int, x: NDArray[Any], own: Mapping[str, NDArray[Any]]) -> float:
        """KL of the float model from x on, the input of a layer whose weights are own."""
        x = layer(self.shape, own, index, x)
        for later in range(index + 1, self.shape.layers):
            x = layer(self.shape, self.weights, later, x)
        return self._divergence(head(self.shape, self.weights, x, unseen))

    def _divergence(self, logits: NDArray[Any]) -> float:
        return divergence(self.truth, logits[self.judging[1]])

    def measured(self, coarse: Sequence[str], sensitivity: Mapping[str, float]) -> Chosen:
        """The whole model with these matrices in 4 bits, all others in 8."""
        forms = {name: self.coarse[name] if name in coarse else FINE for name in self.shapes}
        made = compensated_layers(
            self.shape,
            self.weights,
            self.embedding,
            self.rounding,
            forms.__getitem__,
            lambda what, done, of: self.progress(f"{len(coarse)} matrices in 4 bits", done, of),
        )
        x = rows(self.embedding, self.judging[0])
        for index in range(self.shape.layers):
            own = {name: self.weights[name] for name in self.weights if name.startswith(f"{index}.")}
            rough = [parts_of(own, index, name, made[f"{index}.{name}"]) for name in PARTS]
            x = layer(self.shape, ChainMap(*rough, own), index, x)
        top = {"final_norm": self.weights["final_norm"]}
        table = per_row(self.weights["head"], 8) if "head" in self.weights else self.embedding
        logits = head(self.shape, {**top, "embedding": table.dequantized()}, x, unseen)
        return Chosen(made, forms, sensitivity, self._divergence(logits), self.size(coarse))


def _size(weights: Weights, index: int, name: str) -> tuple[int, int]:
    rows = [weights[f"{index}.{part}"].shape for part in PARTS[name]]
    return sum(size[0] for size in rows), rows[0][1]
