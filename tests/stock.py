"""What other converters make of the same weights: ai-edge-quantizer of our float32 graph, TensorFlow of its own one.

Everything here is an oracle or an opponent; nothing of the product uses it. A file of theirs is read through `Loop`,
which keeps the KV cache in float on its side and quantizes what the file's inputs want.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make.checkpoints import Checkpoint
from tests.lite import RESOLVERS

Array = NDArray[Any]
# of ai-edge-quantizer: what the table calls it -> (its recipe, whether it is calibrated)
AEQ = {
    "dynamic wi8": ("dynamic_wi8_afp32", False),
    "static a8w8": ("static_wi8_ai8", True),
    "static a16w8": ("static_wi8_ai16", True),
    "int4 per channel": ("dynamic_wi4_afp32", False),
    "int4 per channel, Hadamard": ("dynamic_wi4c_hr_afp32", False),
    "int4 blocks of 32": ("dynamic_wi4b32_afp32", False),
    "int4 blocks of 64": ("dynamic_wi4b64_afp32", False),
}
MASKED = -300.0  # of a score that is not to be seen: -1e9 would be what an int8 scale has to reach


class Loop:
    """Decodes with the signature `decode` of any converter's file; the cache stays float here."""

    def __init__(self, data: bytes, kv_heads: int, head_dim: int, context: int, kernels: str = "xnnpack") -> None:
        from ai_edge_litert.interpreter import Interpreter

        lite = Interpreter(model_content=data, experimental_op_resolver_type=RESOLVERS[kernels], num_threads=1)
        self._decode = lite.get_signature_runner("decode")
        self._inputs, self._outputs = self._decode.get_input_details(), self._decode.get_output_details()
        self._size = (kv_heads, context, head_dim)
        self.caches = {name: np.zeros(self._size, np.float32) for name in self._inputs if name.startswith(("k_", "v_"))}

    def inputs(self, token: int, position: int) -> dict[str, Array]:
        """What decode is given, as real numbers."""
        flat = {name: cache.reshape(-1) for name, cache in self.caches.items()}
        return {"token": np.int32([token]), "position": np.int32([position]), **flat}

    def decode(self, token: int, position: int) -> Array:
        """Logits float32 [vocab_size] after one token."""
        given = {name: stored(array, self._inputs[name]) for name, array in self.inputs(token, position).items()}
        found = {name: real(array, self._outputs[name]) for name, array in self._decode(**given).items()}
        for name, cache in self.caches.items():
            cache[:, position] = found[f"{name[0]}_new_{name[2:]}"].reshape(self._size[0], self._size[2])
        logits: Array = found["logits"].reshape(-1)
        return logits


def stored(array: Array, details: Mapping[str, Any]) -> Array:
    """Real numbers as a tensor stores them."""
    scale, zero = details["quantization"]
    if details["dtype"] in (np.float32, np.int32) or not scale:
        return array.astype(details["dtype"])
    limits = np.iinfo(details["dtype"])
    return np.clip(np.rint(array / scale) + zero, limits.min, limits.max).astype(details["dtype"])


def real(array: Array, details: Mapping[str, Any]) -> Array:
    """The real numbers that a tensor's stored ones mean."""
    scale, zero = details["quantization"]
    return (array.astype(np.float32) - zero) * np.float32(scale) if scale else array.astype(np.float32)


def calibration_inputs(checkpoint: Checkpoint, data: bytes, texts: Sequence[Array]) -> Iterator[dict[str, Array]]:
    """What decode is given at every step of the texts, caches included."""
    shape = checkpoint.architecture
    for ids in texts:
        loop = Loop(data, shape.kv_heads, shape.head_dim, max(len(text) for text in texts))
        for position, token in enumerate(map(int, ids)):
            yield {name: array.copy() for name, array in loop.inputs(token, position).items()}
            loop.decode(token, position)


def quantizer(data: bytes, name: str, calibration: Sequence[dict[str, Array]] = (), true_ranges: bool = True) -> bytes:
    """A float32 file by ai-edge-quantizer; true_ranges: the least and largest of all steps, else its moving average.

    Rows that no whole number of blocks fills (`down` of stories260K has 172 columns) get one scale, as ours do.
    """
    from ai_edge_quantizer import calibrator, qtyping, recipe
    from ai_edge_quantizer.quantizer import Quantizer
    from ai_edge_quantizer.utils import qsv_utils

    kind, calibrated = AEQ[name]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        tool = Quantizer(bytearray(data), getattr(recipe, kind)())
        if "blocks" in name:
            tool.add_dynamic_config(".*down.*", qtyping.TFLOperationName.FULLY_CONNECTED, 4)
        ranges = None
        if calibrated:
            update = {"qsv_update_func": qsv_utils.min_max_update} if true_ranges else {}
            measure = calibrator.Calibrator(bytearray(data), num_threads=1, **update)
            measure.calibrate({"decode": calibration}, tool._recipe_manager)
            ranges = measure.get_model_qsvs()
        return bytes(tool.quantize(ranges).quantized_model)


