"""A conversation with a chat model: what was said stays in the KV cache, and only what is new is computed.

    [BOS] first USER after ANSWER next USER after ANSWER next …      (edge/turns.py)

An answer's stop token is not computed; the next turn begins with what ends an answer, however the last one ended: by
itself, by --tokens or by Ctrl-C. The context is never shifted: once it is full, a new conversation begins on request.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.run import generate
from edge.run.generate import Show
from edge.run.target import Running
from firmware_tools.errors import UserError
from firmware_tools.sampler import Sampler

NEW, QUIT = "/new", "/quit"
WELCOME = f"[{NEW} begins a new conversation, {QUIT} or Ctrl-D ends, Ctrl-C stops an answer]\n"


class Conversation:
    """How much of the cache is filled, and the next turn at its end."""

    def __init__(self, running: Running, system: str | None = None) -> None:
        self.filled = 0
        self._running, self._system = running, system

    @property
    def room(self) -> int:
        """Positions that are left."""
        return self._running.context - self.filled

    def turn(self, text: str) -> list[int]:
        """The ids of a user's text, the template around it, up to where the answer begins."""
        tokenizer = self._running.tokenizer
        if not self.filled:
            return tokenizer.prompt(text, self._system)
        assert tokenizer.turns is not None
        return tokenizer.joined(tokenizer.turns.go_on(text))

    def answer(
        self, ids: list[int], tokens: int | None, sampler: Sampler, show: Show, stopped: Callable[[], bool]
    ) -> generate.Answer:
        """Says what follows a turn; it and the answer are in the cache then."""
        answer = generate.reply(self._running, ids, self.filled, tokens, sampler, show, stopped, act=True)
        self.filled += len(ids) + len(answer.ids)
        return answer


def talk(
    running: Running,
    tokens: int | None,
    sampler: Sampler,
    show: Show,
    ask: Callable[[], str],
    raw: bool = False,
    system: str | None = None,
    welcome: bool = False,
) -> None:
    """Answers line after line until ask raises EOFError (Ctrl-D); of a chat model it is one conversation.

    /new begins another, /quit ends. Ctrl-C stops the answer that is being given; while a line is awaited it ends the
    program as everywhere. raw, or a model without turns: every line is answered from an empty context. welcome: say
    at first what a user may type.
    """
    if raw or running.tokenizer.turns is None:
        if system is not None:
            running.tokenizer.prompt("", system)  # says that there is no place for it
        return generate.lines(running, tokens, sampler, show, ask, raw)
    _check_room(running, system)
    conversation = Conversation(running, system)
    show(WELCOME if welcome else "")
    while (line := _next(ask)) != QUIT:
        if line == NEW:
            conversation = Conversation(running, system)
        elif line.strip():
            _answer(conversation, line, tokens, sampler, show)


def _next(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except EOFError:
        return QUIT


def _check_room(running: Running, system: str | None) -> None:
    """UserError where the template alone fills the context, or has no place for the system text."""
    needed = len(running.tokenizer.prompt("", system))
    if needed >= running.context:
        raise UserError(
            f"the template around a text has {needed} tokens, and the context holds {running.context}",
            "convert with a larger --context, or leave the template out: --raw",
        )


def _answer(conversation: Conversation, line: str, tokens: int | None, sampler: Sampler, show: Show) -> None:
    ids = conversation.turn(line)
    if len(ids) >= conversation.room:
        shorter = "a shorter text" if not conversation.filled else f"{NEW} begins a new conversation"
        show(f"[this takes {len(ids)} tokens, and the context has room for {conversation.room}: {shorter}]\n")
        return
    with generate.interrupts() as interrupted:
        answer = conversation.answer(ids, tokens, sampler, show, interrupted)
    if answer.ended == "context":
        show(f"[the context of {conversation.filled} tokens is full: {NEW} begins a new conversation, {QUIT} ends]\n")
