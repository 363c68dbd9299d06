"""SVDF in floats: numpy against LiteRT over several invocations (its memory stays), C against numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from cortex import M4
from plain_calls import Plain, PlainCortex, PlainHost, PlainRunner, same
from single_op import Lite, T, model

from firmware_tools.ops import Array, Run, Unsupported

SIZES = ((1, 5, 6, 4, 1), (2, 7, 8, 3, 2), (1, 16, 12, 10, 4))  # batches, inputs, filters, memory, rank


def svdf(n: int, own_state: bool = True) -> bytes:
    """A file of one SVDF with a memory that is a variable."""
    random = np.random.default_rng(n)
    batches, inputs, filters, memory, rank = SIZES[n]
    shapes = ((filters, inputs), (filters, memory), (filters // rank,))
    stored = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    tensors = [T("float32", (batches, inputs)), *(T("float32", data.shape, data=data) for data in stored)]
    tensors, out = [*tensors, T("float32", (batches, memory * filters))], T("float32", (batches, filters // rank))
    options = schema.SVDFOptionsT()
    options.rank, options.fusedActivationFunction = rank, schema.ActivationFunctionType.RELU
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model("SVDF", tensors, [out], options, 3)))
    graph = whole.subgraphs[0]
    graph.tensors[graph.operators[0].inputs[4]].isVariable = own_state
    graph.inputs = list(graph.operators[0].inputs[:1])
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def inputs(n: int) -> Iterator[Array]:
    """More invocations than the memory is long."""
    random = np.random.default_rng(n)
    for _ in range(12):
        yield random.standard_normal(SIZES[n][:2]).astype(np.float32)


PLAINS = [Plain.of(f"svdf-{n}", svdf(n)) for n in range(len(SIZES))]


@pytest.mark.parametrize("n", range(len(SIZES)))
def test_reference_agrees_with_lite(n: int) -> None:
    lite, run, seen = Lite(svdf(n)), Run(), []
    for x in inputs(n):
        (found,), (expected,) = PLAINS[n].reference((x,), run), lite.run(x)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)  # LiteRT adds every fourth product first
        seen.append(found)
    assert len(np.unique(seen)) > 10


def host_undefined(folder: Path) -> PlainRunner:
    return PlainHost(PLAINS, folder, sanitize=True)


def m4(folder: Path) -> PlainRunner:
    return PlainCortex(M4, PLAINS, folder)


@pytest.mark.parametrize("make", (host_undefined, m4), ids=lambda make: make.__name__)
def test_kernel_equals_reference(make: Callable[[Path], PlainRunner], tmp_path: Path) -> None:
    runner = make(tmp_path)
    for n in range(len(SIZES)):
        run = Run()
        for x in inputs(n):
            assert same(runner.run(n, (x,))[0], PLAINS[n].reference((x,), run)[0]), PLAINS[n].name


def test_a_memory_of_others_is_refused() -> None:
    with pytest.raises(Unsupported, match="not a variable of its own"):
        Plain.of("no variable", svdf(0, own_state=False))
