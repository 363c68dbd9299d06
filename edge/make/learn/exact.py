"""Exact match on the host in float32: what share of the prompts a network answers word for word, greedily."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.make.learn.batches import pad
from edge.make.learn.sets import Example
from edge.tokenizer import Tokenizer

LONGEST = 32  # tokens of an answer, at most


def answers(network: Any, tokenizer: Tokenizer, prompts: Sequence[str]) -> list[str]:
    """The greedy answer to each prompt; all prompts are answered side by side, without a cache."""
    ids = [tokenizer.prompt(prompt) for prompt in prompts]
    batch = pad([(prompt, [0]) for prompt in ids])
    stop = tokenizer.stop_ids[0]
    said = np.zeros((len(ids), 0), np.int32)
    for _ in range(LONGEST):
        room = np.concatenate([said, np.zeros((len(ids), 1), np.int32)], axis=1)
        logits = np.asarray(network((batch.prompt, batch.begins, room)))[:, -1]
        said = np.concatenate([said, logits.argmax(axis=1).astype(np.int32)[:, None]], axis=1)
        if (said == stop).any(axis=1).all():
            break
    texts = [row[: row.index(stop)] if stop in row else row for row in said.tolist()]
    return [tokenizer.decode(row, continuation=True) for row in texts]


def exact_match(network: Any, tokenizer: Tokenizer, examples: Sequence[Example]) -> float:
    """Share of the examples whose answer is exactly right."""
    given = answers(network, tokenizer, [prompt for prompt, _ in examples])
    return sum(answer == wanted for answer, (_, wanted) in zip(given, examples, strict=True)) / len(examples)
