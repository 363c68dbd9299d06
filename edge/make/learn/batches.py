"""Examples as arrays: prompts padded on the left, answers on the right, batches of like length."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.make.learn.sets import Example
from edge.tokenizer import Tokenizer

Ids = NDArray[np.int32]
STEP = 8  # lengths are padded up to multiples of this, so that few shapes are compiled
CHUNK = 40  # batches drawn at a time and sorted by length


@dataclass(frozen=True)
class Batch:
    """prompt [B, P], begins [B], answer [B, A] int32, and weight [B, A] float32: 1 on an answer's tokens, else 0."""

    prompt: Ids
    begins: Ids
    answer: Ids
    weight: NDArray[np.float32]


def encode(tokenizer: Tokenizer, example: Example, rng: random.Random, cut: float) -> tuple[list[int], list[int]]:
    """Prompt and answer ids. With probability cut the prompt is cut in places, each part encoded for itself: a word is
    then met in other pieces than its usual ones, as after a typing mistake."""
    prompt, answer = example
    if rng.random() >= cut:
        return tokenizer.prompt(prompt), [*tokenizer.encode(answer), tokenizer.stop_ids[0]]
    places = sorted({0, len(prompt), *(rng.randrange(len(prompt) + 1) for _ in range(rng.randint(1, 4)))})
    text = tokenizer.before, *(prompt[a:b] for a, b in itertools.pairwise(places)), tokenizer.after
    ids = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    return ids + [id for part in text for id in tokenizer.encode(part)], [
        *tokenizer.encode(answer),
        tokenizer.stop_ids[0],
    ]


def pad(pairs: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """One batch of encoded examples."""
    width = -(-max(len(prompt) for prompt, _ in pairs) // STEP) * STEP
    depth = -(-max(len(answer) for _, answer in pairs) // STEP) * STEP
    prompts, answers = np.zeros((len(pairs), width), np.int32), np.zeros((len(pairs), depth), np.int32)
    weight = np.zeros((len(pairs), depth), np.float32)
    for row, (prompt, answer) in enumerate(pairs):
        prompts[row, width - len(prompt) :] = prompt
        answers[row, : len(answer)] = answer
        weight[row, : len(answer)] = 1
    begins = np.array([width - len(prompt) for prompt, _ in pairs], np.int32)
    return Batch(prompts, begins, answers, weight)


def batches(
    tokenizer: Tokenizer, examples: Iterable[Example], size: int, context: int, seed: int, cut: float
) -> Iterator[Batch]:
    """Batches of like length without end or until the examples end; what exceeds the context is left out."""
    rng = random.Random(f"batches {seed}")
    encoded = (encode(tokenizer, example, rng, cut) for example in examples)
    fitting = (pair for pair in encoded if len(pair[0]) + len(pair[1]) <= context)
    while chunk := list(itertools.islice(fitting, CHUNK * size)):
        chunk.sort(key=lambda pair: (-(-len(pair[0]) // STEP), len(pair[1])))
        groups = [chunk[at : at + size] for at in range(0, len(chunk), size)]
        rng.shuffle(groups)
        yield from map(pad, groups)
