"""LSTM and GRU, unrolled: one product for the inputs of all steps, then a few operators a step.

TFLite's own UNIDIRECTIONAL_SEQUENCE_LSTM keeps its state from one run to the next, ONNX's starts at zero in each.
Gates come in ONNX's order: input, output, forget, cell for LSTM; update, reset, hidden for GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.make.formats.onnx_ops.builder import Array, Builder, Node, NotTaken, Value, constant_of, known

Op = Callable[..., tuple[Value, ...]]
MOST_STEPS = 512
FUNCTIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}


@dataclass(frozen=True)
class Direction:
    """The weights of one direction and its state before the first step: tensors [N, units]."""

    weights: Array
    recurrent: Array
    bias: Array
    recurrent_bias: Array
    h: int
    c: int = -1


def _shape(node: Node, x: Value, lengths: Value | None, directions: int) -> tuple[int, int]:
    """(steps, units); NotTaken for what is not unrolled."""
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in node.attributes.get("activations", ())]
    if names and tuple(names) != FUNCTIONS[node.op] * directions:
        raise NotTaken(f"its activations are {', '.join(names)[:60]}", "use sigmoid and tanh")
    if node.number("layout", 0) or node.number("input_forget", 0) or "clip" in node.attributes:
        raise NotTaken("it has a layout, clip or input_forget", "export it from PyTorch, which uses none of them")
    if len(x.shape) != 3 or x.shape[0] > MOST_STEPS:
        raise NotTaken(f"its input {list(x.shape)} has more than {MOST_STEPS} steps", "take a shorter sequence")
    if lengths is not None and (lengths.data is None or not np.all(lengths.data == x.shape[0])):
        raise NotTaken("its sequences have lengths of their own", "export it without packed sequences")
    return x.shape[0], node.number("hidden_size", 0)


def _run(
    b: Builder, node: Node, gates: int, step: Callable[..., tuple[int, int]], inputs: Sequence[Value | None]
) -> tuple[Value, ...]:
    x, w, r, bias, lengths, h, c = (*inputs, *(None,) * (7 - len(inputs)))[:7]
    assert x is not None
    direction = node.text("direction", "forward")
    weights, recurrent = (np.asarray(constant_of(v, "weights"), np.float32) for v in (w, r))
    count = 2 if direction == "bidirectional" else 1
    steps, units = _shape(node, x, lengths, count)
    expected = (count, gates * units, x.shape[2]), (count, gates * units, units)
    if (weights.shape, recurrent.shape) != expected or units < 1:
        raise NotTaken("the shapes of its weights do not fit each other")
    biases = (
        np.zeros((count, 2 * gates * units), np.float32) if bias is None else _floats(bias, (count, 2 * gates * units))
    )
    batch, results = x.shape[1], []
    for d in range(count):
        halves = np.split(biases[d], 2)
        states = [_state(b, v, d, batch, units) for v in (h, c)]
        parts = Direction(weights[d], recurrent[d], halves[0], halves[1], states[0], states[1])
        backward = direction == "reverse" or d == 1
        results.append(_unrolled(b, x, parts, step, range(steps)[:: -1 if backward else 1], gates))
    return _outputs(b, results, (steps, batch, units), node)


def _floats(value: Value, shape: tuple[int, ...]) -> Array:
    data = np.asarray(constant_of(value, "bias"), np.float32)
    if data.shape != shape:
        raise NotTaken("the shapes of its weights do not fit each other")
    return data


def _state(b: Builder, value: Value | None, direction: int, batch: int, units: int) -> int:
    """A state before the first step [N, units]."""
    if value is None:
        return b.constant(np.zeros((batch, units), np.float32))
    if value.shape[1:] != (batch, units) or value.shape[0] <= direction:
        raise NotTaken("the shape of its first state does not fit its input")
    if value.data is not None:
        return b.constant(value.data[direction])
    begin, size = b.numbers(direction, 0, 0), b.numbers(1, batch, units)
    part = b.emit("SLICE", [b.plain(value), begin, size], (1, batch, units), schema.SliceOptionsT())
    return b.reshaped(part, (batch, units))


def _unrolled(
    b: Builder, x: Value, parts: Direction, step: Callable[..., tuple[int, int]], order: range, gates: int
) -> tuple[list[int], int, int]:
    """(h of each step in the order of time, the last h, the last c)."""
    steps, batch, width = x.shape
    rows = b.reshaped(b.plain(x), (steps * batch, width))
    moved = b.dense(rows, parts.weights, parts.bias)
    shape = (batch, len(parts.bias))
    moments = b.graph.add(
        "SPLIT",
        [b.constant(np.array(0, np.int32)), moved],
        *[shape] * steps,
        name=b.name,
        options=schema.SplitOptionsT(numSplits=steps),
    )
    h, c, seen = parts.h, parts.c, {}
    for t in order:
        h, c = step(b, moments[t], h, c, parts)
        seen[t] = h
    return [seen[t] for t in range(steps)], h, c


def _parts(b: Builder, tensor: int, count: int) -> tuple[int, ...]:
    n, width = b.graph.shape(tensor)
    inputs = [b.constant(np.array(1, np.int32)), tensor]
    options = schema.SplitOptionsT(numSplits=count)
    return b.graph.add("SPLIT", inputs, *[(n, width // count)] * count, name=b.name, options=options)


def _same(b: Builder, kind: str, tensor: int) -> int:
    return b.emit(kind, [tensor], b.graph.shape(tensor))


def _lstm_step(b: Builder, moment: int, h: int, c: int, parts: Direction) -> tuple[int, int]:
    gates = b.binary("ADD", moment, b.dense(h, parts.recurrent, parts.recurrent_bias))
    i, o, f, cell = _parts(b, gates, 4)
    kept = b.binary("MUL", _same(b, "LOGISTIC", f), c)
    new = b.binary("MUL", _same(b, "LOGISTIC", i), _same(b, "TANH", cell))
    c = b.binary("ADD", kept, new)
    return b.binary("MUL", _same(b, "LOGISTIC", o), _same(b, "TANH", c)), c


def _gru_step(b: Builder, moment: int, h: int, c: int, parts: Direction) -> tuple[int, int]:
    """h' = (1 - z) n + z h = n + z (h - n), with the reset gate after the product with the recurrent weights."""
    z_x, r_x, n_x = _parts(b, moment, 3)
    z_h, r_h, n_h = _parts(b, b.dense(h, parts.recurrent, parts.recurrent_bias), 3)
    z, r = (_same(b, "LOGISTIC", b.binary("ADD", *pair)) for pair in ((z_x, z_h), (r_x, r_h)))
    n = _same(b, "TANH", b.binary("ADD", n_x, b.binary("MUL", r, n_h)))
    return b.binary("ADD", n, b.binary("MUL", z, b.binary("SUB", h, n))), c


