"""A chat template as plain pieces: conversations are rendered at conversion, and what is around their texts is kept.

A template is a program and may do anything with a conversation. Taken over is one that writes every text as it is (or
without the white space around it), the same between all turns, so that a conversation grows only at its end: then the
KV cache of what was said stays right. Whether that is so is asked with conversations of one to three turns, with and
without a system text, of odd texts too. Of any other template it is said in words what is in the way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.make.formats.rendered import Failure, Message, rendered
from edge.turns import Piece, Turns, as_card, text_of
from firmware_tools import contract
from firmware_tools.errors import MissingTool

LARGEST_BYTES = 1 << 18
USER, ANSWER, SECOND, SYSTEM = "zq1 user", "zq2 answer", "zq3 user", "zq4 system"
ODD = (
    "two\n\nlines",
    "\n white space around \t\n",
    "{{ 7 * 7 }}{% if x %}{# #}",
    "<|im_end|>\n<|im_start|>system\n[INST] <<SYS>></s>",
    "漢字 é 🙂 \u202e",
    "'\"\\ <b>&amp;</b> | trim",
)
NOT_TAKEN = "without its chat template: "


@dataclass(frozen=True)
class Taken:
    """What a source's template adds to a card: keys, and the token that ends an answer; or why nothing, in words."""

    keys: Mapping[str, Any] = field(default_factory=lambda: {"template": {"before": "", "after": ""}})
    stop_id: int | None = None
    note: str | None = None

    def ends(self, stop_ids: Sequence[int]) -> list[int]:
        """A source's stop_ids, before them the one that ends an answer."""
        return list(dict.fromkeys([*([] if self.stop_id is None else [self.stop_id]), *stop_ids]))


@dataclass(frozen=True)
class _Texts:
    """The pieces as a template writes them. lead: what stands between `after` and an earlier answer."""

    first: str
    after: str
    lead: str
    next: str
    system: tuple[str, str] | None
    trim: bool

    def conversation(self, texts: Sequence[str], system: str | None = None) -> str:
        """What the template should write of texts, by turns of a user and the model."""
        shown = [text.strip() if self.trim and at % 2 == 0 else text for at, text in enumerate(texts)]
        written = self.first
        if system is not None and self.system is not None:
            written = self.system[0] + (system.strip() if self.trim else system) + self.system[1]
        for user, answer in zip(shown[::2], shown[1::2], strict=False):
            written += f"{user}{self.after}{self.lead}{answer}{self.next}"
        return f"{written}{shown[-1]}{self.after}"


class _Unusable(Exception):
    """Its text says what a template does that pieces do not."""


def taken_over(template: object, names: Mapping[str, str], added: Mapping[str, int], bos_id: int | None) -> Taken:
    """A source's template as keys of a card.

    names: the texts of special tokens, as a template calls them (`bos_token`). added: tokens that the source's own
    tokenizer sees in a text, with their ids. bos_id: the token that every text begins with, written or not.
    """
    if template is None:
        return Taken()
    try:
        turns = _turns(_texts(_checked(template), names), added)
    except _Unusable as error:
        return Taken(note=f"{NOT_TAKEN}{error}")
    except MissingTool as error:
        return Taken(note=f"{NOT_TAKEN}{error.message} ({error.hint})")
    begins = 1 if bos_id is not None and turns.first[:1] == (bos_id,) else 0
    before, after = text_of(turns.first[begins:]), text_of(turns.after)
    plain = {"before": before, "after": after} if before is not None and after is not None else Taken().keys["template"]
    if "\0" in "".join(plain.values()):  # a board's strings end there
        plain = Taken().keys["template"]
    stop = next((part for part in turns.next if isinstance(part, int)), None)
    return Taken({"template": plain, "chat": as_card(turns)}, stop)


def _checked(template: object) -> str:
    """The text of a template; of several the default one."""
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = named[0].get("template") if named else None
    if not isinstance(template, str):
        raise _Unusable("it has no default one")
    if len(template) > LARGEST_BYTES:
        raise _Unusable(f"it has more than {LARGEST_BYTES} characters")
    return template


