"""How a conversation with a chat model is written: what stands around its texts, as the card's key `chat` says.

A piece is a sequence of special tokens, by their ids, and of text. Text of a piece and what a user says beside it are
encoded as one, since a tokenizer may merge across the border; a user's text never becomes a special token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firmware_tools import contract
from firmware_tools.errors import BadFile, UserError

Piece = tuple[int | str, ...]


@dataclass(frozen=True)
class Turns:
    """The pieces of a conversation: `first` USER `after` ANSWER `next` USER `after` ANSWER `next` …

    system: what stands before and behind a system text, the two in the place of `first`; None where a model has no
    place for one. trim: white space around a user's or a system text is taken off.
    """

    first: Piece
    after: Piece
    next: Piece
    system: tuple[Piece, Piece] | None = None
    trim: bool = False

    def begin(self, text: str | bytes, system: str | None = None) -> list[int | str | bytes]:
        """The first turn up to where its answer begins; UserError where there is no place for a system text."""
        if system is None:
            return [*self.first, self._trimmed(text), *self.after]
        if self.system is None:
            raise UserError("this model's chat template has no place for a system text", "leave out --system")
        before, behind = self.system
        return [*before, self._trimmed(system), *behind, self._trimmed(text), *self.after]

    def go_on(self, text: str | bytes) -> list[int | str | bytes]:
        """A turn after an answer, whose end is part of it, up to where the next answer begins."""
        return [*self.next, self._trimmed(text), *self.after]

    def _trimmed(self, text: str | bytes) -> str | bytes:
        return text.strip() if self.trim else text


def from_card(card: Mapping[str, Any], vocab_size: int) -> Turns | None:
    """What a card says of it; None where it says nothing, BadFile where that is not of the form of the contract."""
    chat = card.get("chat")
    if chat is None:
        return None
    if not contract.is_chat(chat, vocab_size):
        raise BadFile("the card's chat is not of the form that docs/model-file.md gives")
    first, after, following = (tuple(chat[name]) for name in contract.CHAT_PIECES)
    before, behind = map(tuple, chat.get("system") or ((), ()))
    system = None if chat.get("system") is None else (before, behind)
    return Turns(first, after, following, system, chat.get("trim", False))


def as_card(turns: Turns) -> dict[str, Any]:
    """The card's key `chat`."""
    pieces: dict[str, Any] = {name: list(getattr(turns, name)) for name in contract.CHAT_PIECES}
    if turns.system is not None:
        pieces["system"] = [list(piece) for piece in turns.system]
    return {**pieces, "trim": turns.trim}


def text_of(piece: Piece) -> str | None:
    """A piece that is text alone, as text; None where it has special tokens."""
    texts: Sequence[str] = [part for part in piece if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(piece) else None
