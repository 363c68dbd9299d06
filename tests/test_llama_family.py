"""Shapes that stories260K does not have, on the whole road: biases, heads of any size, scaled RoPE."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lite
import numpy as np
import oracle
import pytest
import tiny
from native import HOST, Native
from test_compile import assert_equal_to_numpy, forward

from edge.make import forward as float_model
from edge.make.checkpoints import Architecture, Checkpoint, RopeScaling, npz
from edge.make.convert import convert
from edge.make.rope import frequencies
from firmware_tools import boards, build, fuse, graph, interpret
from firmware_tools.bfp_program import for_board
from firmware_tools.compile import compile_model
from firmware_tools.emulators import qemu, unicorn

CONTEXT = tiny.SHAPE.context
LLAMA3 = RopeScaling("llama3", 8.0, 1.0, 4.0, 64)
YARN = RopeScaling("yarn", 4.0, 1.0, 32.0, 128)
MODELS = {
    "qwen2": {"biases": "q k v", "rope_theta": 1e6},
    "wide heads, llama3": {"head_dim": 16, "rope_scaling": LLAMA3, "dim": 32},
    "every bias, narrow heads": {"biases": "q k v o gate up down", "head_dim": 4, "rope_scaling": YARN},
}
# of logits of a model of random numbers from float64's, nats
KL = {"float32": 1e-9, "int8": 0.002, "int4": 0.12, "int4-32": 0.05}


@pytest.fixture(scope="module", params=MODELS)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return tiny.checkpoint(seed=5, **MODELS[request.param])


@pytest.mark.parametrize("scheme", KL)
def test_litert_and_the_device_are_close_to_float(checkpoint: Checkpoint, scheme: str) -> None:
    tokens, truth = oracle.sample(checkpoint, CONTEXT, seed=2)
    data = convert(checkpoint, scheme)
    model, prefilled = lite.Model(data, "xnnpack"), lite.Model(data, "xnnpack")
    by_lite = np.array([model.decode(token, position) for position, token in enumerate(tokens)])
    assert oracle.divergence(truth, by_lite) < KL[scheme]
    whole = prefilled.prefill(tokens[:16], 0)
    assert oracle.divergence(by_lite[15:16], whole[None]) < (1e-9 if scheme == "float32" else 0.01)
    for board in ("virtual-m4", "virtual-m0"):
        program = for_board(fuse.program(graph.read(data)), boards.load(board))
        run = interpret.start(program)
        on_device = np.array([interpret.step(program, run, token, position) for position, token in enumerate(tokens)])
        assert oracle.divergence(truth, on_device) < KL[scheme] + (0 if scheme == "float32" else 0.004), board


def test_the_float_model_computes_them(checkpoint: Checkpoint) -> None:
    tokens, truth = oracle.sample(checkpoint, CONTEXT, seed=2)
    logits = float_model.forward(checkpoint.architecture, checkpoint.weights, np.array([tokens]))
    np.testing.assert_allclose(logits[0], truth, atol=2e-4)


def test_the_form_for_the_older_runtime_says_the_same(checkpoint: Checkpoint) -> None:
    new, old = (convert(checkpoint, "int8", runtime=runtime) for runtime in (None, "2.14"))
    by_lite = [lite.Model(data, "reference") for data in (new, old)]
    programs = [fuse.program(graph.read(data)) for data in (new, old)]
    runs = [interpret.start(program) for program in programs]
    for position, token in enumerate([5, 250, 17]):
        rows = [model.decode(token, position) for model in by_lite]
        np.testing.assert_allclose(*rows, atol=0.01)
        steps = [interpret.step(program, run, token, position) for program, run in zip(programs, runs, strict=True)]
        assert np.array_equal(*steps)


@pytest.mark.parametrize(
    ("name", "scheme", "board"),
    [
        ("every bias, narrow heads", "int8", "virtual-m0"),
        ("every bias, narrow heads", "int4", "virtual-m4"),
        ("qwen2", "int8", "virtual-m4"),
        ("wide heads, llama3", "int8", "virtual-m0"),
    ],
)
def test_in_unicorn(name: str, scheme: str, board: str) -> None:
    read, chip = graph.read(convert(tiny.checkpoint(seed=5, **MODELS[name]), scheme)), boards.load(board)
    with unicorn.open(build.build(compile_model(read, chip), chip)) as link:
        assert_equal_to_numpy(read, CONTEXT, lambda token, position: forward(link, token, position), 6, chip)


@pytest.mark.system
def test_with_helium_in_qemu(tool: Callable[[str], str]) -> None:
    tool("qemu-system-arm")
    read, chip = graph.read(convert(tiny.checkpoint(seed=5, **MODELS["qwen2"]), "int8")), boards.load("virtual-m55")
    with qemu.open(build.build(compile_model(read, chip), chip)) as link:
        assert_equal_to_numpy(read, CONTEXT, lambda token, position: forward(link, token, position), 6, chip)


def test_natively(checkpoint: Checkpoint, tmp_path: Path) -> None:
    read = graph.read(convert(checkpoint, "int8"))
    assert_equal_to_numpy(read, CONTEXT, Native(compile_model(read, HOST), tmp_path).step)


# --- frequencies, against the numbers that the formulas give by hand


def test_frequencies_of_llama3() -> None:
    """Pair 0 turns 1 / (2 pi) of 2 pi a position: often in 8192; the slowest not once."""
    shape = Architecture(512, 128, 128, 1, 1, 1, 64, 500000.0, rope_scaling=RopeScaling("llama3", 32.0, 1.0, 4.0, 8192))
    plain = 500000.0 ** (-np.arange(0, 128, 2) / 128)
    found = frequencies(shape)
    turns = 8192 * plain / (2 * np.pi)
    assert np.array_equal(found[turns >= 4], plain[turns >= 4])
    np.testing.assert_allclose(found[turns <= 1], plain[turns <= 1] / 32, rtol=1e-12)
    between = (turns > 1) & (turns < 4)
    assert 0 < between.sum() < 10
    assert np.all((plain / 32 < found)[between] & (found < plain)[between])


def test_plain_and_linear_frequencies() -> None:
    plain = Architecture(512, 8, 8, 1, 1, 1, 64, 10000.0)
    np.testing.assert_allclose(frequencies(plain), [1, 0.1, 0.01, 0.001], rtol=1e-12)
    slow = Architecture(512, 8, 8, 1, 1, 1, 64, 10000.0, rope_scaling=RopeScaling("linear", 4.0))
    np.testing.assert_allclose(frequencies(slow), [0.25, 0.025, 0.0025, 0.00025], rtol=1e-12)


# --- the file, and our own archive


def test_the_card_says_how_rope_is_scaled() -> None:
    card = graph.read(convert(tiny.checkpoint(rope_scaling=LLAMA3, head_dim=16))).card["architecture"]
    expected = {"kind": "llama3", "factor": 8.0, "low": 1.0, "high": 4.0, "original_context": 64}
    assert (card["head_dim"], card["rope_scaling"]) == (16, expected)
    assert "rope_scaling" not in graph.read(convert(tiny.checkpoint())).card["architecture"]


def test_an_archive_keeps_them(checkpoint: Checkpoint, tmp_path: Path) -> None:
    npz.save(checkpoint, tmp_path / "a.npz")
    found = npz.load(tmp_path / "a.npz")
    assert found.architecture == checkpoint.architecture
    assert set(found.weights) == set(checkpoint.weights)
    assert all(np.array_equal(found.weights[name], weight) for name, weight in checkpoint.weights.items())
