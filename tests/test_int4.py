"""4-bit weights on the whole road: the file, LiteRT, the compiler, the device."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import lite
import numpy as np
import oracle
import pytest
import remodel
import tiny
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st
from native import HOST, Native, same_bits

from edge.cli import convert as convert_command
from edge.make.calibrate import Calibration, own_samples
from edge.make.checkpoints import Checkpoint
from edge.make.convert import convert
from edge.make.quantize import BLOCKS, Matrix, quantize
from edge.make.quantize import SCHEMES as SCHEMES_OF_CONVERT
from edge.make.quantize.layerwise import parts_of
from edge.make.quantize.matrices import Rounding, matrices
from firmware_tools import boards, build, fuse, graph, interpret
from firmware_tools.compile import compile_model, needs
from firmware_tools.emulators import unicorn
from firmware_tools.errors import BadFile, UserError
from firmware_tools.packed4 import pack4, pack4_vectors

M4 = boards.load("virtual-m4")
SCHEMES = tuple(BLOCKS)
COUNT = 12


def checkpoint() -> Checkpoint:
    """Rows of 128 columns hold whole blocks of every size; those of 44 hold none, and have a scale each."""
    return tiny.checkpoint(dim=128, hidden_dim=44, heads=8, kv_heads=4)


@pytest.fixture(scope="module", params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def data(scheme: str) -> bytes:
    return convert(checkpoint(), scheme, calibration=texts())


@cache
def texts() -> Calibration:
    return own_samples(checkpoint(), 256)


def nearest(scheme: str) -> dict[str, Matrix]:
    return {
        name: quantize(weights, scheme, coarse=name != "embedding")
        for name, weights in checkpoint().weights.items()
        if weights.ndim == 2
    }


@cache
def made(scheme: str) -> dict[str, Matrix]:
    """The matrices that the file holds."""
    rounding = Rounding(texts())
    return matrices(checkpoint().architecture, checkpoint().weights, scheme, rounding)[0]


def weights_of(scheme: str) -> dict[str, np.ndarray]:
    """The float weights whose matrices are those that the file holds."""
    weights = dict(checkpoint().weights)
    weights["embedding"] = quantize(weights["embedding"], "int8").dequantized()
    for name, matrix in made(scheme).items():
        if name in ("embedding", "head"):
            continue
        weights.update(parts_of(weights, int(name.split(".")[0]), name.split(".")[1], matrix))
    return weights


def ids() -> list[int]:
    return [int(t) for t in np.random.default_rng(3).integers(0, 300, COUNT)]


# --- quantizing


def test_errors_are_within_half_a_step(scheme: str) -> None:
    for name, matrix in nearest(scheme).items():
        assert matrix.scales is not None
        error = np.abs(matrix.dequantized() - checkpoint().weights[name])
        scales = matrix.scales.reshape(len(matrix.scales), -1).astype(np.float32)
        step = np.repeat(scales, matrix.values.shape[1] // scales.shape[1], axis=1)
        most = 127 if name == "embedding" else 7
        assert np.abs(matrix.values).max() == most
        # a scale in half precision may put the largest weight a little outside: 7.5 half-steps of its 2^-11
        assert (error <= step * (0.5 + 7 * 2.0**-11)).all()


def test_rows_that_hold_no_whole_blocks_have_a_scale_each(scheme: str) -> None:
    scales = nearest(scheme)["0.down"].scales
    assert scales is not None and scales.shape == (128,) and scales.dtype == np.float32


def test_zeros_stay_zeros(scheme: str) -> None:
    matrix = quantize(np.zeros((4, 128), np.float32), scheme)
    assert not matrix.dequantized().any() and matrix.scales is not None and (matrix.scales > 0).all()


# --- the file


def test_the_reader_gives_the_integers_back(data: bytes, scheme: str) -> None:
    kept = [t for t in graph.read(data).subgraphs[0].tensors if t.dtype == "int4"]
    assert len(kept) == 8 and all(tensor.data is not None and tensor.data.dtype == np.int8 for tensor in kept)
    o = next(tensor for tensor in kept if tensor.shape == (128, 128))
    assert np.array_equal(o.data, made(scheme)["0.o"].values)  # type: ignore[arg-type]


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=9))
def test_nibbles(values: list[int]) -> None:
    raw = np.array([v & 15 for v in values] + [0] * (len(values) % 2), np.uint8)
    packed = raw[::2] | raw[1::2] << 4
    assert graph._nibbles(packed, (len(values),), "x").unpacked().tolist() == values


def test_a_buffer_of_the_wrong_size_is_refused(data: bytes) -> None:
    def cut(model: object) -> None:
        tensors = remodel.decode(model).tensors
        tensor = next(t for t in tensors if t.type == schema.TensorType.INT4)
        model.buffers[tensor.buffer].data = model.buffers[tensor.buffer].data[:-1]  # type: ignore[attr-defined]

    with pytest.raises(BadFile, match=r"bytes of data where int4\[256, 128\] takes 16384"):
        graph.read(remodel.edited(data, cut))


@pytest.mark.parametrize(("key", "value"), [("scales", 99_999), ("scales", 0), ("blockSize", 24), ("blockSize", 0)])
def test_blocks_that_cannot_be_are_not_understood(key: str, value: int) -> None:
    def change(model: object) -> None:
        for tensor in remodel.decode(model).tensors:
            if tensor.type == schema.TensorType.INT4 and tensor.quantization.details is not None:
                setattr(tensor.quantization.details, key, value)

    broken = graph.read(remodel.edited(convert(checkpoint(), "int4-32", calibration=texts()), change))
    with pytest.raises(UserError, match="does not understand"):
        fuse.program(broken)


@pytest.mark.parametrize("kernels", ["xnnpack"])
def test_litert_computes_what_the_integers_say(data: bytes, scheme: str, kernels: str) -> None:
    """KL from the float decoder with the dequantized weights: what remains is the int8 rows of activations."""
    exact, model = oracle.Decoder(replace(checkpoint(), weights=weights_of(scheme))), lite.Model(data, kernels)
    truth = [exact.step(token, position) for position, token in enumerate(ids())]
    logits = [model.decode(token, position) for position, token in enumerate(ids())]
    divergence = oracle.divergence(np.array(truth), np.array(logits))
    print(f"{scheme} in LiteRT with {kernels}: KL {divergence:.5f} from the float decoder of the same weights")
    assert divergence < 0.005


# --- the device


def test_numpy_native_and_cortex_agree(data: bytes, tmp_path: Path) -> None:
    read = graph.read(data)
    program = fuse.program(read)
    assert sum(call.op == "fully_connected_int4" for call in program.calls) == 8
    run = interpret.start(program)
    expected = [interpret.step(program, run, token, position) for position, token in enumerate(ids())]
    native = Native(compile_model(read, HOST), tmp_path, sanitize=True)
    with unicorn.open(build.build(compile_model(read, M4), M4)) as link:
        for position, token in enumerate(ids()):
            link.forward(token, position)
            assert same_bits(native.step(token, position), expected[position])
            assert same_bits(link.logits(), expected[position])


def test_device_and_litert_agree(data: bytes) -> None:
    program, model = fuse.program(graph.read(data)), lite.Model(data, "xnnpack")
    run = interpret.start(program)
    device = [interpret.step(program, run, token, position) for position, token in enumerate(ids())]
    host = [model.decode(token, position) for position, token in enumerate(ids())]
    assert oracle.divergence(np.array(host), np.array(device)) < 0.01


def test_flash_is_half(scheme: str, data: bytes) -> None:
    """Of the matrices that are int4; with blocks, a scale in half precision for each is in it."""
    whole, small = (needs(graph.read(d), M4).weight_bytes for d in (convert(checkpoint(), "int8"), data))
    rows = checkpoint().weights
    matrix_bytes = sum(w.size for name, w in rows.items() if w.ndim == 2 and name != "embedding")
    saved = (whole - small) / matrix_bytes
    block = BLOCKS[scheme]
    print(f"{scheme}: {1 - saved:.3f} of the int8 matrices' bytes")
    assert saved > (0.42 if block == 32 else 0.45)


def test_packing() -> None:
    matrix = np.array([[-8, 7, 1, 0], [0, 1, 2, 3], [-1, -2, -3, -4], [4, 5, 6, 7], [7, 7, 7, 7]], np.int8)
    stored = pack4(matrix).reshape(2, 4)
    assert [hex(halfword) for halfword in stored[0]] == ["0x4780", "0x65a9", "0x569f", "0x74b8"]  # columns 0, 2, 1, 3
    assert {hex(halfword) for halfword in stored[1]} == {"0x88f"}


def test_the_command_line_offers_every_scheme() -> None:
    (option,) = (p for p in convert_command.params if p.name == "quantize")
    assert set(SCHEMES_OF_CONVERT) <= set(option.type.choices)  # type: ignore[attr-defined]


def test_vectors_hold_a_row_in_halves_of_bytes() -> None:
    matrix = (np.arange(5 * 40) % 15 - 7).astype(np.int8).reshape(5, 40)
    stored = pack4_vectors(matrix).view(np.int8).reshape(2, 2, 4, 16)  # group, vector, row, byte
    low, high = (stored << 4) >> 4, stored >> 4
    assert low[0, 0, 1].tolist() == matrix[1, :16].tolist()
    assert high[0, 0, 1].tolist() == matrix[1, 16:32].tolist()
    assert low[1, 1, 0].tolist() == [*matrix[4, 32:], *[0] * 8]
    assert not high[1, 1].any() and not stored[1, :, 1:].any()
