"""Whole models wherever they run: one arithmetic bit for bit in int8, one text in float32, and what a token may cost.

Both models of texts.py go through all of it: the shipped one guards a clone that has no other data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lite
import numpy as np
import oracle
import pytest
import texts
from native import HOST, Native
from test_compile import M4, assert_equal_to_numpy, forward

from edge.make.checkpoints import Checkpoint
from edge.make.convert import convert
from edge.tokenizer import from_card
from firmware_tools import build, fuse, graph, interpret
from firmware_tools.compile import compile_model
from firmware_tools.emulators import qemu, unicorn
from firmware_tools.link import Link

Step = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class Budget:
    """The most that may be spent; measured on the day it was set, and a little more."""

    position: int
    first: int  # instructions of a decode step at position 15
    last: int  # and at `position`
    code_bytes: int
    ram_bytes: int  # arena and KV cache


@dataclass(frozen=True)
class Case:
    """A model, the context that it is tried with, the text that is continued, words that must come, and its budget."""

    checkpoint: Checkpoint
    context: int
    prompt: str
    words: str
    budget: Budget

    def start(self) -> list[int]:
        return from_card(self.checkpoint.tokenizer, self.checkpoint.card).prompt(self.prompt)

    def read(self, scheme: str, context: int | None = None) -> graph.Graph:
        return graph.read(convert(self.checkpoint, scheme, context or self.context))

    def greedy(self, step: Step, count: int) -> list[int]:
        """The prompt and what follows it, `count` tokens in all."""
        ids = self.start()
        for position in range(count - 1):
            logits = step(ids[position], position)
            if position + 1 == len(ids):
                ids.append(int(np.argmax(logits)))
        return ids


@pytest.fixture(scope="module", params=["shipped", "stories"])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "shipped":
        checkpoint, _ = texts.shipped()
        prompt, words = "turn the kitchen lamp down to 20 percent", "light_set room=kitchen level=20"
        return Case(checkpoint, 96, prompt, words, Budget(95, 226_000, 288_000, 27_500, 32_000))
    checkpoint, _ = texts.stories(request.getfixturevalue("shared_data"))
    return Case(checkpoint, 256, "", "Once upon a time", Budget(127, 328_000, 466_000, 27_500, 54_000))


@pytest.fixture(scope="module")
def known_text(case: Case) -> list[int]:
    """What the float64 oracle writes."""
    ids = case.greedy(oracle.Decoder(case.checkpoint).step, min(case.context, 200))
    assert case.words in from_card(case.checkpoint.tokenizer, case.checkpoint.card).decode(ids)
    return ids


def on_board(link: Link) -> Step:
    return lambda token, position: forward(link, token, position)


# --- int8: bit for bit the numpy model of the device


def test_int8_natively(case: Case, tmp_path: Path) -> None:
    read = case.read("int8")
    assert_equal_to_numpy(read, case.context, Native(compile_model(read, HOST), tmp_path).step)


def test_int8_in_unicorn(case: Case) -> None:
    read = case.read("int8")
    with unicorn.open(build.build(compile_model(read, M4), M4)) as link:
        assert_equal_to_numpy(read, case.context, on_board(link))


@pytest.mark.system
def test_int8_in_qemu(case: Case, tool: Callable[[str], str]) -> None:
    tool("qemu-system-arm")
    read = case.read("int8")
    with qemu.open(build.build(compile_model(read, M4), M4)) as link:
        assert_equal_to_numpy(read, case.context, on_board(link))


# --- float32: one text everywhere


def test_float32_in_numpy(case: Case, known_text: list[int]) -> None:
    program = fuse.program(case.read("float32"))
    run = interpret.start(program)
    step = lambda token, position: interpret.step(program, run, token, position)  # noqa: E731
    assert case.greedy(step, len(known_text)) == known_text


def test_float32_natively(case: Case, known_text: list[int], tmp_path: Path) -> None:
    step = Native(compile_model(case.read("float32"), HOST), tmp_path).step
    assert case.greedy(step, len(known_text)) == known_text


@pytest.mark.parametrize("kernels", sorted(lite.RESOLVERS))
def test_float32_in_litert(case: Case, known_text: list[int], kernels: str) -> None:
    model = lite.Model(convert(case.checkpoint, "float32", case.context), kernels)
    assert case.greedy(model.decode, len(known_text)) == known_text


def test_float32_in_unicorn(case: Case, known_text: list[int]) -> None:
    with unicorn.open(build.build(compile_model(case.read("float32"), M4), M4)) as link:
        assert case.greedy(on_board(link), len(known_text)) == known_text


@pytest.mark.system
def test_float32_in_qemu(case: Case, known_text: list[int], tool: Callable[[str], str]) -> None:
    tool("qemu-system-arm")
    with qemu.open(build.build(compile_model(case.read("float32"), M4), M4)) as link:
        assert case.greedy(on_board(link), len(known_text)) == known_text


# --- what it may cost


def test_budget(case: Case) -> None:
    budget = case.budget
    image = build.build(compile_model(case.read("int8", budget.position + 1), M4), M4)
    sizes = image.sizes
    with unicorn.open(image, counting=True) as link:
        link.prefill([3] * 15)
        first = link.forward(3, 15)
        prompt = link.prefill([3] * 64)
        middle = link.forward(3, 32)
        link.prefill([3] * (budget.position - 32), 32)
        last = link.forward(3, budget.position)
    assert first is not None and last is not None and prompt is not None and middle is not None
    ram_bytes = sizes.arena_bytes + sizes.kv_cache_bytes
    print(f"{first:,} at 15, {last:,} at {budget.position}; prompt {prompt // 64:,} a token")
    print(f"code {sizes.code_bytes:,}, arena + KV cache {ram_bytes:,}")
    assert first < last, "more work takes more instructions"
    assert first <= budget.first and last <= budget.last
    assert prompt <= 64 * 0.75 * middle, "tokens of a prompt share weights"
    assert sizes.code_bytes <= budget.code_bytes and ram_bytes <= budget.ram_bytes
