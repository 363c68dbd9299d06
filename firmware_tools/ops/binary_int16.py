"""Two int16 tensors become one, element by element, the smaller repeated along the axes it lacks.

    inputs      a, b int16, one of which may be stored instead
    outputs     y int16; may be an input of y's shape
    constants   a or b, where the file stores it
    attributes  function (add, sub, mul, maximum or minimum), shapes (of a, b and y), range (least, most) of y,
                multipliers and exponents (requantize.py): of a, b and y for add and sub, of y for mul

As binary_int8.py with zero points of 0 and 15 more bits where that has 20. TFLite's reference kernels for scales that
need not be powers of two. With `pot_scale_int16` and all three scales powers of two TFLite shifts instead, which is not
supported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.ops.binary_int8 import arguments, axes
from firmware_tools.ops.conv_2d_int16 import symmetric
from firmware_tools.quantized import stored_range
from firmware_tools.requantize import quantize_multiplier, scale_twice_rounded

OPERATORS = ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM")
IN_PLACE = ((0, 0), (0, 1))
LEFT_SHIFT = 15  # bits that add and sub have beside


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    indices = (*operator.inputs[:2], operator.outputs[0])
    what = ("an input", "an input", "the output")
    a, b, y = (symmetric(subgraph, index, name) for index, name in zip(indices, what, strict=True))
    function = operator.op.lower()
    factors: tuple[float, ...] = ()
    if function in ("add", "sub"):
        powers = all(math.frexp(scale)[0] == 0.5 for scale in (a, b, y))
        if powers and operator.options.get("pot_scale_int16", True):
            raise Unsupported("its scales are powers of two, which TFLite adds in another way")
        twice = 2.0 * max(a, b)
        factors = (a / twice, b / twice, twice / ((1 << LEFT_SHIFT) * y))
    elif function == "mul":
        factors = (a * b / y,)
    pairs = [quantize_multiplier(factor) for factor in factors]
    if pairs and pairs[-1][1] > 0:
        raise Unsupported("its output's scale is too small beside those of its inputs")
    tensors = [subgraph.tensors[i] for i in indices]
    shapes = tuple(tensor.shape for tensor in tensors)
    axes(shapes)  # raises where they do not go together
    attributes = {
        "function": function,
        "shapes": shapes,
        "range": stored_range(operator.options, y, 0, "int16") if factors else (-32768, 32767),
        "multipliers": tuple(m for m, _ in pairs),
        "exponents": tuple(e for _, e in pairs),
    }
    constants = {k: t.data.astype(np.int16) for k, t in zip("ab", tensors[:2], strict=True) if t.data is not None}
    if len(constants) == 2:
        raise Unsupported("both its inputs are stored")
    inputs = tuple(tensor.index for tensor in tensors[:2] if tensor.data is None)
    return Call("binary_int16", inputs, operator.outputs, constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    stored, given, at = call.constants, list(inputs), call.attributes
    a, b = (np.asarray(stored[k] if k in stored else given.pop(0), np.int64) for k in "ab")
    m, e = at["multipliers"], at["exponents"]
    if at["function"] in ("maximum", "minimum"):
        return (getattr(np, at["function"])(a, b).astype(np.int16),)
    if at["function"] == "mul":
        y = scale_twice_rounded(a * b, m[0], e[0])
    else:
        a = scale_twice_rounded(a << LEFT_SHIFT, m[0], e[0])
        b = scale_twice_rounded(b << LEFT_SHIFT, m[1], e[1])
        y = scale_twice_rounded(a + b if at["function"] == "add" else a - b, m[2], e[2])
    return (np.clip(y, *at["range"]).astype(np.int16),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_{call.attributes['function']}_int16"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    return f"{kernel(call, features)}({arguments(call, c)});"
