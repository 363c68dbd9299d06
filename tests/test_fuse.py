"""The patterns: what they find, that they see through spelling, and that they verify what they rely on."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import remodel
import tiny
from ai_edge_litert import schema_py_generated as schema

from edge.make.convert import convert
from firmware_tools import fuse, graph, interpret
from firmware_tools.errors import UserError
from firmware_tools.program import Program

ATTENTION = ["rms_norm", "fully_connected", "rope", "attention", "fully_connected", "add"]
FEED_FORWARD = ["rms_norm", "fully_connected", "swiglu", "fully_connected", "add"]
OPS = ["embedding", *((ATTENTION + FEED_FORWARD) * 2), "rms_norm", "fully_connected"]
SIZES = ("vocab_size", "context", "layers", "heads", "kv_heads", "head_dim")


@pytest.fixture(scope="module", params=["int8", "float32", "float16"])
def model(request: pytest.FixtureRequest) -> bytes:
    return convert(tiny.checkpoint(), request.param)


def same(a: Program, b: Program) -> bool:
    """Do two programs compute the same, up to the numbers of values and the order of an addition's operands?"""

    def operands(call: Any) -> Any:
        return sorted(call.inputs) if call.op == "add" else call.inputs

    return len(a.calls) == len(b.calls) and all(
        (x.op, operands(x), x.outputs, x.attributes) == (y.op, operands(y), y.outputs, y.attributes)
        and x.constants.keys() == y.constants.keys()
        and all(np.array_equal(x.constants[name], y.constants[name]) for name in x.constants)
        for x, y in zip(a.calls, b.calls, strict=True)
    )


def test_finds_the_decoder(model: bytes) -> None:
    read = graph.read(model)
    program = fuse.program(read)
    shape = read.card["architecture"]
    assert [call.op for call in program.calls] == OPS
    assert all(getattr(program, name) == shape[name] for name in SIZES)
    assert program.values[program.logits].size == shape["vocab_size"]
    assert program.calls[-1].outputs == (program.logits,)
    bits = 8 if read.card["quantization"] == "int8" else 32
    assert {call.attributes["cache_bits"] for call in program.calls if call.op == "attention"} == {bits}


def test_head_starts_after_the_last_cache_row(model: bytes) -> None:
    program = fuse.program(graph.read(model))
    last = max(index for index, call in enumerate(program.calls) if call.op == "attention")
    assert program.head == last + 1


def test_shared_constants_are_one_object(model: bytes) -> None:
    program = fuse.program(graph.read(model))
    first, last = program.calls[0].constants, program.calls[-1].constants
    assert all(first[name] is last[name] for name in first)
    ropes = [call.constants for call in program.calls if call.op == "rope"]
    assert ropes[0]["cos"] is ropes[1]["cos"] and ropes[0]["sin"] is ropes[1]["sin"]


def test_untied_head() -> None:
    program = fuse.program(graph.read(convert(tiny.checkpoint(tied=False))))
    assert program.calls[0].constants["weights"] is not program.calls[-1].constants["weights"]


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_groups_of_other_sizes(kv_heads: int) -> None:
    assert fuse.program(graph.read(convert(tiny.checkpoint(kv_heads=kv_heads)))).kv_heads == kv_heads


def test_float_program_computes_the_model() -> None:
    """Within what float32 rounds, over more steps than one cache row."""
    checkpoint = tiny.checkpoint(kv_heads=1)
    program = fuse.program(graph.read(convert(checkpoint, "float32")))
    truth, run = oracle.Decoder(checkpoint), interpret.start(program)
    for position, token in enumerate([1, 299, 5, 5, 260, 77, 0, 31]):
        logits = interpret.step(program, run, token, position)
        assert np.abs(logits - truth.step(token, position)).max() < 1e-4


