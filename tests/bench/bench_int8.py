"""Instructions of the integer kernels on a Cortex-M4, for layers of usual sizes, per product or per element.

Run this file itself.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cortex import M4  # noqa: E402
from single_op import Case, Compiled, T, case, model  # noqa: E402

from firmware_tools import ops  # noqa: E402

RANDOM = np.random.default_rng(0)
RELU = 1


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.integers(-127, 128, shape).astype(np.int8)


def conv(
    height: int, width: int, depth: int, count: int, kernel: tuple[int, int], stride: int, activation: int
) -> Case:
    out = (-(-height // stride), -(-width // stride))
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = stride
    options.fusedActivationFunction = activation
    weights, bias = numbers(count, *kernel, depth), np.zeros(count, np.int32)
    x, y = T("int8", (1, height, width, depth), 0.05, -3), T("int8", (1, *out, count), 0.9, -128 if activation else 4)
    scales = np.full(count, 0.01, np.float32)
    inputs = [x, T("int8", weights.shape, scales, data=weights), T("int32", (count,), scales * 0.05, data=bias)]
    return case("conv_2d", model("CONV_2D", inputs, [y], options, 3), [(numbers(*x.shape),)])


def depthwise(height: int, width: int, depth: int, kernel: tuple[int, int], stride: int) -> Case:
    out = (-(-height // stride), -(-width // stride))
    options = schema.DepthwiseConv2DOptionsT()
    options.strideH = options.strideW = stride
    options.fusedActivationFunction, options.depthMultiplier = RELU, 1
    weights, bias = numbers(1, *kernel, depth), np.zeros(depth, np.int32)
    x, y = T("int8", (1, height, width, depth), 0.05, -3), T("int8", (1, *out, depth), 0.2, -128)
    scales = np.full(depth, 0.01, np.float32)
    inputs = [x, T("int8", weights.shape, scales, 0, 3, weights), T("int32", (depth,), scales * 0.05, data=bias)]
    return case("depthwise_conv_2d", model("DEPTHWISE_CONV_2D", inputs, [y], options, 3), [(numbers(*x.shape),)])


def connected(n: int, k: int, scales: int = 1) -> Case:
    weights, bias = numbers(n, k), np.zeros(n, np.int32)
    each = np.full(scales, 0.01, np.float32)
    x, y = T("int8", (1, k), 0.05, -3), T("int8", (1, n), 0.9, 4)
    inputs = [x, T("int8", (n, k), each, data=weights), T("int32", (n,), each * 0.05, data=bias)]
    content = model("FULLY_CONNECTED", inputs, [y], schema.FullyConnectedOptionsT(), 4)
    return case("fully_connected_int8", content, [(numbers(1, k),)])


def binary(name: str, options: object) -> Case:
    shape = (1, 16, 16, 16)
    inputs = [T("int8", shape, 0.05, 3), T("int8", shape, 0.04, -7)]
    return case("binary_int8", model(name, inputs, [T("int8", shape, 0.07, 5)], options, 2), [(numbers(*shape),) * 2])


def cases() -> dict[str, Case]:
    return {
        "conv 1x1, 25x5x64 to 64, RELU": conv(25, 5, 64, 64, (1, 1), 1, RELU),
        "conv 1x1, 25x5x64 to 64": conv(25, 5, 64, 64, (1, 1), 1, 0),
        "conv 1x1, 24x24x16 to 32, RELU": conv(24, 24, 16, 32, (1, 1), 1, RELU),
        "conv 3x3, 16x16x16 to 16, RELU": conv(16, 16, 16, 16, (3, 3), 1, RELU),
        "conv 3x3, 8x8x64 to 64": conv(8, 8, 64, 64, (3, 3), 1, 0),
        "conv 3x3/2, 48x48x3 to 8, RELU": conv(48, 48, 3, 8, (3, 3), 2, RELU),
        "conv 10x8/2, 49x40x1 to 8, RELU": conv(49, 40, 1, 8, (10, 8), 2, RELU),
        "depthwise 3x3, 25x5x64": depthwise(25, 5, 64, (3, 3), 1),
        "depthwise 3x3, 24x24x16": depthwise(24, 24, 16, (3, 3), 1),
        "depthwise 3x3/2, 24x24x16": depthwise(24, 24, 16, (3, 3), 2),
        "depthwise 5x5, 12x12x32": depthwise(12, 12, 32, (5, 5), 1),
        "fully connected 640 to 128": connected(128, 640),
        "fully connected 128 to 128": connected(128, 128),
        "fully connected 128 to 128, per channel": connected(128, 128, 128),
        "fully connected 4000 to 4": connected(4, 4000),
        "add 16x16x16": binary("ADD", schema.AddOptionsT()),
        "mul 16x16x16": binary("MUL", schema.MulOptionsT()),
    }


def main() -> None:
    table = cases()
    print(f"{'layer':42} {'kernel':40} {'instructions':>12}")
    with tempfile.TemporaryDirectory() as folder:
        compiled = Compiled(list(table.values()), Path(folder), M4, M4.features, counting=True)
        for i, (name, one) in enumerate(table.items()):
            compiled.run(i, one, one.inputs[0])
            elements, weights = one.expected[0][0].size, one.call.constants.get("weights")
            products = elements if weights is None else elements * weights.size // one.outputs[0][1][-1]
            unit = "element" if weights is None else "product"
            kernel = ops.load(one.call.op).kernel(one.call, M4.features)
            per = f"{compiled.instructions / products:7.3f} a {unit}"
            print(f"{name:42} {kernel:40} {compiled.instructions:12,} {per}")


if __name__ == "__main__":
    main()
