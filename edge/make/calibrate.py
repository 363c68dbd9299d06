"""What a model computes on when its activations are measured: texts of token ids, the same for the same seed.

Three sources: a text file, the prompts and answers of a task file, or what the model itself says when it is asked for
nothing: samples of its own distribution, which need no data and keep its secrets. Every text begins as the model's
texts do (with BOS where it has one) and with an empty context.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make.checkpoints import Checkpoint
from edge.make.forward import Cache, forward, log_softmax
from edge.tasks import read_task, read_text
from edge.tokenizer import Tokenizer, from_card
from firmware_tools.errors import BadFile

TOKENS = 2048  # of all texts together, where the caller does not say
TEXT = 128  # tokens of one text, at most
SAMPLES = "samples"  # the name of the model's own samples on a command line
HINT = "a UTF-8 text, or a .jsonl with a prompt and an answer on each line"
Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Calibration:
    """Texts as ids int32 [T], each of at least two tokens; source says in words where they come from."""

    ids: tuple[Ids, ...]
    source: str

    @property
    def tokens(self) -> int:
        """Of all texts together."""
        return sum(text.size for text in self.ids)


def calibration(checkpoint: Checkpoint, source: str = SAMPLES, seed: int = 0, tokens: int = TOKENS) -> Calibration:
    """What a command line names: `samples`, or a file (BadFile where it cannot be used)."""
    if source == SAMPLES:
        return own_samples(checkpoint, tokens, seed)
    path = Path(source)
    return (from_task if path.suffix == ".jsonl" else from_text)(checkpoint, path, tokens, seed)


def from_text(checkpoint: Checkpoint, path: Path, tokens: int = TOKENS, seed: int = 0) -> Calibration:
    """Pieces of a text, spread over all of it, in an order that the seed decides."""
    text = read_text(path)
    if not text.strip():
        raise BadFile(f"{path} is empty: there is nothing to calibrate with", HINT)
    tokenizer = from_card(checkpoint.tokenizer, checkpoint.card)
    ids, size = tokenizer.encode(text), _length(checkpoint) - 1
    pieces = [ids[at : at + size] for at in range(0, len(ids), size)]
    return _chosen(checkpoint, tokenizer, pieces, tokens, seed, str(path.name))


def from_task(checkpoint: Checkpoint, path: Path, tokens: int = TOKENS, seed: int = 0) -> Calibration:
    """The prompts of a task (.jsonl) in the model's template with their answers, in an order that the seed decides."""
    tokenizer = from_card(checkpoint.tokenizer, checkpoint.card)
    texts = []
    for example in read_task(path):
        begun = tokenizer.prompt(example.prompt)[0 if tokenizer.bos_id is None else 1 :]
        texts.append([*begun, *tokenizer.encode(example.answer), *tokenizer.stop_ids[:1]])
    return _chosen(checkpoint, tokenizer, texts, tokens, seed, str(path.name))


def own_samples(checkpoint: Checkpoint, tokens: int = TOKENS, seed: int = 0) -> Calibration:
    """Texts that the float model itself says, each token drawn from its distribution (temperature 1)."""
    shape, size = checkpoint.architecture, _length(checkpoint)
    count = -(-tokens // size)
    random = np.random.default_rng(seed)
    bos = from_card(checkpoint.tokenizer, checkpoint.card).bos_id
    ids = np.zeros((count, size), np.int32)
    ids[:, 0] = random.integers(0, shape.vocab_size, count) if bos is None else bos
    weights = dict(checkpoint.weights)  # read once, not once a token
    cache: Cache = {}
    for position in range(size - 1):
        logits = forward(shape, weights, ids[:, position : position + 1], cache=cache)[:, 0]
        ids[:, position + 1] = _drawn(logits, random)
    return Calibration(tuple(ids), f"{ids.size} tokens of its own samples, seed {seed}")


def _drawn(logits: NDArray[Any], random: np.random.Generator) -> Ids:
    """A token for each row of logits [B, V]."""
    chances = np.exp(log_softmax(logits)).cumsum(axis=1)
    points = random.random((len(chances), 1)) * chances[:, -1:]
    return np.asarray((chances <= points).sum(axis=1).clip(0, logits.shape[1] - 1), np.int32)


def _chosen(
    checkpoint: Checkpoint, tokenizer: Tokenizer, texts: list[list[int]], tokens: int, seed: int, source: str
) -> Calibration:
    """Texts in an order that the seed decides, until they have so many tokens."""
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    size, vocab_size = _length(checkpoint), checkpoint.architecture.vocab_size
    chosen: list[Ids] = []
    for index in np.random.default_rng(seed).permutation(len(texts)):
        text = np.array([*begin, *texts[index]][:size], np.int32)
        if text.size >= 2 and sum(other.size for other in chosen) < tokens:
            chosen.append(text)
    if not chosen:
        raise BadFile(f"{source} has no text of two tokens to calibrate with", HINT)
    if max(int(text.max()) for text in chosen) >= vocab_size:
        raise BadFile("the tokenizer has tokens that the model does not have", "give the tokenizer of this model")
    return Calibration(tuple(chosen), f"{sum(text.size for text in chosen)} tokens of {source}, seed {seed}")


def _length(checkpoint: Checkpoint) -> int:
    return min(TEXT, checkpoint.architecture.context)
