"""Whole models on cores without FPU: integers from the embedding to the logits, close to float and within budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracle
import pytest
import texts
import tiny
from native import HOST, Native

from edge.make.checkpoints import Checkpoint
from edge.make.convert import convert
from edge.run.target import parse
from firmware_tools import boards, build, fuse, graph, interpret
from firmware_tools.bfp_program import for_board
from firmware_tools.boards import Board
from firmware_tools.compile import compile_model
from firmware_tools.emulators import qemu, unicorn
from firmware_tools.errors import UserError
from firmware_tools.link import Link
from firmware_tools.program import DecoderProgram

M0 = boards.load("virtual-m0")
TOKENS = [1, 403, 407, 261, 378, 3, 2, 5, 100, 7, 9, 250, 12, 299, 21, 1]  # of any model here
KL = 0.003  # nats per token from the float model, over more than 2,000 tokens
CASES = ("stories", "shipped")


@pytest.fixture(scope="module", params=CASES)
def model(request: pytest.FixtureRequest) -> tuple[Checkpoint, texts.Texts]:
    return texts.shipped() if request.param == "shipped" else texts.stories(request.getfixturevalue("shared_data"))


def program(read: graph.Graph, board: Board, context: int | None = None) -> DecoderProgram:
    return for_board(fuse.program(read, context), board)


def assert_equal_to_numpy(decoder: DecoderProgram, step: Callable[[int, int], np.ndarray]) -> None:
    run = interpret.start(decoder)
    for position, token in enumerate(token % decoder.vocab_size for token in TOKENS):
        expected = interpret.step(decoder, run, token, position)
        assert expected.tobytes() == np.asarray(step(token, position), np.float32).tobytes(), f"position {position}"


def on_board(link: Link) -> Callable[[int, int], np.ndarray]:
    def step(token: int, position: int) -> np.ndarray:
        link.forward(token, position)
        return np.asarray(link.logits())

    return step


def test_integers_are_close_to_float(model: tuple[Checkpoint, texts.Texts]) -> None:
    checkpoint, spoken = model
    decoder = program(graph.read(convert(checkpoint, "int8")), M0)
    logits = []
    for tokens, _ in spoken:
        run = interpret.start(decoder)
        logits += [interpret.step(decoder, run, token, position) for position, token in enumerate(tokens)]
    truth, found = np.concatenate([rows for _, rows in spoken]), np.array(logits)
    divergence, same = oracle.divergence(truth, found), np.mean(truth.argmax(1) == found.argmax(1))
    print(f"KL {divergence:.5f} nats, top-1 {same:.3f} over {len(truth)} tokens")
    assert len(truth) >= texts.LEAST
    assert divergence < KL
    assert same > 0.96


def test_a_model_of_random_numbers_is_close_to_float() -> None:
    checkpoint = tiny.checkpoint()
    tokens, truth = oracle.sample(checkpoint, checkpoint.architecture.context, 0)
    decoder = program(graph.read(convert(checkpoint, "int8")), M0)
    run = interpret.start(decoder)
    found = np.array([interpret.step(decoder, run, token, position) for position, token in enumerate(tokens)])
    assert oracle.divergence(truth, found) < 0.003


@pytest.mark.parametrize(
    ("name", "most", "weight_bytes"),
    [
        ("virtual-m0", 985_000, 270_000),
        ("virtual-m0+wide", 784_000, 530_000),
        ("virtual-m3", 754_000, 270_000),
        ("virtual-m3+wide", 630_000, 530_000),
    ],
)
def test_in_unicorn(shared_data: Path, name: str, most: int, weight_bytes: int) -> None:
    """stories260K: equal to numpy, and within budget in instructions at position 15 and in bytes."""
    read, board = graph.read(convert(texts.stories(shared_data)[0], "int8", 128)), boards.load(name)
    image = build.build(compile_model(read, board), board)
    with unicorn.open(image, counting=True) as link:
        assert_equal_to_numpy(program(read, board), on_board(link))
        count = link.forward(3, 15)
    ram_bytes = image.sizes.arena_bytes + image.sizes.kv_cache_bytes
    print(f"{name}: {count:,} at 15; code {image.sizes.code_bytes:,}, arena + KV cache {ram_bytes:,}")
    assert count is not None and most * 0.97 < count <= most
    assert image.sizes.weight_bytes <= weight_bytes
    assert ram_bytes <= 51_600


@pytest.mark.system
def test_in_qemu(tool: Callable[[str], str]) -> None:
    tool("qemu-system-arm")
    read = graph.read(convert(tiny.checkpoint(), "int8"))
    with qemu.open(build.build(compile_model(read, M0), M0)) as link:
        assert_equal_to_numpy(program(read, M0), on_board(link))


def test_natively(tmp_path: Path) -> None:
    read, host = graph.read(convert(tiny.checkpoint(), "int8")), replace(HOST, features=frozenset())
    assert_equal_to_numpy(program(read, host), Native(compile_model(read, host), tmp_path).step)


def test_float_models_stay_in_float() -> None:
    read = graph.read(convert(tiny.checkpoint(), "float32"))
    assert [call.op for call in program(read, M0).calls] == [call.op for call in fuse.program(read).calls]


def test_going_back_forgets_what_lay_behind() -> None:
    decoder = program(graph.read(convert(tiny.checkpoint(), "int8")), M0)
    straight, winding = interpret.start(decoder), interpret.start(decoder)
    for position, token in enumerate([5, 6, 7]):
        expected = interpret.step(decoder, straight, token, position)
    for position, token in [(0, 5), (1, 100), (2, 101), (3, 102), (1, 6), (2, 7)]:
        found = interpret.step(decoder, winding, token, position)
    assert expected.tobytes() == found.tobytes()


def test_options_of_boards() -> None:
    wide = boards.load("virtual-m0+wide")
    assert (wide.name, wide.full_name) == ("virtual-m0", "virtual-m0+wide")
    assert str(parse("virtual-m0+wide@unicorn")) == "virtual-m0+wide@unicorn"
    with pytest.raises(UserError, match="virtual-m4 has no option 'wide'"):
        boards.load("virtual-m4+wide")
    with pytest.raises(UserError, match="virtual-m0 has no option 'fast'") as caught:
        boards.load("virtual-m0+fast")
    assert caught.value.hint == "its options: virtual-m0+wide"
