"""actions.toml -> C: what a board does once the model has answered.

    [[action]]
    answer = "light_on room=kitchen"     # the answer's first word, and others that must be among the rest
    pin = "LED"                          # a name of the board's pins, or a list of them
    do = "on"                            # on, off, toggle or pulse (for `ms` milliseconds, 500 by default)

The first action that matches an answer is carried out, and no other: special ones come before general ones. The C is
`on_answer` of runtime/answer.h; who needs more writes that function, and gives the .c file instead.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from firmware_tools.boards import Board
from firmware_tools.c_text import c_string
from firmware_tools.compile import Sources
from firmware_tools.errors import BadFile, UserError
from firmware_tools.graph import Graph

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "actions.c"  # its name in an image's sources
KEYS = {"answer": str, "pin": (str, list), "do": str, "ms": int}
DOES = ("on", "off", "toggle", "pulse")
PULSE_MS, LONGEST_PULSE_MS = 500, 5000  # a host that waits for an answer gives up later
MOST_ACTIONS = 256
LARGEST_BYTES = 1 << 18
WORD = re.compile(r"[!-~]+")
HINT = (
    'an action is [[action]], answer = "light_on", pin = "LED", do = "on" (models/intent/actions.toml, docs/boards.md)'
)


@dataclass(frozen=True)
class Action:
    """One entry: the words of an answer that it is for, and what becomes of which pins then."""

    words: tuple[str, ...]
    pins: tuple[str, ...]
    does: str
    ms: int = PULSE_MS

    def __str__(self) -> str:
        how = f"{self.does} {self.ms} ms" if self.does == "pulse" else self.does
        return f"{' '.join(self.words)}: {', '.join(self.pins)} {how}"

    def covers(self, other: Action) -> bool:
        """Does it match every answer that other matches?"""
        return self.words[0] == other.words[0] and set(self.words) <= set(other.words)


def add(sources: Sources, path: Path, graph: Graph, board: Board) -> Sources:
    """sources of a language model with an on_answer from path: an actions.toml, or C of one's own (.c).

    Raises BadFile, which names the action, for what is not right, UserError for a model without answers.
    """
    if sources.kind != "decoder":
        raise UserError(f"{sources.name} is no language model: no text of it is an answer", "leave out --actions")
    text = _text(path)
    if path.suffix == ".c":
        if "on_answer" not in text:
            raise BadFile(f"{path} does not define on_answer", "void on_answer(const char *answer, size_t length)")
        told: tuple[str, ...] = (f"C of its own: {path.name}",)
    else:
        actions = _read(path, text, board, graph.card.get("answers"))
        text, told = c_source(actions, board), tuple(map(str, actions))
    return dataclasses.replace(sources, files={**sources.files, FILE: text}, actions=told)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if len(content) > LARGEST_BYTES:
            raise BadFile(f"{path} is too large for what a board does", f"at most {LARGEST_BYTES:,} bytes")
        return content.decode()
    except OSError as error:
        raise BadFile(f"cannot read {path}: {error.strerror}", HINT) from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is not text in UTF-8", HINT) from error


def _read(path: Path, text: str, board: Board, answers: Any) -> tuple[Action, ...]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # says in which line
        raise BadFile(f"{path} is not TOML: {error}", HINT) from error
    entries = document.pop("action", None)
    if document:
        raise BadFile(f"{path}: {sorted(document)[0]!r} is not known here", HINT)
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST_ACTIONS:
        raise BadFile(f"{path} has no [[action]]" if not entries else f"{path}: write [[action]], twice [", HINT)
    actions: list[Action] = []
    for number, entry in enumerate(entries, 1):
        action = _Entry(f"{path}, action {number}", entry, board).action(answers)
        for before, other in enumerate(actions, 1):
            if other.covers(action):
                raise BadFile(
                    f"{path}, action {number} is never carried out: action {before} matches all that it does",
                    "the first that matches counts: special ones come first; several pins are a list",
                )
        actions.append(action)
    return tuple(actions)


class _Entry:
    """An [[action]] on its way to being one; place is for messages."""

    def __init__(self, place: str, entry: Any, board: Board) -> None:
        self.place, self.entry, self.board = place, entry, board

    def fail(self, what: str, hint: str = HINT) -> NoReturn:
        raise BadFile(f"{self.place}: {what}", hint)

    def action(self, answers: Any) -> Action:
        if not isinstance(self.entry, dict):
            self.fail("is not a table")
        for key, value in self.entry.items():
            if key not in KEYS:
                self.fail(f"{key!r} is not known", f"an action has {', '.join(KEYS)}")
            if not isinstance(value, KEYS[key]) or isinstance(value, bool):  # type: ignore[arg-type]
                self.fail(f"{key} is not a {'number' if key == 'ms' else 'text'}")
        for key in ("answer", "pin", "do"):
            if key not in self.entry:
                self.fail(f"{key!r} is missing")
        does = self.entry["do"]
        if does not in DOES:
            self.fail(f"do is not {does!r}", f"do is one of {', '.join(DOES)}")
        return Action(self._words(answers), self._pins(), does, self._ms(does))

    def _words(self, answers: Any) -> tuple[str, ...]:
        words = tuple(self.entry["answer"].split(" "))
        if not all(map(WORD.fullmatch, words)) or len(set(words)) < len(words):
            self.fail("answer is not words of printable ASCII with a space between, each once")
        if isinstance(answers, Mapping):
            self._check_answer(words[0], [word.partition("=")[0] for word in words[1:]], answers)
        return words

    def _check_answer(self, intent: str, slots: Sequence[str], answers: Mapping[str, Any]) -> None:
        """As the model's card says what it may answer."""
        if intent not in answers:
            self.fail(f"the model never answers {intent!r}", f"it answers {', '.join(sorted(answers))}")
        for slot in slots:
            if slot not in answers[intent]:
                known = ", ".join(answers[intent]) or "none"
                self.fail(f"{intent} has no slot {slot!r}", f"its slots: {known}; write slot=value")

    def _pins(self) -> tuple[str, ...]:
        given = self.entry["pin"]
        pins = tuple(given) if isinstance(given, list) else (given,)
        for pin in pins:
            if not isinstance(pin, str) or pin not in self.board.pins:
                known = ", ".join(self.board.pins) or "none are known"
                self.fail(f"{self.board.name} has no pin {pin!r}", f"its pins: {known}")
        numbers = [self.board.pins[pin] for pin in pins]
        if not pins or len(set(numbers)) < len(numbers):
            self.fail("pin is an empty list, or names a pin twice")
        return pins

    def _ms(self, does: str) -> int:
        ms = self.entry.get("ms", PULSE_MS)
        if "ms" in self.entry and does != "pulse":
            self.fail('ms goes with do = "pulse"')
        if not 1 <= ms <= LONGEST_PULSE_MS:
            self.fail(f"ms is from 1 to {LONGEST_PULSE_MS}")
        return int(ms)


