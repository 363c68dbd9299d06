"""Converting without holding the model: memory that layers do not add to, whole files or none, and the same bytes."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from edge import zoo
from edge.make import checkpoints, convert, gapped, quantize, spill, tflite
from edge.make.calibrate import Calibration
from edge.make.checkpoints import Architecture, Checkpoint, expected_shapes
from edge.make.quantize.mixed import Budget
from firmware_tools import graph, mapped
from firmware_tools.errors import BadFile, UserError

LAYER = Architecture(vocab_size=300, dim=256, hidden_dim=1024, layers=1, heads=4, kv_heads=2, context=16)
TEXTS = Calibration(tuple(np.arange(at, at + 12, dtype=np.int32) for at in range(0, 96, 12)), "a test")
LAYER_WEIGHTS = 2 * 256 * 256 + 2 * 128 * 256 + 3 * 1024 * 256


class Lazy(Mapping[str, np.ndarray]):
    """Weights that are made when they are asked for; counts how often each was."""

    def __init__(self, shape: Architecture, stop: Callable[[str], None] = lambda name: None) -> None:
        self.shapes = expected_shapes(shape, tied=True)
        self.stop = stop
        self.read: dict[str, int] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        self.stop(name)
        self.read[name] = self.read.get(name, 0) + 1
        random = np.random.default_rng(sorted(self.shapes).index(name))
        return random.standard_normal(self.shapes[name], np.float32)

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def lazy(stop: Callable[[str], None] = lambda name: None, **changes: int) -> Checkpoint:
    shape = replace(LAYER, **changes)
    return replace(tiny.checkpoint(), architecture=shape, weights=Lazy(shape, stop))


@pytest.mark.skipif(os.name == "nt", reason="the file is read back as a whole on Windows")
@pytest.mark.parametrize("scheme", ["int8", "int4-32"])
def test_memory_does_not_grow_with_the_layers(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten layers more take less than half a layer's int8 weights more at the peak, graph and all.

    numpy's memory is traced; mappings are not, and there only the read-back is one that touches what it maps.
    """
    monkeypatch.setattr(mapped, "MAPPED_BYTES", 1 << 20)

    def peak(layers: int) -> int:
        tracemalloc.start()
        texts = None if scheme == "int8" else TEXTS  # int8 takes none by itself
        convert.convert_to(tmp_path / "model.tflite", lazy(layers=layers), scheme, calibration=texts)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(1)  # what is imported and cached once
    few, many = peak(2), peak(12)
    assert (tmp_path / "model.tflite").stat().st_size > 5 * LAYER_WEIGHTS
    assert many - few < LAYER_WEIGHTS / 2


def test_each_weight_is_read_once(tmp_path: Path) -> None:
    checkpoint = lazy(layers=3)
    convert.convert_to(tmp_path / "model.tflite", checkpoint)
    assert isinstance(checkpoint.weights, Lazy)
    assert checkpoint.weights.read == dict.fromkeys(checkpoint.weights, 1)


@pytest.mark.parametrize("scheme", [name for name in quantize.SCHEMES if name != quantize.GRID])
def test_a_file_has_the_bytes_that_convert_gives(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = lazy(layers=2)
    monkeypatch.setattr(spill, "SMALLEST", 1)
    monkeypatch.setattr(spill, "PART", 1000)
    form = {"prefill": 5, "calibration": TEXTS, "budget": Budget(kl=20.0)}
    read = convert.convert_to(tmp_path / "model.tflite", checkpoint, scheme, **form)
    data = convert.convert(checkpoint, scheme, **form)
    assert (tmp_path / "model.tflite").read_bytes() == data
    assert read.sha256 == graph.read(data).sha256


def test_the_shipped_model_comes_out_byte_for_byte(tmp_path: Path) -> None:
    folder = zoo.folder() / "intent"
    convert.convert_to(tmp_path / "intent.tflite", checkpoints.load(folder / "checkpoint.npz"))
    assert (tmp_path / "intent.tflite").read_bytes() == (folder / "intent.tflite").read_bytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt, BadFile("a truncated shard")])
def test_what_stops_half_way_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    def stop(name: str) -> None:
        if name == "2.down":
            raise error

    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")
    with pytest.raises(error if isinstance(error, type) else type(error)):
        convert.convert_to(path, lazy(stop, layers=4))
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"old"