def decode_only(data: bytes) -> bytes:
    """A file of ours with the signature `decode` alone, and a name for each tensor: AEQ calibrates by name."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data)
    (kept,) = (signature for signature in model.signatureDefs if signature.signatureKey == b"decode")
    model.subgraphs, model.signatureDefs, model.metadata = [model.subgraphs[kept.subgraphIndex]], [kept], []
    kept.subgraphIndex = 0
    for at, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.name = f"{tensor.name.decode()}.{at}"
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


# ------------------------------------------------------------------------------------------------------ TensorFlow


def tensorflow(checkpoint: Checkpoint, context: int, form: str, calibration: Sequence[dict[str, Array]] = ()) -> bytes:
    """The decoder rebuilt as one tf.function with caches as inputs, by TensorFlow's converter in one of its forms:
    `float32`, `dynamic range`, `int8` or `int16x8`, the last two calibrated."""
    import tensorflow as tf

    module = _rebuilt(checkpoint, context)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, {"decode": module.decode.get_concrete_function()})
        tool = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["decode"])
        if form != "float32":
            tool.optimizations = [tf.lite.Optimize.DEFAULT]
        if form in ("int8", "int16x8"):
            tool.representative_dataset = lambda: iter(calibration)
            both = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            # with operators that stay float where they have no int16 form
            wide = [both, tf.lite.OpsSet.TFLITE_BUILTINS]
            tool.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8] if form == "int8" else wide
        return bytes(tool.convert())


def _rebuilt(checkpoint: Checkpoint, context: int) -> Any:
    """A tf.Module whose function `decode` has the inputs and outputs of ours."""
    import tensorflow as tf

    shape = checkpoint.architecture
    weights = {name: tf.constant(weight) for name, weight in checkpoint.weights.items()}
    heads, groups, size = shape.heads, shape.kv_heads, shape.head_dim
    angles = np.arange(context)[:, None] * shape.rope_theta ** (-np.arange(0, size, 2) / size)
    cos, sin = (tf.constant(table.astype(np.float32)) for table in (np.cos(angles), np.sin(angles)))
    names = [f"{side}_{layer}" for side in "kv" for layer in range(shape.layers)]

    def norm(x: Any, name: str) -> Any:
        scale = tf.math.rsqrt(tf.reduce_mean(x * x, axis=-1, keepdims=True) + shape.norm_eps)
        return x * scale * weights[name]

    def project(x: Any, name: str) -> Any:
        return tf.matmul(x, weights[name], transpose_b=True)

    def rotate(x: Any, c: Any, s: Any) -> Any:
        first, second = tf.split(x, 2, axis=-1)
        return tf.concat([first * c - second * s, second * c + first * s], axis=-1)

    def attend(x: Any, layer: int, cache: Mapping[str, Any], turn: tuple[Any, Any], mask: Any) -> tuple[Any, Any, Any]:
        q = rotate(tf.reshape(project(x, f"{layer}.q"), [heads, size]), *turn)
        k = rotate(tf.reshape(project(x, f"{layer}.k"), [groups, size]), *turn)
        v = tf.reshape(project(x, f"{layer}.v"), [groups, size])
        q = tf.reshape(q, [groups, heads // groups, size]) * np.float32(size**-0.5)
        keys = tf.concat([tf.reshape(cache[f"k_{layer}"], [groups, context, size]), k[:, None]], axis=1)
        values = tf.concat([tf.reshape(cache[f"v_{layer}"], [groups, context, size]), v[:, None]], axis=1)
        p = tf.nn.softmax(tf.matmul(q, keys, transpose_b=True) + mask)
        mixed = tf.reshape(tf.matmul(p, values), [1, heads * size])
        return project(mixed, f"{layer}.o"), k, v

    class Model(tf.Module):  # type: ignore[misc]
        @tf.function(  # type: ignore[misc]
            input_signature=[
                tf.TensorSpec([1], tf.int32, name="token"),
                tf.TensorSpec([1], tf.int32, name="position"),
                [tf.TensorSpec([groups * context * size], tf.float32, name=name) for name in names],
            ]
        )
        def decode(self, token: Any, position: Any, caches: Any) -> Any:
            cache = dict(zip(names, caches, strict=True))
            turn = tf.gather(cos, position), tf.gather(sin, position)
            seen = tf.constant(np.arange(context, dtype=np.int32)) < position
            mask = tf.concat([tf.where(seen, 0.0, MASKED), [0.0]], axis=0)
            x, outputs = tf.gather(weights["embedding"], token), {}
            for layer in range(shape.layers):
                mixed, k, v = attend(norm(x, f"{layer}.attention_norm"), layer, cache, turn, mask)
                outputs[f"k_new_{layer}"], outputs[f"v_new_{layer}"] = tf.reshape(k, [-1]), tf.reshape(v, [-1])
                x = x + mixed
                h = norm(x, f"{layer}.ffn_norm")
                gate = project(h, f"{layer}.gate")
                x = x + project(gate * tf.sigmoid(gate) * project(h, f"{layer}.up"), f"{layer}.down")
            head = "head" if "head" in weights else "embedding"
            outputs["logits"] = tf.reshape(project(norm(x, "final_norm"), head), [-1])
            return outputs

    return Model()
