"""Keras 3 models (`.keras`) of any kind, through TensorFlow's converter.

What turns text into numbers at the front (TextVectorization, StringLookup, IntegerLookup) is cut off: no .tflite
computes it. Its vocabulary goes into the file (edge.words), and `edge run` looks the words up. A model that needs code
to be loaded (a Lambda layer, a class of one's own) is refused: Keras' safe mode decides.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from edge.make.checkpoints import Request, saved_model
from edge.make.formats import child
from edge.words import Rules, Words, write
from firmware_tools.errors import BadFile, MissingTool, UserError

SUFFIXES = (".keras",)
MEMBERS = frozenset(("config.json", "metadata.json", "model.weights.h5"))
MOST_BYTES = 2 << 30  # unpacked: a .tflite holds no more
RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN")
STANDARDIZE = {  # of TextVectorization -> lower, strip punctuation
    "lower_and_strip_punctuation": (True, True),
    "lower": (True, False),
    "strip_punctuation": (False, True),
    None: (False, False),
}
FRONTS = ("TextVectorization", "StringLookup", "IntegerLookup")


def recognises(path: Path) -> bool:
    return path.suffix in SUFFIXES and path.is_file()


def convert(path: Path, request: Request) -> bytes:
    """The .tflite of a .keras; BadFile, MissingTool or another UserError where there is none."""
    if request.signature is not None:
        raise UserError(f"{path.name} has no signatures", "--signature goes with a SavedModel")
    _check_zip(path)
    return child.converted("keras", path, request)


def _check_zip(path: Path) -> None:
    """BadFile unless it is a whole .keras of a sound size; nothing is unpacked."""
    hint = 'save it again with model.save("M.keras")'
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member.file_size for member in archive.infolist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise BadFile(f"{path} is not a whole .keras file: {error}", hint) from error
    if missing := sorted(MEMBERS - members.keys()):
        raise BadFile(f"{path} is not a .keras file: it has no {missing[0]}", hint)
    if sum(members.values()) > MOST_BYTES:
        raise BadFile(
            f"{path} unpacks to {sum(members.values())} bytes, more than {MOST_BYTES}", "take a smaller model"
        )


# --- in the child


def _load(path: Path, name: str, request: Request) -> bytes:
    saved_model.tensorflow()
    try:
        import keras
    except ImportError as error:
        raise MissingTool("a .keras file needs Keras on TensorFlow", saved_model.INSTALL) from error
    model = _loaded(keras, path, name)
    words = None
    if any(str(tensor.dtype) == "string" for tensor in model.inputs) or _front(model) is not None:
        model, words = _cut(keras, model, name)
    if request.scheme in saved_model.INTEGERS:
        for layer in _layers(model):  # TensorFlow's converter cannot make integers of a loop
            if type(layer).__name__ in RECURRENT:
                layer.unroll = True
    # an input of ids is taken as the integers that they are: int64 is of no use on a board
    wanted = [(_plain_name(tensor.name, i), tensor.shape, _dtype(tensor)) for i, tensor in enumerate(model.inputs)]
    outputs = [_plain_name(str(key), i) for i, key in enumerate(model.output_names)]

    def call(*arrays: Any) -> dict[str, Any]:
        found = keras.tree.flatten(model(keras.tree.pack_sequence_as(model.input, arrays), training=False))
        return dict(zip(outputs, found, strict=True))

    return saved_model.tflite(name, call, wanted, outputs, [v.value for v in model.variables], request, words)


def _loaded(keras: Any, path: Path, name: str) -> Any:
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        said = str(error)
        if "safe_mode" in said or "nsafe" in said:
            raise BadFile(
                f"{name} holds Python code (a Lambda layer), which is not run: it could do anything here",
                "write that layer with keras.ops or Keras' own layers and save the model again",
            ) from error
        if "Could not locate" in said:
            raise BadFile(
                f"{name} needs a class or function of one's own: {saved_model.first_line(error)}",
                "export it where that class is, with model.export(FOLDER), and convert the SavedModel",
            ) from error
        raise BadFile(f"{name} is not a model that Keras can load: {saved_model.first_line(error)}") from error
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs, model.outputs)
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None) or not hasattr(model, "output_names"):
        raise UserError(
            f"{name} is a subclassed model, whose inputs its file does not say",
            "export it with model.export(FOLDER), and convert the SavedModel",
        )
    return model


def _layers(model: Any) -> list[Any]:
    return list(model._flatten_layers())


def _plain_name(name: str, index: int) -> str:
    """A name that TensorFlow takes for an argument."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    return plain if plain[:1].isalpha() else f"x{index}_{plain}"


