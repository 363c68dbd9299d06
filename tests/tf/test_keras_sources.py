"""Keras models and SavedModels by `edge convert`: what comes out answers as Keras does, on host and board, and what
cannot be converted is one clear error. Conversions run in child processes, which the tests make few of."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edge import inputs, words
from edge.cli import main
from edge.make import checkpoints
from edge.make.checkpoints import Request
from edge.run.plain import open_plain
from firmware_tools import graph
from firmware_tools.errors import BadFile, MissingTool, UserError

pytestmark = pytest.mark.tf

CORPUS = [
    "Turn the lamp on, please!",
    "turn the lamp off",
    "It's 20 degrees\tin the kitchen.",
    "Où est l'École? École!",
]
TEXTS = [
    *CORPUS,
    "TURN the... lamp, (on)",
    "",
    " \t\v\f\r ",
    "kitchen\u00a0lamp",  # no blank to TensorFlow
    "école École ÉCOLE",  # only ASCII becomes lower case
    "[UNK] lamp [UNK]",
    "lamp\u2028kitchen \x1c x",
    "a \U0001f600 lamp-on_off",
    "on " * 20,
    "turn",
    "lamp",
    "Où",
]


def layers() -> Any:
    import keras

    keras.utils.set_random_seed(3)
    return keras.layers


def sequential(*parts: Any) -> Any:
    import keras

    return keras.Sequential(list(parts))


def source(shape: tuple[int, ...], dtype: str = "float32") -> Any:
    import keras

    return keras.Input(shape, dtype=dtype)


def vectorization(**options: Any) -> Any:
    layer = layers().TextVectorization(**{"output_sequence_length": 8, **options})
    layer.adapt(CORPUS)
    return layer


def classifier_of_texts() -> Any:
    import keras

    keras_layers, front = layers(), vectorization()
    wide = keras.initializers.RandomNormal(stddev=1.0)
    embedding = keras_layers.Embedding(front.vocabulary_size(), 32, embeddings_initializer=wide)
    last = keras_layers.Dense(4, activation="softmax", kernel_initializer=wide)
    return sequential(source((1,), "string"), front, embedding, keras_layers.LSTM(24), last)


def mlp() -> Any:
    return sequential(source((8,)), layers().Dense(40, activation="relu"), layers().Dense(3, activation="softmax"))


def cnn() -> Any:
    parts = layers()
    return sequential(
        source((10, 10, 1)),
        parts.Conv2D(8, 3, padding="same"),
        parts.BatchNormalization(),
        parts.ReLU(),
        parts.MaxPooling2D(),
        parts.DepthwiseConv2D(3),
        parts.Flatten(),
        parts.Dense(3, activation="softmax"),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, with samples for calibration."""
    path = tmp_path_factory.mktemp("keras")
    random = np.random.default_rng(0)
    np.save(path / "rows.npy", random.standard_normal((60, 8)).astype(np.float32))
    np.save(path / "images.npy", random.standard_normal((60, 10, 10, 1)).astype(np.float32))
    (path / "texts.txt").write_text("\n".join(CORPUS) + "\n", encoding="utf-8")
    return path


def converted(model: Any, path: Path, scheme: str, *calibrate: str) -> Path:
    """The .tflite of a Keras model, through the child process that `edge convert` uses."""
    if not path.exists():
        model.save(path)
    result = path.with_name(f"{path.stem}-{scheme}.tflite")
    result.write_bytes(checkpoints.convert_plain(path, Request(scheme, calibrate)))
    return result


def answers(path: Path, specs: list[str], target: str = "host") -> Any:
    """The first output for each sample, as real numbers."""
    found = []
    with open_plain(target, path, kernels="reference") as running:
        for sample in inputs.many(specs, running.inputs, running.words):
            running.invoke(sample)
            found.append(inputs.as_real(running.output(0), running.outputs[0]).reshape(-1))
    return np.array(found)


def types(path: Path) -> tuple[set[str], set[str]]:
    """Types of the inputs and outputs."""
    main_graph = graph.read(path).subgraphs[0]
    return tuple({main_graph.tensors[t].dtype for t in side} for side in (main_graph.inputs, main_graph.outputs))  # type: ignore[return-value]


