"""How good the answers are, through any target: a text teacher-forced, or a task by exact match."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge import zoo
from edge.make.forward import log_softmax
from edge.measure import circumstances, figures
from edge.measure.describe import describe
from edge.measure.record import Accuracy, Outcomes, Record, Reference
from edge.run.generate import answer, sampler
from edge.run.target import Running
from edge.shares import wilson
from edge.tasks import Example, read_task, read_text
from edge.terminal import track
from firmware_tools import graph
from firmware_tools.errors import BadFile, UserError
from firmware_tools.sampler import Sampler

ANSWER_TOKENS = 64
GREEDY = Sampler(temperature=0.0, top_p=1.0, seed=0)
LogProbabilities = NDArray[np.float64]


def evaluate(
    running: Running,
    *,
    text: Path | None,
    task: str | None,
    reference: Running | Recorded | None = None,
    limit: int | None = None,
    tokens: int | None = None,
    **sampling: Any,
) -> Record:
    """What `edge eval` measures: a text where one is given, else a task; sampling as `generate.sampler` takes it."""
    if text is not None:
        return evaluate_text(running, text, limit=limit, reference=reference)
    assert task is not None
    path = zoo.find_task(task, str(running.model.card["name"]))
    return evaluate_task(running, path, name=path.stem, limit=limit, tokens=tokens, sampler=sampler(**sampling))


def evaluate_text(
    running: Running, path: Path, *, limit: int | None = None, reference: Running | Recorded | None = None
) -> Record:
    """Perplexity and bits per byte of a text; with a reference also KL (nats a token) and top-1 agreement.

    The text is cut into pieces that fill the context. Each is computed from an empty context, behind BOS where the
    model has one, and every token is predicted from the true ones before it (without BOS, all but the text's first).
    limit: only so many tokens from the start of the text.
    """
    if reference:
        _check_comparable(running, reference)
    steps, targets = _text_steps(running, path, limit)
    before = circumstances.look(running)
    expected: Iterator[LogProbabilities | None] = _distributions(reference, steps) if reference else repeat(None)
    outcomes = _Outcomes(len(steps))
    pairs = zip(_distributions(running, steps), expected, strict=False)
    for at, (p, truth) in enumerate(track(pairs, "reading", len(steps))):
        outcomes.keep(at, p, steps[at].target, truth)
    tokenizer, first_continues = running.tokenizer, running.model.card.get("bos_id") is None

    def bytes_of(part: slice) -> int:
        return len(tokenizer.decode_bytes(targets[part], continuation=first_continues or bool(part.start)))

    accuracy = outcomes.accuracy(bytes_of, _sha256(path), reference)
    return dataclasses.replace(describe(running, before), accuracy=accuracy)


def record_reference(running: Running, path: Path, limit: int | None, file: BinaryIO) -> Recorded:
    """The reference's logits for a text, kept in a file: for several models that are measured one after another."""
    steps, _ = _text_steps(running, path, limit)
    row_bytes = 0
    for step in track(steps, "reading with the reference", len(steps)):
        row_bytes = file.write(_logits(running, step).astype("<f4").tobytes())
    return Recorded(running.model, running.context, file, row_bytes)


@dataclass(frozen=True)
class Step:
    """A token to feed at a position, and the one that comes after it."""

    fed: int
    target: int
    position: int


@dataclass(frozen=True)
class Recorded:
    """A reference whose logits have been computed: rows of float32 in a file, one for each step of the text."""

    model: graph.Graph
    context: int
    file: BinaryIO
    row_bytes: int

    def rows(self) -> Iterator[NDArray[np.float32]]:
        self.file.seek(0)
        while row := self.file.read(self.row_bytes):
            yield np.frombuffer(row, "<f4")


def _text_steps(running: Running, path: Path, limit: int | None) -> tuple[list[Step], list[int]]:
    """The steps of a text in pieces of `context` steps, and the tokens that they predict."""
    bos = running.model.card.get("bos_id")
    ids = running.tokenizer.encode(read_text(path))[:limit]
    before = [*([] if bos is None else [bos]), *ids]
    steps = []
    for at, (fed, target) in enumerate(zip(before, before[1:], strict=False)):
        position = at % running.context
        steps.append(Step(bos if position == 0 and bos is not None else fed, target, position))
    if not steps:
        raise BadFile(f"{path} has no text to predict", "give a text of at least two tokens")
    return steps, [step.target for step in steps]


def _distributions(source: Running | Recorded, steps: Sequence[Step]) -> Iterator[LogProbabilities]:
    """The distribution after each step (float64 [V], nats)."""
    rows = source.rows() if isinstance(source, Recorded) else (_logits(source, step) for step in steps)
    yield from map(log_softmax, rows)


def _logits(running: Running, step: Step) -> NDArray[np.float32]:
    running.link.forward(step.fed, step.position)
    logits = running.link.logits()
    if not np.isfinite(logits).all():
        raise UserError(f"{running.target} computed a logit that is not a number, at position {step.position}")
    return logits


class _Outcomes:
    """What comes of every token of a text."""

    def __init__(self, count: int) -> None:
        self.nats, self.kl, self.agreed = np.zeros(count), np.zeros(count), np.zeros(count, np.int64)

    def keep(self, at: int, p: LogProbabilities, target: int, reference: LogProbabilities | None) -> None:
        self.nats[at] = -p[target]
        if reference is not None:
            self.kl[at] = (np.exp(reference) * (reference - p)).sum()
            self.agreed[at] = reference.argmax() == p.argmax()

    def accuracy(
        self, bytes_of: Callable[[slice], int], data_sha256: str, reference: Running | Recorded | None
    ) -> Accuracy:
        parts = figures.blocks(self.nats.size)
        outcomes = Outcomes(
            tokens=tuple(part.stop - part.start for part in parts),
            bytes=tuple(bytes_of(part) for part in parts),
            nats=tuple(float(self.nats[part].sum()) for part in parts),
            # rounding may leave it a hair below 0
            kl=tuple(max(float(self.kl[part].sum()), 0.0) for part in parts) if reference else None,
            agreed=tuple(int(self.agreed[part].sum()) for part in parts) if reference else None,
        )
        nats, data_bytes = float(self.nats.mean()), bytes_of(slice(0, self.nats.size))
        return Accuracy(
            perplexity=math.exp(nats),
            bits_per_byte=nats * self.nats.size / math.log(2) / data_bytes if data_bytes else None,
            tokens=self.nats.size,
            bytes=data_bytes,
            kl=max(float(self.kl.mean()), 0.0) if reference else None,
            top1=float(self.agreed.mean()) if reference else None,
            reference=Reference(str(reference.model.card["name"]), reference.model.sha256) if reference else None,
            data_sha256=data_sha256,
            intervals_95=figures.intervals(outcomes),
            outcomes=outcomes,
        )


def _check_comparable(running: Running, reference: Running | Recorded) -> None:
    """UserError unless both models read the same ids, and the reference as many positions."""
    if running.model.tokenizer != reference.model.tokenizer:
        raise UserError("the reference has another tokenizer", "KL compares two forms of the same model")
    if reference.context < running.context:
        raise UserError(
            f"the reference holds {reference.context} positions, fewer than the {running.context} of the model",
            f"--context {reference.context} makes them equal",
        )


def evaluate_task(
    running: Running,
    path: Path,
    *,
    name: str,
    limit: int | None = None,
    tokens: int | None = None,
    sampler: Sampler = GREEDY,
) -> Record:
    """Exact match of the answers to a task's prompts, with its Wilson interval.

    limit: the first so many of a fixed shuffle. An answer is what comes before the stop token, at most `tokens` (64)
    tokens; white space around it does not count.
    """
    examples = read_task(path)
    sample = shuffled(examples)[:limit]
    outcomes = ""
    before = circumstances.look(running)
    for example in track(sample, "asking", len(sample)):
        given = answer(running, example.prompt, tokens or ANSWER_TOKENS, sampler)
        outcomes += "1" if given.text.strip() == example.answer.strip() else "0"
    right = outcomes.count("1")
    accuracy = Accuracy(
        task=name,
        sampling=_sampling(sampler),
        exact_match=right / len(sample),
        interval_95=wilson(right, len(sample)),
        sample_size=len(sample),
        task_size=len(examples),
        data_sha256=_sha256(path),
        outcomes=Outcomes(right=outcomes),
    )
    return dataclasses.replace(describe(running, before), accuracy=accuracy)


def _sampling(sampler: Sampler) -> str:
    if sampler.temperature == 0:
        return "greedy"
    return f"temperature {sampler.temperature:g}, top-p {sampler.top_p:g}, seed {sampler.seed}"


def shuffled(examples: Sequence[Example]) -> list[Example]:
    """The examples in an order that only their content decides: by the sha256 of their JSON."""

    def key(example: Example) -> bytes:
        return hashlib.sha256(json.dumps([example.prompt, example.answer]).encode()).digest()

    return sorted(examples, key=key)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
