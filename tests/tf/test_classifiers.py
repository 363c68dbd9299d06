"""Small text classifiers from Keras, converted by TensorFlow in its three forms: every operator is taken by an op, and
their numpy references agree with LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from single_op import Lite
from walk import Walk

from firmware_tools import graph, simplify
from firmware_tools.ops import Array

pytestmark = pytest.mark.tf

WORDS, STEPS = 50, 6


def ids(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, WORDS, (1, STEPS)).astype(np.int32)


def classifier(kind: str) -> Any:
    """Keras 3 turns recurrent layers into a loop of TFLite (WHILE) unless they are unrolled."""
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    middle = {
        "lstm": [layers.LSTM(24, unroll=True)],
        "lstm loop": [layers.LSTM(24)],
        "gru loop": [layers.GRU(24, return_sequences=True), layers.GlobalMaxPooling1D()],
        "both ways": [layers.Bidirectional(layers.LSTM(16))],
        "average": [layers.GlobalAveragePooling1D(), layers.Dense(80, activation="relu")],
        "convolution": [layers.Conv1D(24, 3, padding="same", activation="relu"), layers.GlobalMaxPooling1D()],
    }[kind]
    first = [keras.Input((STEPS,), batch_size=1, dtype="int32"), layers.Embedding(WORDS, 32)]
    return keras.Sequential([*first, *middle, layers.Dense(4, activation="softmax")])


def convert(model: Any, form: str) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if form != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "int8":
        converter.representative_dataset = lambda: ([ids(i)] for i in range(40))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    content: bytes = converter.convert()
    return content


# float: the functions' last bits; dynamic: those may move a number of a row to the next integer
BOUNDS = {"float": 1e-6, "dynamic": 1e-3, "int8": 0.0}


@pytest.mark.parametrize("kind", ["lstm", "average", "convolution"])
def test_classifier_in_all_forms(kind: str) -> None:
    model = classifier(kind)
    for form in BOUNDS:
        check(convert(model, form), form)


@pytest.mark.parametrize("kind", ["lstm loop", "gru loop", "both ways"])
def test_classifier_with_a_loop(kind: str) -> None:
    """In float and dynamic-range form; TensorFlow 2.21 cannot make them int8."""
    model = classifier(kind)
    for form in ("float", "dynamic"):
        content = convert(model, form)
        assert "WHILE" in {operator.op for operator in graph.read(content).subgraphs[0].operators}
        check(content, form)


@pytest.mark.parametrize("kind", ["dense", "attention"])
def test_classifier_of_an_unknown_batch(kind: str) -> None:
    """Such a file leaves shapes open, and its graph computes them."""
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    words = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(WORDS, 32)(words)
    if kind == "dense":
        x = layers.Flatten()(layers.Dense(40, activation="gelu")(layers.LayerNormalization()(x)))
    else:
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 16)(x, x))
        x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(words, layers.Dense(4, activation="softmax")(x))
    for form in ("float", "dynamic"):
        content = convert(model, form)
        subgraph = graph.read(content).subgraphs[0]
        assert any(-1 in tensor.shape_signature for tensor in subgraph.tensors)
        assert kind != "dense" or "SHAPE" in {operator.op for operator in subgraph.operators}
        check(content, form)


def check(content: bytes, form: str) -> None:
    walk, lite = Walk(simplify.simplified(graph.read(content))), Lite(content)
    weights = {t.dtype for t in walk.subgraph.tensors if t.data is not None and t.data.size > 1000}
    assert ("int8" in weights) == (form != "float"), (form, weights)
    for seed in range(5):
        (found,), (expected,) = walk.run((ids(seed),)), lite.run(ids(seed))
        assert np.abs(found - expected).max() <= BOUNDS[form], form