@pytest.mark.parametrize(
    "scheme, calibrated, bound",
    [("int8", False, 0.02), ("int8-static", True, 0.06)],
)
def test_text_classifier(folder: Path, scheme: str, calibrated: bool, bound: float) -> None:
    import tensorflow as tf

    model = classifier_of_texts()
    texts = folder / "texts.txt"
    path = converted(model, folder / "text.keras", scheme, *([str(texts)] if calibrated else []))
    assert any(t.dtype == "int8" and t.data is not None for s in graph.read(path).subgraphs for t in s.tensors)
    expected = model.predict(tf.constant(CORPUS)[:, None], verbose=0)
    assert np.ptp(expected, axis=0).max() > 0.02  # the texts matter
    host = answers(path, [str(texts)])
    assert np.abs(host - expected).max() < bound
    board = answers(path, [str(texts)], "virtual-m4")
    assert np.abs(board - host).max() <= (0 if calibrated else 0.01)


@pytest.mark.parametrize(
    "front",
    [
        lambda: vectorization(),
        lambda: vectorization(standardize="lower"),
        lambda: vectorization(standardize="strip_punctuation", max_tokens=6),
        lambda: vectorization(standardize=None),
        lambda: layers().StringLookup(vocabulary=["turn", "lamp", "Où", "on"]),
        lambda: layers().StringLookup(vocabulary=["turn", "lamp", "kitchen"], mask_token=""),
    ],
    ids=["default", "lower", "strip", "none", "lookup", "masked"],
)
def test_words_are_keras_words(front: Any) -> None:
    """The cut-off layer and what is kept of it give the same ids for every text."""
    import keras as keras_package
    import tensorflow as tf

    from edge.make.checkpoints import keras

    layer = front()
    model = sequential(source((1,), "string"), layer, layers().Embedding(40, 2), layers().Flatten())
    model = keras_package.Model(model.inputs, model.outputs)
    cut, kept = keras._cut(keras_package, model, "M.keras")
    (length,) = cut.inputs[0].shape[1:]
    expected = np.asarray(layer(tf.constant(TEXTS)[:, None]))
    again = words.Words(kept.json)
    for text, ids in zip(TEXTS, expected, strict=True):
        assert again.ids(text, length).tolist() == ids.tolist(), text
    assert len(np.unique(expected)) > 2


def test_integers_are_looked_up() -> None:
    import keras as keras_package

    from edge.make.checkpoints import keras

    layer = layers().IntegerLookup(vocabulary=[7, 12, -3])
    model = keras_package.Model(*(lambda x: (x, layers().Embedding(5, 2)(layer(x))))(source((4,), "int64")))
    _, kept = keras._cut(keras_package, model, "M.keras")
    assert kept.ids("7 12 -3 5", 4).tolist() == np.asarray(layer(np.array([[7, 12, -3, 5]])))[0].tolist()


@pytest.mark.parametrize(
    "front, said",
    [
        (lambda: vectorization(output_mode="multi_hot", output_sequence_length=None), "output_mode 'multi_hot'"),
        (lambda: vectorization(output_mode="tf_idf", output_sequence_length=None), "output_mode 'tf_idf'"),
        (lambda: vectorization(ngrams=2), "ngrams"),
        (lambda: vectorization(split="character"), "split 'character'"),
        (lambda: vectorization(output_sequence_length=None), "no output_sequence_length"),
        (lambda: layers().StringLookup(vocabulary=["a", "b"], num_oov_indices=2), "2 ids for unknown words"),
        (lambda: layers().StringLookup(vocabulary=["a", "b"], output_mode="one_hot"), "output_mode 'one_hot'"),
    ],
)
def test_a_front_end_that_cannot_be_kept(front: Any, said: str) -> None:
    import keras as keras_package

    from edge.make.checkpoints import keras

    x = source((1,), "string")
    with pytest.raises(UserError, match=said) as error:
        keras._cut(keras_package, keras_package.Model(x, front()(x)), "M.keras")
    assert error.value.hint


def test_cnn_in_integers(folder: Path) -> None:
    """Inputs and outputs are int8; the board computes LiteRT's bits."""
    model, samples = cnn(), str(folder / "images.npy")
    path = converted(model, folder / "cnn.keras", "int8-static", samples)
    assert types(path) == ({"int8"}, {"int8"})
    images = np.load(samples)[:5]
    np.save(folder / "five.npy", images)
    host = answers(path, [str(folder / "five.npy")])
    assert np.abs(host - model.predict(images, verbose=0)).max() < 0.03
    assert (answers(path, [str(folder / "five.npy")], "virtual-m4") == host).all()


def test_saved_model(folder: Path) -> None:
    """By the command line, with the words that it prints."""
    model = mlp()
    model.export(folder / "mlp", verbose=False)
    path, samples = folder / "mlp.tflite", str(folder / "rows.npy")
    run = CliRunner().invoke(main, ["convert", str(folder / "mlp"), "-o", str(path), "--quantize", "float16"])
    assert run.exit_code == 0, run.output
    assert "plain model" in run.output
    assert np.abs(answers(path, [samples]) - model.predict(np.load(samples), verbose=0)).max() < 1e-3


