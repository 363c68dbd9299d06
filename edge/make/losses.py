"""What quantization loses, matrix by matrix: of the weights, of what they compute, and of the model's answers.

For each matrix of a file: the error of its weights, the error of its outputs on calibration texts, both as a
signal-to-noise ratio in dB (10 log10 of the power of the exact numbers over that of the error, so that 6 dB are a bit),
and the KL divergence of the model in which it alone is quantized. Activations are those of the float model and stay
float: what a runtime loses by quantizing them as well comes on top, and `edge eval` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make.calibrate import Calibration
from edge.make.checkpoints import Checkpoint
from edge.make.convert import parameters
from edge.make.forward import INPUT_OF, embed, head, layer, log_softmax, rms_norm, unseen
from edge.make.quantize import STATIC, Matrix
from edge.make.quantize.layerwise import PARTS, parts_of
from edge.make.stored import StoredMatrices
from edge.terminal import track
from firmware_tools.errors import UserError
from firmware_tools.graph import Graph

# multiplications that a report may take for all its forward passes: a minute or two on one core
BUDGET = 1.5e12
FEWEST, MOST = 64, 1024  # tokens
# schemes that move factors from one matrix to the next, so that none can be held against the checkpoint's by itself
RESCALED = STATIC
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Loss:
    """Of one matrix in one scheme; None where nothing is lost at all. kl: nats a token, it alone quantized."""

    scheme: str
    matrix: str
    weight_db: float | None
    output_db: float | None
    kl: float


@dataclass(frozen=True)
class Losses:
    """Every matrix in every scheme, in the order they are computed; together: KL of all of a scheme's matrices."""

    losses: tuple[Loss, ...]
    together: Mapping[str, float]
    tokens: int
    source: str


def losses(checkpoint: Checkpoint, files: Mapping[str, Graph], texts: Calibration) -> Losses:
    """What each scheme's file lost of the checkpoint, on the first tokens of the texts (as many as time allows)."""
    names = matrices(checkpoint)
    batches = _batches(texts, _tokens(checkpoint, len(names) * len(files)))
    passes = _Passes(checkpoint, {scheme: StoredMatrices(model) for scheme, model in files.items()}, batches)
    layers = range(checkpoint.architecture.layers)
    for index in track(layers, "measuring what is lost", len(layers)):
        passes.advance(index)
    kl = passes.divergences()
    found = [
        Loss(
            scheme,
            name,
            decibels(*passes.weights[scheme, name]),
            decibels(*passes.outputs[scheme, name]),
            kl[scheme, name],
        )
        for scheme in files
        for name in names
    ]
    tokens = sum(batch.size for batch in batches)
    return Losses(tuple(found), {scheme: kl[scheme, ""] for scheme in files}, tokens, texts.source)


def refuse_rescaled(schemes: Iterable[str]) -> None:
    """UserError for a scheme whose matrices cannot be looked at one by one."""
    for scheme in schemes:
        if scheme in RESCALED:
            raise UserError(
                f"{scheme} rescales its matrices together: what each of them loses is not told",
                "`edge eval M.tflite --text FILE --reference FLOAT.tflite` tells what the whole model loses",
            )


def matrices(checkpoint: Checkpoint) -> list[str]:
    """Names of what is quantized: a tied head is the embedding itself, and goes by that name."""
    layers = range(checkpoint.architecture.layers)
    last = "head" if "head" in checkpoint.weights else "embedding"
    return [*(f"{index}.{name}" for index in layers for name in PARTS), last]


def decibels(signal: float, noise: float) -> float | None:
    """The ratio of two powers; None of no noise."""
    return 10 * math.log10(max(float(signal), 1e-30) / float(noise)) if noise > 0 else None


def _tokens(checkpoint: Checkpoint, passes: int) -> int:
    return int(min(max(BUDGET / (parameters(checkpoint) * passes), FEWEST), MOST))


def _batches(texts: Calibration, tokens: int) -> list[NDArray[Any]]:
    """The first so many tokens, texts of equal length together."""
    by_length: dict[int, list[NDArray[Any]]] = {}
    for text in texts.ids:
        part = text[: max(tokens, 2)]
        if tokens > 0:
            by_length.setdefault(part.size, []).append(part)
        tokens -= part.size
    return [np.stack(same) for same in by_length.values()]


