"""The slots of a command grammar: what a value is called in the answer, and how people say it.

A slot is one of five kinds. `closed`: a table of values, each with its spoken forms. `number`: low to high, in digits
or in words. `duration` and `time`: spoken in a few ways, answered as `20m` and `07:30`. `open`: any words, which the
answer repeats with `_` between them; `$x` in a pattern is a word of the list x, and `$any` an invented word.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firmware_tools.errors import BadFile

# fmt: off
ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ONSETS = ("b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z",
          "br", "ch", "cl", "dr", "fl", "gr", "pl", "sh", "st", "th", "tr")
VOWELS = ("a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ee", "oo", "ou")
CODAS = ("", "", "", "n", "r", "s", "l", "t", "m", "ck", "nd", "x")
# fmt: on
KINDS = ("closed", "number", "duration", "time", "open")


@dataclass(frozen=True)
class Value:
    """One filled slot: as it is said, as it is answered, and whether its letters are its meaning (no typos there)."""

    said: str
    answer: str
    literal: bool


@dataclass(frozen=True)
class Slot:
    """A slot of the grammar; key is its name in the answer, sample draws a value.

    words are those of an open slot's lists; forms are a closed slot's spoken forms, each with its value.
    """

    key: str
    kind: str
    sample: Callable[[random.Random], Value]
    words: tuple[str, ...] = ()
    forms: tuple[tuple[str, str], ...] = ()


def spelled(number: int) -> str:
    """0 to 100 in words, without hyphens: 25 is `twenty five`."""
    if number == 100:
        return "a hundred"
    if number < 20:
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f" {ONES[ones]}" if ones else "")


def slot(name: str, table: Mapping[str, Any], words: Mapping[str, Sequence[str]]) -> Slot:
    """The slot that a table of the grammar describes. Raises BadFile where its kind is unknown or a field is wrong."""
    kind = table.get("kind")
    makers: Mapping[str, Callable[[], Callable[[random.Random], Value]]] = {
        "closed": lambda: _closed(table),
        "number": lambda: _number(int(table["low"]), int(table["high"]), float(table.get("spelled", 0.0))),
        "duration": lambda: _duration,
        "time": lambda: _time,
        "open": lambda: _open(table["patterns"], words),
    }
    if kind not in makers:
        raise BadFile(f"slot {name} has the unknown kind {kind!r}", f"kinds: {', '.join(KINDS)}")
    try:
        sample = makers[str(kind)]()
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(f"slot {name} lacks or has a wrong {error}", "see edge/make/learn/slots.py") from error
    lists = [words[part[1:]] for pattern in table.get("patterns", ()) for part in pattern.split() if part[1:] in words]
    forms = [(form, value) for value, said in _values(table) for form in said] if kind == "closed" else []
    own_words = tuple(word for chosen in lists for word in chosen)
    return Slot(str(table.get("key", name)), str(kind), sample, own_words, tuple(forms))


def _closed(table: Mapping[str, Any]) -> Callable[[random.Random], Value]:
    choices = _values(table)

    def sample(rng: random.Random) -> Value:
        value, forms = rng.choice(choices)
        return Value(rng.choice(forms), value, False)

    return sample


def _values(table: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    return [(value, list(forms)) for value, forms in table.items() if value not in ("kind", "key")]


def _number(low: int, high: int, share_spelled: float) -> Callable[[random.Random], Value]:
    def sample(rng: random.Random) -> Value:
        number = rng.randint(low, high)
        if number % 5 and rng.random() < 0.4:  # people say round numbers more often
            number = min(high, max(low, 5 * round(number / 5)))
        if rng.random() < share_spelled:
            return Value(spelled(number), str(number), True)
        return Value(str(number), str(number), True)

    return sample


def _duration(rng: random.Random) -> Value:
    special = {"half an hour": "30m", "an hour and a half": "90m", "a quarter of an hour": "15m", "an hour": "1h"}
    special |= {"one hour": "1h", "one minute": "1m", "a minute": "1m", "half a minute": "30s"}
    if rng.random() < 0.12:
        said = rng.choice(sorted(special))
        return Value(said, special[said], True)
    unit, forms, high = rng.choice(
        [("m", ("minutes", "minutes", "min", "mins"), 90), ("s", ("seconds", "secs"), 90), ("h", ("hours",), 12)]
    )
    number = rng.randint(2, high)
    if number > 20 and rng.random() < 0.5:
        number = 5 * round(number / 5)
    said = spelled(number) if rng.random() < 0.12 else str(number)
    return Value(f"{said} {rng.choice(forms)}", f"{number}{unit}", True)


def _time(rng: random.Random) -> Value:
    hour, minute = rng.randint(1, 12), rng.choice((0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, rng.randrange(60)))
    afternoon = rng.random() < 0.4
    of_day = hour % 12 + 12 * afternoon
    mark = rng.choice(("pm", "pm", " pm") if afternoon else ("am", "am", " am"))
    mark = mark if mark[0] == " " or rng.random() < 0.5 else f" {mark}"
    way = rng.random()
    if way < 0.05:
        said, answer = rng.choice((("noon", "12:00"), ("midnight", "00:00")))
        return Value(said, answer, True)
    if way < 0.3:
        return Value(f"{hour}{mark}", f"{of_day:02}:00", True)
    if way < 0.55:
        return Value(f"{hour}:{minute:02}{mark}", f"{of_day:02}:{minute:02}", True)
    if way < 0.75:
        hour = rng.randrange(24)
        return Value(f"{hour}:{minute:02}", f"{hour:02}:{minute:02}", True)
    if way < 0.85:
        said = rng.choice((f"{hour} o'clock", f"{ONES[hour]} o'clock", f"{hour}", ONES[hour]))
        return Value(said, f"{hour:02}:00", True)
    phrase, minute, earlier = rng.choice((("half past", 30, 0), ("quarter past", 15, 0), ("quarter to", 45, 1)))
    said = f"{phrase} {rng.choice((str(hour), ONES[hour]))}"
    return Value(said, f"{(hour - earlier - 1) % 12 + 1:02}:{minute}", True)


def invented(rng: random.Random) -> str:
    """A word of one to three syllables that is in no list, so that a model learns to repeat what it does not know."""
    syllables = rng.choice((1, 2, 2, 3))
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables))


def _open(patterns: Sequence[str], words: Mapping[str, Sequence[str]]) -> Callable[[random.Random], Value]:
    for pattern in patterns:
        for part in pattern.split():
            name = part.removesuffix("'s").removeprefix("$")
            if part.startswith("$") and name != "any" and name not in words:
                raise KeyError(f"word list {name}")

    def sample(rng: random.Random) -> Value:
        said = " ".join(_word(part, words, rng) for part in rng.choice(patterns).split())
        return Value(said, said.replace(" ", "_"), True)

    return sample


def _word(part: str, words: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    if not part.startswith("$"):
        return part
    name = part.removesuffix("'s").removeprefix("$")
    word = invented(rng) if name == "any" else rng.choice(words[name])
    return word + ("'s" if part.endswith("'s") else "")
