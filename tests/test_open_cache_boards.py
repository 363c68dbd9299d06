"""Files whose cache may have any length, on boards: as if it were fixed at the context, down to the C."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import remodel
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.make import inspect
from edge.make.convert import convert
from firmware_tools import boards, compile, graph, lower
from firmware_tools.closed import closed
from firmware_tools.compile import compile_model
from firmware_tools.errors import BadFile, UserError

BOARDS = ("virtual-m4", "virtual-m0")
SCHEMES = ("float32", "int8", "int4-32")
MASK = ("LESS", "RANGE", "MUL", "SHAPE", "STRIDED_SLICE")


@cache
def file_of(scheme: str, open_cache: bool) -> bytes:
    return convert(tiny.checkpoint(dim=64, hidden_dim=96), scheme, open_cache=open_cache)


def pair(scheme: str) -> tuple[graph.Graph, graph.Graph]:
    """The same model with a fixed cache and with an open one."""
    fixed, opened = graph.read(file_of(scheme, False)), graph.read(file_of(scheme, True))
    assert opened.signatures["decode"].inputs["k_0"].shape_signature == (-1,)
    return fixed, opened


def assert_same_sources(fixed: graph.Graph, opened: graph.Graph, board: str) -> None:
    """All that is compiled is the same, but for the two facts that differ: hash and version of the contract."""
    one, two = (compile_model(read, boards.load(board)) for read in (fixed, opened))
    text = two.files["model.c"].replace(opened.sha256, fixed.sha256)
    version = '\\"contract\\":\\"%s\\"'
    assert version % opened.contract in text
    files = {**two.files, "model.c": text.replace(version % opened.contract, version % fixed.contract)}
    assert files == one.files
    hashes = {"model_sha256": one.model_sha256, "model_file_sha256": one.model_file_sha256}
    assert replace(two, files=files, **hashes) == one


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_c_is_that_of_the_fixed_file(scheme: str, board: str) -> None:
    assert_same_sources(*pair(scheme), board)


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_in_plain_ops_too(scheme: str, board: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph in which nothing is recognised."""

    def nothing(*_: object) -> None:
        raise UserError("not understood")

    monkeypatch.setattr(compile, "program", nothing)
    assert_same_sources(*pair(scheme), board)


def test_a_shorter_context_is_chosen_as_ever() -> None:
    one, two = (compile_model(read, boards.load("virtual-m4"), 12) for read in pair("int8"))
    assert two.context == 12 and two.files["weights.c"] == one.files["weights.c"]


@pytest.mark.parametrize("board", [None, "virtual-m4"])
def test_inspect_names_the_same_boards_and_sizes(board: str | None, tmp_path: Path) -> None:
    for name, opened in (("fixed", False), ("open", True)):
        (tmp_path / name).write_bytes(file_of("int8", opened))
    one, two = (inspect.summarize(tmp_path / name, board) for name in ("fixed", "open"))
    assert two.reason is None and not two.unfused and two.fits
    assert (two.fits, two.arena, two.calls, two.parameters) == (one.fits, one.arena, one.calls, one.parameters)


def test_prefill_is_closed_as_decode_is() -> None:
    """Nothing of ours compiles it, but the operators that boards lack are those of the fixed file."""
    one, two = ({(r.op, r.reason) for r in lower.refusals(read, "prefill")} for read in pair("int8"))
    assert one == two


def test_a_graph_without_open_lengths_is_left_alone() -> None:
    fixed, opened = pair("int8")
    assert all(closed(subgraph) is subgraph for subgraph in fixed.subgraphs)
    for subgraph in opened.subgraphs:
        now = closed(subgraph)
        assert now is not subgraph and closed(now) is now
        assert [t.name for t in now.tensors[: len(subgraph.tensors)]] == [t.name for t in subgraph.tensors]
        assert [o.index for o in now.operators] == list(range(len(subgraph.operators)))


# --- files that only look like it


def constant(op: str, position: int, content: Any, number: int = 0) -> Callable[[Any], None]:
    """Gives operator `number` of this op another constant."""
    return lambda m: remodel.replace_constant(m, remodel.operators(m, op)[number], position, content)


def cut_option(name: str, value: int, number: int = -1) -> Callable[[Any], None]:
    return lambda m: setattr(remodel.operators(m, "STRIDED_SLICE")[number].builtinOptions, name, value)


def other_cache_asked(m: Any) -> None:
    """SHAPE of the token."""
    (shape,) = remodel.operators(m, "SHAPE")
    remodel.rewire(shape, 0, remodel.decode(m).inputs[0])


def less_the_other_way(m: Any) -> None:
    (less,) = remodel.operators(m, "LESS")
    less.inputs = list(less.inputs)[::-1]