def test_a_card_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="does not make a model: the card's name is out of range"):
        convert.convert_to(tmp_path / "model.tflite", tiny.checkpoint(card={"name": ""}))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        convert.convert_to(tmp_path / "missing" / "model.tflite", tiny.checkpoint())


@pytest.mark.parametrize(("scheme", "layers"), [("float32", 40), ("int8", 150), ("int4-32", 300)])
def test_a_model_of_more_than_two_gigabytes_is_refused_at_once(scheme: str, layers: int, tmp_path: Path) -> None:
    def never(name: str) -> None:
        raise AssertionError(f"{name} was read")

    large = {"dim": 2048, "hidden_dim": 4096, "heads": 16, "kv_heads": 4, "layers": layers}
    with pytest.raises(UserError, match="a .tflite holds 2 GiB") as error:
        convert.convert_to(tmp_path / "model.tflite", lazy(never, **large), scheme)
    assert error.value.hint and not list(tmp_path.iterdir())


def test_the_writer_itself_refuses_what_a_flatbuffer_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    subgraph = tflite.Subgraph("x")
    subgraph.constant("x", np.zeros(1000, np.int8))
    assert len(tflite.serialize([subgraph], {}, "x")) > 1000
    monkeypatch.setattr(gapped, "LARGEST_BYTES", 1000)
    with pytest.raises(UserError, match="2 GiB"):
        tflite.serialize([subgraph], {}, "x")


def test_rows_are_quantized_alike_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(1).standard_normal((50, 30)).astype(np.float32)
    for bits, levels in ((8, 127), (4, 7)):
        scales = np.abs(weights).max(axis=1) / np.float32(levels)
        for size in (1, 31, 90, 1 << 20):
            monkeypatch.setattr(quantize, "BLOCK_SIZE", size)
            matrix = quantize.per_row(weights, bits)
            np.testing.assert_array_equal(matrix.scales, scales)
            np.testing.assert_array_equal(matrix.values, np.rint(weights / scales[:, None]).astype(np.int8))


# --------------------------------------------------------------------------------------------------------- the spill


def test_kept_arrays_are_what_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "SEGMENT", 1 << 16)  # several segments, and arrays larger than one
    random = np.random.default_rng(0)
    arrays = [
        random.integers(-100, 100, (rows, 97)).astype(kind) for rows in (1, 300, 2000) for kind in (np.int8, "f2", "f4")
    ]
    arrays.append(np.asfortranarray(random.standard_normal((300, 200))))
    with spill.Spill(tmp_path / "x") as store:
        kept = [store.keep(array) for array in arrays]
        for array, back in zip(arrays, kept, strict=True):
            np.testing.assert_array_equal(array, back)
            assert spill.is_kept(back) == (array.nbytes >= spill.SMALLEST)
            assert spill.digest(back) == spill.digest(array)
            assert b"".join(spill.parts(back)) == np.ascontiguousarray(array).tobytes()
        large = kept[-1]
        for other in (large[1:], large.T, large * 2, large.reshape(-1), np.asarray(large)):
            assert not spill.is_kept(other)
            assert spill.digest(other) == spill.digest(np.array(other))
        assert not large.flags.writeable
        assert os.name == "nt" or not list(tmp_path.iterdir()), "the file has no name"
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------------- mapped reading


@pytest.mark.skipif(os.name == "nt", reason="files are not mapped on Windows")
def test_a_mapped_file_is_read_as_its_bytes_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = convert.convert(tiny.checkpoint(), "int4-32")
    path = tmp_path / "model.tflite"
    monkeypatch.setattr(mapped, "MAPPED_BYTES", 1024)
    path.write_bytes(data)
    whole, plain = graph.read(path), graph.read(data)
    assert (whole.sha256, whole.file_sha256, whole.file_bytes) == (plain.sha256, plain.file_sha256, len(data))
    assert whole.card == plain.card and whole.tokenizer == plain.tokenizer
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data[: random.integers(1024, len(data))] if random.random() < 0.5 else data)
        for at in random.integers(0, min(len(damaged), 40_000), 3):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        assert outcome(path) == outcome(bytes(damaged))


def outcome(source: Path | bytes) -> str:
    """The hash of what is read, or the error without the name of the file."""
    try:
        return graph.read(source).sha256
    except BadFile as error:
        return error.message.partition(" is not a valid .tflite file")[2] or "refused"
