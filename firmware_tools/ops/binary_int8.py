"""Two int8 tensors become one, element by element, the smaller repeated along the axes it lacks.

    inputs      a, b int8, one of which may be stored instead
    outputs     y int8; may be an input of y's shape
    constants   a or b, where the file stores it
    attributes  function (add, sub, mul, maximum or minimum), shapes (of a, b and y), zero_points (a, b, y), range
                (least, most) of y, multipliers and exponents (requantize.py): of a, b and y for add and sub, of y for
                mul

add, sub    a and b on a common scale with 20 more bits, each rounded twice; so is their sum or difference
mul         (a - zero point) * (b - zero point), rounded twice
maximum …   of the stored numbers

TFLite's reference kernels (reference_integer_ops Add and Mul, reference_ops Sub, MaximumMinimum).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.quantized import check_scaling, per_tensor, stored_range
from firmware_tools.requantize import quantize_multiplier, scale_twice_rounded

OPERATORS = ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM")
IN_PLACE = ((0, 0), (0, 1))
LEFT_SHIFT = 20  # bits that add and sub have beside
MOST_RANK = 6  # axes that are not one


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    indices = (*operator.inputs[:2], operator.outputs[0])
    what = ("an input", "an input", "the output")
    a, b, y = (per_tensor(subgraph, index, name) for index, name in zip(indices, what, strict=True))
    function = operator.op.lower()
    factors: tuple[float, ...] = ()
    if function in ("add", "sub"):
        twice = 2.0 * max(a[0], b[0])
        factors = (a[0] / twice, b[0] / twice, twice / ((1 << LEFT_SHIFT) * y[0]))
    elif function == "mul":
        factors = (a[0] * b[0] / y[0],)
    pairs = [quantize_multiplier(factor) for factor in factors]
    if function in ("add", "sub") and pairs[2][1] > 0:
        raise Unsupported("its output's scale is too small beside those of its inputs")
    check_scaling(255 * 255 if function == "mul" else 0, [exponent for _, exponent in pairs])
    tensors = [subgraph.tensors[i] for i in indices]
    attributes = {
        "function": function,
        "shapes": tuple(tensor.shape for tensor in tensors),
        "zero_points": (a[1], b[1], y[1]),
        "range": stored_range(operator.options, *y) if factors else (-128, 127),
        "multipliers": tuple(m for m, _ in pairs),
        "exponents": tuple(e for _, e in pairs),
    }
    constants = {k: t.data.astype(np.int8) for k, t in zip("ab", tensors[:2], strict=True) if t.data is not None}
    if len(constants) == 2:
        raise Unsupported("both its inputs are stored")
    inputs = tuple(tensor.index for tensor in tensors[:2] if tensor.data is None)
    return Call("binary_int8", inputs, operator.outputs, constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    stored, given, at = call.constants, list(inputs), call.attributes
    a, b = (np.asarray(stored[k] if k in stored else given.pop(0), np.int64) for k in "ab")
    (za, zb, zy), m, e = at["zero_points"], at["multipliers"], at["exponents"]
    if at["function"] in ("maximum", "minimum"):
        return (getattr(np, at["function"])(a, b).astype(np.int8),)
    if at["function"] == "mul":
        y = scale_twice_rounded((a - za) * (b - zb), m[0], e[0])
    else:
        a = scale_twice_rounded((a - za) << LEFT_SHIFT, m[0], e[0])
        b = scale_twice_rounded((b - zb) << LEFT_SHIFT, m[1], e[1])
        y = scale_twice_rounded(a + b if at["function"] == "add" else a - b, m[2], e[2])
    return (np.clip(y + zy, *at["range"]).astype(np.int8),)


def axes(shapes: tuple[tuple[int, ...], ...]) -> list[tuple[int, int, int]]:
    """(count, step in a, step in b) of y's axes, those that can be walked as one joined; outer to inner."""
    rank = len(shapes[2])
    joined: list[tuple[int, int, int]] = []
    steps = [1, 1]
    for i in reversed(range(rank)):
        count, here = shapes[2][i], []
        for k, shape in enumerate(shapes[:2]):
            size = shape[i - rank + len(shape)] if i - rank + len(shape) >= 0 else 1
            if size not in (1, count):
                raise Unsupported(f"shapes {list(shapes[0])} and {list(shapes[1])} do not go together")
            here.append(steps[k] if size > 1 else 0)
            steps[k] *= size
        if count == 1:
            continue
        if joined and all(step == joined[0][0] * inner for step, inner in zip(here, joined[0][1:], strict=True)):
            joined[0] = (joined[0][0] * count, *joined[0][1:])
        else:
            joined.insert(0, (count, here[0], here[1]))
    if len(joined) > MOST_RANK:
        raise Unsupported(f"it joins tensors along {len(joined)} axes; {MOST_RANK} are supported")
    return joined or [(1, 0, 0)]


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_{call.attributes['function']}_int8{'_dsp' if _is_fast(call, features) else ''}"


def _is_fast(call: Call, features: frozenset[str]) -> bool:
    """Runs of both inputs, and scales as they usually are."""
    exponents = call.attributes["exponents"]
    if "dsp" not in features or call.attributes["function"] not in ("add", "mul"):
        return False
    return axes(call.attributes["shapes"])[-1][1:] == (1, 1) and -22 <= exponents[-1] < 0 and min(exponents) > -31


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    if math.prod(call.attributes["shapes"][2]) == 0:
        return ";"
    return f"{kernel(call, features)}({arguments(call, c, ('zero_points',))});"


def arguments(call: Call, c: Mapping[str, str], lists: tuple[str, ...] = ()) -> str:
    """What a kernel of edge_binary takes: a, b, y and the struct, in it also those lists of the attributes."""
    at, given = call.attributes, iter(("in0", "in1"))
    a, b = (c[k] if k in call.constants else c[next(given)] for k in "ab")
    walked = axes(at["shapes"])
    numbers = {"rank": len(walked), "least": at["range"][0], "most": at["range"][1]}
    lists = (*lists, *(("multipliers", "exponents") if at["multipliers"] else ()))
    fields = [f".{key} = {number}" for key, number in numbers.items()]
    fields += [f".axes = {_braced(walked)}", *(f".{key} = {_braced(at[key])}" for key in lists)]
    return f"{a}, {b}, {c['out0']}, &(edge_binary){{{', '.join(fields)}}}"


def _braced(values: object) -> str:
    if isinstance(values, (tuple, list)):
        return "{" + ", ".join(map(_braced, values)) + "}"
    return str(values)
