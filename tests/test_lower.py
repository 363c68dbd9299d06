"""Graphs of others on their way into programs: what becomes one value, what is folded, what is refused and how."""

from __future__ import annotations

import dataclasses

import numpy as np
import plain_models
import pytest
import remodel
import tiny
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from native import same_bits
from plain_models import Lite, Maker, fill, stored

from edge.make.convert import convert
from firmware_tools import boards, graph, interpret, lower, plan
from firmware_tools.compile import compile_model
from firmware_tools.errors import UserError

M4 = boards.load("virtual-m4")
MODELS = {
    "classifier": plain_models.classifier(),
    "two inputs": plain_models.two_inputs(),
    "autoencoder": plain_models.autoencoder(),
}


@pytest.mark.parametrize("name", MODELS)
def test_numpy_equals_the_reference_kernels(name: str) -> None:
    program, lite = lower.program(graph.read(MODELS[name])), Lite(MODELS[name])
    model = interpret.Plain(program)
    for seed in range(20):
        inputs = [stored(border.shape, seed) for border in program.borders_in]
        for found, expected in zip(model.invoke(inputs), lite.run(*inputs), strict=True):
            assert same_bits(found, expected)


def test_a_reshape_is_no_call() -> None:
    program = lower.program(graph.read(MODELS["classifier"]))
    assert [call.op for call in program.calls] == ["conv_2d", "pool_2d", "fully_connected_int8", "softmax"]
    pooled, flat = program.calls[1].outputs, program.calls[2].inputs
    assert pooled == flat and program.shapes[2] == ((1, 48),)


def test_borders_are_those_of_the_file() -> None:
    program = lower.program(graph.read(MODELS["two inputs"]))
    assert [(b.name, b.dtype, b.shape, b.zero_point) for b in program.borders_in] == [
        ("left", "int8", (1, 8), 0),
        ("right", "int8", (1, 8), 0),
    ]
    assert [(b.name, b.shape) for b in program.borders_out] == [("both", (1, 3)), ("alone", (1, 2))]
    assert program.borders_in[0].scale == np.float32(0.05)


def test_inputs_live_only_as_long_as_they_are_needed() -> None:
    """Outputs live to the end, and an input's memory is free once its last reader is done."""
    program = lower.program(graph.read(MODELS["classifier"]))
    lives = plan.lifetimes(program)
    (given,), (result,) = program.inputs, program.outputs
    assert lives[given] == (-1, 0) and lives[result] == (3, 4)
    layout = plan.plan(program, M4.features)
    assert layout.arena_bytes == layout.live_bytes < 400


def chain() -> bytes:
    """x int8 [1, 6] reshaped to what SHAPE, STRIDED_SLICE and PACK compute of it, then ADD of a folded constant."""
    maker = Maker()
    maker.tensor("x", "int8", (1, 6), 0.05)
    maker.tensor("shape", "int32", (2,))
    maker.operator("SHAPE", ("x",), ("shape",), fill(schema.ShapeOptionsT(), outType=2))
    for name, value in (("begin", [0]), ("end", [1]), ("stride", [1])):
        maker.tensor(name, "int32", (1,), data=np.int32(value))
    maker.tensor("batch", "int32", ())
    options = fill(schema.StridedSliceOptionsT(), beginMask=0, endMask=0, shrinkAxisMask=1, ellipsisMask=0)
    options = fill(options, newAxisMask=0)
    maker.operator("STRIDED_SLICE", ("shape", "begin", "end", "stride"), ("batch",), options)
    maker.tensor("two", "int32", (), data=np.array(2, np.int32))
    maker.tensor("three", "int32", (), data=np.array(3, np.int32))
    maker.tensor("packed", "int32", (3,))
    maker.operator("PACK", ("batch", "two", "three"), ("packed",), fill(schema.PackOptionsT(), valuesCount=3, axis=0))
    maker.tensor("seen", "int8", (1, 2, 3), 0.05)
    maker.operator("RESHAPE", ("x", "packed"), ("seen",))
    maker.tensor("real", "float32", (3,), data=np.float32([0.1, -0.21, 0.33]))
    maker.tensor("stored", "int8", (3,), 0.05, 2)
    maker.operator("QUANTIZE", ("real",), ("stored",))
    maker.tensor("y", "int8", (1, 2, 3), 0.07, 1)
    maker.operator("ADD", ("seen", "stored"), ("y",), fill(schema.AddOptionsT(), fusedActivationFunction=0))
    return maker.content(("x",), ("y",))


def test_what_depends_on_constants_alone_is_folded() -> None:
    program = lower.program(graph.read(chain()))
    assert [call.op for call in program.calls] == ["binary_int8"]
    x = stored((1, 6), 0)
    (found,), (expected,) = interpret.Plain(program).invoke([x]), Lite(chain()).run(x)
    assert same_bits(found, expected)


def test_unsupported_operators_are_one_error() -> None:
    model = graph.read(plain_models.unsupported())
    with pytest.raises(UserError) as caught:
        lower.program(model)
    assert caught.value.message == (
        "boards do not compute operator 0, SEGMENT_SUM (tensor 'a'): it is not among the operators that compile; "
        "nor 1 more: CUMSUM"
    )
    assert caught.value.hint == "`edge run MODEL --on host` runs it with LiteRT"
    assert [(refusal.operator, refusal.op, refusal.tensor) for refusal in lower.refusals(model)] == [
        (0, "SEGMENT_SUM", "a"),
        (2, "CUMSUM", "y"),
    ]