def keras_of(model: Any, path: Path) -> Path:
    model.save(path)
    return path


def refused(path: Path, scheme: str = "int8", *calibrate: str) -> UserError:
    """What the child's side says, without a child."""
    from edge.make.checkpoints import keras, saved_model

    load = saved_model._load if path.is_dir() else keras._load
    with pytest.raises(UserError) as error:
        load(path, path.name, Request(scheme, calibrate))
    assert error.value.hint or isinstance(error.value, BadFile)
    return error.value


def test_models_that_are_refused(tmp_path: Path) -> None:
    import keras

    parts, wide = layers(), source((8,))
    with_code = keras_of(sequential(wide, parts.Lambda(lambda x: x * 2), parts.Dense(2)), tmp_path / "lambda.keras")
    assert "Python code (a Lambda layer), which is not run" in refused(with_code).message
    plain = keras_of(mlp(), tmp_path / "mlp.keras")
    assert "int8-static needs samples of what mlp.keras will see" in refused(plain, "int8-static").message
    assert "float16 measures no activations" in refused(plain, "float16", "x.npy").message
    (tmp_path / "wrong.csv").write_text("1,2,3\n4,5,6\n")
    assert "the model wants" in refused(plain, "int8-static", str(tmp_path / "wrong.csv")).message
    open_length = keras_of(sequential(source((None, 4)), parts.GlobalAveragePooling1D()), tmp_path / "open.keras")
    assert "leaves the shape of its input" in refused(open_length).message
    ids = keras_of(sequential(source((4,), "int32"), parts.Embedding(9, 4), parts.Flatten()), tmp_path / "ids.keras")
    np.save(tmp_path / "ids.npy", np.zeros((3, 4), np.int32))
    assert "makes no int16x8" in refused(ids, "int16x8", str(tmp_path / "ids.npy")).message
    x = source((4,))
    custom = keras.Model(x, keras.ops.svd(keras.ops.reshape(x, (-1, 2, 2)))[0])
    assert "operators that TFLite has not: Svd" in refused(keras_of(custom, tmp_path / "svd.keras")).message


def test_saved_models_that_are_refused(tmp_path: Path) -> None:
    """A loop, which ends TensorFlow's converter with a crash where integers are asked for, and a text."""
    sequential(source((5, 3)), layers().LSTM(4)).export(tmp_path / "loop", verbose=False)
    np.save(tmp_path / "x.npy", np.ones((3, 5, 3), np.float32))
    assert "has a loop" in refused(tmp_path / "loop", "int8-static", str(tmp_path / "x.npy")).message
    with pytest.raises(UserError, match="has no signature other") as error:
        from edge.make.checkpoints import saved_model

        saved_model._load(tmp_path / "loop", "loop", Request(signature="other"))
    assert "serving_default" in error.value.hint
    classifier_of_texts().export(tmp_path / "text", verbose=False)
    assert "hides in its graph" in refused(tmp_path / "text").message


def test_without_tensorflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from edge.make.checkpoints import saved_model

    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingTool) as error:
        saved_model._load(tmp_path, "M", Request())
    assert "edge-tinyml[train]" in error.value.hint


def test_damaged_files(folder: Path, tmp_path: Path) -> None:
    """Each is one error, from the parent or through the child, and no .tflite is left."""
    from edge.make.checkpoints import keras

    whole = keras_of(mlp(), tmp_path / "mlp.keras").read_bytes()
    path = tmp_path / "damaged.keras"
    for content in (b"no zip", whole[: len(whole) // 2], b""):
        path.write_bytes(content)
        with pytest.raises(BadFile, match=r"damaged.keras is not a whole .keras file"):
            keras.convert(path, Request())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(BadFile, match=r"it has no metadata.json"):
        keras.convert(path, Request())
    with pytest.raises(UserError, match="has no signatures"):
        keras.convert(path, Request(signature="serve"))
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "saved_model.pb").write_bytes(b"\x0a\xff\xff\xff not a protobuf")
    run = CliRunner().invoke(main, ["convert", str(saved), "-o", str(tmp_path / "M.tflite")])
    assert run.exit_code == 1 and "is not a SavedModel that TensorFlow can load" in run.output, run.output
    assert not list(tmp_path.glob("*.tflite*"))
    run = CliRunner().invoke(main, ["convert", str(saved), "-o", str(tmp_path / "M.tflite"), "--quantize", "int4"])
    assert run.exit_code == 1 and "int4 is for those alone" in run.output, run.output
