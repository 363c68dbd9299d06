"""Functions of one float, element by element: y = f(x).

inputs      x float32[any shape]
outputs     y float32[same shape]; may be x
attributes  function: a name of FUNCTIONS; alpha, where it has a parameter

Each is a few float32 operations (elementary.py): what TFLite's reference kernels compute, within the errors told there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from firmware_tools import elementary
from firmware_tools.floats import literal, of_dtype, of_shape
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run

IN_PLACE = ((0, 0),)  # (output, input) that may share memory
F = np.float32
SQRT_HALF, SQRT_TWO_OVER_PI, GELU_CUBE = F(0.707106781), F(0.797884561), F(0.044715)


def _gelu(x: Array) -> Array:
    return x * F(0.5) * elementary.erfc(x * -SQRT_HALF)


def _gelu_approximate(x: Array) -> Array:
    return F(0.5) * x * (F(1) + elementary.tanh(SQRT_TWO_OVER_PI * (x + GELU_CUBE * x * x * x)))


def _hard_swish(x: Array) -> Array:
    return x * _between(x + F(3), 0, 6) / F(6)


def _between(x: Array, least: float, most: float) -> Array:
    x = np.where(x < F(least), F(least), x)
    return np.where(x > F(most), F(most), x)


# the operator's name in the schema -> its function's name in C, and numpy's twin of it
FUNCTIONS: Mapping[str, tuple[str, Callable[[Array], Array]]] = {
    "ABS": ("absolute", np.abs),
    "NEG": ("negative", np.negative),
    "SQRT": ("sqrt", np.sqrt),
    "RSQRT": ("rsqrt", lambda x: F(1) / np.sqrt(x)),
    "SQUARE": ("square", lambda x: x * x),
    "EXP": ("exp", elementary.exp),
    "LOG": ("log", elementary.log),
    "SIN": ("sin", elementary.sin),
    "COS": ("cos", elementary.cos),
    "TANH": ("tanh", elementary.tanh),
    "LOGISTIC": ("logistic", elementary.logistic),
    "FLOOR": ("floor", np.floor),
    "CEIL": ("ceil", np.ceil),
    "ROUND": ("round", lambda x: np.rint(x) + F(0)),  # no -0
    "SIGN": ("sign", lambda x: np.where(x > 0, F(1), np.where(x < 0, F(-1), x))),
    "RELU": ("relu", lambda x: np.where(x < 0, F(0), x)),
    "RELU6": ("relu6", lambda x: _between(x, 0, 6)),
    "RELU_N1_TO_1": ("relu_n1_to_1", lambda x: _between(x, -1, 1)),
    "RELU_0_TO_1": ("relu_0_to_1", lambda x: _between(x, 0, 1)),
    "ELU": ("elu", lambda x: np.where(x < 0, elementary.expm1(x), x)),
    "HARD_SWISH": ("hard_swish", _hard_swish),
    "GELU": ("gelu", _gelu),
    "LEAKY_RELU": ("leaky_relu", np.abs),  # its twin needs alpha
}
TWINS = {name: twin for name, twin in FUNCTIONS.values()} | {"gelu_approximate": _gelu_approximate}
OPERATORS = tuple(FUNCTIONS)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    of_shape(subgraph, operator, of_dtype(subgraph, operator.inputs[0], "the input", "float32").shape)
    of_dtype(subgraph, operator.outputs[0], "the output", "float32")
    attributes: dict[str, Any] = {"function": FUNCTIONS[operator.op][0]}
    if operator.op == "LEAKY_RELU":
        attributes["alpha"] = float(str(operator.options["alpha"]))
    if operator.op == "GELU" and operator.options.get("approximate"):
        attributes["function"] = "gelu_approximate"
    return Call("unary_float", operator.inputs[:1], operator.outputs, {}, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    x = inputs[0]
    with np.errstate(all="ignore"):
        if "alpha" in call.attributes:
            y = np.where(x > 0, x, x * F(call.attributes["alpha"]))
        else:
            y = TWINS[call.attributes["function"]](x)
    return (y.astype(np.float32),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return f"edge_unary_{call.attributes['function']}"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    alpha = f", {literal(call.attributes['alpha'])}" if "alpha" in call.attributes else ""
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['out0_count']}{alpha});"