# --- C

C = """\
/* What this board does after an answer of the model. Generated. SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "answer.h"
#include "port.h"

enum {{ OFF, ON, TOGGLE }};

static struct {{
    unsigned number;
    const char *on, *off;
    int high;
}} pins[] = {{
{pins}
}};

/* Is word among the answer's words, which spaces part? first: is it the first of them? */
static int says(const char *answer, const char *word, int first) {{
    do {{
        while (*answer == ' ') answer++;
        const char *at = word;
        while (*at && *answer == *at) answer++, at++;
        if (!*at && (*answer == ' ' || !*answer)) return 1;
        while (*answer && *answer != ' ') answer++;
    }} while (*answer && !first);
    return 0;
}}

static void put(unsigned pin, int what) {{
    pins[pin].high = what == TOGGLE ? !pins[pin].high : what;
    port_pin(pins[pin].number, pins[pin].high);
    answer_tell(pins[pin].high ? pins[pin].on : pins[pin].off);
}}
{pulse}
void on_answer(const char *answer, size_t length) {{
    (void)length;
{body}
}}
"""

PULSE = """
static void pulse(unsigned pin, uint32_t ms) {
    uint32_t start = port_millis();
    put(pin, ON);
    while ((uint32_t)(port_millis() - start) < ms) port_idle();
    put(pin, OFF);
}
"""


def c_source(actions: Sequence[Action], board: Board) -> str:
    """The C file of actions."""
    pins = list(dict.fromkeys(pin for action in actions for pin in action.pins))
    rows = [
        f"    {{{board.pins[pin]}u, {c_string(f'{pin} on'.encode())}, {c_string(f'{pin} off'.encode())}, 0}},"
        for pin in pins
    ]
    body = []
    for index, action in enumerate(actions):
        tests = [
            f"says(answer, {c_string(word.encode())}, {int(not place)})" for place, word in enumerate(action.words)
        ]
        body.append(f"    {'} else ' if index else ''}if ({' && '.join(tests)}) {{")
        body += [f"        {_call(pins.index(pin), action)}" for pin in action.pins]
    body.append("    }")
    pulses = any(action.does == "pulse" for action in actions)
    return C.format(pins="\n".join(rows), pulse=PULSE if pulses else "", body="\n".join(body))


def _call(pin: int, action: Action) -> str:
    if action.does == "pulse":
        return f"pulse({pin}, {action.ms});"
    return f"put({pin}, {action.does.upper()});"
