"""A conversation: what was said stays in the cache, and every turn is what the template writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from edge.make import convert
from edge.run import conversation, generate
from edge.run.target import Running, open_target
from firmware_tools.errors import UserError
from firmware_tools.sampler import Sampler

GREEDY = Sampler(temperature=0.0, top_p=1.0, seed=0)
# the byte tokens 0x02 and 0x03 (start and end of text) are what no text of the tests holds
START, END = 3 + 2, 3 + 3
CHAT = {
    "first": [START, "sit "],
    "after": [END, START],
    "next": [END, START, "on "],
    "system": [[START, "be "], [END, START, "sit "]],
}


def model(folder: Path, context: int = 96, **card: Any) -> Path:
    path = folder / "chat.tflite"
    card = {"chat": CHAT, "stop_ids": [END], "bos_id": 1, **card}
    convert.save(convert.convert(tiny.checkpoint(seed=3, context=context, card=card), "float32"), path)
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with open_target("host", model(tmp_path_factory.mktemp("chat"))) as it:
        yield it


class Talk:
    """Says lines to a model one after the other, and keeps what came and what the link was asked."""

    def __init__(self, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        self.running, self.shown, self.asked = running, "", list[tuple[int, list[int]]]()
        prefill = running.link.prefill
        monkeypatch.setattr(
            running.link,
            "prefill",
            lambda ids, position=0: (self.asked.append((position, list(ids))), prefill(ids, position))[1],
        )

    def say(self, *lines: str, tokens: int | None = 5, **how: Any) -> None:
        rest = iter(lines)

        def ask() -> str:
            try:
                return next(rest)
            except StopIteration:
                raise EOFError from None

        conversation.talk(self.running, tokens, GREEDY, self.show, ask, **how)

    def show(self, text: str) -> None:
        self.shown += text


@pytest.fixture
def talk(running: Running, monkeypatch: pytest.MonkeyPatch) -> Talk:
    return Talk(running, monkeypatch)


def answer_to(running: Running, ids: list[int], count: int) -> list[int]:
    """The greedy tokens after ids, computed anew from an empty context."""
    running.link.prefill(ids)
    return [step.id for step in running.link.generate(count, GREEDY, seed=True) if step.id != END]


def test_a_conversation_is_its_whole_text_computed_once(talk: Talk) -> None:
    """Three turns: each computes what is new alone, and says what the whole text from an empty context gives."""
    talk.say("tin", "can", "eat a date")
    asked, host = list(talk.asked), talk.running.tokenizer
    whole: list[int] = []
    said = ""
    for (position, new), opening, text in zip(
        asked, (CHAT["first"], CHAT["next"], CHAT["next"]), ("tin", "can", "eat a date"), strict=True
    ):
        turn = host.joined([*opening, text, *CHAT["after"]])
        assert new == ([1, *turn] if not whole else turn)
        assert position == len(whole), "only what is new is computed, behind what is there"
        whole += new
        answer = answer_to(talk.running, whole, 5)
        whole += answer
        said += host.decode(answer, continuation=True) + "\n"
    assert talk.shown == generate.clean(said)


def test_a_prompt_is_the_first_turn_and_raw_is_none(running: Running) -> None:
    host = running.tokenizer
    answer = generate.answer(running, "tin", 4, GREEDY)
    assert list(answer.prompt_ids) == [1, *host.joined([*CHAT["first"], "tin", *CHAT["after"]])]
    raw = generate.answer(running, "tin", 4, GREEDY, raw=True)
    assert list(raw.prompt_ids) == host.encode("tin", bos=True)
    told = generate.answer(running, "tin", 4, GREEDY, system="kind")
    before, behind = CHAT["system"]
    assert list(told.prompt_ids) == [1, *host.joined([*before, "kind", *behind, "tin", *CHAT["after"]])]


def test_a_stop_token_ends_an_answer_and_is_not_shown(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next turn brings the end itself: it is in the cache once, however the answer ended."""
    first = [1, *running.tokenizer.joined([*CHAT["first"], "tin", *CHAT["after"]])]
    said = answer_to(running, first, 8)
    stop = next(id for id in said[2:] if said.index(id) >= 2)
    kept = said[: said.index(stop)]
    with open_target("host", model(tmp_path, stop_ids=[END, stop])) as other:
        talk = Talk(other, monkeypatch)
        talk.say("tin", "can", tokens=8)
        assert talk.shown.startswith(generate.clean(other.tokenizer.decode(kept, continuation=True)) + "\n")
        position, new = talk.asked[1]
        assert position == len(first) + len(kept) and new[0] == END