ROW = 32  # kv_heads * head_dim
NOT_OURS: dict[str, tuple[Callable[[Any], None], str]] = {
    "step 0": (constant("RANGE", 2, np.int32(0)), "RANGE"),
    "step below 0": (constant("RANGE", 2, np.int32(-ROW)), "RANGE"),
    "step of half a row": (constant("RANGE", 2, np.int32(ROW // 2)), "RANGE"),
    "step of two": (constant("RANGE", 2, np.int32([ROW, ROW])), "RANGE"),
    "start 1": (constant("RANGE", 0, np.int32(1)), "RANGE"),
    "limit of another step": (constant("MUL", 1, np.int32([ROW + 1])), "RANGE"),
    "length of another axis": (constant("STRIDED_SLICE", 1, np.int32([1])), "RANGE"),
    "all of the shape": (cut_option("shrinkAxisMask", 0, 0), "RANGE"),
    "shape of another": (other_cache_asked, "RANGE"),
    "less the other way": (less_the_other_way, "RANGE"),
    "cut along another axis": (cut_option("beginMask", 5), "STRIDED_SLICE"),
    "cut elsewhere": (constant("STRIDED_SLICE", 1, np.int32([0, 0, -2]), -1), "STRIDED_SLICE"),
    "cut in steps": (constant("STRIDED_SLICE", 3, np.int32([1, 1, 2]), -2), "STRIDED_SLICE"),
    "cut by 0": (constant("STRIDED_SLICE", 3, np.int32([1, 1, 0]), -1), "STRIDED_SLICE"),
    "cut of two axes": (constant("STRIDED_SLICE", 1, np.int32([0, -1]), -1), "STRIDED_SLICE"),
    "a new axis": (cut_option("newAxisMask", 1), "STRIDED_SLICE"),
}


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_only_looks_like_it_is_the_usual_error(name: str) -> None:
    change, op = NOT_OURS[name]
    read = graph.read(remodel.edited(file_of("float32", True), change))
    with pytest.raises(UserError, match=f"does not understand the model from .*, and boards do not compute .*{op}"):
        compile_model(read, boards.load("virtual-m4"))


def test_another_open_length_is_refused_by_the_contract() -> None:
    def leave_open(m: Any) -> None:
        token = remodel.decode(m).inputs[0]
        remodel.decode(m).tensors[token].shapeSignature = [-1]

    with pytest.raises(BadFile, match="decode leaves open other lengths than those of its caches"):
        graph.read(remodel.edited(file_of("float32", True), leave_open))


def test_a_cache_that_claims_to_be_endless_takes_no_memory() -> None:
    """Not one of ours, whose context is checked: 2^30 positions of one number."""
    (decode, _) = graph.read(file_of("float32", True)).subgraphs
    huge = [replace(t, shape=(1 << 30,)) if i in decode.inputs[2:] else t for i, t in enumerate(decode.tensors)]
    ones = [replace(t, stored=np.full_like(t.data, 1)) if _is_row(t) else t for t in huge]
    subgraph = replace(decode, tensors=tuple(ones))
    assert closed(subgraph) is subgraph


def _is_row(tensor: graph.Tensor) -> bool:
    return tensor.dtype == "int32" and tensor.data is not None and tensor.data.reshape(-1).tolist() == [ROW]


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_whatever_a_graph_says_is_no_crash(data: st.DataObject) -> None:
    """Operators of the pattern get other operands and options, and tensors other shapes and types."""
    (decode, _) = graph.read(file_of("float32", True)).subgraphs
    operators, tensors = list(decode.operators), list(decode.tensors)
    places = [operator.index for operator in operators if operator.op in MASK and "norm" not in _name(decode, operator)]
    index = st.integers(-1, len(tensors) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.sampled_from(places))
        old = copy.copy(operators[at])
        inputs = data.draw(st.one_of(st.just(old.inputs), st.lists(index, max_size=5).map(tuple)))
        masks = st.dictionaries(st.sampled_from(["begin_mask", "end_mask", "shrink_axis_mask"]), st.integers(0, 9))
        options = data.draw(st.one_of(st.just(old.options), masks))
        operators[at] = replace(old, inputs=inputs, options=options)
        number = data.draw(st.sampled_from([i for i in (*old.inputs, *old.outputs) if i >= 0]))
        if tensors[number].data is None:
            shape = data.draw(st.lists(st.integers(0, 1 << 31), max_size=4).map(tuple))
            tensors[number] = replace(tensors[number], shape=shape, dtype=data.draw(st.sampled_from(["int32", "bool"])))
    subgraph = replace(decode, operators=tuple(operators), tensors=tuple(tensors))
    now = closed(subgraph)
    assert len(now.operators) == len(operators) and len(now.tensors) >= len(tensors)


def _name(subgraph: graph.Subgraph, operator: graph.Operator) -> str:
    return subgraph.tensors[operator.outputs[0]].name