def test_context_shrinks_cache_and_tables(model: bytes) -> None:
    read = graph.read(model)
    program = fuse.program(read, 10)
    assert program.context == 10
    for call in program.calls:
        if call.op == "attention":
            assert call.attributes["context"] == 10
        if call.op == "rope":
            assert call.constants["cos"].shape == (10, read.card["architecture"]["head_dim"] // 2)


@pytest.mark.parametrize("context", [0, -1, 25, 10**9])
def test_context_out_of_range(model: bytes, context: int) -> None:
    with pytest.raises(UserError, match="out of range") as error:
        fuse.program(graph.read(model), context)
    assert "1 to 24" in error.value.hint


# --- spelling does not matter


def test_operands_may_be_swapped(model: bytes) -> None:
    def swap(m: Any) -> None:
        for op in ("ADD", "MUL", "MINIMUM"):
            for operator in remodel.operators(m, op):
                operator.inputs = operator.inputs[::-1]

    assert same(fuse.program(graph.read(remodel.edited(model, swap))), fuse.program(graph.read(model)))


def test_names_and_order_of_tensors_do_not_matter(model: bytes) -> None:
    def shuffle(m: Any) -> None:
        subgraph = remodel.decode(m)
        order = list(range(len(subgraph.tensors)))
        random.Random(3).shuffle(order)
        subgraph.tensors = [subgraph.tensors[i] for i in order]
        moved = {-1: -1, **{old: new for new, old in enumerate(order)}}
        subgraph.inputs = [moved[i] for i in subgraph.inputs]
        subgraph.outputs = [moved[i] for i in subgraph.outputs]
        for operator in subgraph.operators:
            operator.inputs = [moved[i] for i in operator.inputs]
            operator.outputs = [moved[i] for i in operator.outputs]
        for entry in [*m.signatureDefs[0].inputs, *m.signatureDefs[0].outputs]:
            entry.tensorIndex = moved[entry.tensorIndex]
        for index, tensor in enumerate(subgraph.tensors):
            tensor.name = f"t{index}"

    assert same(fuse.program(graph.read(remodel.edited(model, shuffle))), fuse.program(graph.read(model)))


def test_other_ways_to_cut(model: bytes) -> None:
    """SLICE as STRIDED_SLICE."""

    def respell(m: Any) -> None:
        subgraph = remodel.decode(m)
        code = remodel.code(m, "STRIDED_SLICE")
        for operator in remodel.operators(m, "SLICE"):
            begin, size = (
                np.frombuffer(bytes(m.buffers[subgraph.tensors[i].buffer].data), np.int32) for i in operator.inputs[1:]
            )
            remodel.replace_constant(m, operator, 2, begin + size)
            operator.inputs = [*operator.inputs, operator.inputs[1]]
            remodel.replace_constant(m, operator, 3, np.ones_like(begin))
            operator.opcodeIndex = code
            operator.builtinOptionsType = schema.BuiltinOptions.StridedSliceOptions
            operator.builtinOptions = schema.StridedSliceOptionsT()

    assert same(fuse.program(graph.read(remodel.edited(model, respell))), fuse.program(graph.read(model)))


def test_square_for_a_product_with_itself(model: bytes) -> None:
    def respell(m: Any) -> None:
        code = remodel.code(m, "SQUARE")
        for operator in remodel.operators(m, "MUL"):
            if operator.inputs[0] == operator.inputs[1]:
                operator.opcodeIndex, operator.inputs = code, operator.inputs[:1]
                operator.builtinOptionsType, operator.builtinOptions = (
                    schema.BuiltinOptions.SquareOptions,
                    schema.SquareOptionsT(),
                )

    assert same(fuse.program(graph.read(remodel.edited(model, respell))), fuse.program(graph.read(model)))


def test_bias_is_kept(model: bytes) -> None:
    bias = np.arange(32, dtype=np.float32)

    def give(m: Any) -> None:
        operator = next(o for o in remodel.operators(m, "FULLY_CONNECTED") if o.outputs[0] in added(m))
        operator.inputs = [*operator.inputs[:2], gain_of(m).inputs[1]]
        remodel.replace_constant(m, operator, 2, bias)

    program = fuse.program(graph.read(remodel.edited(model, give)))
    biases = [call.constants["bias"] for call in program.calls if "bias" in call.constants]
    assert len(biases) == 1 and np.array_equal(biases[0], bias)


def added(m: Any) -> set[int]:
    """Tensors that are summed."""
    return {index for operator in remodel.operators(m, "ADD") for index in operator.inputs}


def gain_of(m: Any) -> Any:
    """The multiplication with the gain of the first norm."""
    subgraph = remodel.decode(m)
    return next(o for o in remodel.operators(m, "MUL") if list(subgraph.tensors[o.inputs[1]].shape) == [32])


# --- what is relied on is verified


def constant_input(m: Any, operator: Any) -> int:
    tensors = remodel.decode(m).tensors
    return next(p for p, i in enumerate(operator.inputs) if m.buffers[tensors[i].buffer].data is not None)


def scaled(m: Any, operator: Any, factor: float) -> None:
    position = constant_input(m, operator)
    tensor = remodel.decode(m).tensors[operator.inputs[position]]
    content = np.frombuffer(bytes(m.buffers[tensor.buffer].data), np.float32).reshape(tensor.shape)
    remodel.replace_constant(m, operator, position, content * np.float32(factor))


def query_scale(m: Any) -> Any:
    tensors = remodel.decode(m).tensors
    exact = np.float32(1 / math.sqrt(8)).tobytes()
    for operator in remodel.operators(m, "MUL"):
        contents = [m.buffers[tensors[i].buffer].data for i in operator.inputs]
        if any(content is not None and bytes(content) == exact for content in contents):
            return operator
    raise AssertionError("no multiplication by 1 / sqrt(head_dim)")


def wrong_attention_scale(m: Any) -> None:
    scaled(m, query_scale(m), 1.01)


def negative_epsilon(m: Any) -> None:
    tensors = remodel.decode(m).tensors
    operator = next(o for o in remodel.operators(m, "ADD") if list(tensors[o.inputs[1]].shape) == [1])
    scaled(m, operator, -1.0)


def gain_not_finite(m: Any) -> None:
    scaled(m, gain_of(m), float("nan"))


def mask_off_by_one(m: Any) -> None:
    (operator,) = remodel.operators(m, "LESS")
    remodel.replace_constant(m, operator, 0, np.arange(1, 25, dtype=np.int32))


def mask_too_weak(m: Any) -> None:
    (operator,) = remodel.operators(m, "SELECT_V2")
    remodel.replace_constant(m, operator, 2, np.array([-5], np.float32))


def mask_lowers_scores(m: Any) -> None:
    (operator,) = remodel.operators(m, "SELECT_V2")
    remodel.replace_constant(m, operator, 1, np.array([5], np.float32))


def mask_turned_round(m: Any) -> None:
    (operator,) = remodel.operators(m, "SELECT_V2")
    operator.inputs = [operator.inputs[0], operator.inputs[2], operator.inputs[1]]


def mask_by_token(m: Any) -> None:
    (operator,) = remodel.operators(m, "LESS")
    remodel.rewire(operator, 1, remodel.decode(m).inputs[0])


def softmax_is_sharper(m: Any) -> None:
    remodel.operators(m, "SOFTMAX")[1].builtinOptions.beta = 2.0


def keys_not_transposed(m: Any) -> None:
    remodel.operators(m, "BATCH_MATMUL")[0].builtinOptions.adjY = False


def activation_after_a_layer(m: Any) -> None:
    remodel.operators(m, "FULLY_CONNECTED")[2].builtinOptions.fusedActivationFunction = 1


def activation_after_a_sum(m: Any) -> None:
    remodel.operators(m, "ADD")[-3].builtinOptions.fusedActivationFunction = 1


def shuffled_weights(m: Any) -> None:
    remodel.operators(m, "FULLY_CONNECTED")[0].builtinOptions.weightsFormat = 1


def scores_in_another_order(m: Any) -> None:
    softmax = {operator.inputs[0] for operator in remodel.operators(m, "SOFTMAX")}
    operator = next(o for o in remodel.operators(m, "CONCATENATION") if o.outputs[0] in softmax)
    operator.inputs = operator.inputs[::-1]


def rope_halves_swapped(m: Any) -> None:
    operator = remodel.operators(m, "CONCATENATION")[0]
    operator.inputs = operator.inputs[::-1]


def rope_turns_back(m: Any) -> None:
    operator = remodel.operators(m, "SUB")[0]
    operator.inputs = operator.inputs[::-1]


def rope_by_token(m: Any) -> None:
    by_position = remodel.decode(m).inputs[1]
    for operator in remodel.operators(m, "GATHER"):
        if operator.inputs[1] == by_position:
            remodel.rewire(operator, 1, remodel.decode(m).inputs[0])


def caches_exchanged(m: Any) -> None:
    entries = {entry.name: entry for entry in m.signatureDefs[0].inputs}
    first, second = entries[b"k_0"], entries[b"k_1"]
    first.tensorIndex, second.tensorIndex = second.tensorIndex, first.tensorIndex


def other_rows_go_out(m: Any) -> None:
    entries = {entry.name: entry for entry in m.signatureDefs[0].outputs}
    entries[b"k_new_0"].tensorIndex = entries[b"v_new_0"].tensorIndex


def gate_and_up_exchanged(m: Any) -> None:
    sigmoid = remodel.operators(m, "LOGISTIC")[0]
    split = next(o for o in remodel.operators(m, "SPLIT") if sigmoid.inputs[0] in o.outputs)
    split.outputs = split.outputs[::-1]


def another_activation(m: Any) -> None:
    code = remodel.code(m, "TANH")
    remodel.operators(m, "LOGISTIC")[0].opcodeIndex = code


def mean_of_another_axis(m: Any) -> None:
    remodel.replace_constant(m, remodel.operators(m, "MEAN")[0], 1, np.array([0], np.int32))


def probabilities_of_another_type(m: Any) -> None:
    tensor = remodel.decode(m).tensors[remodel.operators(m, "SOFTMAX")[0].outputs[0]]
    tensor.type = schema.TensorType.FLOAT16


def query_key_value_used_twice(m: Any) -> None:
    first, second = (o.outputs[0] for o in remodel.operators(m, "FULLY_CONNECTED") if wide(m, o))
    for operator in remodel.operators(m, "RESHAPE"):
        if operator.inputs[0] == second:
            remodel.rewire(operator, 0, first)


def wide(m: Any, operator: Any) -> bool:
    return list(remodel.decode(m).tensors[operator.outputs[0]].shape) == [1, 64]


FAULTS = [
    wrong_attention_scale,
    negative_epsilon,
    gain_not_finite,
    mask_off_by_one,
    mask_too_weak,
    mask_lowers_scores,
    mask_turned_round,
    mask_by_token,
    softmax_is_sharper,
    keys_not_transposed,
    activation_after_a_layer,
    activation_after_a_sum,
    shuffled_weights,
    scores_in_another_order,
    rope_halves_swapped,
    rope_turns_back,
    rope_by_token,
    caches_exchanged,
    other_rows_go_out,
    gate_and_up_exchanged,
    another_activation,
    mean_of_another_axis,
    probabilities_of_another_type,
    query_key_value_used_twice,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_differs_is_refused(model: bytes, fault: Callable[[Any], None]) -> None:
    read = graph.read(remodel.edited(model, fault))
    with pytest.raises(UserError, match="compiler|caches") as error:
        fuse.program(read)
    assert error.value.hint


def test_int8_weights_are_verified() -> None:
    """-128, a zero point, and scales of columns instead of rows are not what the kernels compute with."""
    model = convert(tiny.checkpoint(dim=32, hidden_dim=44))

    def lowest(m: Any) -> None:
        tensor = next(t for t in remodel.decode(m).tensors if t.quantization is not None)
        buffer = m.buffers[tensor.buffer]
        buffer.data = np.array(buffer.data)
        buffer.data[0] = 128

    def zero_point(m: Any) -> None:
        tensor = next(t for t in remodel.decode(m).tensors if t.quantization is not None)
        tensor.quantization.zeroPoint = np.full(len(tensor.quantization.scale), 3, np.int64)

    def columns(m: Any) -> None:
        tensor = next(t for t in remodel.decode(m).tensors if t.quantization is not None and t.shape[0] == t.shape[1])
        tensor.quantization.quantizedDimension = 1

    for fault in (lowest, zero_point, columns):
        with pytest.raises(UserError, match="does not understand"):
            fuse.program(graph.read(remodel.edited(model, fault)))


def test_the_error_names_the_first_strange_operator(model: bytes) -> None:
    read = graph.read(remodel.edited(model, another_activation))
    operators = read.subgraphs[0].operators
    split = next(operator for operator in operators if operator.op == "SPLIT" and operator.index > 40)
    with pytest.raises(UserError, match=rf"operator {split.index} of decode \(SPLIT\)"):
        fuse.program(read)


def test_shapes_that_lie_are_refused(model: bytes) -> None:
    """Shapes of computed tensors are claims of the file: absurd ones neither hang nor fill the memory."""
    generator = random.Random(5)
    for _ in range(40):

        def lie(m: Any) -> None:
            border = {e.tensorIndex for e in [*m.signatureDefs[0].inputs, *m.signatureDefs[0].outputs]}
            tensors = remodel.decode(m).tensors
            computed = [i for i, t in enumerate(tensors) if m.buffers[t.buffer].data is None and i not in border]
            shape = [generator.choice((0, 1, 7, 2**31 - 1))] * generator.randrange(4)
            tensors[generator.choice(computed)].shape = shape

        read = graph.read(remodel.edited(model, lie))
        try:
            program = fuse.program(read)
        except UserError:
            continue
        assert same(program, fuse.program(graph.read(model)))


def test_files_of_others_are_not_decoders(shared_data: Path) -> None:
    for path in (shared_data / "tflite").glob("*.tflite"):
        with pytest.raises(UserError, match="not a language model"):
            fuse.program(graph.read(path))
