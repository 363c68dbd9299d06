"""`int4-grid`: the 4-bit blocks of a GGUF, kept as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf_files
import numpy as np
import pytest
import tiny
from gguf import GGMLQuantizationType as Type
from lite import Model
from oracle import sample

from edge.make import checkpoints, forward
from edge.make.checkpoints import Checkpoint, Grid
from edge.make.convert import convert
from edge.make.quantize.grid import on_grid
from firmware_tools import boards, build, graph
from firmware_tools.compile import compile_model
from firmware_tools.emulators import unicorn
from firmware_tools.errors import BadFile, UserError

BFLOAT16 = 2.0**-8  # what rounding to 8 significant bits moves a number by, at most
HALF = 2.0**-11


def source(tmp_path: Path, kind: Type, **changes: object) -> Checkpoint:
    written = tiny.checkpoint(**{"hidden_dim": 64, "dim": 128, "heads": 4, "kv_heads": 2, **changes})
    return checkpoints.load(gguf_files.write(tmp_path / "tiny.gguf", written, kind))


def weights_of(grid: Grid) -> np.ndarray:
    block = grid.values.shape[1] // grid.scales.shape[1]
    scales, offsets = (np.repeat(part, block, axis=1) for part in (grid.scales, grid.offsets))
    return np.asarray(scales * grid.values + offsets, np.float32)


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_1], ids=lambda kind: kind.name)
def test_grids_are_the_weights_of_the_file(kind: Type, tmp_path: Path) -> None:
    read = source(tmp_path, kind)
    assert set(read.grids) == {name for name, weight in read.weights.items() if weight.ndim == 2}
    for name, grid in read.grids.items():
        assert grid.values.min() >= -8 and grid.values.max() <= 7
        np.testing.assert_allclose(weights_of(grid), read.weights[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_1], ids=lambda kind: kind.name)
def test_what_is_lost_is_the_rounding_of_the_scales(kind: Type, tmp_path: Path) -> None:
    read = source(tmp_path, kind)
    for name, grid in read.grids.items():
        matrix = on_grid([grid])
        assert matrix.scales is not None and matrix.offsets is not None
        assert (matrix.scales >= 2.0**-14).all()
        same = matrix.scales.astype(np.float32).view(np.uint32) & 0xFFFF
        assert not same.any()  # bfloat16 already: no kernel rounds them again
        error = np.abs(matrix.dequantized() - read.weights[name])
        most = np.abs(grid.scales) * 15 * BFLOAT16 + (np.abs(grid.offsets) + np.abs(grid.scales)) * HALF
        assert (error <= np.repeat(most, 32, axis=1) * 1.01 + 1e-6).all()


def test_blocks_of_equal_or_tiny_weights_and_negative_scales() -> None:
    values = np.tile(np.arange(-8, 8, dtype=np.int8).repeat(2), (1, 4))
    scales = np.array([[0.0, 1e-6, -0.5, 0.25]], np.float32)
    offsets = np.array([[0.125, 0.5, 1.0, -2.0]], np.float32)
    matrix = on_grid([Grid(values, scales, offsets)])
    assert matrix.scales is not None and (matrix.scales >= 2.0**-14).all()
    error = np.abs(matrix.dequantized() - weights_of(Grid(values, scales, offsets)))
    assert error[:, :64].max() <= 2.0**-14 and error[:, 64:].max() == 0


@pytest.mark.parametrize(
    ("scale", "offset", "words"), [(np.nan, 0.0, "not all finite"), (1.0, np.inf, "not all finite"), (1e5, 0, "beyond")]
)
def test_numbers_that_no_block_has(scale: float, offset: float, words: str) -> None:
    one = np.ones((1, 1), np.float32)
    with pytest.raises(BadFile, match=words):
        on_grid([Grid(np.ones((1, 32), np.int8), one * np.float32(scale), one * np.float32(offset))])


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_1], ids=lambda kind: kind.name)
def test_litert_computes_the_source(kind: Type, tmp_path: Path) -> None:
    """XNNPACK against the float model of the file, and nearer to it than the 4-bit blocks rounded anew."""
    read = source(tmp_path, kind)
    tokens, _ = sample(read, read.architecture.context, seed=3)
    truth = forward.forward(read.architecture, read.weights, np.array(tokens)[None])[0]
    lost = {}
    for scheme in ("int4-grid", "int8", "int4-32"):
        model = Model(convert(read, scheme), "xnnpack")
        logits = np.array([model.decode(int(token), at) for at, token in enumerate(tokens)])
        lost[scheme] = forward.divergence(truth, logits)
    assert lost["int4-grid"] < 2 * lost["int8"] + 1e-4
    assert lost["int4-grid"] < lost["int4-32"] / 2  # which rounds with compensation, but rounds


def test_a_device_computes_what_the_host_does(tmp_path: Path) -> None:
    read = source(tmp_path, Type.Q4_1)
    tokens, _ = sample(read, read.architecture.context, seed=3)
    file, board = convert(read, "int4-grid"), boards.load("virtual-m4")
    host = Model(file, "xnnpack")
    on_host, on_device = [], []
    with unicorn.open(build.build(compile_model(graph.read(file), board), board)) as link:
        for position, token in enumerate(tokens):
            on_host.append(host.decode(int(token), position))
            link.forward(int(token), position)
            on_device.append(link.logits())
    assert forward.divergence(np.array(on_host), np.array(on_device)) <= 0.005


def test_a_part_without_blocks_is_int8(tmp_path: Path) -> None:
    read = source(tmp_path, Type.Q4_1)
    some = {name: grid for name, grid in read.grids.items() if not name.endswith("down")}
    sizes = [len(convert(replace(read, grids=grids), "int4-grid")) for grids in (read.grids, some)]
    assert sizes[0] < sizes[1]


def test_a_source_without_blocks_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keeps the 4-bit blocks that a source is made of, and this one has none"):
        convert(source(tmp_path, Type.Q8_0), "int4-grid")
