"""Shapes of tensors that a file leaves open: what operators make of the shapes of their inputs.

A converter that does not know a batch or a length writes 1 for it and -1 into the signature of the shape; TFLite finds
the true one when it runs. Here it is found when compiling, with 1 for what the model's inputs leave open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from firmware_tools.graph import Operator, Tensor

Shape = tuple[int, ...]
Rule = Callable[[Operator, Sequence[Tensor]], "Shape | None"]


def inferred(operator: Operator, inputs: Sequence[Tensor], declared: Tensor) -> Shape:
    """The shape of the output `declared`, which is what the file says where that is certain or no rule knows better."""
    rule = RULES.get(operator.op)
    if -1 not in declared.shape_signature or rule is None:
        return declared.shape
    try:
        shape = rule(operator, inputs)
    except (ValueError, IndexError, TypeError, ZeroDivisionError):  # arguments that do not fit: lowering says so
        return declared.shape
    return declared.shape if shape is None else tuple(int(size) for size in shape)


def follows(operator: Operator, inputs: Sequence[Tensor], declared: Tensor) -> bool:
    """Has the output as many elements as its inputs make? Kernels rely on it; where no rule is, ops look themselves."""
    rule = RULES.get(operator.op) or WINDOWS.get(operator.op)
    shape = None if rule is None else rule(operator, inputs)
    return shape is None or math.prod(shape) == math.prod(declared.shape)


def axis_of(operator: Operator, rank: int) -> int:
    return int(str(operator.options.get("axis", 0))) % rank


def _numbers(tensor: Tensor) -> list[int] | None:
    return None if tensor.data is None else tensor.data.reshape(-1).tolist()


def _same(operator: Operator, inputs: Sequence[Tensor]) -> Shape:
    return inputs[0].shape


def _broadcast(operator: Operator, inputs: Sequence[Tensor]) -> Shape:
    return np.broadcast_shapes(*(tensor.shape for tensor in inputs))


def _reshape(operator: Operator, inputs: Sequence[Tensor]) -> Shape | None:
    given: Any = _numbers(inputs[1]) if len(inputs) > 1 else operator.options.get("new_shape")
    if given is None:
        return None
    known = math.prod(size for size in given if size != -1)
    return tuple(math.prod(inputs[0].shape) // known if size == -1 else size for size in given)


def _fully_connected(operator: Operator, inputs: Sequence[Tensor]) -> Shape:
    x, (rows, columns) = inputs[0].shape, inputs[1].shape
    return (*x[:-1], rows) if operator.options.get("keep_num_dims") else (math.prod(x) // columns, rows)


def _matmul(operator: Operator, inputs: Sequence[Tensor]) -> Shape:
    a, b = inputs[0].shape, inputs[1].shape
    rows = a[-1] if operator.options.get("adj_x") else a[-2]
    columns = b[-2] if operator.options.get("adj_y") else b[-1]
    return (*np.broadcast_shapes(a[:-2], b[:-2]), rows, columns)


def _reduced(operator: Operator, inputs: Sequence[Tensor]) -> Shape | None:
    axes = _numbers(inputs[1])
    if axes is None:
        return None
    whole = {axis % len(inputs[0].shape) for axis in axes}
    kept = enumerate(inputs[0].shape)
    if operator.options.get("keep_dims"):
        return tuple(1 if axis in whole else size for axis, size in kept)
    return tuple(size for axis, size in kept if axis not in whole)


def _transposed(operator: Operator, inputs: Sequence[Tensor]) -> Shape | None:
    order = _numbers(inputs[1])
    return None if order is None else tuple(inputs[0].shape[axis] for axis in order)


def _sliced(operator: Operator, inputs: Sequence[Tensor]) -> Shape | None:
    begin, size = _numbers(inputs[1]), _numbers(inputs[2])
    if begin is None or size is None:
        return None
    whole = zip(inputs[0].shape, begin, size, strict=True)
    return tuple(extent - start if count < 0 else count for extent, start, count in whole)


def _joined(operator: Operator, inputs: Sequence[Tensor]) -> Shape:
    shape = list(inputs[0].shape)
    axis = axis_of(operator, len(shape))
    shape[axis] = sum(tensor.shape[axis] for tensor in inputs)
    return tuple(shape)


def _gathered(operator: Operator, inputs: Sequence[Tensor]) -> Shape:
    table, indices = inputs[0].shape, inputs[1].shape
    axis, batches = axis_of(operator, len(table)), int(str(operator.options.get("batch_dims") or 0))
    return (*table[:axis], *indices[batches:], *table[axis + 1 :])


def _filled(operator: Operator, inputs: Sequence[Tensor]) -> Shape | None:
    numbers = _numbers(inputs[0])
    return None if numbers is None else tuple(numbers)


def _expanded(operator: Operator, inputs: Sequence[Tensor]) -> Shape | None:
    axis = _numbers(inputs[1])
    return None if axis is None else np.expand_dims(np.empty(inputs[0].shape, np.bool_), axis[0]).shape


def _windows(operator: Operator, inputs: Sequence[Tensor]) -> Shape:
    """Of a convolution or pooling: how many windows fit, or with SAME padding begin, in each direction."""
    options = operator.options
    batches, *image, channels = inputs[0].shape
    if operator.op.endswith("POOL_2D"):
        made = channels
        kernel = tuple(int(str(options[name])) for name in ("filter_height", "filter_width"))
    else:
        filters = inputs[1].shape
        kernel, made = filters[1:3], filters[3 if operator.op == "DEPTHWISE_CONV_2D" else 0]
    sizes = []
    for size, taps, side in zip(image, kernel, "hw", strict=True):
        stride, dilation = int(str(options[f"stride_{side}"])), int(str(options.get(f"dilation_{side}_factor") or 1))
        reach = 1 if options["padding"] == SAME else (taps - 1) * dilation + 1
        sizes.append((size - reach) // stride + 1)
    return (batches, *sizes, made)


ELEMENTS = "ABS NEG SQRT RSQRT SQUARE EXP LOG SIN COS TANH LOGISTIC FLOOR CEIL ROUND SIGN RELU RELU6 RELU_N1_TO_1"
ELEMENTS += " RELU_0_TO_1 ELU HARD_SWISH GELU LEAKY_RELU SOFTMAX LOG_SOFTMAX CAST QUANTIZE DEQUANTIZE LOGICAL_NOT"
PAIRS = "ADD SUB MUL DIV MAXIMUM MINIMUM SQUARED_DIFFERENCE POW FLOOR_DIV LESS LESS_EQUAL GREATER GREATER_EQUAL EQUAL"
PAIRS += " NOT_EQUAL LOGICAL_AND LOGICAL_OR SELECT_V2"
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ELEMENTS.split(), _same),
    **dict.fromkeys(PAIRS.split(), _broadcast),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), _reduced),
    "RESHAPE": _reshape,
    "EXPAND_DIMS": _expanded,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matmul,
    "TRANSPOSE": _transposed,
    "SLICE": _sliced,
    "CONCATENATION": _joined,
    "GATHER": _gathered,
    "FILL": _filled,
}
SAME = 0  # schema.Padding
WINDOWS: Mapping[str, Rule] = dict.fromkeys(
    ("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"), _windows
)
