"""SavedModel folders of TensorFlow, and the way through TensorFlow's converter that Keras models take, too.

Everything with TensorFlow happens in a child process (edge.make.formats.child): loading a SavedModel runs what its
makers put into it, and the converter has models that end it. The file is made for one sample at a time: an open first
axis is 1, and no other axis may be open, since a microcontroller plans its memory ahead.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge import inputs
from edge.make.checkpoints import Request
from edge.make.formats import child, written
from edge.words import Words
from firmware_tools.errors import BadFile, MissingTool, UserError
from firmware_tools.program import Border

FILE = "saved_model.pb"
MAIN = "serving_default"
INTEGERS = ("int8-static", "int16x8")  # activations are integers too: calibration decides their ranges
LOOPS = frozenset(("While", "StatelessWhile", "Loop"))
INSTALL = "pip install 'edge-tinyml[train]'"


def recognises(path: Path) -> bool:
    """Whether it is a folder with a saved_model.pb, or that file."""
    return (path / FILE).is_file() if path.is_dir() else path.name == FILE


def convert(path: Path, request: Request) -> bytes:
    """The .tflite of one signature of a SavedModel; BadFile, MissingTool or another UserError where there is none."""
    return child.converted("saved_model", path.parent if path.name == FILE else path, request)


# --- in the child


def _load(path: Path, name: str, request: Request) -> bytes:
    tf = tensorflow()
    try:
        loaded = tf.saved_model.load(str(path))
        signatures = loaded.signatures
        function = signatures.get(request.signature or MAIN)
    except Exception as error:
        raise BadFile(f"{name} is not a SavedModel that TensorFlow can load: {first_line(error)}") from error
    if function is None:
        have = ", ".join(sorted(signatures)) or "none"
        raise UserError(f"{name} has no signature {request.signature or MAIN}", f"its signatures: {have}")
    specs = function.structured_input_signature[1]
    outputs = list(function.structured_outputs)

    def call(*arrays: Any) -> dict[str, Any]:
        found: dict[str, Any] = function(**dict(zip(specs, arrays, strict=True)))
        return found

    wanted = [
        (key, spec.shape.as_list() if spec.shape.rank is not None else None, spec.dtype) for key, spec in specs.items()
    ]
    return tflite(name, call, wanted, outputs, [loaded], request)


def tensorflow() -> Any:
    """The package; MissingTool without it."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise MissingTool("this source needs TensorFlow", INSTALL) from error
    return tf


def tflite(
    name: str,
    call: Callable[..., Mapping[str, Any]],
    wanted: Sequence[tuple[str, Sequence[int | None] | None, Any]],
    outputs: Sequence[str],
    kept: Sequence[Any],
    request: Request,
    words: Words | None = None,
) -> bytes:
    """The .tflite of a function.

    Args:
        name: of the source, for messages.
        call: arrays of the inputs -> outputs by name.
        wanted: name, shape and TensorFlow's type of each input.
        outputs: their names, in the order that the file shall have.
        kept: TensorFlow's variables, or an object that has them.
        request: what is asked for.
        words: kept in the file, where the input is a text that was cut off.
    """
    tf = tensorflow()
    specs = [tf.TensorSpec(_fixed(name, key, shape), dtype, key) for key, shape, dtype in wanted]
    borders = [
        Border(key, 0, spec.dtype.name, tuple(spec.shape), None, 0)
        for (key, *_), spec in zip(wanted, specs, strict=True)
    ]
    _check_types(name, borders, request.scheme)
    samples = inputs.many(request.calibrate, borders, words) if _calibrates(name, request, words) else []
    function = tf.function(call, input_signature=specs, autograph=False)
    try:
        concrete = function.get_concrete_function()
    except Exception as error:
        raise BadFile(f"{name} cannot be computed with inputs of a fixed shape: {first_line(error)}") from error
    if request.scheme in INTEGERS and _has_loop(concrete):
        raise UserError(
            f"{name} has a loop, of which TensorFlow's converter makes nothing in {request.scheme}",
            "build its recurrent layers with unroll=True, or take --quantize int8",
        )
    module = tf.Module()
    module.kept, module.function = list(kept), function
    keys = [border.name for border in borders]
    with tempfile.TemporaryDirectory(prefix="edge-") as folder:
        tf.saved_model.save(module, folder, signatures={MAIN: concrete})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[MAIN])
        _set_scheme(tf, converter, request.scheme, lambda: (dict(zip(keys, sample, strict=True)) for sample in samples))
        content = _converted(name, converter)
    return written.arranged(content, keys, outputs, words)