def _dtype(tensor: Any) -> str:
    return "int32" if str(tensor.dtype) == "int64" else str(tensor.dtype)


# --- the front end


def _nodes(model: Any) -> list[Any]:
    """The calls of layers that a functional model is made of."""
    return [node for nodes in model._nodes_by_depth.values() for node in nodes if node.input_tensors]


def _front(model: Any) -> Any:
    """The layer that looks up words right behind an input, with what it gives: (layer, tensor)."""
    for node in _nodes(model):
        if type(node.operation).__name__ in FRONTS and any(node.input_tensors[0] is tensor for tensor in model.inputs):
            return node.operation, node.outputs[0]
    return None


def _cut(keras: Any, model: Any, name: str) -> tuple[Any, Words]:
    """The model behind its front end, and the words."""
    found = _front(model)
    if found is None:
        raise UserError(
            f"{name} takes strings, and no {', '.join(FRONTS)} stands right behind its input",
            "only such a layer can be cut off and kept as the file's tokenizer",
        )
    if len(model.inputs) > 1:
        raise UserError(
            f"{name} takes a text and other inputs, and only a text alone is cut off", "take ids as its input"
        )
    layer, tensor = found
    if len([node for node in _nodes(model) if any(other is model.inputs[0] for other in node.input_tensors)]) > 1:
        raise UserError(f"{name} reads its text more than once", "let one layer look up the words")
    text = type(layer).__name__ == "TextVectorization"
    words = (_of_text if text else _of_lookup)(layer, tensor, name)
    size = (
        layer.get_config().get("output_sequence_length")
        if text
        else tensor.shape[-1]
        if len(tensor.shape) > 1
        else None
    )
    shape = (1,) if size is None else (1, size)
    source = keras.Input(batch_shape=shape, dtype="int32", name="ids")
    try:
        behind = keras.Model(inputs=tensor, outputs=model.outputs)
        cut = keras.models.clone_model(behind, input_tensors=source, clone_function=lambda layer: layer)
    except ValueError as error:
        raise UserError(
            f"{name} uses its text elsewhere than in {layer.name}: {saved_model.first_line(error)}",
            "let one layer look up the words",
        ) from error
    return cut, words


def _of_text(layer: Any, tensor: Any, name: str) -> Words:
    config = layer.get_config()
    if config["output_mode"] != "int":
        raise _refused(name, layer, f"output_mode {config['output_mode']!r}", "only 'int' gives ids")
    if config["ngrams"] is not None:
        raise _refused(name, layer, "ngrams", "leave ngrams out")
    if config["split"] != "whitespace":
        raise _refused(name, layer, f"split {config['split']!r}", "split at whitespace")
    if config["ragged"] or not config["output_sequence_length"]:
        raise _refused(name, layer, "no output_sequence_length", "give it one, so that the model's input has a length")
    standardize = config["standardize"]
    if not (standardize is None or isinstance(standardize, str)) or standardize not in STANDARDIZE:
        raise _refused(name, layer, "a standardize of one's own", "choose lower_and_strip_punctuation")
    lower, strip = STANDARDIZE[standardize]
    return _words(name, layer, [str(word) for word in layer.get_vocabulary()], Rules(lower, strip), 1, 0)


def _of_lookup(layer: Any, tensor: Any, name: str) -> Words:
    config = layer.get_config()
    if config["output_mode"] != "int" or config["invert"]:
        raise _refused(name, layer, f"output_mode {config['output_mode']!r}", "only 'int' gives ids")
    if config["num_oov_indices"] != 1:
        raise _refused(name, layer, f"{config['num_oov_indices']} ids for unknown words", "num_oov_indices=1")
    vocabulary = [str(word) for word in layer.get_vocabulary()]
    masks = config["mask_token"] is not None
    split = len(tensor.shape) > 1 and tensor.shape[-1] != 1
    return _words(name, layer, vocabulary, Rules(False, False, split), int(masks), 0)


def _words(name: str, layer: Any, vocabulary: list[str], rules: Rules, unknown_id: int, pad_id: int) -> Words:
    if len(set(vocabulary)) != len(vocabulary):
        raise _refused(name, layer, "a word twice", "give each word once")
    return Words(write(vocabulary, rules, unknown_id, pad_id))


def _refused(name: str, layer: Any, what: str, hint: str) -> UserError:
    return UserError(f"the {type(layer).__name__} of {name} has {what}, which cannot be kept as a tokenizer", hint)


if __name__ == "__main__":
    child.serve(_load, saved_model.source_bytes)
