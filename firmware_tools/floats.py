"""What lowerings of float, hybrid and untyped ops ask of a file's tensors, with one sentence where it is not so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.graph import Operator, Subgraph, Tensor
from firmware_tools.ops import Unsupported

Array = NDArray[Any]
FLOAT = "convert the model with float32 activations (dynamic-range or float32) or fully to int8, not in part"
STATIC = "convert the model with fixed shapes and constants folded"
ACTIVATIONS: Mapping[str, tuple[float, float]] = {
    "NONE": (-math.inf, math.inf),
    "RELU": (0.0, math.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
C_TYPES = {"float32": "float", "bool": "uint8_t"} | {n: f"{n}_t" for n in ("int8", "uint8", "int16", "int32")}
MOST_DIMENSIONS = 4  # of a broadcast, after neighbours that behave alike have become one; runtime/broadcast.h


def of_dtype(subgraph: Subgraph, index: int, what: str, *dtypes: str) -> Tensor:
    """Tensor number index, which must have one of these types and a fixed shape."""
    if index < 0:
        raise Unsupported(f"{what} is absent")
    tensor = subgraph.tensors[index]
    if tensor.dtype not in dtypes:
        raise Unsupported(f"{what} is {tensor.dtype}, not {' or '.join(dtypes)}", FLOAT)
    return tensor


def constant(subgraph: Subgraph, index: int, what: str, *dtypes: str) -> Array:
    """The stored data of a tensor of one of these types, in this machine's byte order."""
    tensor = of_dtype(subgraph, index, what, *dtypes)
    if tensor.data is None:
        raise Unsupported(f"{what} is computed by the graph, not stored", STATIC)
    return np.asarray(tensor.data, tensor.data.dtype.newbyteorder("="), order="C")  # keeps a scalar a scalar


def optional(inputs: Sequence[int], position: int) -> int:
    """The tensor at a position of an operator's inputs, -1 where it is absent."""
    return inputs[position] if position < len(inputs) else -1


def sorted_out(subgraph: Subgraph, tensors: Mapping[str, int]) -> tuple[tuple[int, ...], dict[str, Array]]:
    """(those that the graph computes, those that the file stores by their names)."""
    computed = tuple(index for index in tensors.values() if subgraph.tensors[index].data is None)
    stored = {
        name: constant(subgraph, index, name, subgraph.tensors[index].dtype)
        for name, index in tensors.items()
        if subgraph.tensors[index].data is not None
    }
    return computed, stored


def together(names: Sequence[str], constants: Mapping[str, Any], computed: Sequence[Any]) -> list[Any]:
    """The operands in order again: `sorted_out` undone, for arrays as for C expressions."""
    rest = iter(computed)
    return [constants[name] if name in constants else next(rest) for name in names]


def bias_of(subgraph: Subgraph, inputs: Sequence[int], count: int) -> dict[str, Array]:
    """{"bias": float32 [count]} of a third input, {} without."""
    index = optional(inputs, 2)
    if index < 0:
        return {}
    bias = constant(subgraph, index, "the bias", "float32").reshape(-1)
    if bias.size != count:
        raise Unsupported(f"the bias has {bias.size} elements for {count} outputs")
    return {"bias": bias}


def scales_of(tensor: Tensor, what: str, axis: int, count: int) -> Array:
    """float32 [count] scales of symmetric int8 weights, one for each index of axis (one for all is repeated)."""
    quantization = tensor.quantization
    if quantization is None or not quantization.scale.size or quantization.details:
        raise Unsupported(f"{what} are int8 without scales", FLOAT)
    if bool(quantization.zero_point.any()):
        raise Unsupported(f"{what} have a zero point other than 0", "convert the model with symmetric weights")
    if quantization.scale.size > 1 and quantization.axis != axis:
        raise Unsupported(f"{what} have scales along axis {quantization.axis}, not {axis}")
    return np.ascontiguousarray(np.broadcast_to(quantization.scale.astype(np.float32), (count,)))


