"""How good a plain model's answers are, through any target: against labels, and against LiteRT on the same inputs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import inputs
from edge.measure import circumstances, figures
from edge.measure.describe import describe
from edge.measure.record import Accuracy, Outcomes, Record, Reference
from edge.run.plain import PlainRunning
from edge.shares import wilson
from edge.terminal import track
from firmware_tools.errors import UserError

Array = NDArray[Any]
CLASS_HINT = "labels are the numbers of the classes, 0 the first, one for each sample"


def evaluate_plain(
    running: PlainRunning,
    specs: Sequence[str],
    labels: Path | None,
    reference: PlainRunning | None = None,
    limit: int | None = None,
) -> Record:
    """Computes every sample and compares the first output.

    With labels: accuracy with its 95 % interval, macro-F1, and AUC of the scores. With a reference: in how many samples
    another class is the likeliest, and the largest difference between two real numbers of any output. limit: the first
    so many samples.
    """
    samples = inputs.many(specs, running.inputs, running.words)[:limit]
    truth = None if labels is None else _labels(labels, running, len(samples), limit)
    same = _for_reference(specs, reference, limit) if reference else []
    scores, others, difference = [], [], 0.0
    before = circumstances.look(running)
    for at, sample in enumerate(track(samples, "computing", len(samples))):
        found = _outputs(running, sample)
        scores.append(found[0].reshape(-1).astype(np.float64))
        if reference:
            expected = _outputs(reference, same[at])
            others.append(expected[0].reshape(-1).astype(np.float64))
            difference = max(difference, *(_furthest(a, b) for a, b in zip(found, expected, strict=True)))
    accuracy = Accuracy(sample_size=len(samples), data_sha256=_digest(samples, truth))
    if truth is not None:
        accuracy = dataclasses.replace(accuracy, **against_labels(np.array(scores), truth))
    if reference:
        changed = classes(np.array(scores)) != classes(np.array(others))
        accuracy = dataclasses.replace(
            accuracy,
            disagreement=int(changed.sum()) / len(samples),
            max_difference=difference,
            reference=Reference(reference.model.name, reference.model.sha256),
        )
    right = None if truth is None else figures.marks(classes(np.array(scores)) == truth)
    outcomes = Outcomes(right=right, changed=figures.marks(changed) if reference else None)
    accuracy = dataclasses.replace(accuracy, intervals_95=figures.intervals(outcomes), outcomes=outcomes)
    return dataclasses.replace(describe(running, before), accuracy=accuracy)


def _outputs(running: PlainRunning, sample: Sequence[Array]) -> list[Array]:
    running.invoke(sample)
    real = [inputs.as_real(running.output(i), border) for i, border in enumerate(running.outputs)]
    if not all(np.isfinite(array).all() for array in real):
        raise UserError(f"{running.target} computed a number that is not finite")
    return real


def _furthest(a: Array, b: Array) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())


def _for_reference(specs: Sequence[str], reference: PlainRunning, limit: int | None) -> list[tuple[Array, ...]]:
    """The same numbers as the reference stores them, which may have other scales or types."""
    return inputs.many(specs, reference.inputs, reference.words)[:limit]


def _labels(path: Path, running: PlainRunning, count: int, limit: int | None) -> Array:
    """int64 [count]; UserError where they cannot be classes of this model."""
    output = running.outputs[0]
    if output.size > 1 and any(border.shape == output.shape for border in running.inputs):
        raise UserError(
            "the model gives an output of its input's shape, as an autoencoder does: its numbers are no classes",
            "compare it with LiteRT: --reference host, without --labels",
        )
    given = inputs.numbers(str(path)).reshape(-1)
    if limit is not None and given.size > count:
        given = given[:count]
    if given.size != count:
        raise UserError(f"{path} has {given.size} labels for {count} samples", CLASS_HINT)
    most = max(output.size, 2)
    if (given != np.trunc(given)).any() or given.min() < 0 or given.max() >= most:
        raise UserError(f"{path} has a label that is no class from 0 to {most - 1}", CLASS_HINT)
    return given.astype(np.int64)


def classes(scores: Array) -> Array:
    """The likeliest class of each row [n, classes]; of one score a row, whether it is above a half."""
    return np.argmax(scores, axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0.5).astype(np.int64)


def against_labels(scores: Array, truth: Array) -> dict[str, Any]:
    """The figures of Accuracy that labels give."""
    found = classes(scores)
    right = int((found == truth).sum())
    return {
        "accuracy": right / truth.size,
        "interval_95": wilson(right, truth.size),
        "macro_f1": macro_f1(found, truth),
        "auc": auc(scores, truth),
        "classes": max(scores.shape[1], 2),
    }


def macro_f1(found: Array, truth: Array) -> float:
    """The mean over all classes that occur, in labels or answers, of 2 right / (found + true)."""
    scores = []
    for label in np.union1d(found, truth):
        right = int(((found == label) & (truth == label)).sum())
        scores.append(2 * right / (int((found == label).sum()) + int((truth == label).sum())))
    return float(np.mean(scores))


def auc(scores: Array, truth: Array) -> float | None:
    """How often a sample of a class has the larger score of it than one of another class, ties counting half.

    Of two classes that of the second; of more, the mean over those that occur (one against the rest). None where only
    one class occurs.
    """
    labels = np.unique(truth)
    if labels.size < 2:
        return None
    if scores.shape[1] <= 2:
        return _auc(scores[:, -1], truth == 1)
    return float(np.mean([_auc(scores[:, label], truth == label) for label in labels]))


def _auc(scores: Array, positive: Array) -> float:
    """By the sum of ranks (Mann and Whitney, 1947)."""
    order = np.argsort(scores, kind="stable")
    _, first, counts = np.unique(scores[order], return_index=True, return_counts=True)
    ranks = np.empty(scores.size)
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    ones = int(positive.sum())
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * (scores.size - ones)))


def _digest(samples: Sequence[Sequence[Array]], truth: Array | None) -> str:
    """sha256 over what was computed: every input as the model stores it, and the labels."""
    digest = hashlib.sha256()
    for sample in samples:
        for array in sample:
            digest.update(array.tobytes())
    digest.update(b"" if truth is None else truth.astype("<i8").tobytes())
    return digest.hexdigest()
