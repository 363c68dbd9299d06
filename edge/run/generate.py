"""Text in, text out, on whatever runs the model."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from edge.run.target import Running
from edge.terminal import clean
from firmware_tools.errors import UserError
from firmware_tools.sampler import Sampler

Show = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """What a model said.

    prompt_ids as they were computed, BOS and template included; ids without the stop token. ended is `stop` (a stop
    token), `length` (as many tokens as were asked for), `context` (the KV cache is full) or `interrupt`. acted is
    what a board tells that it did about the answer, where it was asked to act.
    """

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    ended: str
    acted: str = ""


def sampler(greedy: bool, temperature: float | None, top_p: float | None, seed: int | None) -> Sampler:
    """How the next token is chosen: greedily, unless one of the others is given and greedy is not."""
    if greedy or (temperature is None and top_p is None and seed is None):
        return Sampler(temperature=0.0, top_p=1.0, seed=seed or 0)
    return Sampler(
        temperature=1.0 if temperature is None else temperature, top_p=1.0 if top_p is None else top_p, seed=seed or 0
    )


def prompt_ids(running: Running, text: str, raw: bool = False, system: str | None = None) -> list[int]:
    """The ids of a text prompt; UserError where it is empty or longer than the context.

    raw: without the model's template. system: a system text, of a chat model that has a place for one.
    """
    tokenizer = running.tokenizer
    ids = tokenizer.encode(text, bos=True) if raw else tokenizer.prompt(text, system)
    if not ids:
        raise UserError("the prompt is empty", "this model has no token that begins a text; give it a word")
    if len(ids) > running.context:
        raise UserError(
            f"the prompt has {len(ids)} tokens, and the context holds {running.context}",
            "shorten it, or convert and build with a larger --context",
        )
    return ids


def answer(
    running: Running,
    prompt: str,
    tokens: int | None,
    sampler: Sampler,
    show: Show | None = None,
    stopped: Callable[[], bool] = lambda: False,
    *,
    raw: bool = False,
    system: str | None = None,
    act: bool = False,
) -> Answer:
    """Computes a prompt from an empty context and says what follows; raw and system as prompt_ids takes them."""
    return reply(running, prompt_ids(running, prompt, raw, system), 0, tokens, sampler, show, stopped, act=act)


def reply(
    running: Running,
    ids: list[int],
    position: int,
    tokens: int | None,
    sampler: Sampler,
    show: Show | None = None,
    stopped: Callable[[], bool] = lambda: False,
    *,
    act: bool = False,
) -> Answer:
    """Computes ids at a position and at most `tokens` tokens after them (None: until the model stops).

    All that is not a stop token is in the KV cache then, also where `stopped`, which is asked between tokens, ended it.
    show gets the text piece by piece as it comes, without control characters, and a line break at the end, also where
    an error or Ctrl-C ends it in mid-line; without show the whole answer is asked for at once. act: a board whose image
    has actions acts on the answer, if it comes to its end; what is measured must not switch anything.
    """
    running.link.prefill(ids, position)
    room = running.context - position - len(ids)
    limit = room if tokens is None else min(tokens, room)
    speech = _Speech(running, show)
    ended = "length" if limit == tokens else "context"
    try:
        for chunk in _chunks(running, limit, sampler, show is None, act):
            if not speech.add(chunk) or stopped():
                ended = "interrupt" if stopped() else "stop"
                break
    except BaseException:
        speech.end(only_begun=True)
        raise
    speech.end()
    acted = running.link.acted() if act and ended == "stop" else ""
    if show and acted:
        show(f"[{acted}]\n")
    return Answer(tuple(ids), tuple(speech.ids), speech.text, ended, acted)


class _Speech:
    """The text of an answer, as far as it has come."""

    def __init__(self, running: Running, show: Show | None) -> None:
        self.ids: list[int] = []
        self.text = ""
        self._stop_ids = running.stop_ids
        self._stream = running.tokenizer.stream()
        self._show = show or (lambda text: None)

    def add(self, ids: list[int]) -> bool:
        """Takes ids up to a stop token; False once there was one."""
        for token in ids:
            if token in self._stop_ids:
                return False
            self.ids.append(token)
            self._say(self._stream.feed(token))
        return True

    def end(self, only_begun: bool = False) -> None:
        """Says what is left of a character and ends the line; only_begun: if there is one."""
        if self.text or not only_begun:
            self._say(self._stream.end())
            self._show("\n")

    def _say(self, text: str) -> None:
        self.text += text
        if text:
            self._show(clean(text))


def _chunks(running: Running, limit: int, sampler: Sampler, at_once: bool, act: bool) -> Iterator[list[int]]:
    """The generated ids, one by one or as many as the device gives; ends after a stop token or where nothing comes."""
    done = 0
    while done < limit:
        steps = running.link.generate(limit - done if at_once else 1, sampler, done == 0, act)
        yield [step.id for step in steps]
        done += len(steps)
        if not steps or steps[-1].id in running.stop_ids:
            return


def lines(
    running: Running, tokens: int | None, sampler: Sampler, show: Show, ask: Callable[[], str], raw: bool = False
) -> None:
    """Answers line after line, each from an empty context, until ask raises EOFError (Ctrl-D).

    Ctrl-C stops the answer that is being given; while a line is awaited it ends the program as everywhere.
    """
    while True:
        try:
            line = ask()
        except EOFError:
            return
        if not line.strip():
            continue
        with interrupts() as interrupted:
            answer(running, line, tokens, sampler, show, interrupted, raw=raw, act=True)


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Within it the first Ctrl-C only makes the yielded function true; no frame is cut in the middle."""
    pressed = False

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