def activation(operator: Operator) -> tuple[float, float]:
    """What the fused activation clamps to."""
    name = str(operator.options.get("fused_activation_function", "NONE"))
    if name not in ACTIVATIONS:
        raise Unsupported(f"the fused activation {name} is not supported", "make it an operator of its own")
    return ACTIVATIONS[name]


def clamp(x: Array, limits: tuple[float, float]) -> Array:
    """x within limits; NaN stays, as the device's comparisons leave it."""
    least, most = np.float32(limits[0]), np.float32(limits[1])
    x = np.where(x < least, least, x)
    clamped: Array = np.where(x > most, most, x).astype(np.float32)
    return clamped


def as_stored(constants: Mapping[str, Array]) -> dict[str, Array]:
    """Constants as they lie in flash: bool as bytes."""
    return {name: array.view(np.uint8) if array.dtype == np.bool_ else array for name, array in constants.items()}


def literal(x: float) -> str:
    """A float32 as C: hexadecimal, which is exact."""
    x = float(np.float32(x))
    if math.isnan(x):
        return '__builtin_nanf("")'
    if math.isinf(x):
        return f"{'-' if x < 0 else ''}__builtin_inff()"
    return f"{x.hex()}f"


def literals(*numbers: float) -> str:
    return ", ".join(map(literal, numbers))


def initializer(fields: Mapping[str, Any]) -> str:
    """A C initializer with names; tuples become arrays, floats hexadecimal."""
    return "{" + ", ".join(f".{name} = {_value(value)}" for name, value in fields.items()) + "}"


def _value(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "{" + ", ".join(map(_value, value)) + "}"
    return literal(value) if isinstance(value, float) else str(int(value))


def of_shape(subgraph: Subgraph, operator: Operator, shape: Sequence[int]) -> None:
    """Unsupported unless the output has this shape: kernels write, and some read, as many elements as it says."""
    found = result_shape(subgraph, operator)
    if found != tuple(shape):
        raise Unsupported(f"the output is {list(found)} where the input makes {list(shape)}", STATIC)


def result_shape(subgraph: Subgraph, operator: Operator) -> tuple[int, ...]:
    return subgraph.tensors[operator.outputs[0]].shape


def broadcast(shape: Sequence[int], *operands: Sequence[int]) -> tuple[Any, ...]:
    """(sizes, steps of each operand) of the loops that take operands to shape; for edge_broadcast."""
    try:
        fits = np.broadcast_shapes(*(tuple(operand) for operand in operands)) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        known = " and ".join(str(list(operand)) for operand in operands)
        raise Unsupported(f"shapes {known} do not broadcast to {list(shape)}", STATIC)
    wide = [(1,) * (len(shape) - len(operand)) + tuple(operand) for operand in operands]
    loops: list[tuple[int, tuple[bool, ...]]] = []  # size, and which operands move along it
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        moves = tuple(operand[axis] != 1 for operand in wide)
        if loops and loops[-1][1] == moves:
            loops[-1] = (loops[-1][0] * size, moves)
        else:
            loops.append((size, moves))
    if len(loops) > MOST_DIMENSIONS:
        raise Unsupported(f"broadcasting takes {len(loops)} nested loops, more than {MOST_DIMENSIONS}")
    loops = [(1, (False,) * len(operands))] * (MOST_DIMENSIONS - len(loops)) + loops
    steps = []
    for k in range(len(operands)):
        step, column = 1, []
        for size, moves in reversed(loops):
            column.append(step if moves[k] else 0)
            step *= size if moves[k] else 1
        steps.append(tuple(reversed(column)))
    return tuple(size for size, _ in loops), tuple(steps)


def broadcast_literal(loops: tuple[Any, ...]) -> str:
    """The C expression of an edge_broadcast."""
    return f"&(const edge_broadcast){initializer({'size': loops[0], 'step': loops[1]})}"
