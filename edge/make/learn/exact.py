"""Exact match on the host in float32: what share of the prompts a checkpoint answers word for word, greedily."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge.make.checkpoints import Checkpoint
from edge.make.learn.batches import pad
from edge.make.learn.sets import Example
from edge.tokenizer import from_card


def answers(checkpoint: Checkpoint, prompts: Sequence[str]) -> list[str]:
    """The greedy answer to each prompt, as long as the context allows; all prompts are answered side by side."""
    import tensorflow as tf

    from edge.make.learn.network import restore

    network, tokenizer = restore(checkpoint), from_card(checkpoint.tokenizer, checkpoint.card)
    compute = tf.function(network, reduce_retracing=True)
    ids = [tokenizer.prompt(prompt) for prompt in prompts]
    batch = pad([(prompt, [0]) for prompt in ids])
    said = np.zeros((len(ids), 0), np.int32)
    room = checkpoint.architecture.context - np.array([len(prompt) for prompt in ids])  # tokens, for each answer
    stopped = room <= 0
    while not stopped.all():
        answer = np.concatenate([said, np.zeros((len(ids), 1), np.int32)], axis=1)
        logits = np.asarray(compute((tf.constant(batch.prompt), tf.constant(batch.begins), tf.constant(answer))))
        said = np.concatenate([said, logits[:, -1].argmax(axis=1).astype(np.int32)[:, None]], axis=1)
        stopped |= np.isin(said[:, -1], tokenizer.stop_ids) | (said.shape[1] >= room)
    texts = []
    for row, most in zip(said.tolist(), room, strict=True):
        end = next((at for at, id in enumerate(row) if id in tokenizer.stop_ids), max(0, most))
        texts.append(tokenizer.decode(row[:end], continuation=True))
    return texts


def exact_match(checkpoint: Checkpoint, examples: Sequence[Example]) -> tuple[float, float]:
    """Share of the examples whose answer is exactly right, and whose first word, the intent, is."""
    given = answers(checkpoint, [prompt for prompt, _ in examples])
    pairs = [(answer, wanted) for answer, (_, wanted) in zip(given, examples, strict=True)]
    whole = sum(answer == wanted for answer, wanted in pairs)
    intent = sum(answer.split(" ")[0] == wanted.split(" ")[0] for answer, wanted in pairs)
    return whole / len(pairs), intent / len(pairs)
