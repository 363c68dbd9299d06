"""Long short-term memory over a sequence, all in integers: int8 activations and weights, int16 gates and cells.

    inputs      x int8[batches, steps, inputs], or [steps, batches, inputs] where time_major
    outputs     y int8[batches, steps, units] or [steps, batches, units]; not x
    constants   weights int8[4, units, inputs], recurrent int8[4, units, units]; bias int32[2, 4, units], zero points
                folded in: of the inputs' dot products and of the recurrent ones; scaling int32[2, 4, 2]: multiplier and
                exponent of each gate's two dot products
    attributes  batches, steps, inputs, units, time_major; hidden: (multiplier, exponent, zero point) of h;
                cell_bits: integer bits of the cells; cell_clip as stored, 0: none; layer

TFLite's 8x8_16 kernel bit for bit. Gates have 3 integer bits, what comes from the functions of fixed_point_16.py none.
The cache is h less its zero point (int8, wrapping, so that zeros are the start), then the cells (int16), after an even
number of bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools import fixed_point_16
from firmware_tools.floats import initializer
from firmware_tools.graph import Operator, Subgraph, Tensor
from firmware_tools.lstm import (
    BIASES,
    CELL_STATE,
    INPUT_WEIGHTS,
    OUTPUT_STATE,
    RECURRENT_WEIGHTS,
    check,
    sequence,
    shape_of,
    stacked,
)
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.requantize import quantize_multiplier, scale_twice_rounded

OPERATORS = ("UNIDIRECTIONAL_SEQUENCE_LSTM",)
F = np.float32
GATE_SCALE, ONE_SCALE = F(2.0**-12), F(2.0**-15)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    check(operator, subgraph)
    weights = stacked(operator, subgraph, INPUT_WEIGHTS, "the weights", "int8")
    recurrent = stacked(operator, subgraph, RECURRENT_WEIGHTS, "the recurrent weights", "int8")
    attributes = shape_of(operator, subgraph, weights, recurrent, "int8")
    x, h, cell = (subgraph.tensors[operator.inputs[i]] for i in (0, OUTPUT_STATE, CELL_STATE))
    if (h.dtype, cell.dtype) != ("int8", "int16"):
        raise Unsupported(f"the LSTM's states are {h.dtype} and {cell.dtype}, not int8 and int16")
    (x_scale, x_zero), (h_scale, h_zero), (cell_scale, cell_zero) = (scale_of(t, "a state") for t in (x, h, cell))
    exponent = round(math.log2(cell_scale))
    if cell_scale != 2.0**exponent or cell_zero or not 0 <= 15 + exponent <= 6:
        raise Unsupported(f"the LSTM's cells have the scale {cell_scale}, which is no power of two from 2^-15 to 2^-9")
    bias = stacked(operator, subgraph, BIASES, "the biases", "int32").astype(np.int64)
    folded = [bias - x_zero * weights.astype(np.int64).sum(axis=2), -h_zero * recurrent.astype(np.int64).sum(axis=2)]
    factors = [scale_of(subgraph.tensors[i], "the weights")[0] for i in operator.inputs[1:9]]
    sides = [F(w) * F(x_scale if n < 4 else h_scale) / GATE_SCALE for n, w in enumerate(factors)]
    hidden_scale, hidden_zero = scale_of(_hidden(operator, subgraph), "the hidden state")
    clip = attributes.pop("cell_clip")
    attributes |= {
        "hidden": (*quantize_multiplier(float(ONE_SCALE / F(hidden_scale) * ONE_SCALE)), hidden_zero),
        "h_zero": h_zero,
        "cell_bits": 15 + exponent,
        "cell_clip": int(min(max(clip / cell_scale, -32768.0), 32767.0)),
    }
    constants = {
        "weights": weights,
        "recurrent": recurrent,
        "bias": np.stack(folded).astype(np.int32),
        "scaling": np.array([quantize_multiplier(float(side)) for side in sides], np.int32).reshape(2, 4, 2),
    }
    return Call("lstm_int8", operator.inputs[:1], operator.outputs, constants, attributes)


def scale_of(tensor: Tensor, what: str) -> tuple[float, int]:
    """(scale, zero point) of a tensor that has one of each."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale.size != 1 or not quantization.scale[0] > 0:
        raise Unsupported(f"{what} of the LSTM has no scale, or more than one")
    return float(quantization.scale[0]), int(quantization.zero_point[0])


