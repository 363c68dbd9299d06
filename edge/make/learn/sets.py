"""Sentences from a grammar: the endless training stream, and the three test sets that are never trained on.

`seen`: unseen sentences of known phrasing. `held-out`: phrasing of the held-out templates, which no training sentence
is near (see split.py). `typo`: known phrasing with one or two typing mistakes. All come from seeded generators.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.make.learn.grammar import Grammar, Sentence, Template, Word, skeleton
from edge.make.learn.slots import invented
from edge.make.learn.split import Fence, heldout_skeletons
from edge.make.learn.typos import add_typos
from firmware_tools.errors import BadFile

NAMES = ("seen", "held-out", "typo")
SECOND_TYPO = 1 / 3  # share of the typo set's sentences that have two mistakes
MOST_DRAWS = 100  # per sentence wanted, before an intent counts as used up
HINT = "a task file has a JSON object a line, with prompt and answer"
Example = tuple[str, str]  # prompt, answer


@dataclass(frozen=True)
class Noise:
    """How often a training sentence is changed, and how: shares of sentences, for drop_word of words.

    All shares grow from 0 over the first `ramp` sentences: a model learns to copy sooner from clean ones. Intents with
    an open slot are drawn `copying` times as often as others, and `invent` is the share of the words there that an
    invented word replaces: both for learning to copy, not to remember.
    """

    copying: int = 2
    invent: float = 0.2

    ramp: int = 60000
    courtesy: float = 0.3
    remark: float = 0.08
    move: float = 0.1
    drop: float = 0.25
    drop_word: float = 0.4
    fill: float = 0.15
    typo: float = 0.4
    most_typos: int = 3
    punctuation: float = 0.15


class Phrasing:
    """Draws sentences of known phrasing; none of them is as near to a held-out skeleton as the fence forbids."""

    def __init__(self, grammar: Grammar, courtesy: float) -> None:
        self.grammar = grammar
        self.courtesy = courtesy
        self._fence = Fence(heldout_skeletons(grammar))

    def allows(self, text: str) -> bool:
        """Whether a text whose slots are named is far enough from all held-out phrasing."""
        return self._fence.allows(skeleton(text))

    def draw(
        self,
        intent: str,
        rng: random.Random,
        change: Callable[[str, random.Random], str] = lambda text, _: text,
        invent: float = 0.0,
    ) -> Sentence:
        """A sentence of an intent; change edits the text while its slots are still named. invent: see Noise."""
        while True:
            template = rng.choice(self.grammar.templates[intent])
            text = change(self._polite(template.draw(rng), rng), rng)
            if self.allows(text):
                return self.grammar.fill(intent, text, rng, invent)

    def _polite(self, text: str, rng: random.Random) -> str:
        forms = self.grammar.courtesy
        if rng.random() < self.courtesy:
            text = f"{rng.choice(forms['before'])} {text}"
        if rng.random() < self.courtesy / 2:
            text = f"{rng.choice(forms['call'])} {text}"
        if rng.random() < self.courtesy / 2:
            text = f"{text} {rng.choice(forms['after'])}"
        return text


class Stream:
    """The endless stream of training examples, the same for the same seed; prompts in `without` never occur."""

    def __init__(self, grammar: Grammar, noise: Noise, seed: int, without: Iterable[str] = ()) -> None:
        self._grammar, self._noise = grammar, noise
        self._phrasing = Phrasing(grammar, noise.courtesy)
        self._rng = random.Random(f"train {seed}")
        self._without = frozenset(without)
        self._intents = [name for name in sorted(grammar.intents) for _ in range(self._times(name))]
        self._drawn = 0
        self._vocabulary = _vocabulary(grammar)

    def _times(self, intent: str) -> int:
        keys = {slot.key for slot in self._grammar.slots.values() if slot.kind == "open"}
        return self._noise.copying if keys & set(self._grammar.intents[intent]) else 1

    def __iter__(self) -> Iterator[Sentence]:
        while True:
            self._drawn += 1
            intent = self._rng.choice(self._intents)
            sentence = self._typed(self._phrasing.draw(intent, self._rng, self._changed, self._noise.invent))
            if sentence.prompt not in self._without:
                yield sentence

    def _some(self, share: float) -> bool:
        """True for a share of the calls; less often at the beginning."""
        return self._rng.random() < share * min(1.0, self._drawn / max(1, self._noise.ramp))

    def _changed(self, text: str, rng: random.Random) -> str:
        """Word order, remarks, missing and idle words: changes of the skeleton, which the fence sees."""
        noise, words = self._noise, text.split()
        if self._some(noise.move):
            words = _moved(words, rng)
        if self._some(noise.drop):
            droppable = self._grammar.noise["droppable"]
            kept = [word for word in words if word not in droppable or rng.random() >= noise.drop_word]
            words = kept or words
        if self._some(noise.fill):
            for _ in range(rng.choice((1, 1, 2))):
                words.insert(rng.randint(0, len(words)), self._idle(rng))
        if self._some(noise.remark):
            remark = rng.choice(self._grammar.courtesy["remark"]) + rng.choice((",", ",", " so", " and", ""))
            words = [*remark.split(), *words] if rng.random() < 0.7 else [*words, ",", *remark.strip(",").split()]
        if rng.random() < 0.5:
            words = [word.strip(",") for word in words]
        return " ".join(word for word in words if word)

    def _idle(self, rng: random.Random) -> str:
        way = rng.random()
        if way < 0.4:
            return rng.choice(self._grammar.noise["fillers"])
        return invented(rng) if way < 0.7 else rng.choice(self._vocabulary)

    def _typed(self, sentence: Sentence) -> Sentence:
        """Typing mistakes, end punctuation, apostrophes left out: changes of letters."""
        noise, rng, words = self._noise, self._rng, sentence.words
        if self._some(noise.typo):
            words = add_typos(words, rng.randint(1, noise.most_typos), rng, shortest=3)
        if self._some(noise.punctuation):
            words = (*words[:-1], Word(words[-1].text + rng.choice(".?!."), words[-1].literal))
        if self._some(noise.punctuation):
            words = tuple(word if word.literal else Word(word.text.replace("'", "")) for word in words)
        return dataclasses.replace(sentence, words=words)


def _vocabulary(grammar: Grammar) -> tuple[str, ...]:
    """Words of the open slots' lists: harmless in a command, as they decide no intent."""
    return tuple(sorted({word for slot in grammar.slots.values() for word in slot.words}))


