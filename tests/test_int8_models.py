"""Whole integer models of others: all operators equal LiteRT's reference kernels bit for bit, in numpy and on M4.

The instructions of all operators together, the compiler's part left out, stay below what the issue asks of a whole run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cortex import M4
from single_op import Array, Case, Compiled, Lite, reference, same

from firmware_tools import graph, ops

STEMS = {
    "AVERAGE_POOL_2D": "pool_2d",
    "CONV_2D": "conv_2d",
    "DEPTHWISE_CONV_2D": "depthwise_conv_2d",
    "FULLY_CONNECTED": "fully_connected_int8",
    "SOFTMAX": "softmax",
}
# TensorFlow Lite Micro with CMSIS-NN takes 7,698,707, 1,495,503, 583,243 and 3,619
MOST_INSTRUCTIONS = {
    "kws_ref_model": 3_080_000,
    "micro_speech_quantized": 560_000,
    "ad01_int8": 260_000,
    "hello_world_int8": 900,
}


def walk(subgraph: graph.Subgraph, x: Array) -> tuple[list[Case], Array]:
    """Each operator with what it gets and gives, computed in numpy, and the model's output."""
    values, cases = {subgraph.inputs[0]: x}, []
    for operator in subgraph.operators:
        output = operator.outputs[0]
        if operator.op == "RESHAPE":
            values[output] = values[operator.inputs[0]].reshape(subgraph.tensors[output].shape)
            continue
        call = ops.load(STEMS[operator.op]).lower(operator, subgraph)
        inputs = tuple(values[i] for i in call.inputs)
        tensor = subgraph.tensors[output]
        one = Case(operator.op, call, ((tensor.dtype, tensor.shape),), (inputs,), ())
        cases.append(one)
        (values[output],) = reference(one, inputs)
    return cases, values[subgraph.outputs[0]]


@pytest.mark.parametrize("name", MOST_INSTRUCTIONS)
def test_model_equals_litert(name: str, shared_data: Path, tmp_path: Path) -> None:
    content = (shared_data / "tflite" / f"{name}.tflite").read_bytes()
    subgraph, lite, random = graph.read(content).subgraphs[0], Lite(content), np.random.default_rng(0)
    shape = subgraph.tensors[subgraph.inputs[0]].shape
    inputs = [random.integers(-128, 128, shape).astype(np.int8) for _ in range(3)]
    inputs += [np.full(shape, -128, np.int8), np.full(shape, 127, np.int8)]
    for x in inputs:
        cases, y = walk(subgraph, x)
        assert same([y], lite.run(x))
    cases, _ = walk(subgraph, inputs[0])
    compiled, total = Compiled(cases, tmp_path, M4, M4.features, counting=True), 0
    for i, one in enumerate(cases):
        assert same(compiled.run(i, one, one.inputs[0]), reference(one, one.inputs[0])), one.name
        total += compiled.instructions
    assert total <= MOST_INSTRUCTIONS[name]
