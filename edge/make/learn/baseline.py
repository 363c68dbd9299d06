"""What keyword rules reach without a model: the yardstick beside the trained one.

The rules are made from the training templates alone. A word speaks for an intent as far as its templates use it and
others' do not (TF-IDF over intents); the values of closed slots are looked up, numbers, durations and times are read by
regular expressions, and an open slot is the longest run of words that the intent's templates do not use.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from edge.make.learn.grammar import BLANK, SLOT, Grammar
from edge.make.learn.sets import Example
from edge.make.learn.slots import ONES, spelled

NUMBERS = {spelled(number): number for number in range(101)}
NUMBER = r"(\d+|" + "|".join(sorted(NUMBERS, key=len, reverse=True)) + r")"
DURATION = re.compile(rf"\b(?:{NUMBER}|an?) ?(h|m|s)(?:our|in|ec)\w*\b")
SPOKEN = {"half an hour": "30m", "hour and a half": "90m", "quarter of an hour": "15m", "half a minute": "30s"}
CLOCK = re.compile(r"\b(\d{1,2})(?::(\d\d))?( ?[ap]m)?\b")
PAST = re.compile(rf"\b(half past|quarter past|quarter to) {NUMBER}\b")
MARKS = ".,?!:"


class Baseline:
    """`answer(prompt)` by keywords; the same grammar gives the same rules."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._words = {intent: _template_words(grammar, intent) for intent in grammar.intents}
        self._weights = _weights(self._words, {intent: len(rows) for intent, rows in grammar.templates.items()})

    def answer(self, prompt: str) -> str:
        """The intent that the words speak for most, and its slots."""
        words = [word.strip(MARKS) for word in prompt.split()]
        found = {name: value for name in self._grammar.slots if (value := self._value(name, prompt)) is not None}
        clues = [*words, *(f"{{{name}}}" for name in found)]
        scores = {intent: sum(weights.get(clue, 0.0) for clue in clues) for intent, weights in self._weights.items()}
        intent = max(sorted(scores), key=scores.__getitem__)
        values: dict[str, str] = {}
        for name, slot in self._grammar.slots.items():
            if slot.key in self._grammar.intents[intent] and f"{{{name}}}" in self._words[intent]:
                value = self._open(intent, words) if slot.kind == "open" else found.get(name)
                if value:
                    values.setdefault(slot.key, value)
        return " ".join([intent, *(f"{key}={values[key]}" for key in self._grammar.intents[intent] if key in values)])

    def _value(self, name: str, prompt: str) -> str | None:
        slot = self._grammar.slots[name]
        if slot.kind == "closed":
            said = [(len(form), value) for form, value in slot.forms if re.search(rf"\b{re.escape(form)}\b", prompt)]
            return max(said)[1] if said else None
        return {"number": _number, "duration": _duration, "time": _time}.get(slot.kind, lambda _: None)(prompt)

    def _open(self, intent: str, words: Sequence[str]) -> str:
        known = self._words[intent]
        runs: list[list[str]] = [[]]
        for word in words:
            if word in known:
                runs.append([])
            else:
                runs[-1].append(word)
        longest: list[str] = max(runs, key=len)
        return "_".join(longest)


def exact_match(baseline: Baseline, examples: Sequence[Example]) -> float:
    """Share of the examples whose answer is exactly right."""
    return sum(baseline.answer(prompt) == wanted for prompt, wanted in examples) / len(examples)


def _template_words(grammar: Grammar, intent: str) -> Counter[str]:
    """In how many templates of the intent each word, or slot as `{name}`, may occur."""
    counts: Counter[str] = Counter()
    for template in grammar.templates[intent]:
        counts.update({_clue(word) for text in template.texts() for word in text.split()} - {BLANK})
    return counts


def _clue(word: str) -> str:
    match = SLOT.search(word)
    return match[0] if match else word.strip(MARKS)


def _weights(words: Mapping[str, Counter[str]], templates: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """TF-IDF: share of the intent's templates with the word, times log(intents / intents that use it)."""
    intents_with = Counter(word for counts in words.values() for word in counts)
    rarity = {word: math.log(len(words) / count) for word, count in intents_with.items()}
    return {
        intent: {word: count / templates[intent] * rarity[word] for word, count in counts.items()}
        for intent, counts in words.items()
    }


def _number(prompt: str) -> str | None:
    found = re.findall(rf"\b{NUMBER}\b", prompt)
    best = max(found, key=len, default=None) if not any(text.isdigit() for text in found) else found[-1]
    if best is None:
        return None
    return best if best.isdigit() else str(NUMBERS[best])


def _duration(prompt: str) -> str | None:
    for said, value in SPOKEN.items():
        if said in prompt:
            return value
    match = DURATION.search(prompt)
    if match is None:
        return None
    number = match[1] or "1"
    return f"{number if number.isdigit() else NUMBERS[number]}{match[2]}"


def _time(prompt: str) -> str | None:
    if "noon" in prompt or "midnight" in prompt:
        return "12:00" if "noon" in prompt else "00:00"
    match = PAST.search(prompt)
    if match:
        hour = int(match[2]) if match[2].isdigit() else NUMBERS[match[2]]
        minute = {"half past": 30, "quarter past": 15, "quarter to": 45}[match[1]]
        return f"{(hour - (minute == 45) - 1) % 12 + 1:02}:{minute:02}"
    clocks = CLOCK.findall(prompt)
    if clocks:
        hour, minute_text, mark = clocks[-1]
        of_day = int(hour) if not mark else int(hour) % 12 + 12 * ("p" in mark)
        return f"{of_day:02}:{minute_text or '00'}"
    spoken = [word for word in prompt.split() if word in ONES[1:13]]
    return f"{ONES.index(spoken[-1]):02}:00" if spoken else None
