"""How good the answers are, through any target: a text teacher-forced, or a task by exact match."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import zoo
from edge.measure.describe import describe
from edge.measure.record import Accuracy, Record, Reference
from edge.run.generate import answer, sampler
from edge.run.target import Running
from edge.terminal import track
from firmware_tools.errors import BadFile, UserError
from firmware_tools.sampler import Sampler

Z_95 = 1.959964  # standard normal quantile of .975
ANSWER_TOKENS = 64
GREEDY = Sampler(temperature=0.0, top_p=1.0, seed=0)
LogProbabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Example:
    """One line of a task: `prompt` is asked, `answer` is the only right text."""

    prompt: str
    answer: str


def evaluate(
    running: Running,
    *,
    text: Path | None,
    task: str | None,
    reference: Running | None = None,
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
    running: Running, path: Path, *, limit: int | None = None, reference: Running | None = None
) -> Record:
    """Perplexity and bits per byte of a text; with a reference also KL (nats a token) and top-1 agreement.

    The text is cut into pieces that fill the context. Each is computed from an empty context, behind BOS where the
    model has one, and every token is predicted from the true ones before it (without BOS, all but the text's first).
    limit: only so many tokens from the start of the text.
    """
    if reference:
        _check_comparable(running, reference)
    tokenizer, bos = running.tokenizer, running.model.card.get("bos_id")
    ids = tokenizer.encode(_read_text(path))[:limit]
    targets = ids if bos is not None else ids[1:]
    if not targets:
        raise BadFile(f"{path} has no text to predict", "give a text of at least two tokens")
    totals = _Totals()
    for fed, target, position in track(_steps(ids, bos, running.context), "reading", len(targets)):
        p = _log_probabilities(running, fed, position)
        totals.add(p, target, _log_probabilities(reference, fed, position) if reference else None)
    data_bytes = len(tokenizer.decode_bytes(targets, continuation=bos is None))
    return dataclasses.replace(describe(running), accuracy=totals.accuracy(data_bytes, _sha256(path), reference))


def _steps(ids: Sequence[int], bos: int | None, context: int) -> Iterator[tuple[int, int, int]]:
    """(token to feed, token to predict, position) for every token of the text, in pieces of `context` steps."""
    before = [*([] if bos is None else [bos]), *ids]
    for at, (fed, target) in enumerate(zip(before, before[1:], strict=False)):
        position = at % context
        yield (bos if position == 0 and bos is not None else fed), target, position


def _log_probabilities(running: Running, token: int, position: int) -> LogProbabilities:
    """The model's distribution after token at position (float64 [V], nats)."""
    running.link.forward(token, position)
    logits = running.link.logits().astype(np.float64)
    if not np.isfinite(logits).all():
        raise UserError(f"{running.target} computed a logit that is not a number, at position {position}")
    shifted = logits - logits.max()
    result: LogProbabilities = shifted - np.log(np.exp(shifted).sum())
    return result


@dataclass
class _Totals:
    """Sums over the tokens of a text."""

    tokens: int = 0
    nats: float = 0.0
    kl: float = 0.0
    agreed: int = 0

    def add(self, p: LogProbabilities, target: int, reference: LogProbabilities | None) -> None:
        self.tokens += 1
        self.nats -= float(p[target])
        if reference is not None:
            self.kl += float((np.exp(reference) * (reference - p)).sum())
            self.agreed += int(reference.argmax() == p.argmax())

    def accuracy(self, data_bytes: int, data_sha256: str, reference: Running | None) -> Accuracy:
        compared = reference is not None
        return Accuracy(
            perplexity=math.exp(self.nats / self.tokens),
            bits_per_byte=self.nats / math.log(2) / data_bytes if data_bytes else None,
            tokens=self.tokens,
            bytes=data_bytes,
            kl=max(self.kl / self.tokens, 0.0) if compared else None,  # rounding may leave it a hair below 0
            top1=self.agreed / self.tokens if compared else None,
            reference=Reference(str(reference.model.card["name"]), reference.model.sha256) if reference else None,
            data_sha256=data_sha256,
        )


def _check_comparable(running: Running, reference: Running) -> None:
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
    right = 0
    for example in track(sample, "asking", len(sample)):
        given = answer(running, example.prompt, tokens or ANSWER_TOKENS, sampler)
        right += given.text.strip() == example.answer.strip()
    accuracy = Accuracy(
        task=name,
        sampling=_sampling(sampler),
        exact_match=right / len(sample),
        interval_95=wilson(right, len(sample)),
        sample_size=len(sample),
        task_size=len(examples),
        data_sha256=_sha256(path),
    )
    return dataclasses.replace(describe(running), accuracy=accuracy)


def _sampling(sampler: Sampler) -> str:
    if sampler.temperature == 0:
        return "greedy"
    return f"temperature {sampler.temperature:g}, top-p {sampler.top_p:g}, seed {sampler.seed}"


def wilson(right: int, size: int) -> tuple[float, float]:
    """The 95 % score interval of a share (E. B. Wilson, 1927): honest near 0 and 1, where the usual one is not."""
    share, z2 = right / size, Z_95 * Z_95
    middle = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = Z_95 / (1 + z2 / size) * math.sqrt(share * (1 - share) / size + z2 / (4 * size * size))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def shuffled(examples: Sequence[Example]) -> list[Example]:
    """The examples in an order that only their content decides: by the sha256 of their JSON."""

    def key(example: Example) -> bytes:
        return hashlib.sha256(json.dumps([example.prompt, example.answer]).encode()).digest()

    return sorted(examples, key=key)


def read_task(path: Path) -> list[Example]:
    """The examples of a .jsonl file: an object with `prompt` and `answer` on every line."""
    examples = []
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            data: Any = json.loads(line)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in ("prompt", "answer")):
            raise BadFile(
                f'{path} line {number} is not {{"prompt": "…", "answer": "…"}}', "one such object on each line"
            )
        examples.append(Example(data["prompt"], data["answer"]))
    if not examples:
        raise BadFile(f"{path} has no examples", 'one {"prompt": "…", "answer": "…"} on each line')
    return examples


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}", "give the path of a UTF-8 text") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