def _hidden(operator: Operator, subgraph: Subgraph) -> Tensor:
    """The intermediate tensor whose scale h has before it is stored."""
    intermediates = operator.options.get("Intermediates")
    if not isinstance(intermediates, tuple) or len(intermediates) != 5:
        raise Unsupported("the LSTM has no intermediate tensors that tell its scales")
    index = int(intermediates[4])
    if not 0 <= index < len(subgraph.tensors):
        raise Unsupported("the LSTM's intermediate tensors are not in the file")
    return subgraph.tensors[index]


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    a = call.attributes
    shape = (a["batches"], a["units"])
    start = {"h": np.full(shape, a["h_zero"], np.int64), "c": np.zeros(shape, np.int64)}
    state = run.caches.setdefault(a["layer"], start)
    outputs = []
    for x in sequence(inputs[0].astype(np.int64), a):
        gates = _gates(call, x, state["h"])
        i, f, o = (fixed_point_16.logistic(gates[:, gate]) for gate in (0, 1, 3))
        g = fixed_point_16.tanh(gates[:, 2], 3)
        kept = fixed_point_16.wrapped(fixed_point_16.rounding_shift(f * state["c"], 15))
        added = fixed_point_16.wrapped(fixed_point_16.rounding_shift(i * g, 15 + a["cell_bits"]))
        c = fixed_point_16.saturated(kept + added)
        if a["cell_clip"] > 0:
            c = np.clip(c, -a["cell_clip"], a["cell_clip"])
        multiplier, exponent, zero_point = a["hidden"]
        h = scale_twice_rounded(o * fixed_point_16.tanh(c, a["cell_bits"]), multiplier, exponent)
        state["c"], state["h"] = c, np.clip(h + zero_point, -128, 127)
        outputs.append(state["h"].astype(np.int8))
    return (np.ascontiguousarray(sequence(np.stack(outputs), a)),)


def _gates(call: Call, x: Array, h: Array) -> Array:
    """int16 values [batches, 4, units]."""
    gates: Array = np.zeros((len(x), 4, call.attributes["units"]), np.int64)
    for side, (matrix, rows) in enumerate((("weights", x), ("recurrent", h))):
        dots = np.einsum("gnk,bk->bgn", call.constants[matrix].astype(np.int64), rows) + call.constants["bias"][side]
        scaling = call.constants["scaling"][side][:, None]
        gates = fixed_point_16.saturated(gates + scale_twice_rounded(dots, scaling[..., 0], scaling[..., 1]))
    return gates


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_lstm_s8{'_dsp' if 'dsp' in features else ''}"


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    """On a core with SMLAD two rows of a matrix lie together, four columns of each."""
    if "dsp" not in features:
        return dict(call.constants)
    return {**call.constants, **{name: _in_twos(call.constants[name]) for name in ("weights", "recurrent")}}


def _in_twos(matrices: Array) -> Array:
    rows = matrices.reshape(-1, matrices.shape[2])
    whole = np.pad(rows, [(0, 0), (0, -rows.shape[1] % 4)])
    return np.ascontiguousarray(whole.reshape(len(whole) // 2, 2, -1, 4).transpose(0, 2, 1, 3))


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a = call.attributes
    names = ("batches", "steps", "inputs", "units", "time_major", "h_zero", "cell_bits", "cell_clip")
    fields = {name: a[name] for name in names}
    fields |= dict(zip(("hidden_multiplier", "hidden_exponent", "hidden_zero"), a["hidden"], strict=True))
    constants = [c[name] for name in ("weights", "recurrent", "bias", "scaling")]
    shape = f"&(const edge_lstm_s8_shape){initializer(fields)}"
    arguments = [c["in0"], c["out0"], *constants, shape, c["cache"], c["workspace"]]
    return f"{kernel(call, features)}({', '.join(arguments)});"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """The gates of a step and h; with SMLAD also x or h, widened."""
    units = call.attributes["units"]
    most = max(units, call.attributes["inputs"])
    return int(9 * units + (2 * (most + -most % 4) if "dsp" in features else 0))


def cache_bytes(call: Call) -> int:
    cells = call.attributes["batches"] * call.attributes["units"]
    return int(cells + cells % 2 + 2 * cells)
