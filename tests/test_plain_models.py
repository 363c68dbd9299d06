"""Whole models, operator by operator through plain ops, agree with LiteRT: small float models, and a decoder's graph as
if the compiler had recognised nothing in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cortex import M4
from lite import Model
from plain_calls import Plain, PlainCortex, same
from single_op import Lite
from walk import Walk

from edge.make import checkpoints
from edge.make.convert import convert
from firmware_tools import graph, ops

ROOT = Path(__file__).resolve().parent.parent
INTENT = ROOT / "models" / "intent"


def decoder(quantization: str) -> bytes:
    if quantization == "int8":
        return (INTENT / "intent.tflite").read_bytes()
    return convert(checkpoints.load(INTENT / "checkpoint.npz"), quantization)


@pytest.mark.parametrize("name", ["hello_world_float", "kws_ref_model_float32"])
def test_a_float_model_agrees_with_lite(shared_data: Path, name: str) -> None:
    content = (shared_data / "tflite" / f"{name}.tflite").read_bytes()
    walk, lite = Walk(graph.read(content).subgraphs[0]), Lite(content)
    shape = walk.subgraph.tensors[walk.subgraph.inputs[0]].shape
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        (found,), (expected,) = walk.run((x,)), lite.run(x)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)  # the softmax's exponential


@pytest.mark.parametrize(
    ("quantization", "bound"), [("float32", 5e-5), ("int8", 0.01), ("int4", 0.01), ("int4-32", 0.8)]
)
def test_a_decoder_of_plain_ops_agrees_with_lite(quantization: str, bound: float) -> None:
    """Logits up to 17. The hybrid products differ where a number of a row lies half-way between two integers. LiteRT
    has int4 in blocks right with XNNPACK alone, which quantizes rows in its own way."""
    content = decoder(quantization)
    read = graph.read(content)
    signature = read.signatures["decode"]
    walk, lite = (
        Walk(read.subgraphs[signature.subgraph]),
        Model(content, "xnnpack" if quantization == "int4-32" else "reference"),
    )
    names = {tensor.index: name for name, tensor in signature.inputs.items()}
    outputs = {tensor.index: name for name, tensor in signature.outputs.items()}
    caches = {name: np.zeros(lite.size, np.float32) for name in lite.caches}
    for position, token in enumerate((1, 40, 300, 7, 25, 260)):
        given = {"token": np.int32([token]), "position": np.int32([position])}
        given |= {name: cache.reshape(-1) for name, cache in caches.items()}
        found = walk.run([given[names[index]] for index in walk.subgraph.inputs])
        results = {outputs[index]: array for index, array in zip(walk.subgraph.outputs, found, strict=True)}
        for name, cache in caches.items():
            cache[:, position] = results[f"{name[0]}_new_{name[2:]}"].reshape(cache.shape[0], -1)
        expected = lite.decode(token, position)
        assert np.abs(results["logits"] - expected).max() < bound, position
        assert np.argmax(results["logits"]) == np.argmax(expected)


def test_matrices_of_decoders_in_c(tmp_path: Path) -> None:
    """The first matrix of each kind, as the plain op that takes it, on a Cortex-M4."""
    plains = []
    for quantization in ("float32", "int8", "int4", "int4-32"):
        read = graph.read(decoder(quantization))
        subgraph = read.subgraphs[read.signatures["decode"].subgraph]
        operator = next(operator for operator in subgraph.operators if operator.op == "FULLY_CONNECTED")
        alone = replace(subgraph, inputs=operator.inputs[:1], outputs=operator.outputs)
        plains.append(Plain(quantization, ops.lower(operator, subgraph), alone))
    runner = PlainCortex(M4, plains, tmp_path)
    for i, plain in enumerate(plains):
        shape = plain.subgraph.tensors[plain.subgraph.inputs[0]].shape
        x = np.random.default_rng(i).standard_normal(shape).astype(np.float32)
        assert same(runner.run(i, (x,))[0], plain.reference((x,))[0]), plain.name
