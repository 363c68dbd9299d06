"""What lowerings of ops on quantized tensors ask of a file's tensors, with one sentence where it is not so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.graph import Subgraph, Tensor
from firmware_tools.ops import Unsupported
from firmware_tools.requantize import ACTIVATIONS, activation_range, scale_twice_rounded

Array = NDArray[Any]
FULL_INT8 = "`edge convert SOURCE --quantize int8` or full-integer quantization in TensorFlow makes int8 tensors"


def of_dtype(subgraph: Subgraph, index: int, what: str, *dtypes: str) -> Tensor:
    """Tensor number index, which must have one of these types."""
    tensor = subgraph.tensors[index]
    if tensor.dtype not in dtypes:
        raise Unsupported(f"{what} is {tensor.dtype}, not {' or '.join(dtypes)}", FULL_INT8)
    return tensor


def per_tensor(subgraph: Subgraph, index: int, what: str, *dtypes: str) -> tuple[float, int]:
    """(scale, zero point) of a tensor, int8 unless dtypes say otherwise, that has one of each."""
    tensor = of_dtype(subgraph, index, what, *(dtypes or ("int8",)))
    quantization = tensor.quantization
    if quantization is None or quantization.scale.size != 1 or not quantization.scale[0] > 0:
        raise Unsupported(f"{what} has no scale, or not one for the whole tensor", FULL_INT8)
    zero_point = int(quantization.zero_point[0])
    if not np.iinfo(tensor.dtype).min <= zero_point <= np.iinfo(tensor.dtype).max:
        raise Unsupported(f"{what} has the zero point {zero_point}, which {tensor.dtype} does not hold")
    return float(quantization.scale[0]), zero_point


def weights_of(subgraph: Subgraph, index: int, what: str, axis: int) -> tuple[Array, NDArray[np.float64]]:
    """Constant int8 weights and their scales, one for the tensor or one for each index of axis; symmetric."""
    tensor = of_dtype(subgraph, index, what, "int8")
    quantization = tensor.quantization
    if tensor.data is None:
        raise Unsupported(f"{what} are computed by the graph, not stored")
    if quantization is None or not quantization.scale.size or not bool((quantization.scale > 0).all()):
        raise Unsupported(f"{what} have no scales, or some that are zero", FULL_INT8)
    if bool(quantization.zero_point.any()):
        raise Unsupported(f"{what} have a zero point other than 0", FULL_INT8)
    if quantization.scale.size > 1 and quantization.axis != axis:
        raise Unsupported(f"{what} have scales along axis {quantization.axis}, not {axis}")
    return tensor.data.astype(np.int8), quantization.scale.astype(np.float64)


def bias_of(subgraph: Subgraph, index: int, count: int) -> NDArray[np.int32]:
    """A stored int32 bias, zeros where there is none (index -1)."""
    if index < 0:
        return np.zeros(count, np.int32)
    tensor = of_dtype(subgraph, index, "the bias", "int32")
    if tensor.data is None or tensor.data.size != count:
        raise Unsupported("the bias is computed by the graph, or of another size")
    return tensor.data.reshape(-1).astype(np.int32)


def number(options: Mapping[str, Any], name: str) -> int:
    """An option that is an integer, 0 where the file leaves it out."""
    return int(options.get(name) or 0)


def optional(inputs: tuple[int, ...], position: int) -> int:
    """The tensor at a position of an operator's inputs, -1 where it is absent."""
    return inputs[position] if position < len(inputs) else -1


def stored_range(options: Mapping[str, Any], scale: float, zero_point: int, dtype: str = "int8") -> tuple[int, int]:
    """What the fused activation leaves of a type's range."""
    activation = str(options.get("fused_activation_function", "NONE"))
    if activation not in ACTIVATIONS:
        raise Unsupported(f"the fused activation {activation} is not supported")
    return activation_range(activation, scale, zero_point, dtype)


def check_scaling(largest: int, exponent: Any) -> None:
    """Refuses sums of up to `largest` with exponents of their scaling that 32 bits do not hold."""
    if largest << max(0, int(np.max(exponent, initial=0))) >= 1 << 31:
        raise Unsupported("its scales, or its bias, are too far from what int8 layers have")


def settle(constants: dict[str, Array], matrix: Array, zero_points: tuple[int, int], limits: tuple[int, int]) -> Array:
    """Gives outputs that are the same whatever x is a bias and a scaling that kernels like; tells which they are.

    Pruned channels have such tiny scales that converters cut their biases at 2^30. constants: bias, multiplier and
    exponent, which are replaced; matrix: a row for each output. The weights of these outputs are to become zeros.
    """
    wide, bias = matrix.astype(np.int64), constants["bias"].astype(np.int64)
    ends = [np.array(end, np.int64) - zero_points[0] for end in (-128, 127)]
    # a tap outside the image adds nothing
    sums = [np.where(wide > 0, wide * a, wide * b) for a, b in (ends, reversed(ends))]
    multiplier, exponent = constants["multiplier"], constants["exponent"]
    low, high = (
        np.clip(scale_twice_rounded(bias + s, multiplier, exponent) + zero_points[1], *limits)
        for s in (np.minimum(sums[0], 0).sum(axis=1), np.maximum(sums[1], 0).sum(axis=1))
    )
    settled: Array = low == high
    constants["bias"] = np.where(settled, (low - zero_points[1]) << 8, bias).astype(np.int32)
    constants["multiplier"] = np.where(settled, 1 << 30, multiplier).astype(np.int32)
    constants["exponent"] = np.where(settled, -7, exponent).astype(np.int32)
    return settled


def largest_sum(matrix: Array, bias: Array) -> int:
    """A bound of |W (x - zero point) + bias| for int8 x; a row of the matrix for each output."""
    return int((np.abs(matrix.astype(np.int64)).sum(axis=1) * 255 + np.abs(bias.astype(np.int64))).max(initial=0))


def constant(subgraph: Subgraph, index: int, what: str) -> Array:
    """The stored data of a tensor."""
    tensor = subgraph.tensors[index]
    if tensor.data is None:
        raise Unsupported(f"{what} is computed by the graph, not stored", "fix it in the model before converting")
    return tensor.data