def _gru_step_before(b: Builder, moment: int, h: int, c: int, parts: Direction) -> tuple[int, int]:
    """The same with the reset gate before the product, as Keras 1 and ONNX's default have it."""
    units = parts.recurrent.shape[1]
    z_x, r_x, n_x = _parts(b, moment, 3)
    z_h, r_h = _parts(b, b.dense(h, parts.recurrent[: 2 * units], parts.recurrent_bias[: 2 * units]), 2)
    z, r = (_same(b, "LOGISTIC", b.binary("ADD", *pair)) for pair in ((z_x, z_h), (r_x, r_h)))
    n_h = b.dense(b.binary("MUL", r, h), parts.recurrent[2 * units :], parts.recurrent_bias[2 * units :])
    n = _same(b, "TANH", b.binary("ADD", n_x, n_h))
    return b.binary("ADD", n, b.binary("MUL", z, b.binary("SUB", h, n))), c


def _outputs(
    b: Builder, results: Sequence[tuple[list[int], int, int]], shape: tuple[int, int, int], node: Node
) -> tuple[Value, ...]:
    """Y [steps, directions, N, units], and the last h and c [directions, N, units]; only those that are used."""
    steps, batch, units = shape
    made = []
    wanted = [bool(name) for name in node.outputs]
    columns = [
        [seen[t] for t in range(steps) for seen, _, _ in results],
        [h for _, h, _ in results],
        [c for _, _, c in results],
    ]
    shapes = [(steps, len(results), batch, units), (len(results), batch, units), (len(results), batch, units)]
    for used, tensors, full in zip(wanted, columns, shapes, strict=False):
        if not used:
            made.append(known(np.zeros(0, np.float32)))
            continue
        joined = tensors[0]
        if len(tensors) > 1:
            options = schema.ConcatenationOptionsT(axis=0)
            joined = b.emit("CONCATENATION", tensors, (len(tensors) * batch, units), options)
        made.append(Value(full, np.dtype(np.float32), plain=b.reshaped(joined, full)))
    return tuple(made)


def lstm(b: Builder, node: Node, *inputs: Value | None) -> tuple[Value, ...]:
    if len(inputs) > 7 and inputs[7] is not None:
        raise NotTaken("it has peepholes", "use an LSTM without them")
    return _run(b, node, 4, _lstm_step, inputs)


def gru(b: Builder, node: Node, *inputs: Value | None) -> tuple[Value, ...]:
    step = _gru_step if node.number("linear_before_reset", 0) else _gru_step_before
    return _run(b, node, 3, step, inputs)


OPS: Mapping[str, Op] = {"GRU": gru, "LSTM": lstm}