def test_an_alternative_is_named() -> None:
    maker = Maker()
    maker.tensor("x", "float32", (1, 4, 4, 1))
    maker.tensor("size", "int32", (2,), data=np.int32([8, 8]))
    maker.tensor("y", "float32", (1, 8, 8, 1))
    maker.operator("RESIZE_BILINEAR", ("x", "size"), ("y",), schema.ResizeBilinearOptionsT())
    with pytest.raises(UserError) as caught:
        lower.program(graph.read(maker.content(("x",), ("y",))))
    assert "RESIZE_NEAREST_NEIGHBOR" in caught.value.hint


def test_alternatives_are_computed() -> None:
    words = " ".join(lower.ALTERNATIVES.values()).replace(",", "").split()
    named = {word for word in words if word.isupper()}
    assert named <= set(lower.supported())


def test_a_type_that_no_board_computes() -> None:
    maker = Maker()
    maker.tensor("x", "float64", (1, 4))
    maker.tensor("y", "float64", (1, 4))
    maker.operator("ADD", ("x", "x"), ("y",), fill(schema.AddOptionsT(), fusedActivationFunction=0))
    with pytest.raises(UserError, match="float64"):
        lower.program(graph.read(maker.content(("x",), ("y",))))


def test_signatures() -> None:
    one = graph.read(plain_models.classifier(signatures=("predict",)))
    assert lower.entry(one).signature == "predict" and lower.entry(one, "predict").signature == "predict"
    with pytest.raises(UserError, match="no signature other") as caught:
        lower.program(one, "other")
    assert caught.value.hint == "--signature predict"
    several = graph.read(plain_models.classifier(signatures=("a", "b")))
    with pytest.raises(UserError, match="2 signatures") as caught:
        lower.program(several)
    assert caught.value.hint == "--signature a, --signature b"
    assert lower.program(several, "b").borders_in[0].name == "image"
    default = graph.read(plain_models.classifier(signatures=("a", "serving_default")))
    assert lower.entry(default).signature == "serving_default"
    with pytest.raises(UserError, match="no signature a"):
        lower.program(graph.read(plain_models.classifier()), "a")


def test_an_output_that_is_stored_is_nothing_to_compile() -> None:
    maker = Maker()
    maker.tensor("x", "int8", (1, 2), 0.05)
    maker.tensor("y", "int8", (1, 2), 0.05, data=np.int8([[1, 2]]))
    with pytest.raises(UserError, match="nothing to compile"):
        lower.program(graph.read(maker.content(("x",), ("y",))))


def test_an_output_that_is_the_input() -> None:
    maker = Maker()
    maker.tensor("x", "int8", (1, 4), 0.05)
    maker.tensor("shape", "int32", (2,), data=np.int32([2, 2]))
    maker.tensor("y", "int8", (2, 2), 0.05)
    maker.operator("RESHAPE", ("x", "shape"), ("y",))
    program = lower.program(graph.read(maker.content(("x",), ("y",))))
    assert not program.calls and program.inputs == program.outputs
    x = stored((1, 4), 0)
    assert same_bits(interpret.Plain(program).invoke([x])[0], x.reshape(2, 2))


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(MODELS)), st.integers(0, 2**32 - 1))
def test_a_damaged_model_is_one_error(name: str, seed: int) -> None:
    """Whatever bytes change: the reader refuses it, the compiler refuses it, or it is compiled; nothing else."""
    random, content = np.random.default_rng(seed), bytearray(MODELS[name])
    for at in random.integers(0, len(content), random.integers(1, 6)):
        content[at] = int(random.integers(256))
    try:
        sources = compile_model(graph.read(bytes(content)), M4)
    except UserError as error:
        assert error.message
        return
    assert sources.kind == "plain" and sources.arena_bytes > 0


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_a_language_model_in_plain_ops(scheme: str) -> None:
    """Its step reads the caches of the steps before, and a step at 0 begins anew."""
    read = graph.read(convert(tiny.checkpoint(), scheme))
    program = lower.unfused(read)
    assert "attention" not in {call.op for call in program.calls} and len(program.caches) == 4
    run = interpret.start(program)
    first = [interpret.step(program, run, token, at).copy() for at, token in enumerate((1, 40, 250))]
    again = [interpret.step(program, run, token, at) for at, token in enumerate((1, 40, 250))]
    assert all(same_bits(a, b) for a, b in zip(first, again, strict=True))
    assert not same_bits(first[1], interpret.step(program, run, 40, 2))
    assert dataclasses.asdict(program)["context"] == tiny.SHAPE.context


@pytest.mark.parametrize("number", range(5))
def test_outputs_that_do_not_follow_from_their_inputs(number: int) -> None:
    """A file that says another shape of what an operator computes could make a kernel read or write outside."""

    def enlarge(model: object) -> None:
        subgraph = model.subgraphs[0]  # type: ignore[attr-defined]
        tensor = subgraph.tensors[subgraph.operators[number].outputs[0]]
        tensor.shape = [2 * size for size in tensor.shape]

    whole = plain_models.classifier()
    assert not lower.refusals(graph.read(whole))
    assert lower.refusals(graph.read(remodel.edited(whole, enlarge)))


@pytest.mark.parametrize(("begin", "size"), [(3, 2), (-1, 2), (0, 5)])
def test_a_slice_that_reaches_outside(begin: int, size: int) -> None:
    maker = Maker()
    maker.tensor("x", "int8", (4,), 0.1)
    maker.tensor("begin", "int32", (1,), data=np.int32([begin]))
    maker.tensor("size", "int32", (1,), data=np.int32([size]))
    maker.tensor("y", "int8", (size,), 0.1)
    maker.operator("SLICE", ("x", "begin", "size"), ("y",), schema.SliceOptionsT())
    with pytest.raises(UserError, match="boards do not compute operator 0, SLICE"):
        lower.program(graph.read(maker.content(("x",), ("y",))))
