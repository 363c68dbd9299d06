"""Stock converters on the same weights: what they and we should agree on, they and we agree on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge.make.calibrate import own_samples
from edge.make.convert import convert
from edge.make.forward import divergence, forward
from edge.make.losses import matrices
from edge.make.stored import StoredMatrices
from firmware_tools import graph
from tests import stock, tiny

pytestmark = pytest.mark.tf
pytest.importorskip("ai_edge_quantizer")

CHECKPOINT = tiny.checkpoint(dim=64, hidden_dim=96)  # TensorFlow leaves matrices of less than 1,024 numbers in float
CONTEXT = CHECKPOINT.architecture.context
PARTS = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}


def sources() -> dict[str, np.ndarray]:
    """The float matrices as our file stacks them; the tied head as `head`."""
    weights, found = CHECKPOINT.weights, {}
    for name in matrices(CHECKPOINT):
        layer, _, part = name.rpartition(".")
        rows = [weights[f"{layer}.{each}"] for each in PARTS[part]] if layer else [weights["embedding"]]
        found[name if layer else "head"] = np.concatenate(rows)
    return found


def stored_int8(data: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """(integers, scale of each row) of every int8 matrix of the file."""
    facts = graph.read(data)
    return [
        (tensor.data, np.broadcast_to(tensor.quantization.scale, tensor.shape[:1]))
        for tensor in facts.subgraphs[facts.signatures["decode"].subgraph].tensors
        if tensor.data is not None and tensor.dtype == "int8" and tensor.quantization is not None
        if len(tensor.shape) == 2 and tensor.quantization.scale.size in (1, len(tensor.data))
    ]


def rows_of(data: bytes) -> Any:
    """A lookup of a float row in the file: (integers, scale) of the stored row next to it, in units of its scale."""
    rows = [(values[i], scales[i]) for values, scales in stored_int8(data) for i in range(len(values))]
    by_size: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for size in {len(values) for values, _ in rows}:
        same = [(values, scale) for values, scale in rows if len(values) == size]
        by_size[size] = np.array([v for v, _ in same]), np.array([s for _, s in same])

    def find(row: np.ndarray) -> tuple[np.ndarray, float]:
        values, scales = by_size[len(row)]
        best = int(np.abs(values * scales[:, None] - row).max(axis=1).argmin())
        return values[best], float(scales[best])

    return find


def logits(data: bytes, ids: np.ndarray) -> np.ndarray:
    shape = CHECKPOINT.architecture
    loop = stock.Loop(data, shape.kv_heads, shape.head_dim, CONTEXT)
    return np.array([loop.decode(int(token), position) for position, token in enumerate(ids)])


@pytest.fixture(scope="module")
def ours() -> bytes:
    return stock.decode_only(convert(CHECKPOINT, "float32"))


def check_rows(theirs: bytes, names: set[str]) -> None:
    """Each weight of ours lies within a step of theirs; theirs is the row, rounded to nearest."""
    find, mine = rows_of(theirs), StoredMatrices(graph.read(convert(CHECKPOINT, "int8")))
    for name, exact in sources().items():
        if name.rpartition(".")[2] in names:
            for row, float_row in zip(mine.matrix(name, exact.shape), exact, strict=True):
                values, scale = find(float_row)
                assert np.abs(values * scale - float_row).max() <= 0.51 * scale, f"{name}: theirs is another row"
                assert np.abs(values * scale - row).max() <= 1.01 * scale, name


def test_int8_is_that_of_ai_edge_quantizer(ours: bytes) -> None:
    check_rows(stock.quantizer(ours, "dynamic wi8"), {*PARTS, "head"})


def test_int8_is_tensorflows_dynamic_range() -> None:
    """TensorFlow folds the gains of a norm into the matrices behind it; `o` and `down` have none before them."""
    check_rows(stock.tensorflow(CHECKPOINT, CONTEXT, "dynamic range"), {"o", "down"})


def test_theirs_of_our_float_graph_answers_as_ours_does(ours: bytes) -> None:
    """The same scheme by two converters in one runtime: the same KL from the float model, but for the embedding."""
    ids = own_samples(CHECKPOINT, CONTEXT, seed=3).ids[0]
    truth = forward(CHECKPOINT.architecture, CHECKPOINT.weights, ids[None])[0]
    found = logits(stock.quantizer(ours, "dynamic wi8"), ids)
    mine = logits(stock.decode_only(convert(CHECKPOINT, "int8")), ids)
    assert 1e-6 < divergence(truth, found) < 0.02
    assert divergence(truth, mine) < 2 * divergence(truth, found) + 1e-3


@pytest.fixture(scope="module")
def floating() -> bytes:
    return stock.tensorflow(CHECKPOINT, CONTEXT, "float32")


def test_rebuilt_decoder_is_the_same_model(floating: bytes) -> None:
    """What TensorFlow is given is the model: else the table would compare two."""
    ids = own_samples(CHECKPOINT, CONTEXT, seed=4).ids[0]
    truth = forward(CHECKPOINT.architecture, CHECKPOINT.weights, ids[None])[0]
    assert divergence(truth, logits(floating, ids)) < 1e-9


def test_static_files_of_theirs_are_read_with_their_scales(floating: bytes) -> None:
    """Full int8: the cache goes in and out in other scales, which the loop must translate; clipping costs more."""
    steps = list(stock.calibration_inputs(CHECKPOINT, floating, own_samples(CHECKPOINT, CONTEXT, seed=1).ids))
    ids = own_samples(CHECKPOINT, CONTEXT, seed=5).ids[0]
    truth = forward(CHECKPOINT.architecture, CHECKPOINT.weights, ids[None])[0]
    true, moving = (
        divergence(truth, logits(stock.quantizer(floating, "static a8w8", steps, ranges), ids))
        for ranges in (True, False)
    )
    assert true < 0.3 and true < moving