# --- rendered and read


def _conversations() -> dict[tuple[str | None, tuple[str, ...]], list[Message]]:
    """What is rendered, by its system text and the texts of its turns."""
    texts: list[tuple[str, ...]] = [(USER,), (USER, ANSWER, SECOND), (USER, ANSWER, SECOND, ANSWER, USER)]
    texts += [(odd,) for odd in ODD] + [(odd, ANSWER, odd) for odd in ODD]
    both = [(system, said) for system in (None, SYSTEM) for said in texts] + [(odd, (USER,)) for odd in ODD]
    return {(system, said): _messages(system, said) for system, said in both}


def _messages(system: str | None, texts: Sequence[str]) -> list[Message]:
    said = [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(texts)]
    return [*([] if system is None else [{"role": "system", "content": system}]), *said]


def _texts(template: str, names: Mapping[str, str]) -> _Texts:
    conversations = _conversations()
    found = dict(zip(conversations, rendered(template, names, list(conversations.values())), strict=True))
    one, two = (_written(found[None, texts]) for texts in ((USER,), (USER, ANSWER, SECOND)))
    first, after = _parted(one, USER)
    if not two.startswith(one):
        raise _Unusable("it writes a turn in another way once another follows")
    lead, rest = _parted(two[len(one) :], ANSWER)
    if lead.strip():
        raise _Unusable(f"it writes an earlier answer behind {lead[:40]!a}, and asks for a new one without")
    following, after_second = _parted(rest, SECOND)
    if after_second != after:
        raise _Unusable("what it writes behind a user's text differs from turn to turn")
    system = _system(found[SYSTEM, (USER,)], after)
    for trim in (False, True):
        texts = _Texts(first, after, lead, following, system, trim)
        if not (wrong := _first_difference(texts, found, with_system=False)):
            with_system = system and not _first_difference(texts, found, with_system=True)
            return _Texts(first, after, lead, following, system if with_system else None, trim)
    raise _Unusable(f"it does not write {wrong} as it is said")


def _written(text: str | Failure) -> str:
    if isinstance(text, Failure):
        raise _Unusable(f"it fails: {text.reason}")
    return text


def _parted(text: str, at: str) -> tuple[str, str]:
    if text.count(at) != 1:
        raise _Unusable("it does not write what is said once, as it is and in its order")
    before, _, behind = text.partition(at)
    return before, behind


def _system(text: str | Failure, after: str) -> tuple[str, str] | None:
    """What stands before and behind a system text, where it comes first and is written as it is."""
    if isinstance(text, Failure) or not text.endswith(USER + after) or text.count(SYSTEM) != 1:
        return None
    before, _, behind = text.removesuffix(USER + after).partition(SYSTEM)
    return None if USER in before else (before, behind)


def _first_difference(texts: _Texts, found: Mapping[Any, str | Failure], with_system: bool) -> str:
    """The first conversation that the pieces do not write as the template does, in words; empty where there is none."""
    for (system, said), text in found.items():
        if (system is not None) == with_system and texts.conversation(said, system) != text:
            return f"a conversation of {len(said) // 2 + 1} turns that begins with {said[0][:40]!a}"
    return ""


# --- as tokens


def _turns(texts: _Texts, added: Mapping[str, int]) -> Turns:
    first, after, following = (_piece(text, added) for text in (texts.first, texts.after, texts.next))
    system = None if texts.system is None else (_piece(texts.system[0], added), _piece(texts.system[1], added))
    turns = Turns(first, after, following, system, texts.trim)
    if not contract.is_chat(as_card(turns), max(added.values(), default=0) + 1):
        raise _Unusable("what it writes around a text is longer than a card holds")
    return turns


def _piece(text: str, added: Mapping[str, int]) -> Piece:
    """A text with its special tokens found, of several at a place the longest."""
    names = sorted(filter(None, added), key=len, reverse=True)
    if not names:
        return (text,) if text else ()
    parts = re.split("(" + "|".join(map(re.escape, names)) + ")", text)
    return tuple(added[part] if at % 2 else part for at, part in enumerate(parts) if part)