def test_an_answer_that_was_stopped_stays_in_the_conversation(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after two tokens: both are in the cache, and the next turn goes on behind them."""
    pressed = iter([False, True] + [False] * 99)

    class Interrupts:
        def __enter__(self) -> Callable[[], bool]:
            return lambda: next(pressed)

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(generate, "interrupts", Interrupts)
    talk.say("tin", "can", tokens=6)
    (_, first), (position, second) = talk.asked
    said = answer_to(talk.running, first, 2)
    assert position == len(first) + 2 and second[0] == END
    rest = answer_to(talk.running, [*first, *said, *second], 6)
    decode = talk.running.tokenizer.decode
    assert talk.shown == generate.clean(f"{decode(said, continuation=True)}\n{decode(rest, continuation=True)}\n")


def test_a_full_context_and_a_way_on(talk: Talk) -> None:
    talk.say("tin", "can", "/new", "tin", tokens=None)
    answers = talk.shown.splitlines()
    assert answers[-1] == "[the context of 96 tokens is full: /new begins a new conversation, /quit ends]"
    assert talk.shown.count("is full") == 2
    needed = len(talk.running.tokenizer.joined([*CHAT["next"], "can", *CHAT["after"]]))
    assert f"[this takes {needed} tokens, and the context has room for 0: /new begins a new conversation]" in answers
    assert [position for position, _ in talk.asked] == [0, 0]
    assert talk.asked[0] == talk.asked[1]


def test_a_first_text_that_is_too_long_and_quit(talk: Talk) -> None:
    talk.say("x" * 200, "/quit", "tin")
    assert "and the context has room for 96: a shorter text]" in talk.shown and talk.asked == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_a_person_at_a_terminal_is_told_what_to_type(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edge", "run", str(model(tmp_path)), "--tokens", "2"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE) as process:
        os.write(ours, b"tin\n/quit\n")
        assert process.stdout
        shown = process.stdout.read().decode()
    assert shown.startswith(f"{conversation.WELCOME}> ") and shown.count("> ") == 2 and process.returncode == 0


def test_system_texts_and_raw_lines(talk: Talk) -> None:
    talk.say("tin", "/new", "can", tokens=2, system="kind")
    before, behind = CHAT["system"]
    joined = talk.running.tokenizer.joined
    assert [ids for _, ids in talk.asked] == [
        [1, *joined([*before, "kind", *behind, text, *CHAT["after"]])] for text in ("tin", "can")
    ]
    talk.asked.clear()
    talk.say("tin", "/new", tokens=2, raw=True)
    assert talk.asked == [(0, talk.running.tokenizer.encode(text, bos=True)) for text in ("tin", "/new")]


def test_a_template_that_fills_the_context(tmp_path: Path) -> None:
    card = {"chat": {**CHAT, "first": [START] * 40}, "stop_ids": [END]}
    with open_target("host", model(tmp_path, context=24, **card)) as running:
        with pytest.raises(UserError, match="the template around a text has 43 tokens, and the context holds 24"):
            conversation.talk(running, 2, GREEDY, lambda text: None, lambda: "x")
        with pytest.raises(UserError, match="the prompt has"):
            generate.answer(running, "x", 2, GREEDY)


def test_a_board_holds_a_conversation_as_the_host_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames carry ids: firmware that knows nothing of turns computes them at their positions."""
    path = model(tmp_path, context=48)
    shown = []
    for target in ("host", "virtual-m4@unicorn"):
        with open_target(target, path) as running:
            talk = Talk(running, monkeypatch)
            talk.say("tin", "can", tokens=3)
            shown.append((talk.asked, talk.shown))
    assert shown[0] == shown[1] and np.all([position for position, _ in shown[0][0][1:]])
