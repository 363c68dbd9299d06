"""SVDF, float32: a layer of filters that factor into features and time, with a memory of past features.

    inputs      x float32[batches, inputs]
    outputs     y float32[batches, units]; not x
    constants   features [filters, inputs], time [filters, memory], bias [units], optional; all float32
    attributes  batches, inputs, filters, memory, rank; limits of the activation; layer

Each step drops the oldest feature of every filter and adds the product of its weights with x; a unit is the sum of its
`rank` filters' products with their memories, and the bias (Nakkiran et al., 2015, "Compressing deep neural networks
using a rank-constrained topology"). Sums go first to last. The cache is the memory, float32[batches, filters, memory],
zeros at first.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.floats import activation, bias_of, clamp, constant, initializer, literals, of_dtype, of_shape
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.packed import sequential_sum

OPERATORS = ("SVDF",)
FEATURES, TIME, STATE = 1, 2, 4


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    x = of_dtype(subgraph, operator.inputs[0], "the input", "float32")
    features = constant(subgraph, operator.inputs[FEATURES], "the features", "float32")
    time = constant(subgraph, operator.inputs[TIME], "the times", "float32")
    rank = int(str(operator.options["rank"]))
    filters, memory = time.shape
    if x.shape[1:] != features.shape[1:] or len(features) != filters or rank < 1 or filters % rank:
        raise Unsupported(f"{filters} filters of rank {rank} do not fit the input {list(x.shape)}")
    if not subgraph.tensors[operator.inputs[STATE]].is_variable:
        raise Unsupported("the filters' memory is not a variable of its own")
    of_shape(subgraph, operator, (x.shape[0], filters // rank))
    of_dtype(subgraph, operator.outputs[0], "the output", "float32")
    inputs = (*operator.inputs[:2], operator.inputs[3])
    constants = {"features": features, "time": time} | bias_of(subgraph, inputs, filters // rank)
    attributes = {
        "batches": x.shape[0],
        "inputs": x.shape[1],
        "filters": filters,
        "memory": memory,
        "rank": rank,
        "limits": activation(operator),
        "layer": operator.index,
    }
    return Call("svdf_float", operator.inputs[:1], operator.outputs, constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    a = call.attributes
    zeros = np.zeros((a["batches"], a["filters"], a["memory"]), np.float32)
    state = run.caches.setdefault(a["layer"], {"memory": zeros})
    memory: Array = np.roll(state["memory"], -1, axis=2)
    with np.errstate(all="ignore"):
        memory[:, :, -1] = sequential_sum(call.constants["features"] * inputs[0][:, None])
        products = sequential_sum(memory * call.constants["time"])
        y = sequential_sum(products.reshape(a["batches"], -1, a["rank"]))
        y = y + call.constants["bias"] if "bias" in call.constants else y
    state["memory"] = memory
    return (clamp(y, a["limits"]),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_svdf_f32"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    names = ("batches", "inputs", "filters", "memory", "rank")
    shape = f"&(const edge_svdf_f32_shape){initializer({name: call.attributes[name] for name in names})}"
    arguments = [c["in0"], c["out0"], c["features"], c["time"], c.get("bias", "NULL"), shape]
    return f"{kernel(call, features)}({', '.join(arguments)}, {literals(*call.attributes['limits'])}, {c['cache']});"


def cache_bytes(call: Call) -> int:
    a = call.attributes
    return int(4 * a["batches"] * a["filters"] * a["memory"])
