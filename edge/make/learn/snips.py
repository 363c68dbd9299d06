"""SNIPS (13,084 sentences with intent and slots, CC0) as prompts and answers: a second task for the same recipe.

A folder has `train`, `dev` and `test`, each with `seq.in`, `seq.out` (BIO tags) and `label`. The answer is the intent,
then each slot in the order of the sentence: `PlayMusic artist=westbam service=google_music`.
`python -m edge.make.learn.snips RECIPE FOLDER OUTPUT.npz` trains by a recipe, and prints the score.
"""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge.make.learn.grammar import Word
from edge.make.learn.sets import Example, Noise
from edge.make.learn.typos import add_typos
from firmware_tools.errors import BadFile


def answer(words: Sequence[str], tags: Sequence[str], intent: str) -> str:
    """The answer of a tagged sentence."""
    slots: list[tuple[str, list[str]]] = []
    for word, tag in zip(words, tags, strict=True):
        kind, _, name = tag.partition("-")
        if kind == "B" or (kind == "I" and (not slots or slots[-1][0] != name)):
            slots.append((name, [word]))
        elif kind == "I":
            slots[-1][1].append(word)
    return " ".join([intent, *(f"{name}={'_'.join(value)}" for name, value in slots)])


def read(folder: Path) -> tuple[tuple[tuple[Word, ...], str], ...]:
    """(words, answer) of each sentence of one part; words within slots are literal."""
    try:
        sentences, tags, labels = (
            (folder / name).read_text(encoding="utf-8").splitlines() for name in ("seq.in", "seq.out", "label")
        )
        rows = [(a.split(), b.split(), c.strip()) for a, b, c in zip(sentences, tags, labels, strict=True)]
        return tuple(
            (tuple(Word(word, tag != "O") for word, tag in zip(a, b, strict=True)), answer(a, b, c)) for a, b, c in rows
        )
    except (OSError, ValueError) as error:
        raise BadFile(f"{folder} is not a part of SNIPS: {error}", "it has seq.in, seq.out and label") from error


def stream(folder: Path, noise: Noise, seed: int) -> Iterator[Example]:
    """The training sentences in a new order each time round, with the recipe's typing mistakes."""
    rows, rng = list(read(folder / "train")), random.Random(f"snips {seed}")
    while True:
        rng.shuffle(rows)
        for words, wanted in rows:
            count = rng.randint(1, noise.most_typos) if rng.random() < noise.typo else 0
            yield " ".join(word.text for word in add_typos(words, count, rng, shortest=3)), wanted


def test_set(folder: Path) -> tuple[Example, ...]:
    """The 700 test sentences."""
    return tuple((" ".join(word.text for word in words), wanted) for words, wanted in read(folder / "test"))


def main(recipe_path: str, folder: str, output: str, steps: str = "") -> None:
    """Trains by the recipe, but on SNIPS, keeps the weights, and prints the exact match on its test sentences."""
    from edge.make.learn import exact, recipe, train

    plan = recipe.load(Path(recipe_path))
    plan = dataclasses.replace(plan, data=dataclasses.replace(plan.data, snips=str(Path(folder).resolve())))
    if steps:
        plan = dataclasses.replace(plan, schedule=dataclasses.replace(plan.schedule, steps=int(steps)))
    checkpoint = train.follow(
        plan, Path(output), lambda step, of, loss: print(f"{step}/{of} loss {loss:.4f}", file=sys.stderr)
    )
    whole, intent = exact.exact_match(checkpoint, test_set(Path(folder)))
    print(f"SNIPS, 700 test sentences: exact match {whole:.3f}, intent {intent:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])  # RECIPE FOLDER OUTPUT.npz [STEPS]