def _moved(words: list[str], rng: random.Random) -> list[str]:
    """`in the {room}` taken to the front or the end."""
    if "{room}" not in words:
        return words
    end = words.index("{room}") + 1
    start = end - 1
    while start > 0 and words[start - 1] in ("in", "inside", "the", "my", "our"):
        start -= 1
    phrase, rest = words[start:end], words[:start] + words[end:]
    if words[start] not in ("in", "inside"):
        return words
    return [*phrase, *rest] if rng.random() < 0.5 else [*rest, *phrase]


def test_sets(grammar: Grammar, seed: int, each: int, courtesy: float) -> dict[str, tuple[Example, ...]]:
    """The three test sets, no prompt twice: `each` sentences of every intent in each, or all of an intent's where its
    templates have no slots and so fewer sentences."""
    known = Phrasing(grammar, courtesy)
    taken: set[str] = set()

    def kept_out(intent: str, rng: random.Random) -> Sentence:
        template: Template = rng.choice(grammar.heldout[intent])
        return grammar.fill(intent, template.draw(rng), rng)

    def mistyped(intent: str, rng: random.Random) -> Sentence:
        while True:
            sentence = known.draw(intent, rng)
            words = add_typos(sentence.words, 2 if rng.random() < SECOND_TYPO else 1, rng)
            if words != sentence.words:
                return dataclasses.replace(sentence, words=words)

    draws = {"seen": known.draw, "held-out": kept_out, "typo": mistyped}
    return {name: tuple(_distinct(grammar, draws[name], f"{name} {seed}", each, taken)) for name in NAMES}


def _distinct(
    grammar: Grammar, draw: Callable[[str, random.Random], Sentence], seed: str, each: int, taken: set[str]
) -> Iterator[Example]:
    rng = random.Random(seed)
    for intent in sorted(grammar.intents):
        count = 0
        for _ in range(MOST_DRAWS * each):
            sentence = draw(intent, rng)
            if sentence.prompt not in taken:
                taken.add(sentence.prompt)
                count += 1
                yield sentence.prompt, sentence.answer
            if count == each:
                break


def write(path: Path, examples: Iterable[Example]) -> None:
    """A task file: one JSON object a line, `prompt` and `answer`."""
    lines = (json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in examples)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def read(path: Path) -> tuple[Example, ...]:
    """The examples of a task file. Raises BadFile where a line is not an object with `prompt` and `answer`."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        return tuple((str(row["prompt"]), str(row["answer"])) for row in rows)
    except FileNotFoundError as error:
        raise BadFile(f"{path} does not exist", HINT) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadFile(f"{path} is not a task file: {error}", HINT) from error