class _Passes:
    """The float model, and beside it one for each scheme and matrix that has this matrix alone, and one that has all
    (under the name ""): all go through a layer together, so that its weights are read once.
    """

    def __init__(
        self, checkpoint: Checkpoint, stored: Mapping[str, StoredMatrices], batches: Sequence[NDArray[Any]]
    ) -> None:
        self.shape, self.source, self.stored, self.batches = (
            checkpoint.architecture,
            checkpoint.weights,
            stored,
            batches,
        )
        self.last = "head" if "head" in self.source else "embedding"
        # (scheme, matrix) -> powers of signal and noise, and the rows that reach the next layer
        self.weights: dict[tuple[str, str], tuple[float, float]] = {}
        self.outputs: dict[tuple[str, str], tuple[float, float]] = {}
        self.rows: dict[tuple[str, str], list[Array]] = {}
        table = {"embedding": np.asarray(self.source["embedding"], np.float32)}
        self.exact = [embed(table, ids) for ids in batches]
        for scheme, each in stored.items():
            self.rows[scheme, ""] = self.exact
            if self.last == "embedding":  # what is looked up is quantized with the head
                rounded = {"embedding": each.matrix("head", _shape(table["embedding"]))}
                self.rows[scheme, "embedding"] = [embed(rounded, ids) for ids in batches]
                self.rows[scheme, ""] = self.rows[scheme, "embedding"]

    def advance(self, index: int) -> None:
        """All through layer index; from here on also those that have one of its matrices."""
        own = {name: self.source[name] for name in self.source if name.startswith(f"{index}.")}
        exact = {
            f"{index}.{part}": np.concatenate([own[f"{index}.{each}"] for each in sources])
            for part, sources in PARTS.items()
        }
        for key, rows in self.rows.items():
            if key[1]:
                self.rows[key] = self._through(index, own, rows)
        for scheme, each in self.stored.items():
            every: dict[str, Array] = {}
            for name, matrix in exact.items():
                rounded = each.matrix(name, _shape(matrix))
                self._compare(scheme, name, matrix, rounded)
                changed = parts_of(own, index, name.partition(".")[2], Matrix(rounded))
                self.rows[scheme, name] = self._through(index, {**own, **changed}, self.exact)
                every.update(changed)
            self.rows[scheme, ""] = self._through(index, {**own, **every}, self.rows[scheme, ""])
        inputs = {f"{index}.{activation}": f"{index}.{name}" for name, activation in INPUT_OF.items()}

        def observe(name: str, activation: Array) -> None:
            if name in inputs:
                self._compare_outputs(inputs[name], exact[inputs[name]], activation)

        self.exact = [layer(self.shape, own, index, x, observe) for x in self.exact]

    def divergences(self) -> dict[tuple[str, str], float]:
        """(scheme, matrix) -> KL from the float model, nats a token; after the last layer."""
        own = {name: np.asarray(self.source[name], np.float32) for name in ("final_norm", self.last)}
        rounded = {scheme: each.matrix("head", _shape(own[self.last])) for scheme, each in self.stored.items()}
        for scheme, matrix in rounded.items():
            self._compare(scheme, self.last, own[self.last], matrix)
            self.rows.setdefault((scheme, self.last), self.exact)
        truths = []
        for x in self.exact:
            normed = rms_norm(x, own["final_norm"], self.shape.norm_eps)
            self._compare_outputs(self.last, own[self.last], normed)
            truths.append(log_softmax(head(self.shape, own, x, unseen)))
        found = {}
        for (scheme, name), rows in self.rows.items():
            weights = {**own, self.last: rounded[scheme]} if name in ("", self.last) else own
            total = 0.0
            for x, truth in zip(rows, truths, strict=True):
                q = log_softmax(head(self.shape, weights, x, unseen))
                total += float((np.exp(truth) * (truth - q)).sum())
            found[scheme, name] = max(total / sum(ids.size for ids in self.batches), 0.0)
        return found

    def _through(self, index: int, weights: Mapping[str, Array], rows: Sequence[Array]) -> list[Array]:
        return [layer(self.shape, weights, index, x) for x in rows]

    def _compare(self, scheme: str, name: str, exact: Array, rounded: Array) -> None:
        self.weights[scheme, name] = (float(np.square(exact).sum()), float(np.square(exact - rounded).sum()))

    def _compare_outputs(self, name: str, exact: Array, activation: Array) -> None:
        """Adds to the powers of a matrix's outputs those of activations [B, T, columns]."""
        rows = activation.reshape(-1, activation.shape[-1])
        signal = float(np.square(rows @ exact.T).sum())
        for scheme, each in self.stored.items():
            error = rows @ (each.matrix("head" if name == self.last else name, _shape(exact)) - exact).T
            before = self.outputs.get((scheme, name), (0.0, 0.0))
            self.outputs[scheme, name] = (before[0] + signal, before[1] + float(np.square(error).sum()))


def _shape(matrix: Array) -> tuple[int, int]:
    rows, columns = matrix.shape
    return rows, columns
