"""Typing mistakes from a seeded generator: a letter dropped, doubled, swapped with the next, or hit beside its key."""

from __future__ import annotations

import random
from collections.abc import Sequence

from edge.make.learn.grammar import Word

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbours() -> dict[str, str]:
    """Each letter's neighbours on a QWERTY keyboard: left, right, and the keys above and below."""
    near: dict[str, str] = {}
    for y, row in enumerate(ROWS):
        for x, letter in enumerate(row):
            beside = row[max(0, x - 1) : x] + row[x + 1 : x + 2]
            above = ROWS[y - 1][x : x + 2] if y else ""
            below = ROWS[y + 1][max(0, x - 1) : x + 1] if y + 1 < len(ROWS) else ""
            near[letter] = beside + above + below
    return near


NEAR = _neighbours()


def mistype(word: str, rng: random.Random) -> str:
    """The word with one mistake at a letter; a word without letters is returned as it is."""
    places = [at for at, letter in enumerate(word) if letter in NEAR]
    if not places:
        return word
    at = rng.choice(places)
    kind = rng.choice(("drop", "double", "swap", "near"))
    if kind == "drop":
        return word[:at] + word[at + 1 :]
    if kind == "double":
        return word[:at] + word[at] + word[at:]
    if kind == "swap" and at + 1 < len(word) and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + rng.choice(NEAR[word[at]]) + word[at + 1 :]


def add_typos(words: Sequence[Word], count: int, rng: random.Random, shortest: int = 4) -> tuple[Word, ...]:
    """Mistypes up to count words of at least `shortest` letters; literal words, such as names and numbers, stay."""
    places = [at for at, word in enumerate(words) if not word.literal and len(word.text) >= shortest]
    chosen = set(rng.sample(places, min(count, len(places))))
    return tuple(Word(mistype(word.text, rng)) if at in chosen else word for at, word in enumerate(words))
