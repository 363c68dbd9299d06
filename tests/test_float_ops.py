"""Float, hybrid and untyped ops of any .tflite: their numpy references agree with LiteRT's reference kernels within
stated bounds, and their C equals numpy bit for bit: on this machine, under sanitizers, and on a Cortex-M4."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from cortex import M4
from kernels import INCLUDES
from plain_calls import (
    Plain,
    PlainCortex,
    PlainHost,
    PlainRunner,
    checking_program,
    kernel_files,
    same,
    source,
)
from single_op import Lite, T, model

from firmware_tools.build import build_host_program
from firmware_tools.errors import MissingTool
from firmware_tools.ops import Array, load

ULP = 2.0**-23


@dataclass(frozen=True)
class Case:
    """A file of one operator, inputs to try, and how far from LiteRT its result may be: in ulps of the result, and
    beside them absolutely (`within` times the largest result)."""

    name: str
    content: bytes
    inputs: tuple[tuple[Array, ...], ...]
    ulps: float = 0.0
    within: float = 0.0


# operators that LiteRT has no reference kernel for: its usual ones without XNNPACK
WITHOUT_REFERENCE = ("CEIL", "ROUND", "ELU")


def run_lite(case: Case) -> Callable[..., tuple[Array, ...]]:
    if not case.name.startswith(WITHOUT_REFERENCE):
        return Lite(case.content).run
    lite = Lite.__new__(Lite)
    plainly = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    lite.interpreter = Interpreter(model_content=case.content, experimental_op_resolver_type=plainly)
    lite.interpreter.allocate_tensors()
    return lite.run


def floats(seed: int, *shape: int, scale: float = 1.0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def f32(*shape: int, data: Array | None = None) -> T:
    return T("float32", shape, data=data)


def constant(data: Array, scale: Any = None, axis: int = 0) -> T:
    return T(data.dtype.name, data.shape, data=data, scale=scale, axis=axis)


def option(kind: str, **fields: Any) -> Any:
    options = getattr(schema, f"{kind}OptionsT")()
    for name, value in fields.items():
        assert hasattr(options, name), name
        setattr(options, name, value)
    return options


# --------------------------------------------------------------------------------------------------- element by element

UNARY_ULPS = {"EXP": 2, "LOG": 2, "TANH": 3, "LOGISTIC": 4, "ELU": 6, "GELU": 0, "SIN": 0, "COS": 0, "RSQRT": 1}
UNARY_WITHIN = {"GELU": 4e-7, "SIN": 1e-6, "COS": 1e-6}


def unary_cases() -> Iterator[Case]:
    special = np.float32([0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-20, 88, -88, -104, 1e4, -1e4, 3, -3, 6, 0.1])
    for op in load("unary_float").OPERATORS:
        wide = np.linspace(-20, 20, 241, dtype=np.float32)
        inputs = [wide, special, floats(3, 50, scale=1e-3)]
        if op in ("SQRT", "RSQRT", "LOG"):
            inputs = [np.abs(x) + np.float32(1e-6) for x in inputs]
        kind = {"LEAKY_RELU": option("LeakyRelu", alpha=0.3)}.get(op)
        variants = [("", kind)]
        if op == "GELU":
            variants = [("", option("Gelu", approximate=False)), ("-approximate", option("Gelu", approximate=True))]
        for suffix, options in variants:
            for n, x in enumerate(inputs):
                content = model(op, [f32(x.size)], [f32(x.size)], options)
                ulps, within = UNARY_ULPS.get(op, 0), UNARY_WITHIN.get(op, 0.0)
                yield Case(f"{op}{suffix}-{n}", content, ((x,),), ulps, within)


BROADCASTS = (
    ((3, 4), (3, 4)),
    ((2, 3, 4), (4,)),
    ((1,), (2, 5)),
    ((2, 1, 4), (1, 3, 1)),
    ((2, 3, 1, 2), (2, 1, 5, 2)),
    ((), (3,)),
)
FUSED = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
BINARY_OPTIONS = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "MaximumMinimum"}
BINARY_OPTIONS |= {"MINIMUM": "MaximumMinimum", "SQUARED_DIFFERENCE": "SquaredDifference", "POW": "Pow"}
BINARY_OPTIONS |= {"FLOOR_DIV": "FloorDiv"}


def binary_cases() -> Iterator[Case]:
    random = np.random.default_rng(5)
    for op in load("binary").OPERATORS:
        for n, (a, b) in enumerate(BROADCASTS):
            if op == "PRELU" and n not in (0, 1):
                continue
            out = np.broadcast_shapes(a, b)
            x, y = floats(n, *a, scale=3), floats(n + 9, *b, scale=2)
            x, y = (np.abs(x) if op == "POW" else np.asarray(x, np.float32)), np.asarray(y, np.float32)
            kind = BINARY_OPTIONS.get(op)
            fused = {"fusedActivationFunction": n % 4} if op in ("ADD", "SUB", "MUL", "DIV") else {}
            options = option(kind, **fused) if kind else None
            which = n % 3  # both computed, or one of them stored
            inputs = [f32(*a, data=x if which == 1 else None), f32(*b, data=y if which == 2 else None)]
            given = tuple(v for v, t in zip((x, y), inputs, strict=True) if t.data is None)
            ulps = 80 if op == "POW" else 0
            yield Case(f"{op}-{n}", model(op, inputs, [f32(*out)], options, 1), (given,), ulps)
            if op in load("binary").OF_INTEGERS and len(a) < 4 and op != "SQUARED_DIFFERENCE":
                p, q = (random.integers(-1000, 1000, s).astype(np.int32) for s in (a, b))
                tensors = [T("int32", a), T("int32", b)]
                version = 6 if op == "MUL" else 1
                yield Case(f"{op}-int32-{n}", model(op, tensors, [T("int32", out)], option(kind), version), ((p, q),))


def compare_cases() -> Iterator[Case]:
    random = np.random.default_rng(6)
    kinds = {"LESS": "Less", "LESS_EQUAL": "LessEqual", "GREATER": "Greater", "GREATER_EQUAL": "GreaterEqual"}
    kinds |= {"EQUAL": "Equal", "NOT_EQUAL": "NotEqual", "LOGICAL_AND": "LogicalAnd", "LOGICAL_OR": "LogicalOr"}
    for op, kind in kinds.items():
        dtypes = ("bool",) if op.startswith("LOGICAL") else ("float32", "int32", "int8")
        dtypes += ("bool",) if op in ("EQUAL", "NOT_EQUAL") else ()
        for dtype in dtypes:
            for n, (a, b) in enumerate(BROADCASTS[:4]):
                x, y = (random.integers(-2, 2, s).astype(dtype) for s in (a, b))
                scale = 0.5 if dtype == "int8" else None
                tensors = [T(dtype, a, scale), T(dtype, b, scale, data=y if n % 2 else None)]
                given = (x,) if n % 2 else (x, y)
                out = T("bool", np.broadcast_shapes(a, b))
                yield Case(
                    f"{op}-{dtype}-{n}", model(op, tensors, [out], option(kind), 1 if dtype == "bool" else 2), (given,)
                )
    x = random.integers(0, 2, 9).astype(bool)
    yield Case("LOGICAL_NOT", model("LOGICAL_NOT", [T("bool", (9,))], [T("bool", (9,))]), ((x,),))


def select_cases() -> Iterator[Case]:
    random = np.random.default_rng(7)
    for dtype in ("float32", "int32", "int16", "int8"):
        for n, (c, a, b) in enumerate((((3, 4), (3, 4), (3, 4)), ((2, 1, 3), (4, 1), ()), ((5,), (1,), (5,)))):
            condition = random.integers(0, 2, c).astype(bool)
            x, y = (random.integers(-99, 99, s).astype(dtype) for s in (a, b))
            out = T(dtype, np.broadcast_shapes(c, a, b))
            tensors = [T("bool", c), T(dtype, a, data=x if n else None), T(dtype, b)]
            given = (condition, y) if n else (condition, x, y)
            yield Case(f"SELECT_V2-{dtype}-{n}", model("SELECT_V2", tensors, [out], option("SelectV2")), (given,))
    condition, x, y = np.array([True, False, True]), floats(0, 3, 4), floats(1, 3, 4)
    tensors = [T("bool", (3,)), f32(3, 4), f32(3, 4)]
    yield Case("SELECT-rows", model("SELECT", tensors, [f32(3, 4)], option("Select")), ((condition, x, y),))


def cast_cases() -> Iterator[Case]:
    random = np.random.default_rng(8)
    for given in load("cast").SUFFIXES:
        for target in load("cast").SUFFIXES:
            x = random.integers(-100, 100, 33) + (random.random(33) if given == "float32" else 0)
            x = np.abs(x) if "uint8" in (given, target) else x
            content = model("CAST", [T(given, (33,))], [T(target, (33,))], option("Cast"), 3)
            yield Case(f"CAST-{given}-{target}", content, ((x.astype(given),),))


# ------------------------------------------------------------------------------------------------------ tables and axes


def gather_cases() -> Iterator[Case]:
    random = np.random.default_rng(9)
    shapes = (
        ((7, 5), (3,), 0, 0),
        ((3, 4, 2), (2, 2), 1, 0),
        ((2, 6), (), 1, 0),
        ((2, 3, 4), (2, 5), -1, 1),
        ((4,), (6,), 0, 0),
    )
    for dtype in ("float32", "int8", "int32", "int16"):
        for n, (shape, indices_shape, axis, batch_dims) in enumerate(shapes):
            if batch_dims and dtype == "int16":
                continue
            table = random.integers(-99, 99, shape).astype(dtype)
            indices = random.integers(0, shape[axis], indices_shape).astype(np.int32)
            whole = axis % len(shape)
            out = T(dtype, (*shape[:whole], *indices_shape[batch_dims:], *shape[whole + 1 :]))
            stored = [T(dtype, shape, data=table if n % 2 else None), T("int32", indices_shape)]
            given = (indices,) if n % 2 else (table, indices)
            content = model("GATHER", stored, [out], option("Gather", axis=axis, batchDims=batch_dims), 5)
            yield Case(f"GATHER-{dtype}-{n}", content, (given,))
    indices, table = np.int32([3, 0, 6]), floats(0, 7, 2, 3)
    content = model("EMBEDDING_LOOKUP", [T("int32", (3,)), constant(table)], [f32(3, 2, 3)])
    yield Case("EMBEDDING_LOOKUP", content, ((indices,),))
    for n, scale in enumerate((0.03, np.abs(floats(4, 7)))):
        whole = random.integers(-127, 128, (7, 5)).astype(np.int8)
        content = model("EMBEDDING_LOOKUP", [T("int32", (3,)), constant(whole, scale)], [f32(3, 5)], None, 3)
        yield Case(f"EMBEDDING_LOOKUP-hybrid-{n}", content, ((indices,),))
    for axis, depth in ((-1, 5), (0, 4), (1, 3)):
        x = random.integers(-1, 6, (2, 3)).astype(np.int32)
        for dtype in ("float32", "int32", "int8", "bool"):
            on, off = np.array(1, dtype), np.array(0, dtype)
            shape = list(x.shape)
            shape.insert(axis if axis >= 0 else 2, depth)
            tensors = [T("int32", (2, 3)), constant(np.array(depth, np.int32)), constant(on), constant(off)]
            content = model("ONE_HOT", tensors, [T(dtype, tuple(shape))], option("OneHot", axis=axis))
            yield Case(f"ONE_HOT-{dtype}-{axis}", content, ((x,),))


def axis_cases() -> Iterator[Case]:
    shapes = (
        ((3, 5), (1,)),
        ((2, 3, 4), (0, 2)),
        ((2, 4, 3, 2), (1, 2)),
        ((6,), (0,)),
        ((2, 3, 4), (-2,)),
        ((3, 2), (0, 1)),
    )
    for op in load("reduce_float").OPERATORS:
        for n, (shape, axes) in enumerate(shapes):
            keep = bool(n % 2)
            whole = [axis % len(shape) for axis in axes]
            out = [1 if i in whole else size for i, size in enumerate(shape) if keep or i not in whole]
            tensors = [f32(*shape), constant(np.int32(axes))]
            options = option("Reducer", keepDims=keep)
            yield Case(f"{op}-{n}", model(op, tensors, [f32(*out)], options), ((floats(n, *shape),),))
    for n, (shape, beta) in enumerate((((1, 7), 1.0), ((3, 2, 5), 0.5), ((4,), 2.0))):
        x = floats(n, *shape, scale=4)
        options = option("Softmax", beta=beta)
        yield Case(f"SOFTMAX-{n}", model("SOFTMAX", [f32(*shape)], [f32(*shape)], options), ((x,),), 4)
        content = model("LOG_SOFTMAX", [f32(*shape)], [f32(*shape)], option("LogSoftmax"))
        yield Case(f"LOG_SOFTMAX-{n}", content, ((x,),), 0, 3e-7)
    for op, kind in (("ARG_MAX", "ArgMax"), ("ARG_MIN", "ArgMin")):
        for dtype in ("float32", "int8", "int32"):
            for axis in (0, 1, -1):
                x = np.random.default_rng(axis + 1).integers(-3, 4, (3, 4, 5)).astype(dtype)
                out = T("int32", tuple(np.delete(x.shape, axis)))
                tensors = [T(dtype, x.shape), constant(np.int32([axis]))]
                options = option(kind, outputType=schema.TensorType.INT32)
                yield Case(f"{op}-{dtype}-{axis}", model(op, tensors, [out], options), ((x,),))


# ------------------------------------------------------------------------------------------------- products and windows


def matrix_cases() -> Iterator[Case]:
    sizes = (((2, 3), (3, 4)), ((2, 3, 5), (2, 5, 4)), ((2, 1, 3, 5), (3, 5, 2)), ((1, 7), (7, 1)))
    for n, (a, b) in enumerate(sizes):
        for adjoint in ((False, False), (False, True), (True, False), (True, True)):
            x, y = floats(n, *a), floats(n + 9, *b)
            out = np.matmul(x, y).shape
            x, y = (
                np.ascontiguousarray(np.swapaxes(v, -1, -2)) if t else v for v, t in zip((x, y), adjoint, strict=True)
            )
            stored = n == 1
            options = option("BatchMatMul", adjX=adjoint[0], adjY=adjoint[1])
            content = model(
                "BATCH_MATMUL", [f32(*x.shape), f32(*y.shape, data=y if stored else None)], [f32(*out)], options
            )
            name = f"BATCH_MATMUL-{n}-{int(adjoint[0])}{int(adjoint[1])}"
            yield Case(name, content, ((x,) if stored else (x, y),), 0, 4 * ULP)
    random = np.random.default_rng(10)
    for n, (rows, k, m) in enumerate(((1, 7, 5), (3, 16, 8), (2, 33, 3), (1, 64, 10))):
        x, weights, bias = floats(n, rows, k), floats(n + 5, m, k), floats(n + 6, m)
        shape, keep = ((rows, m), False) if n != 2 else ((1, rows, m), True)
        x = x.reshape(*shape[:-1], k)
        options = option("FullyConnected", fusedActivationFunction=n % 4, keepNumDims=keep)
        tensors = [f32(*x.shape), constant(weights), constant(bias) if n % 2 else None]
        content = model("FULLY_CONNECTED", tensors, [f32(*shape)], options)
        yield Case(f"FULLY_CONNECTED-{n}", content, ((x,),))
        tensors = [f32(*x.shape), f32(m, k), None]
        content = model("FULLY_CONNECTED", tensors, [f32(*shape)], options)
        yield Case(f"FULLY_CONNECTED-computed-{n}", content, ((x, weights),))
        whole = random.integers(-127, 128, (m, k)).astype(np.int8)
        whole[0, 0] = -128 if n == 3 else whole[0, 0]  # which the packed kernels do not take
        for asymmetric in (False, True):
            for scale in (0.02, np.abs(floats(n + 7, m)) / 50):
                options = option(
                    "FullyConnected",
                    fusedActivationFunction=n % 4,
                    keepNumDims=keep,
                    asymmetricQuantizeInputs=asymmetric,
                )
                tensors = [f32(*x.shape), constant(whole, scale), constant(bias) if n % 2 else None]
                version = 12 if np.ndim(scale) else 9
                content = model("FULLY_CONNECTED", tensors, [f32(*shape)], options, version)
                name = f"FULLY_CONNECTED-hybrid-{'a' if asymmetric else ''}symmetric-{np.ndim(scale)}-{n}"
                inputs = ((x,), (np.abs(x) + 1,), (np.zeros_like(x),))
                yield Case(name, content, inputs, 4, 2 * ULP)


def window_cases() -> Iterator[Case]:
    random = np.random.default_rng(11)
    # image, filters and kernel, stride, dilation, same padding
    forms = [
        ((1, 5, 6, 3), (4, 3, 3), (1, 1), (1, 1), True),
        ((2, 7, 5, 2), (3, 2, 3), (2, 1), (1, 1), False),
        ((1, 9, 8, 4), (2, 3, 2), (1, 2), (2, 3), True),
        ((1, 4, 4, 8), (8, 1, 1), (1, 1), (1, 1), True),
    ]
    for n, (image, (count, height, width), stride, dilation, pad) in enumerate(forms):
        reach = [(k - 1) * d + 1 for k, d in zip((height, width), dilation, strict=True)]
        out = [-(-s // t) if pad else -(-(s - r + 1) // t) for s, t, r in zip(image[1:3], stride, reach, strict=True)]
        common = {"padding": 0 if pad else 1, "strideH": stride[0], "strideW": stride[1]}
        dilated = {"dilationHFactor": dilation[0], "dilationWFactor": dilation[1]}
        for depthwise in (False, True):
            multiplier = 1 + n % 2
            outputs = image[3] * multiplier if depthwise else count
            shape = (1, height, width, outputs) if depthwise else (count, height, width, image[3])
            kind, more = ("DepthwiseConv2D", {"depthMultiplier": multiplier}) if depthwise else ("Conv2D", {})
            options = option(kind, **common, **dilated, **more, fusedActivationFunction=n % 4)
            op = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
            bias = constant(floats(n, outputs))
            tensors = [f32(*image), constant(floats(n + 1, *shape)), bias]
            result = [f32(image[0], *out, outputs)]
            x = floats(n + 2, *image)
            yield Case(f"{op}-{n}", model(op, tensors, result, options, 2), ((x,),))
            axis = 3 if depthwise else 0
            whole = random.integers(-127, 128, shape).astype(np.int8)
            for scale in (np.abs(floats(n + 3, outputs)) / 50, 0.01)[: 1 if depthwise or dilation != (1, 1) else 2]:
                tensors = [f32(*image), constant(whole, scale, axis), bias]
                content = model(op, tensors, result, options, 6 if depthwise else 5)
                inputs = ((x,), (np.abs(x) + 1,), (x * 0,))
                yield Case(f"{op}-hybrid-{np.ndim(scale)}-{n}", content, inputs, 4, 2 * ULP)
        if dilation == (1, 1):
            for op in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
                options = option(
                    "Pool2D", **common, filterHeight=height, filterWidth=width, fusedActivationFunction=n % 4
                )
                content = model(op, [f32(*image)], [f32(image[0], *out, image[3])], options)
                yield Case(f"{op}-{n}", content, ((floats(n, *image),),))


FAMILIES: tuple[Callable[[], Iterator[Case]], ...] = (
    unary_cases,
    binary_cases,
    compare_cases,
    select_cases,
    cast_cases,
    gather_cases,
    axis_cases,
    matrix_cases,
    window_cases,
)
CASES = tuple(case for family in FAMILIES for case in family())
PLAINS: list[Plain] = []


def plain(i: int) -> Plain:
    """Lowered once, when the first test asks."""
    if not PLAINS:
        PLAINS.extend(Plain.of(case.name, case.content) for case in CASES)
    return PLAINS[i]


def host(folder: Path) -> PlainRunner:
    return PlainHost(PLAINS, folder)


def host_undefined(folder: Path) -> PlainRunner:
    return PlainHost(PLAINS, folder, sanitize=True)


def m4(folder: Path) -> PlainRunner:
    return PlainCortex(M4, PLAINS, folder)


@pytest.mark.parametrize("i", range(len(CASES)), ids=[case.name for case in CASES])
def test_reference_agrees_with_lite(i: int) -> None:
    case = CASES[i]
    lite = run_lite(case)
    for inputs in case.inputs:
        for found, expected in zip(plain(i).reference(inputs), lite(*inputs), strict=True):
            assert_agree(found, expected.reshape(found.shape), case)


def assert_agree(found: Array, expected: Array, case: Case) -> None:
    if found.dtype != np.float32 or not case.ulps and not case.within:
        assert same(found, expected), (found.ravel()[:8], expected.ravel()[:8])
        return
    finite = np.isfinite(expected)
    assert np.array_equal(found[~finite], expected[~finite], equal_nan=True)
    a, b = found[finite].astype(np.float64), expected[finite].astype(np.float64)
    allowed = case.ulps * np.spacing(np.abs(expected[finite])).astype(np.float64)
    allowed += case.within * np.abs(b).max(initial=0)
    worst = np.argmax(np.abs(a - b) - allowed)
    assert np.all(np.abs(a - b) <= allowed), f"{a[worst]} instead of {b[worst]}"


@pytest.fixture(scope="module", params=(host, host_undefined, m4), ids=lambda make: make.__name__)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PlainRunner:
    plain(0)
    make: Callable[[Path], PlainRunner] = request.param
    return make(tmp_path_factory.mktemp(make.__name__))


@pytest.mark.parametrize("i", range(len(CASES)), ids=[case.name for case in CASES])
def test_kernel_equals_reference(runner: PlainRunner, i: int) -> None:
    for inputs in CASES[i].inputs:
        check(runner, i, inputs)


def check(runner: PlainRunner, i: int, inputs: Sequence[Array]) -> None:
    for found, expected in zip(runner.run(i, inputs), runner.plains[i].reference(inputs), strict=True):
        wrong = np.flatnonzero(found.ravel() != expected.ravel())[:1]
        assert same(found, expected), f"element {wrong}: {found.ravel()[wrong]}, not {expected.ravel()[wrong]}"


def test_kernels_stay_inside_their_memory(tmp_path: Path) -> None:
    """AddressSanitizer, every array in its own block of the heap; the outputs are compared there too."""
    plain(0)
    path, main = tmp_path / "plain_calls.c", tmp_path / "main.c"
    path.write_text(source(PLAINS, frozenset()), encoding="utf-8")
    main.write_text(checking_program(PLAINS, [case.inputs for case in CASES]), encoding="utf-8")
    try:
        files = [path, main, *kernel_files(PLAINS, frozenset())]
        program = build_host_program(files, INCLUDES, tmp_path / "checked")
    except MissingTool as error:
        pytest.skip(error.message)
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:2000]
