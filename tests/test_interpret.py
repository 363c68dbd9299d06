"""The numpy model of the device: equal bit for bit to the kernels in C, and close to the float model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracle
import pytest
import texts
import tiny
from cortex import M4
from kernels import CortexRunner, HostRunner, Runner

from edge.make.checkpoints import Checkpoint
from edge.make.convert import convert
from firmware_tools import fuse, graph, interpret
from firmware_tools.ops import Array
from firmware_tools.program import DecoderProgram

TOKENS = 256  # of stories260K


def program(checkpoint: Checkpoint, scheme: str, context: int | None = None) -> DecoderProgram:
    return fuse.program(graph.read(convert(checkpoint, scheme, context)))


def in_c(decoder: DecoderProgram, runner: Runner, token: int, position: int) -> Array:
    """The logits of one token, every call of the program by the runner's kernels."""
    values: dict[int, Array] = {}
    for i, call in enumerate(decoder.calls):
        outputs = runner.run(i, [values[k] for k in call.inputs], token, position)
        values.update(zip(call.outputs, outputs, strict=True))
    return values[decoder.logits]


def runner_on(where: str, decoder: DecoderProgram, folder: Path) -> Runner:
    sizes = [value.size for value in decoder.values]
    lengths = [tuple(tuple(sizes[k] for k in side) for side in (c.inputs, c.outputs)) for c in decoder.calls]
    if where == "host":
        return HostRunner(decoder.calls, lengths, folder)
    return CortexRunner(M4, M4.features, decoder.calls, lengths, folder)


def assert_equal_in_c(decoder: DecoderProgram, runner: Runner, tokens: list[int]) -> None:
    run = interpret.start(decoder)
    for position, token in enumerate(tokens):
        logits = interpret.step(decoder, run, token, position)
        assert logits.tobytes() == in_c(decoder, runner, token, position).tobytes(), f"position {position}"


@pytest.mark.parametrize("where", ["host", "m4"])
@pytest.mark.parametrize("scheme", ["int8", "float32"])
def test_program_equals_its_kernels(scheme: str, where: str, tmp_path: Path) -> None:
    decoder = program(tiny.checkpoint(), scheme)
    tokens = np.random.default_rng(3).integers(0, decoder.vocab_size, decoder.context).tolist()
    assert_equal_in_c(decoder, runner_on(where, decoder, tmp_path), tokens)


@pytest.mark.parametrize("where", ["host", "m4"])
def test_stories_equal_their_kernels(shared_data: Path, where: str, tmp_path: Path) -> None:
    stories, spoken = texts.stories(shared_data)
    decoder = program(stories, "int8", TOKENS)
    assert_equal_in_c(decoder, runner_on(where, decoder, tmp_path), spoken[0][0])


def against_float(decoder: DecoderProgram, spoken: texts.Texts) -> tuple[float, float]:
    """Mean KL divergence from the float model, nats a token, and how often both find the same token likeliest."""
    logits = []
    for tokens, _ in spoken:
        run = interpret.start(decoder)
        logits.append([interpret.step(decoder, run, token, i) for i, token in enumerate(tokens)])
    expected, found = np.concatenate([truth for _, truth in spoken]), np.concatenate(logits)
    return oracle.divergence(expected, found), float(np.mean(expected.argmax(1) == found.argmax(1)))


def test_stories_in_int8_are_close_to_float(shared_data: Path) -> None:
    stories, spoken = texts.stories(shared_data)
    divergence, same = against_float(program(stories, "int8", TOKENS), spoken)
    assert divergence < 0.005
    assert same > 0.96


def test_stories_in_float32_are_the_float_model(shared_data: Path) -> None:
    stories, spoken = texts.stories(shared_data)
    divergence, same = against_float(program(stories, "float32", TOKENS), spoken[:1])
    assert divergence < 1e-9
    assert same == 1


@pytest.mark.parametrize(("scheme", "limit"), [("int8", 0.002), ("float32", 1e-9)])
def test_random_model_is_close_to_float(scheme: str, limit: float) -> None:
    checkpoint = tiny.checkpoint()
    spoken = [oracle.sample(checkpoint, checkpoint.architecture.context, seed) for seed in range(4)]
    divergence, _ = against_float(program(checkpoint, scheme), spoken)
    assert divergence < limit


def test_going_back_forgets_what_lay_behind() -> None:
    decoder = program(tiny.checkpoint(), "int8")
    straight, winding = interpret.start(decoder), interpret.start(decoder)
    for position, token in enumerate([5, 6, 7]):
        expected = interpret.step(decoder, straight, token, position)
    for position, token in [(0, 5), (1, 100), (2, 101), (3, 102), (1, 6), (2, 7)]:
        found = interpret.step(decoder, winding, token, position)
    assert expected.tobytes() == found.tobytes()


@pytest.mark.parametrize(("token", "position"), [(-1, 0), (300, 0), (0, -1), (0, 24)])
def test_token_or_position_out_of_range_is_refused(token: int, position: int) -> None:
    decoder = program(tiny.checkpoint(), "int8")
    with pytest.raises(ValueError, match="the model has"):
        interpret.step(decoder, interpret.start(decoder), token, position)
