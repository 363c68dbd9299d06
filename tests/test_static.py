"""The schemes whose activations are integers: against the float64 oracle, in LiteRT's kernels of both sets."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import texts
import tiny
from lite import RESOLVERS, Model
from oracle import divergence, sample

from edge.make.calibrate import Calibration, own_samples
from edge.make.checkpoints import Checkpoint
from edge.make.convert import convert
from edge.make.forward import forward
from edge.make.quantize import STATIC
from edge.make.quantize.activations import KINDS_16
from edge.make.quantize.equalise import equalised
from edge.make.quantize.integers import Grid, grid_of, least_error
from firmware_tools import boards, graph
from firmware_tools.compile import needs
from firmware_tools.errors import UserError

KERNELS = sorted(RESOLVERS)
LIMITS = {"int8-static": 0.03, "int8-static+int16": 0.01, "int16x8": 0.004}  # KL in nats a token
CALIBRATION_SEED = 7
SHAPES = {
    "grouped": {},
    "untied, other heads": {"head_dim": 6, "kv_heads": 1},
    "one layer, one head": {"layers": 1, "heads": 1, "kv_heads": 1, "dim": 6, "hidden_dim": 5, "head_dim": 6},
}


def checkpoint_of(name: str) -> Checkpoint:
    made = tiny.checkpoint(tied=not name.startswith("untied"), **SHAPES[name])
    if name != "grouped":
        return made
    random = np.random.default_rng(1)
    biases = {f"0.{part}_bias": made.weights[f"0.{part}"].shape[0] for part in ("q", "k", "up", "down")}
    drawn = {key: random.standard_normal(size).astype(np.float32) for key, size in biases.items()}
    return replace(made, weights={**made.weights, **drawn})


@cache
def tiny_file(scheme: str, name: str = "grouped") -> bytes:
    checkpoint = checkpoint_of(name)
    return convert(checkpoint, scheme, prefill=5, calibration=own_samples(checkpoint, 1024, CALIBRATION_SEED))


@cache
def stories_file(data: Path, scheme: str) -> bytes:
    checkpoint, _ = texts.stories(data)
    return convert(checkpoint, scheme, 256, calibration=own_samples(checkpoint, 2048, CALIBRATION_SEED))


@cache
def shipped_file(scheme: str) -> bytes:
    checkpoint, spoken = texts.shipped()
    ids = tuple(np.array(tokens, np.int32) for tokens, _ in spoken[::2])
    return convert(checkpoint, scheme, calibration=Calibration(ids, "every other text"))


def kl_of(data: bytes, kernels: str, spoken: texts.Texts) -> float:
    rows = []
    for tokens, _ in spoken:
        model = Model(data, kernels)
        rows.append([model.decode(token, position) for position, token in enumerate(tokens)])
    return divergence(np.concatenate([truth for _, truth in spoken]), np.concatenate(rows))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("scheme", STATIC)
def test_stories_differ_little_from_float(shared_data: Path, scheme: str, kernels: str) -> None:
    _, spoken = texts.stories(shared_data)
    assert sum(len(tokens) for tokens, _ in spoken) >= texts.LEAST
    assert kl_of(stories_file(shared_data, scheme), kernels, spoken) <= LIMITS[scheme]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("scheme", STATIC)
def test_the_shipped_model_differs_little_from_float(scheme: str, kernels: str) -> None:
    """On texts that it was not calibrated with."""
    _, spoken = texts.shipped()
    assert kl_of(shipped_file(scheme), kernels, spoken[1::4]) <= LIMITS[scheme]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("scheme", STATIC)
@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_differs_little_from_float(name: str, scheme: str, kernels: str) -> None:
    checkpoint = checkpoint_of(name)
    spoken = []
    for seed in range(6):
        tokens, _ = sample(replace(checkpoint, weights=dict(tiny.checkpoint(**SHAPES[name]).weights)), 24, seed)
        spoken.append((tokens, forward(checkpoint.architecture, checkpoint.weights, np.array([tokens]))[0]))
    assert kl_of(tiny_file(scheme, name), kernels, spoken) <= LIMITS[scheme]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("scheme", STATIC)
def test_prefill_agrees_with_decode(scheme: str, kernels: str) -> None:
    """As near as the kernels are to each other: they round the same numbers by other ways for one row and for many."""
    one, many = Model(tiny_file(scheme), kernels), Model(tiny_file(scheme), kernels)
    tokens = np.random.default_rng(2).integers(0, tiny.SHAPE.vocab_size, 24)
    by_decode, by_prefill, position = [], [], 0
    for length in (5, 1, 3, 5, 2, 5, 3):
        part = [int(token) for token in tokens[position : position + length]]
        by_decode.append([one.decode(token, position + at) for at, token in enumerate(part)][-1])
        by_prefill.append(many.prefill(part, position))
        position += length
    assert divergence(np.array(by_decode), np.array(by_prefill)) < LIMITS[scheme] / 3
    for name, rows in one.caches.items():
        np.testing.assert_allclose(many.caches[name][:, :position], rows[:, :position], atol=0.3)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("scheme", STATIC)
def test_what_masked_rows_hold_is_of_no_matter(scheme: str, kernels: str) -> None:
    clean, stale = Model(tiny_file(scheme), kernels), Model(tiny_file(scheme), kernels, filling=1e20)
    for position, token in enumerate((1, 17, 250, 3)):
        np.testing.assert_array_equal(clean.decode(token, position), stale.decode(token, position))
    np.testing.assert_array_equal(clean.prefill([5, 6], 4), stale.prefill([5, 6], 4, padding=9))


@pytest.mark.parametrize("scheme", STATIC)
def test_activations_are_integers(scheme: str) -> None:
    """Float is what QUANTIZE reads and DEQUANTIZE gives; int8-static has 8 bits alone."""
    for subgraph in graph.read(tiny_file(scheme)).subgraphs:
        for operator in subgraph.operators:
            types = {subgraph.tensors[index].dtype for index in operator.inputs + operator.outputs if index >= 0}
            if "float32" in types:
                assert operator.op in ("QUANTIZE", "DEQUANTIZE")
            if scheme == "int8-static":
                assert "int16" not in types


def test_the_same_texts_give_the_same_bytes() -> None:
    checkpoint = checkpoint_of("grouped")
    again = own_samples(checkpoint, 1024, CALIBRATION_SEED)
    assert convert(checkpoint, "int8-static", prefill=5, calibration=again) == tiny_file("int8-static")
    other = own_samples(checkpoint, 1024, CALIBRATION_SEED + 1)
    assert convert(checkpoint, "int8-static", prefill=5, calibration=other) != tiny_file("int8-static")


def test_equalised_weights_compute_the_same() -> None:
    checkpoint = checkpoint_of("grouped")
    shape, weights = checkpoint.architecture, checkpoint.weights
    ids = np.random.default_rng(0).integers(0, shape.vocab_size, (4, 20))
    seen: dict[str, np.ndarray] = {}
    expected = forward(shape, weights, ids, lambda name, values: seen.update({name: values}))
    layer = {name[2:]: weight for name, weight in weights.items() if name.startswith("0.")}
    facts = {name: seen[f"0.{name}"].reshape(80, -1) for name in ("attention_norm", "ffn_norm", "gate", "up", "swiglu")}
    facts["silu"] = facts["gate"] / (1 + np.exp(-facts["gate"]))
    made, _ = equalised(layer, facts)
    assert any(not np.array_equal(made[name], layer[name]) for name in ("q", "up", "down"))
    changed = {**weights, **{f"0.{name}": weight for name, weight in made.items()}}
    np.testing.assert_allclose(forward(shape, changed, ids), expected, atol=1e-3)


def test_grids_hold_zero_and_their_range() -> None:
    for lowest, highest in ((-3.0, 5.0), (2.0, 7.0), (-9.0, -1.0), (0.0, 0.0)):
        for bits in (8, 16):
            grid = grid_of(lowest, highest, bits)
            back = (grid.numbers(np.array([0.0, lowest, highest])) - float(grid.zero_point)) * grid.scale
            np.testing.assert_allclose(back, [0, lowest, highest], atol=float(grid.scale))
            assert back[0] == 0
    wide = Grid(8, np.float32(0.1), -7).widened
    assert (wide.bits, wide.zero_point) == (16, 0)


def test_an_outlier_is_clipped_where_that_is_the_smaller_error() -> None:
    values = np.append(np.random.default_rng(0).standard_normal(100_000), 12.0)
    assert least_error(values).scale < grid_of(float(values.min()), 12.0, 8).scale
    even = np.linspace(-1, 1, 1000)
    assert least_error(even).scale == grid_of(-1, 1, 8).scale


@pytest.mark.parametrize("scheme", STATIC)
def test_a_board_refuses_them_with_one_error(scheme: str) -> None:
    with pytest.raises(UserError, match="boards do not compute") as caught:
        needs(graph.read(tiny_file(scheme)), boards.load("virtual-m4"))
    assert "\n" not in caught.value.message


def test_kinds_of_16_bits_are_kinds() -> None:
    assert set(KINDS_16) == set(STATIC)
