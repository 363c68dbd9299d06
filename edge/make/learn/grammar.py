"""A grammar of commands, read from data: templates with slots, and the sentences and answers drawn from them.

A template is a family: one way of putting a request. `{x}` is a slot, `<x>` a phrase, `(a|b)` a choice and `[a]` an
option. Its skeleton is the list of its words with every slot blanked to `_`; skeletons are what the split compares.
An answer is the intent and its slots: `light_set room=kitchen level=20`.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.make.learn.slots import Slot, Value, invented, slot
from firmware_tools.errors import BadFile

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Skeleton = tuple[str, ...]
BLANK = "_"
SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Word:
    """A word of a sentence; literal words (numbers, names to repeat) are never given typos."""

    text: str
    literal: bool = False


@dataclass(frozen=True)
class Sentence:
    """A command with its answer; skeleton and family say where it came from."""

    words: tuple[Word, ...]
    answer: str
    intent: str
    skeleton: Skeleton

    @property
    def prompt(self) -> str:
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True)
class Template:
    """A parsed template: a sequence whose items are text or a tuple of alternative sequences."""

    intent: str
    text: str
    parts: tuple[Any, ...]

    def draw(self, rng: random.Random) -> str:
        """One of the texts it stands for, slots still named."""
        return " ".join(_draw(self.parts, rng).split())

    def texts(self) -> Iterator[str]:
        """Every text it stands for, slots still named."""
        return (" ".join(text.split()) for text in _texts(self.parts))


@dataclass(frozen=True)
class Grammar:
    """Intents with the slots of their answers, slots, templates by intent, courtesies and noise words."""

    intents: Mapping[str, tuple[str, ...]]
    slots: Mapping[str, Slot]
    templates: Mapping[str, tuple[Template, ...]]
    heldout: Mapping[str, tuple[Template, ...]]
    courtesy: Mapping[str, tuple[str, ...]]
    noise: Mapping[str, tuple[str, ...]]

    def fill(self, intent: str, text: str, rng: random.Random, invent: float = 0.0) -> Sentence:
        """The sentence of a text whose slots are named: values drawn, answer made.

        invent: share of the longer words of open slots that an invented word replaces.
        """
        words: list[Word] = []
        values: dict[str, str] = {}
        for token in text.split():
            match = SLOT.search(token)
            if match is None:
                words.append(Word(token))
                continue
            value = self.slots[match[1]].sample(rng)
            if invent and self.slots[match[1]].kind == "open":
                value = _estranged(value, invent, rng)
            values[self.slots[match[1]].key] = value.answer
            words += _said(token, match, value)
        slots = [f"{key}={values[key]}" for key in self.intents[intent] if key in values]
        return Sentence(tuple(words), " ".join([intent, *slots]), intent, skeleton(text))


def _estranged(value: Value, share: float, rng: random.Random) -> Value:
    words = (invented(rng) if len(word) > 3 and rng.random() < share else word for word in value.said.split())
    said = " ".join(words)
    return Value(said, said.replace(" ", "_"), value.literal)


def _said(token: str, match: re.Match[str], value: Value) -> list[Word]:
    said = token[: match.start()] + value.said + token[match.end() :]
    return [Word(word, value.literal) for word in said.split()]


def skeleton(text: str) -> Skeleton:
    """The words of a text with slots blanked and punctuation at the ends of words dropped."""
    stripped = (word.strip(".,?!:") for word in SLOT.sub(BLANK, text).split())
    return tuple(word for word in stripped if word)


def load(grammar: Path, heldout: Path) -> Grammar:
    """Reads the two files of a grammar. Raises BadFile where one is no TOML or a template names what does not exist."""
    data, held = _toml(grammar), _toml(heldout)
    words = {name: tuple(text.split()) for name, text in data.get("words", {}).items()}
    intents = {name: tuple(keys) for name, keys in data.get("intents", {}).items()}
    slots = {name: slot(name, table, words) for name, table in data.get("slots", {}).items()}
    phrases = {name: str(text) for name, text in data.get("phrases", {}).items()}
    read = _Reader(phrases, frozenset(slots))
    trained = {intent: read.templates(intent, data.get("train", {}).get(intent, ())) for intent in intents}
    kept = {intent: read.templates(intent, held.get(intent, ())) for intent in intents}
    unknown = (set(data.get("train", {})) | set(held)) - set(intents)
    if unknown:
        raise BadFile(f"{grammar} has templates for {sorted(unknown)[0]!r}, which is no intent", "name it in [intents]")
    courtesy = {name: tuple(forms) for name, forms in data.get("courtesy", {}).items()}
    noise = {name: tuple(text.split()) for name, text in data.get("noise", {}).items()}
    return Grammar(intents, slots, trained, kept, courtesy, noise)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFile(f"{path} does not exist", "a recipe names its grammar beside itself") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} is not TOML: {error}") from error


@dataclass(frozen=True)
class _Reader:
    phrases: Mapping[str, str]
    slots: frozenset[str]

    def templates(self, intent: str, texts: Sequence[str]) -> tuple[Template, ...]:
        return tuple(self.template(intent, text) for text in texts)

    def template(self, intent: str, text: str) -> Template:
        try:
            full = re.sub(r"<(\w+)>", lambda match: self.phrases[match[1]], text)
            parts, rest = _parse(full, 0)
        except KeyError as error:
            raise BadFile(f"template {text!r} of {intent} names the unknown phrase {error}") from error
        missing = set(SLOT.findall(full)) - self.slots
        if missing or rest != len(full):
            wrong = f"names the unknown slot {sorted(missing)[0]}" if missing else "has an unmatched bracket"
            raise BadFile(f"template {text!r} of {intent} {wrong}")
        return Template(intent, text, parts)


def _parse(text: str, start: int) -> tuple[tuple[Any, ...], int]:
    """Reads a sequence up to an unmatched `)`, `]` or `|`, or the end."""
    parts: list[Any] = []
    at = start
    while at < len(text) and text[at] not in ")]|":
        if text[at] in "([":
            optional = text[at] == "["
            choices: list[tuple[Any, ...]] = [()] if optional else []
            at += 1
            while True:
                choice, at = _parse(text, at)
                choices.append(choice)
                if at >= len(text) or text[at] != "|":
                    break
                at += 1
            if at >= len(text) or text[at] != ("]" if optional else ")"):
                return tuple(parts), -1
            at += 1
            parts.append(tuple(choices))
        else:
            end = at
            while end < len(text) and text[end] not in "()[]|":
                end += 1
            parts.append(text[at:end])
            at = end
    return tuple(parts), at


def _draw(parts: tuple[Any, ...], rng: random.Random) -> str:
    return "".join(part if isinstance(part, str) else _draw(rng.choice(part), rng) for part in parts)


def _texts(parts: tuple[Any, ...]) -> Iterator[str]:
    if not parts:
        yield ""
        return
    first, rest = parts[0], parts[1:]
    heads = [first] if isinstance(first, str) else [text for choice in first for text in _texts(choice)]
    for tail in _texts(rest):
        for head in heads:
            yield head + tail