def _fixed(name: str, key: str, shape: Sequence[int | None] | None) -> list[int]:
    """The shape for one sample."""
    sizes = [] if shape is None else [1 if size is None and axis == 0 else size for axis, size in enumerate(shape)]
    if shape is None or None in sizes:
        raise UserError(
            f"{name} leaves the shape of its input {key} open: {'unknown' if shape is None else list(shape)}",
            "save it with an input whose shape is fixed but for the first axis",
        )
    return [size for size in sizes if size is not None]


def _check_types(name: str, borders: Sequence[Border], scheme: str) -> None:
    for border in borders:
        if border.dtype == "string":
            raise UserError(
                f"{name} takes the text {border.name}, whose words a SavedModel hides in its graph",
                "save the Keras model as .keras: its TextVectorization or StringLookup is kept as the file's tokenizer",
            )
        if np.dtype(border.dtype).kind not in "fiub":
            raise UserError(
                f"{name} takes the input {border.name} of the type {border.dtype}, which no .tflite of ours has"
            )
        if scheme == "int16x8" and np.dtype(border.dtype).kind != "f":
            raise UserError(
                f"{name} takes the input {border.name} of integers, of which TensorFlow's converter makes no int16x8",
                "take --quantize int8-static or int8",
            )


def _calibrates(name: str, request: Request, words: Words | None) -> bool:
    """Whether samples are needed; UserError where they are not given, or given for nothing."""
    if request.scheme not in INTEGERS:
        if request.calibrate:
            raise UserError(
                f"{request.scheme} measures no activations: --calibrate goes with {' and '.join(INTEGERS)}",
                "leave --calibrate out",
            )
        return False
    if not request.calibrate or "samples" in request.calibrate:
        samples = (
            "TEXTS.txt, with one on each line" if words is not None else "X.npy or X.csv, samples along the first axis"
        )
        raise UserError(
            f"{request.scheme} needs samples of what {name} will see: they decide the ranges of its activations",
            f"--calibrate {samples}; a hundred or more, as in real use",
        )
    return True


def _has_loop(concrete: Any) -> bool:
    graph = concrete.graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return any(node.op in LOOPS for node in nodes)


def _set_scheme(tf: Any, converter: Any, scheme: str, samples: Callable[[], Iterator[Mapping[str, Any]]]) -> None:
    if scheme == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if scheme == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if scheme in INTEGERS:
        sets, wide = tf.lite.OpsSet, scheme == "int16x8"
        narrow, wider = sets.TFLITE_BUILTINS_INT8, sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [wider if wide else narrow]
        converter.representative_dataset = samples
        converter.inference_input_type = converter.inference_output_type = tf.int16 if wide else tf.int8


def _converted(name: str, converter: Any) -> bytes:
    try:
        content: bytes = converter.convert()
    except Exception as error:
        said = str(error)
        for mark in ("TF Select ops: ", "Custom ops: "):
            if mark in said:
                ops = said.split(mark, 1)[1].splitlines()[0]
                raise UserError(
                    f"{name} has operators that TFLite has not: {ops}", "compute that part outside of the model"
                ) from error
        raise BadFile(f"TensorFlow's converter does not take {name}: {first_line(error)}") from error
    return content


def first_line(error: BaseException) -> str:
    """What an error says, in one line that is not too long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def source_bytes(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


if __name__ == "__main__":
    child.serve(_load, source_bytes)
