"""Filters over time of low rank (SVDF), int8: each makes a feature of every input and weighs its last ones.

    inputs      x int8[batches, inputs]
    outputs     y int8[batches, units]; not x
    constants   weights int8[units * rank, inputs]; time int8 or int16 [units * rank, memory]; bias int32[units]
    attributes  batches, rank, zero_points (of x and y), range (least, most) of y, layer; start of the memory;
                scaling and out_scaling: (multiplier, exponent) of features and of outputs (requantize.py)

A feature is the dot product of x less its zero point with the filter's weights, rounded twice and saturated to the type
of time; it joins the filter's memory, whose oldest feature is forgotten. An output is the bias and the dot products of
`rank` filters' memories with time, 32 bits that wrap, rounded twice. TFLite's reference EvalIntegerSVDF; with a memory
of 8 bits, TFLite Micro's.

The cache is the memory of every batch and filter, of the type of time, from old to new, less `start`, so that zeros are
the start: TFLite Micro fills a memory of 8 bits with its zero point, and then computes as if that were 0. On a core
with SMLAD two filters at a time meet x in words of bytes 0 and 2, 1 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.quantized import bias_of, constant, number, optional, per_tensor, stored_range
from firmware_tools.requantize import quantize_multiplier, scale_twice_rounded

OPERATORS = ("SVDF",)
WEIGHTS, TIME, BIAS, STATE = 1, 2, 3, 4  # places among the operator's inputs
F = np.float32


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x, state = operator.inputs[0], operator.inputs[STATE]
    scale, zero_point = per_tensor(subgraph, x, "the input")
    out_scale, out_zero_point = per_tensor(subgraph, operator.outputs[0], "the output")
    weight_scale, weight_zero = per_tensor(subgraph, operator.inputs[WEIGHTS], "the weights")
    time_scale, time_zero = per_tensor(subgraph, operator.inputs[TIME], "the weights of time", "int8", "int16")
    weights = constant(subgraph, operator.inputs[WEIGHTS], "the weights").astype(np.int8)
    time = constant(subgraph, operator.inputs[TIME], "the weights of time")
    state_scale, state_zero = per_tensor(subgraph, state, "the memory", str(time.dtype.newbyteorder("=")))
    if weight_zero or time_zero:
        raise Unsupported("its weights have a zero point other than 0")
    if not subgraph.tensors[state].is_variable:
        raise Unsupported("its memory is not a variable of its own")
    rank, (batches, inputs) = number(operator.options, "rank"), subgraph.tensors[x].shape
    filters, memory = time.shape
    if rank < 1 or filters % rank or weights.shape != (filters, inputs):
        raise Unsupported(f"{filters} filters of {inputs} inputs have weights {list(weights.shape)} and rank {rank}")
    if subgraph.tensors[state].shape != (batches, filters * memory):
        raise Unsupported(f"its memory has the shape {list(subgraph.tensors[state].shape)}")
    attributes = {
        "batches": batches,
        "rank": rank,
        "zero_points": (zero_point, out_zero_point),
        "start": state_zero if time.dtype == np.int8 else 0,
        "range": stored_range({}, out_scale, out_zero_point),
        "scaling": quantize_multiplier(float(F(scale) * F(weight_scale) / F(state_scale))),
        "out_scaling": quantize_multiplier(float(F(state_scale) * F(time_scale) / F(out_scale))),
        "layer": operator.index,
    }
    constants = {
        "weights": weights,
        "time": time.astype(time.dtype.newbyteorder("=")),
        "bias": bias_of(subgraph, optional(operator.inputs, BIAS), filters // rank),
    }
    return Call("svdf", (x,), operator.outputs, constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    a, time = call.attributes, call.constants["time"]
    start = {"memory": np.full((a["batches"], *time.shape), a["start"], time.dtype)}
    state, limits = run.caches.setdefault(a["layer"], start), np.iinfo(time.dtype)
    dots = (inputs[0].astype(np.int64) - a["zero_points"][0]) @ call.constants["weights"].T.astype(np.int64)
    features = np.clip(scale_twice_rounded(dots, *a["scaling"]), limits.min, limits.max).astype(time.dtype)
    state["memory"] = np.concatenate([state["memory"][:, :, 1:], features[:, :, None]], axis=2)
    sums = (state["memory"].astype(np.int64) * time).sum(axis=2)
    totals = sums.reshape(a["batches"], -1, a["rank"]).sum(axis=2) + call.constants["bias"]
    y = scale_twice_rounded(totals.astype(np.int32), *a["out_scaling"]) + a["zero_points"][1]
    return (np.clip(y, *a["range"]).astype(np.int8),)


def kernel(call: Call, features: frozenset[str]) -> str:
    name = f"edge_svdf_{'s8' if call.constants['time'].dtype == np.int8 else 's16'}"
    return f"{name}_dsp" if "dsp" in features else name


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    weights = call.constants["weights"]
    starts = -call.attributes["zero_points"][0] * weights.astype(np.int64).sum(axis=1)
    if "dsp" in features:
        whole = np.pad(weights, [(0, len(weights) % 2), (0, -weights.shape[1] % 4)])
        weights = np.ascontiguousarray(whole.reshape(len(whole) // 2, 2, -1, 4).transpose(0, 2, 1, 3))
    return {**call.constants, "weights": weights, "starts": starts.astype(np.int32)}


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a, (filters, memory) = call.attributes, call.constants["time"].shape
    numbers = {
        "batches": a["batches"],
        "inputs": call.constants["weights"].shape[1],
        "filters": filters,
        "memory": memory,
        "rank": a["rank"],
        "multiplier": a["scaling"][0],
        "exponent": a["scaling"][1],
        "out_multiplier": a["out_scaling"][0],
        "out_exponent": a["out_scaling"][1],
        "zero_point": a["zero_points"][1],
        "least": a["range"][0],
        "most": a["range"][1],
        "start": a["start"],
    }
    fields = ", ".join(f".{name} = {number}" for name, number in numbers.items())
    arguments = [c["in0"], c["out0"], c["weights"], c["starts"], c["time"], c["bias"], f"&(edge_svdf){{{fields}}}"]
    arguments += [c["cache"], *([c["workspace"]] if "dsp" in features else [])]
    return f"{kernel(call, features)}({', '.join(arguments)});"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """x, widened."""
    inputs = call.constants["weights"].shape[1]
    return 2 * int(inputs + -inputs % 4) if "dsp" in features else 0


def cache_bytes(call: Call) -> int:
    return int(call.attributes["batches"] * call.constants["time"].nbytes)
