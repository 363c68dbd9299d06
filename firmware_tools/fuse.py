"""Graph -> Program: finds the decoder's fused ops (`ops/`) in the signature `decode`.

The operators are walked in their order. At each one the patterns are asked whether it completes something they know:
a pattern looks back from there to tensors that are already understood, by structure alone (names and order of
operands do not matter), checks every constant on the way, and gives the steps that compute the same. To teach the
compiler a new pattern, write a function like those below and add it to PATTERNS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from firmware_tools.errors import UserError
from firmware_tools.fuse_attention import attention, rope
from firmware_tools.graph import Graph, Operator
from firmware_tools.matcher import Decoder, Step, orders
from firmware_tools.ops import Array, Call
from firmware_tools.ops.fully_connected import MOST_COLUMNS
from firmware_tools.ops.fully_connected_int4 import CHUNK
from firmware_tools.ops.fully_connected_int4 import MOST_COLUMNS as MOST_COLUMNS_INT4
from firmware_tools.program import DecoderProgram, Value

HINT = "`edge convert` makes models that the compiler knows; `edge run MODEL --on host` runs others"

OTHER_TYPES = {"LESS": ("bool",), "GATHER": ("float32", "int8")}


def program(graph: Graph, context: int | None = None) -> DecoderProgram:
    """The decoder in graph as fused calls.

    Args:
        graph: a verified model.
        context: positions of the KV cache, at most (and by default) those of the file.

    Raises:
        UserError: context is out of range, or something in the graph is not understood; names the first such operator.
    """
    signature = graph.signatures.get("decode")
    if signature is None or "logits" not in signature.outputs or "k_0" not in signature.inputs:
        raise UserError("the model is not a language model by the contract of docs/model-file.md", HINT)
    decoder = Decoder(graph, signature, context)
    steps, covered = _match(decoder)
    logits = decoder.row(decoder.outputs["logits"])
    if logits is None:
        raise _not_understood(decoder, decoder.outputs["logits"], covered)
    return _program(decoder, _needed(steps, logits), logits)


def _match(decoder: Decoder) -> tuple[list[Step], set[int]]:
    """All steps that patterns find, in order, and the operators that they stand for."""
    steps: list[Step] = []
    covered: set[int] = set()
    for operator in decoder.operators:
        for pattern in PATTERNS:
            decoder.touched = {operator.index}
            found = pattern(decoder, operator)
            if found is not None and _types_are_plain(decoder):
                steps += found
                decoder.rows |= {step.output for step in found}
                covered |= decoder.touched
                break
    return steps, covered


def _types_are_plain(decoder: Decoder) -> bool:
    """Does all that was just matched compute in float32, but for the mask's condition and an int8 table's row?"""
    return all(
        decoder.tensor(output).dtype in OTHER_TYPES.get(operator.op, ("float32",))
        for operator in map(decoder.subgraph.operators.__getitem__, decoder.touched)
        for output in operator.outputs
    )


def _needed(steps: list[Step], logits: int) -> list[Step]:
    """Those steps that the logits depend on."""
    live, needed = {logits}, []
    for step in reversed(steps):
        if step.output in live:
            needed.append(step)
            live |= set(step.inputs)
    return needed[::-1]


def _not_understood(decoder: Decoder, target: int, covered: set[int]) -> UserError:
    """The error that names the first operator between what is understood and target."""
    producer = {output: operator for operator in decoder.subgraph.operators for output in operator.outputs}
    pending, seen, strange = [target], set(), []
    while pending:
        operator = producer.get(pending.pop())
        if operator is None or operator.index in seen:
            continue
        seen.add(operator.index)
        if operator.index not in covered:
            strange.append(operator)
        if not decoder.rows.intersection(operator.outputs):
            pending += [index for index in operator.inputs if index >= 0]
    at_border = [operator for operator in strange if decoder.rows.intersection(operator.inputs)]
    first = min(at_border or strange, key=lambda operator: operator.index, default=None)
    where = "its logits" if first is None else f"operator {first.index} of decode ({first.op})"
    return UserError(f"the compiler does not understand the model from {where} on", HINT)


def _program(decoder: Decoder, steps: list[Step], logits: int) -> DecoderProgram:
    attentions = [index for index, step in enumerate(steps) if step.op == "attention"]
    shapes = {
        tuple(steps[i].attributes[name] for name in ("heads", "kv_heads", "head_dim", "context")) for i in attentions
    }
    layers = [steps[i].attributes["layer"] for i in attentions]
    if len(shapes) != 1 or layers != list(range(decoder.layers)):
        raise UserError("the model's layers do not use its caches k_0, k_1 … in order and in one shape", HINT)
    ((heads, kv_heads, head_dim, context),) = shapes
    _check_in_place(steps)
    number: dict[int, int] = {}
    for step in steps:
        for tensor in (*step.inputs, step.output):
            number.setdefault(tensor, len(number))
    bits = 8 if any("scales" in step.constants or "block_scales" in step.constants for step in steps) else 32
    return DecoderProgram(
        calls=tuple(_call(step, number, bits) for step in steps),
        values=tuple(Value("float32", (decoder.size(tensor),)) for tensor in number),
        inputs=(),
        outputs=(number[logits],),
        head=attentions[-1] + 1,  # after the last cache row is written
        vocab_size=decoder.size(logits),
        context=int(context),
        layers=decoder.layers,
        heads=int(heads),
        kv_heads=int(kv_heads),
        head_dim=int(head_dim),
    )


def _check_in_place(steps: list[Step]) -> None:
    """What a step changes in place is read by the next step alone, so that nobody misses the old content."""
    for index, step in enumerate(steps):
        if step.output in step.inputs:
            readers = [i for i, other in enumerate(steps) if step.output in other.inputs]
            if readers != [index, index + 1]:
                raise UserError(f"the input of {step.op} is used elsewhere too, which the compiler does not know", HINT)


def _call(step: Step, number: Mapping[int, int], cache_bits: int) -> Call:
    bits = {"attention": {"cache_bits": cache_bits}, "swiglu": {"bits": cache_bits}}.get(step.op, {})
    attributes = dict(step.attributes) | bits
    inputs = tuple(number[tensor] for tensor in step.inputs)
    return Call(step.op, inputs, (number[step.output],), step.constants, attributes)


# --- patterns: (decoder, the operator that completes it) -> steps, or None


def embedding(decoder: Decoder, operator: Operator) -> list[Step] | None:
    """A row of a float32 table, or CAST(row of an int8 table) * row of its scales [vocab, 1]."""
    output = operator.outputs[0]
    if operator.op == "GATHER":
        table = decoder.gathered(output, "token")
        floats = None if table is None else decoder.floats(table)
        if floats is None or floats.shape[1] < 2:  # one column: scales
            return None
        return [Step("embedding", (), output, {"weights": decoder.kept(floats, floats.shape)})]
    leaves = decoder.factors(output) if operator.op == "MUL" else []
    for row, scale in orders(leaves, 2):
        cast = decoder.made_by(row, "CAST")
        weights = None if cast is None else decoder.gathered(cast.inputs[0], "token")
        table = decoder.gathered(scale, "token")
        scales = None if table is None else decoder.floats(table)
        if weights is None or scales is None or decoder.tensor(weights).quantization is not None:
            continue
        values = decoder.constant(weights)
        if (
            values is None
            or values.dtype != np.int8
            or scales.size != values.shape[0]
            or decoder.size(output) != values.shape[1]
        ):
            continue
        constants = {"weights": decoder.kept(values, values.shape), "scales": decoder.kept(scales, (scales.size,))}
        return [Step("embedding", (), output, constants)]
    return None


def rms_norm(decoder: Decoder, operator: Operator) -> list[Step] | None:
    """x * RSQRT(MEAN(x * x) + epsilon) * gain."""
    output = operator.outputs[0]
    leaves = decoder.factors(output) if operator.op == "MUL" else []
    for x, inverse, gain in orders(leaves, 3):
        row, gains = decoder.row(x), decoder.floats(gain)
        root = decoder.made_by(inverse, "RSQRT")
        if row is None or gains is None or root is None or not decoder.size(row) == gains.size == decoder.size(output):
            continue
        for mean, constant in orders(decoder.pair(root.inputs[0], "ADD") or (), 2):
            epsilon = decoder.scalar(constant)
            if epsilon is not None and epsilon > 0 and _is_mean_of_squares(decoder, mean, row):
                constants = {"gain": decoder.kept(gains, (gains.size,))}
                return [Step("rms_norm", (row,), output, constants, {"epsilon": epsilon})]
    return None


def _is_mean_of_squares(decoder: Decoder, index: int, row: int) -> bool:
    mean = decoder.made_by(index, "MEAN")
    axes = None if mean is None else decoder.constant(mean.inputs[1])
    if mean is None or axes is None or decoder.size(index) != 1:
        return False
    shape = decoder.tensor(mean.inputs[0]).shape
    kept = [size for axis, size in enumerate(shape) if axis not in {int(a) % len(shape) for a in axes.reshape(-1)}]
    if any(size != 1 for size in kept):
        return False
    operands = decoder.pair(mean.inputs[0], "MUL")
    square = decoder.made_by(mean.inputs[0], "SQUARE")
    squared = operands or (square.inputs if square else ())
    return bool(squared) and all(decoder.row(operand) == row for operand in squared)


def fully_connected(decoder: Decoder, operator: Operator) -> list[Step] | None:
    """W x (+ bias): W float32, or int8 with a scale for each row or one for all."""
    matched = decoder.made_by(operator.outputs[0], "FULLY_CONNECTED")
    if matched is None or operator.options.get("weights_format", 0) != 0:
        return None
    x, weights = decoder.row(operator.inputs[0]), decoder.constant(operator.inputs[1])
    if x is None or weights is None or weights.ndim != 2 or decoder.size(x) != weights.shape[1]:
        return None
    if decoder.size(operator.outputs[0]) != weights.shape[0]:
        return None
    constants = _matrix(decoder, operator.inputs[1])
    if constants is None:
        return None
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        bias = decoder.floats(operator.inputs[2])
        if bias is None or bias.size != weights.shape[0]:
            return None
        constants["bias"] = decoder.kept(bias, (bias.size,))
    op = "fully_connected_int4" if decoder.tensor(operator.inputs[1]).dtype == "int4" else "fully_connected"
    return [Step(op, (x,), operator.outputs[0], constants)]


def scaled_fully_connected(decoder: Decoder, operator: Operator) -> list[Step] | None:
    """(W x) * scales: W int8 with one scale for all, as runtimes need it that do not know a scale for each row."""
    for product, factor in orders(decoder.pair(operator.outputs[0], "MUL") or (), 2):
        scales, made = decoder.floats(factor), decoder.made_by(product, "FULLY_CONNECTED")
        found = None if scales is None or made is None else fully_connected(decoder, made)
        if scales is None or not found or "scales" not in found[0].constants or "bias" in found[0].constants:
            continue
        constants, output = dict(found[0].constants), operator.outputs[0]
        if scales.size == decoder.size(output) == constants["scales"].size:
            rows = constants["scales"] * scales.reshape(-1)
            constants["scales"] = decoder.kept(rows, rows.shape)
            return [Step(found[0].op, found[0].inputs, output, constants)]
    return None


def biased(decoder: Decoder, operator: Operator) -> list[Step] | None:
    """(W x) * scales + bias, which such a runtime needs apart."""
    for product, factor in orders(decoder.pair(operator.outputs[0], "ADD") or (), 2):
        bias, made = decoder.floats(factor), decoder.made_by(product, "MUL")
        found = None if bias is None or made is None else scaled_fully_connected(decoder, made)
        if found and bias is not None and bias.size == decoder.size(product) == decoder.size(operator.outputs[0]):
            constants = {**found[0].constants, "bias": decoder.kept(bias, (bias.size,))}
            return [Step(found[0].op, found[0].inputs, operator.outputs[0], constants)]
    return None


def _matrix(decoder: Decoder, index: int) -> dict[str, Array] | None:
    """weights, and their scales where they are int8 or int4."""
    tensor = decoder.tensor(index)
    floats = decoder.floats(index)
    if floats is not None:
        return {"weights": decoder.kept(floats, floats.shape)}
    if tensor.dtype == "int4":
        return _int4_matrix(decoder, index)
    form = tensor.quantization
    if tensor.data is None or tensor.dtype != "int8" or form is None or form.details or bool(form.zero_point.any()):
        return None
    rows, columns = tensor.shape
    if columns > MOST_COLUMNS:
        return None
    if form.scale.size != 1 and (form.axis != 0 or form.scale.size != rows) or int(tensor.data.min()) < -127:
        return None
    scales = np.broadcast_to(form.scale, (rows,))
    return {"weights": decoder.kept(tensor.data, tensor.shape), "scales": decoder.kept(scales, (rows,))}


def _int4_matrix(decoder: Decoder, index: int) -> dict[str, Array] | None:
    """weights as int8, and scales of rows or block_scales."""
    tensor = decoder.tensor(index)
    form, (rows, columns) = tensor.quantization, tensor.shape
    if tensor.data is None or form is None or bool(form.zero_point.any()) or columns > MOST_COLUMNS_INT4:
        return None
    weights = {"weights": decoder.kept(tensor.data, tensor.shape)}
    if not form.details:
        if form.scale.size not in (1, rows) or form.scale.size > 1 and form.axis != 0:
            return None
        return weights | {"scales": decoder.kept(np.broadcast_to(form.scale, (rows,)), (rows,))}
    block, scales = form.details.get("block_size"), form.details.get("scales")
    if not isinstance(block, int) or not isinstance(scales, int) or block < 32 or block % 32 or columns % block:
        return None
    if (
        block > CHUNK
        or not 0 <= scales < len(decoder.subgraph.tensors)
        or form.details.get("zero_points") not in (-1, 0)
    ):
        return None
    halves = decoder.constant(scales)
    if halves is None or halves.dtype != np.float16 or halves.shape != (rows, columns // block):
        return None
    return weights | {"block_scales": decoder.kept(halves, halves.shape)} if bool(np.isfinite(halves).all()) else None


def swiglu(decoder: Decoder, operator: Operator) -> list[Step] | None:
    """gate * LOGISTIC(gate) * up of the two halves of one row."""
    output = operator.outputs[0]
    leaves = decoder.factors(output) if operator.op == "MUL" else []
    for gate, sigmoid, up in orders(leaves, 3):
        logistic = decoder.made_by(sigmoid, "LOGISTIC")
        first, second = decoder.view(gate), decoder.view(up)
        if logistic is None or first is None or second is None or first.base not in decoder.rows:
            continue
        inner, half = decoder.view(logistic.inputs[0]), decoder.size(output)
        if (
            inner is None
            or not inner.is_same(first)
            or second.base != first.base
            or decoder.size(first.base) != 2 * half
        ):
            continue
        if first.is_range(0, half) and second.is_range(half, half):
            return [Step("swiglu", (first.base,), output)]
    return None


def add(decoder: Decoder, operator: Operator) -> list[Step] | None:
    """The sum of two rows of one size."""
    operands = decoder.pair(operator.outputs[0], "ADD")
    rows = tuple(row for i in operands or () if (row := decoder.row(i)) is not None)
    if len(rows) != 2 or not decoder.size(rows[0]) == decoder.size(rows[1]) == decoder.size(operator.outputs[0]):
        return None
    return [Step("add", rows, operator.outputs[0])]


Pattern = Callable[[Decoder, Operator], "list[Step] | None"]
PATTERNS: tuple[Pattern, ...] = (
    embedding,
    rms_norm,
    fully_connected,
    scaled_fully_connected,
    biased,
    rope,
    attention,
    swiglu,
    add,
)
