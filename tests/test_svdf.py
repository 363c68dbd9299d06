"""SVDF: numpy equals LiteRT's reference kernel over several invocations, and C equals numpy, bit for bit.

LiteRT has no SVDF with a memory of 8 bits; that form, TFLite Micro's, is compared with a loop over its definition.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from cortex import M0, M4, Core
from plain_calls import Plain, PlainCortex, PlainHost, same
from remodel import edited
from single_op import Lite, T, model

from firmware_tools.ops import Array, Run, Unsupported

STEPS = 12  # invocations, more than any memory here is long


def svdf(seed: int, memory_type: str, with_bias: bool = True, state: T | None = None, change: Any = None) -> bytes:
    """A file of one SVDF of random sizes; its memory is a variable."""
    random = np.random.default_rng(seed)
    batches, inputs, units, rank, memory = (int(random.integers(1, most)) for most in (3, 24, 9, 4, 10))
    filters = units * rank
    x = T("int8", (batches, inputs), float(np.float32(random.uniform(0.02, 0.1))), int(random.integers(-100, 100)))
    data = random.integers(-127, 128, (filters, inputs)).astype(np.int8)
    weights = T("int8", data.shape, float(np.float32(random.uniform(0.005, 0.02))), data=data)
    small = memory_type == "int8"
    most = 127 if small else 32767
    times = random.integers(-most, most + 1, (filters, memory)).astype(memory_type)
    time = T(memory_type, times.shape, float(np.float32(random.uniform(0.3, 1) / most)), data=times)
    kept = state or T(memory_type, (batches, filters * memory), float(np.float32(random.uniform(1, 4) / most)))
    scale = float(np.float32(kept.scale) * np.float32(time.scale))
    bias = T("int32", (units,), scale, data=random.integers(-9000, 9000, units).astype(np.int32))
    y = T("int8", (batches, units), float(np.float32(random.uniform(0.02, 0.1))), int(random.integers(-100, 100)))
    options = schema.SVDFOptionsT()
    options.rank, options.fusedActivationFunction = rank, schema.ActivationFunctionType.RELU
    content = model("SVDF", [x, weights, time, bias if with_bias else None, kept], [y], options, 3)

    def finish(whole: Any) -> None:
        graph = whole.subgraphs[0]
        graph.tensors[graph.operators[0].inputs[4]].isVariable = True
        graph.inputs = graph.operators[0].inputs[:1]
        if change is not None:
            change(whole)

    return edited(content, finish)


def inputs_of(plain: Plain, seed: int) -> list[Array]:
    random = np.random.default_rng(seed)
    shape = plain.subgraph.tensors[plain.subgraph.inputs[0]].shape
    return [random.integers(-128, 128, shape).astype(np.int8) for _ in range(STEPS)]


@pytest.mark.parametrize("seed", range(20))
def test_numpy_equals_litert_while_the_memory_fills(seed: int) -> None:
    content = svdf(seed, "int16")
    plain, lite, run = Plain.of("svdf", content), Lite(content), Run()
    for x in inputs_of(plain, seed):
        assert same(plain.reference((x,), run)[0], lite.run(x)[0])


@pytest.mark.parametrize("seed", range(6))
def test_a_memory_of_8_bits_is_that_of_16_with_its_scale_and_limits(seed: int) -> None:
    """With features that 8 bits hold, the same numbers go through LiteRT's kernel of 16-bit memory."""

    def halved(whole: Any) -> None:
        tensors, inputs = whole.subgraphs[0].tensors, whole.subgraphs[0].operators[0].inputs
        tensors[inputs[4]].quantization.scale = [4.0]  # a coarse memory: no feature is past 127

    def widened(whole: Any) -> None:
        halved(whole)
        tensors, inputs = whole.subgraphs[0].tensors, whole.subgraphs[0].operators[0].inputs
        for index in (inputs[2], inputs[4]):
            tensors[index].type = schema.TensorType.INT16
        data = np.frombuffer(bytes(whole.buffers[tensors[inputs[2]].buffer].data), np.int8).astype(np.int16)
        whole.buffers[tensors[inputs[2]].buffer].data = np.frombuffer(data.tobytes(), np.uint8)

    plain, lite = Plain.of("svdf", svdf(seed, "int8", change=halved)), Lite(svdf(seed, "int8", change=widened))
    run = Run()
    for x in inputs_of(plain, seed):
        assert same(plain.reference((x,), run)[0], lite.run(x)[0])


@pytest.mark.parametrize("core", [None, M4, M0], ids=["host", "m4", "m0"])
def test_c_equals_numpy(core: Core | None, tmp_path: Path) -> None:
    contents = [svdf(seed, kind, seed % 3 > 0) for seed in range(12) for kind in ("int8", "int16")]
    plains = [Plain.of("svdf", content) for content in contents]
    compiled = PlainHost(plains, tmp_path, sanitize=True) if core is None else PlainCortex(core, plains, tmp_path)
    for i, plain in enumerate(plains):
        run = Run()
        for x in inputs_of(plain, i):
            assert same(compiled.run(i, (x,))[0], plain.reference((x,), run)[0]), i


def test_what_is_not_supported_is_refused() -> None:
    def of_constant(whole: Any) -> None:
        graph = whole.subgraphs[0]
        graph.tensors[graph.operators[0].inputs[4]].isVariable = False
        graph.inputs = [graph.operators[0].inputs[0], graph.operators[0].inputs[4]]

    with pytest.raises(Unsupported, match="not a variable"):
        Plain.of("svdf", svdf(0, "int16", change=of_constant))
    with pytest.raises(Unsupported, match="its memory has the shape"):
        Plain.of("svdf", svdf(0, "int16", state=T("int16", (1, 1), 0.001)))
