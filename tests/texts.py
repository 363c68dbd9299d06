"""The two models that the gates are held on, as trained, each with over 2,000 tokens of its own kind of text and the
float64 oracle's logits for every one of them."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

import numpy as np
from oracle import Array, Decoder, sample

from edge import zoo
from edge.make import checkpoints
from edge.make.checkpoints import Checkpoint
from edge.tokenizer import from_card

LEAST = 2000
Texts = list[tuple[list[int], Array]]  # tokens, and the logits [tokens, vocab_size] after each


@cache
def stories(data: Path) -> tuple[Checkpoint, Texts]:
    """stories260K, and 2,048 tokens that it sampled itself."""
    checkpoint = checkpoints.load(data / "stories260K" / "stories260K.bin")
    return checkpoint, [sample(checkpoint, 256, seed) for seed in range(8)]


@cache
def shipped() -> tuple[Checkpoint, Texts]:
    """The shipped model, and commands of its test sets with their right answers."""
    checkpoint = checkpoints.load(zoo.folder() / "intent" / "checkpoint.npz")
    tokenizer = from_card(checkpoint.tokenizer, dict(checkpoint.card))
    lines = [line for path in sorted((zoo.folder() / "intent" / "tasks").glob("*.jsonl")) for line in path.open()]
    random.Random(0).shuffle(lines)
    texts: Texts = []
    for line in lines:
        example = json.loads(line)
        tokens = [*tokenizer.prompt(example["prompt"]), *tokenizer.encode(example["answer"])]
        decoder = Decoder(checkpoint)
        texts.append((tokens, np.array([decoder.step(token, at) for at, token in enumerate(tokens)])))
        if sum(len(tokens) for tokens, _ in texts) >= LEAST:
            break
    return checkpoint, texts
