"""Float and hybrid ops over random shapes, strides, paddings, axes and broadcasts: numpy against LiteRT's reference
kernels, C against numpy. EDGE_SEEDS=1000 tries that many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cortex import M4
from plain_calls import Plain, PlainCortex, PlainHost, PlainRunner
from single_op import Lite, T, model
from test_float_ops import BINARY_OPTIONS, ULP, Case, assert_agree, check, constant, f32, option

from firmware_tools.ops import Unsupported

SEEDS = int(os.environ.get("EDGE_SEEDS", "30"))
Random = np.random.Generator


def floats(random: Random, shape: Any) -> Any:
    return (random.standard_normal(shape) * 10.0 ** random.integers(-2, 3)).astype(np.float32)


def binary(random: Random) -> Case:
    """Operands that keep some axes of the result, repeat along others, or lack the first ones."""
    op = str(random.choice(["ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"]))
    out = tuple(random.integers(1, 5, random.integers(1, 5)))
    shapes = []
    for _ in range(2):
        shape = tuple(int(1 if random.random() < 0.3 else size) for size in out)
        shapes.append(shape[int(random.integers(0, 2)) :])
    x, y = (floats(random, shape) for shape in shapes)
    result = tuple(int(size) for size in np.broadcast_shapes(*shapes))
    fused = {"fusedActivationFunction": int(random.integers(0, 4))} if op in ("ADD", "SUB", "MUL", "DIV") else {}
    content = model(op, [f32(*shapes[0]), f32(*shapes[1])], [f32(*result)], option(BINARY_OPTIONS[op], **fused))
    return Case(op, content, ((x, y),))


def reduction(random: Random) -> Case:
    op = str(random.choice(["SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"]))
    shape = tuple(int(size) for size in random.integers(1, 6, random.integers(1, 5)))
    axes = sorted(random.choice(len(shape), random.integers(1, len(shape) + 1), replace=False).tolist())
    keep = bool(random.integers(0, 2))
    out = [1 if i in axes else size for i, size in enumerate(shape) if keep or i not in axes]
    tensors = [f32(*shape), constant(np.array([a - len(shape) if random.integers(2) else a for a in axes], np.int32))]
    return Case(op, model(op, tensors, [f32(*out)], option("Reducer", keepDims=keep)), ((floats(random, shape),),))


def product(random: Random) -> Case:
    m, k, n = (int(size) for size in random.integers(1, 20, 3))
    batches = tuple(int(size) for size in random.integers(1, 4, random.integers(0, 3)))
    adjoint = [bool(side) for side in random.integers(0, 2, 2)]
    a, b = (*batches, *((k, m) if adjoint[0] else (m, k))), (*batches, *((n, k) if adjoint[1] else (k, n)))
    options = option("BatchMatMul", adjX=adjoint[0], adjY=adjoint[1])
    content = model("BATCH_MATMUL", [f32(*a), f32(*b)], [f32(*batches, m, n)], options)
    return Case("BATCH_MATMUL", content, ((floats(random, a), floats(random, b)),), 0, 20 * ULP)


def fully_connected(random: Random) -> Case:
    rows, k, n = int(random.integers(1, 4)), int(random.integers(1, 70)), int(random.integers(1, 20))
    kind = random.integers(0, 3)  # float32, symmetric, asymmetric
    weights = floats(random, (n, k)) if kind == 0 else random.integers(-127, 128, (n, k)).astype(np.int8)
    per_row = bool(random.integers(0, 2))
    scale = None if kind == 0 else random.uniform(0.001, 0.1, n if per_row else 1).astype(np.float32)
    fused = int(random.integers(0, 4))
    options = option("FullyConnected", fusedActivationFunction=fused, asymmetricQuantizeInputs=bool(kind == 2))
    bias = constant(floats(random, (n,))) if random.integers(0, 2) else None
    tensors = [f32(rows, k), constant(weights, scale), bias]
    content = model("FULLY_CONNECTED", tensors, [f32(rows, n)], options, 1 if kind == 0 else 12)
    # int8: several roundings of results that may cancel against the bias
    return Case("FULLY_CONNECTED", content, ((floats(random, (rows, k)),),), 4 * (kind > 0), 2 * ULP * (kind > 0))


def convolution(random: Random) -> Case:
    op = str(random.choice(["CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"]))
    is_conv, is_same, hybrid = "CONV" in op, bool(random.integers(0, 2)), bool(random.integers(0, 2))
    kernel, stride = random.integers(1, 4, 2), random.integers(1, 4, 2)
    dilation = random.integers(1, 3, 2) if is_conv and not hybrid else np.ones(2, int)
    reach = (kernel - 1) * dilation + 1
    size = reach + random.integers(0, 6, 2)
    out = -(-size // stride) if is_same else (size - reach) // stride + 1
    batches, depth, multiplier = (int(number) for number in random.integers(1, 4, 3))
    options: dict[str, Any] = {"padding": int(not is_same), "strideH": int(stride[0]), "strideW": int(stride[1])}
    options["fusedActivationFunction"] = int(random.integers(0, 4))
    image = (batches, *(int(s) for s in size), depth)
    x = floats(random, image)
    if not is_conv:
        pool = option("Pool2D", filterHeight=int(kernel[0]), filterWidth=int(kernel[1]), **options)
        return Case(op, model(op, [f32(*image)], [f32(batches, *out.tolist(), depth)], pool), ((x,),))
    options |= {"dilationHFactor": int(dilation[0]), "dilationWFactor": int(dilation[1])}
    depthwise = op == "DEPTHWISE_CONV_2D"
    count = depth * multiplier if depthwise else int(random.integers(1, 7))
    shape = (1, *kernel.tolist(), count) if depthwise else (count, *kernel.tolist(), depth)
    weights = random.integers(-127, 128, shape).astype(np.int8) if hybrid else floats(random, shape)
    scale = random.uniform(0.001, 0.1, count).astype(np.float32) if hybrid else None
    more = {"depthMultiplier": multiplier} if depthwise else {}
    made = option("DepthwiseConv2D" if depthwise else "Conv2D", **options, **more)
    tensors = [f32(*image), constant(weights, scale, 3 if depthwise else 0), constant(floats(random, (count,)))]
    version = (6 if depthwise else 5) if hybrid else 2
    content = model(op, tensors, [f32(batches, *out.tolist(), count)], made, version)
    return Case(op, content, ((x,),), 4 * hybrid, 2 * ULP * hybrid)


def gather(random: Random) -> Case:
    shape = tuple(int(size) for size in random.integers(1, 5, random.integers(1, 5)))
    axis = int(random.integers(0, len(shape)))
    batch_dims = int(random.integers(0, axis + 1))
    indices = (*shape[:batch_dims], *(int(size) for size in random.integers(1, 4, random.integers(0, 3))))
    where = random.integers(0, shape[axis], indices).astype(np.int32)
    out = (*shape[:axis], *indices[batch_dims:], *shape[axis + 1 :])
    options = option("Gather", axis=axis, batchDims=batch_dims)
    content = model("GATHER", [f32(*shape), T("int32", indices)], [f32(*out)], options, 5)
    return Case("GATHER", content, ((floats(random, shape), where),))


FAMILIES: tuple[Callable[[Random], Case], ...] = (binary, reduction, product, fully_connected, convolution, gather)


def made() -> Iterator[tuple[Case, Plain]]:
    for seed in range(SEEDS):
        for n, family in enumerate(FAMILIES):
            case = family(np.random.default_rng((seed, n)))
            try:
                yield case, Plain.of(f"{case.name}-{seed}", case.content)
            except Unsupported as error:
                # four nested loops are the most; nothing else may be refused
                assert "nested loops" in str(error) or "more than two parts" in str(error), str(error)


MADE = tuple(made())
CASES, PLAINS = tuple(case for case, _ in MADE), [plain for _, plain in MADE]


def test_few_are_refused() -> None:
    assert len(MADE) > 0.95 * SEEDS * len(FAMILIES)


@pytest.mark.parametrize("i", range(len(CASES)), ids=[plain.name for plain in PLAINS])
def test_reference_agrees_with_lite(i: int) -> None:
    lite = Lite(CASES[i].content)
    for inputs in CASES[i].inputs:
        for found, expected in zip(PLAINS[i].reference(inputs), lite.run(*inputs), strict=True):
            assert_agree(found, expected.reshape(found.shape), CASES[i])


def host_undefined(folder: Path) -> PlainRunner:
    return PlainHost(PLAINS, folder, sanitize=True)


def m4(folder: Path) -> PlainRunner:
    return PlainCortex(M4, PLAINS, folder)


@pytest.mark.parametrize("make", (host_undefined, m4), ids=lambda make: make.__name__)
def test_kernel_equals_reference(make: Callable[[Path], PlainRunner], tmp_path: Path) -> None:
    runner = make(tmp_path)
    for i, case in enumerate(CASES):
        for inputs in case.inputs:
            check(runner, i, inputs)
