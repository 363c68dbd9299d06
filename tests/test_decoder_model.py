"""CompiledModel over a cache of our own: what it shares, how the cache grows and shrinks, and what it refuses."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tiny
from lite import Model

from edge.make.convert import convert, save
from edge.run.agent import loading, runtimes
from edge.run.agent.chunks import plan
from edge.run.agent.decoder_model import DecoderModel
from edge.run.agent.runtimes import find_runtime

CONTEXT, PREFILL = tiny.SHAPE.context, 5
TEXT = [int(token) for token in np.random.default_rng(4).integers(3, tiny.SHAPE.vocab_size, CONTEXT)]
NOISE = 1e-5  # float32 weights: only sums of other lengths differ
STEPS = (1, 4, 7, 23, CONTEXT, 64)  # of 24 positions; with some the last length is shorter than a step


@cache
def file_of(open_cache: bool) -> bytes:
    return convert(tiny.checkpoint(), "float32", prefill=PREFILL, open_cache=open_cache)


def opened(folder: Path, step: int | None = 7) -> DecoderModel:
    path = folder / "model.tflite"
    save(file_of(step is not None), path)
    return DecoderModel(path, tiny.SHAPE.kv_heads, 1, find_runtime(), step=step)


def assert_close(model: DecoderModel, expected: np.ndarray) -> None:
    np.testing.assert_allclose(model.logits, expected, rtol=0, atol=NOISE)


def given(model: DecoderModel, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Positions of the caches that LiteRT is given, run by run; a set of one where all are alike."""
    runs, run = [], model._lite.run_by_index
    row = tiny.SHAPE.kv_heads * tiny.SHAPE.head_dim

    def note(number: int, inputs: list[Any], outputs: list[Any]) -> None:
        names = model._lite.get_signature_list()[model._lite.get_signature_by_index(number)["key"]]["inputs"]
        sizes = {t.get_tensor_details()["shape"][0] for n, t in zip(names, inputs, strict=True) if n in model._names}
        runs.append(tuple(size // row for size in sizes))
        run(number, inputs, outputs)

    monkeypatch.setattr(model._lite, "run_by_index", note)
    return runs


@pytest.mark.parametrize("step", [None, *STEPS])
def test_a_text_across_the_borders_is_that_of_one_long_cache(tmp_path: Path, step: int | None) -> None:
    """Decoded to the end of the context, prefilled from its begin, and both in turns; every token's logits."""
    model, long = opened(tmp_path, step), Model(file_of(False), "xnnpack")
    for position, token in enumerate(TEXT):
        model.decode(token, position)
        assert_close(model, long.decode(token, position))
    for size in (3, PREFILL):
        for first in range(0, CONTEXT, size):
            model.prefill(TEXT[first : first + size], first)
            assert_close(model, long.prefill(TEXT[first : first + size], first))
    for first in range(0, CONTEXT, 4):
        model.prefill(TEXT[first : first + 3], first)
        assert_close(model, long.prefill(TEXT[first : first + 3], first))
        model.decode(TEXT[first + 3], first + 3)
        assert_close(model, long.decode(TEXT[first + 3], first + 3))


@pytest.mark.parametrize("step", [4, 7])
@pytest.mark.parametrize("back", [1, 6, 7, 8, 14, 20])
def test_going_back_keeps_what_lies_before(tmp_path: Path, step: int, back: int) -> None:
    """The cache shrinks to the shortest that holds the rest, and grows again."""
    model, long = opened(tmp_path, step), Model(file_of(False), "xnnpack")
    model.prefill(TEXT, 0)
    for first in range(0, CONTEXT, PREFILL):
        long.prefill(TEXT[first : first + PREFILL], first)
    for position in range(back, CONTEXT):
        model.decode(9, position)
        assert_close(model, long.decode(9, position))


def test_litert_sees_no_more_than_holds_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(tmp_path)
    runs = given(model, monkeypatch)
    for position in range(CONTEXT):
        model.decode(TEXT[position], position)
    assert runs == [(7,)] * 7 + [(14,)] * 7 + [(21,)] * 7 + [(CONTEXT,)] * 3
    runs.clear()
    model.prefill(TEXT[:20], 0)  # 5 rows at once: the second five need 10, the third 15, the fourth 20
    assert runs == [(7,), (14,), (21,), (21,)]


@pytest.mark.parametrize("step", [None, 64])
def test_a_fixed_or_a_short_cache_is_given_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int | None
) -> None:
    model = opened(tmp_path, step)
    runs = given(model, monkeypatch)
    model.decode(5, 0)
    model.prefill(TEXT[:PREFILL], 1)
    assert runs == [(CONTEXT,)] * 2


def test_rows_that_an_earlier_text_left_are_of_no_matter(tmp_path: Path) -> None:
    """Another text to the end, then a short one: that of a model which has seen nothing else, bit for bit."""
    fresh, used = opened(tmp_path), opened(tmp_path)
    used.prefill(TEXT[::-1], 0)
    for model in (fresh, used):
        model.prefill(TEXT[:9], 0)
        model.decode(TEXT[9], 9)
    np.testing.assert_array_equal(fresh.logits, used.logits)


def test_memory_that_litert_would_copy_is_refused(tmp_path: Path) -> None:
    model = opened(tmp_path)
    aligned = model.logits
    with pytest.raises(RuntimeError, match="not aligned"):
        model._tie(aligned[1:])
    model._tensor_buffer = type("Copies", (), {"create_from_host_memory": staticmethod(lambda array: Copy(array))})
    with pytest.raises(RuntimeError, match="has copied"):
        model._check_ties()


class Copy:
    """A TensorBuffer over a copy, as LiteRT makes one of memory that is not aligned."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array.copy()

    def read(self, count: int, dtype: np.dtype) -> np.ndarray:
        return self.array[:count].astype(dtype)


def test_tensors_that_are_not_as_the_contract_says(tmp_path: Path) -> None:
    model = opened(tmp_path)
    tied = dict.fromkeys(["token", "position", "logits"], model._tie(model.logits))
    with pytest.raises(ValueError, match="decode has a tensor"):
        model._run("decode", tied)


def test_the_rest_of_a_prompt_is_padded_where_that_is_cheaper() -> None:
    assert [len(part) for part in plan(range(18), 8, 4)] == [8, 8, 1, 1]
    assert [len(part) for part in plan(range(19), 8, 4)] == [8, 8, 3]
    assert [len(part) for part in plan(range(18), 8, 20)] == [8, 8, 2]
    assert [list(part) for part in plan([5], 8, 20)] == [[5]]


# ---------------------------------------------------------------------------------------------- which runtime and how


def test_threads_are_for_large_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "cores", lambda: 16)
    assert [loading.choose_threads(0, size) for size in (1 << 20, 1 << 27)] == [1, loading.MOST_THREADS]
    monkeypatch.setattr(loading, "cores", lambda: 2)
    assert loading.choose_threads(0, 1 << 27) == 2 and loading.choose_threads(3, 1) == 3


def test_there_is_a_core() -> None:
    assert loading.cores() >= 1


def test_the_old_runtime_and_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ModuleType("tflite_runtime")
    old.__version__ = "2.14.0"
    monkeypatch.setitem(sys.modules, "tflite_runtime", old)
    monkeypatch.setattr(runtimes.np, "__version__", "2.1.0")
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: name == "tflite_runtime" or None)
    with pytest.raises(
        ImportError, match=r"tflite_runtime 2.14.0 works with numpy 1 only, and numpy 2.1.0 is installed"
    ):
        find_runtime()
    monkeypatch.setattr(runtimes.np, "__version__", "1.26.4")
    assert str(find_runtime()) == "tflite_runtime 2.14.0" and not runtimes.compiles(find_runtime())
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install"):
        find_runtime()


@pytest.mark.parametrize(
    ("gpu", "atomics", "compiles"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_cpus_on_which_litert_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, atomics: bool, compiles: bool
) -> None:
    """A Raspberry Pi 4 whose LiteRT has its library for GPUs."""
    if gpu:
        (tmp_path / "libLiteRtWebGpuAccelerator.so").touch()
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(runtimes.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(runtimes.sys, "platform", "linux")
    monkeypatch.setattr(runtimes, "_has_atomics", lambda: atomics)
    assert runtimes.compiles(runtimes.Runtime("ai_edge_litert", "2.3.0")) is compiles
