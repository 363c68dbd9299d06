"""The decoder as Keras layers: RMSNorm, RoPE on half-split pairs, grouped-query attention, SwiGLU, tied head.

It computes what `edge.make.checkpoints` describes; `weights` hands it over in that form. Training input is a prompt,
padded on its left, and an answer, padded on its right: answers then begin in one column, and only their logits are
computed. (RoPE depends on distances alone, so a shift by the padding changes nothing.)
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.make.checkpoints import Architecture, Checkpoint

MASKED = -1e9
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


class RMSNorm(keras.layers.Layer):  # type: ignore[misc]
    """x / rms(x) * gain (Zhang and Sennrich 2019)."""

    def __init__(self, epsilon: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(name="gain", shape=(shape[-1],), initializer="ones")

    def call(self, x: Any) -> Any:
        return x * tf.math.rsqrt(tf.reduce_mean(x * x, axis=-1, keepdims=True) + self.epsilon) * self.gain


def rotate(x: Any, theta: float) -> Any:
    """RoPE (Su et al. 2021) of x [batch, heads, time, D]: pair (i, i + D/2) turned by position * theta ** (-2i/D)."""
    half = x.shape[-1] // 2
    rates = theta ** (-np.arange(half, dtype=np.float32) / half)
    angles = tf.cast(tf.range(tf.shape(x)[2]), tf.float32)[:, None] * rates
    cos, sin = tf.cos(angles), tf.sin(angles)
    a, b = x[..., :half], x[..., half:]
    return tf.concat([a * cos - b * sin, a * sin + b * cos], axis=-1)


class Block(keras.layers.Layer):  # type: ignore[misc]
    """One layer: x + attention(norm(x)), then x + swiglu(norm(x))."""

    def __init__(self, shape: Architecture, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape = shape

        def dense(units: int) -> Any:
            return keras.layers.Dense(units, use_bias=False, kernel_initializer="lecun_normal")

        self.attention_norm, self.ffn_norm = RMSNorm(shape.norm_eps), RMSNorm(shape.norm_eps)
        self.q, self.o = dense(shape.heads * shape.head_dim), dense(shape.dim)
        self.k, self.v = dense(shape.kv_heads * shape.head_dim), dense(shape.kv_heads * shape.head_dim)
        self.gate, self.up, self.down = dense(shape.hidden_dim), dense(shape.hidden_dim), dense(shape.dim)
        self.dropout = keras.layers.Dropout(dropout)

    def call(self, x: Any, mask: Any, training: bool = False) -> Any:
        x = x + self.dropout(self._attention(self.attention_norm(x), mask), training=training)
        h = self.ffn_norm(x)
        return x + self.dropout(self.down(tf.nn.silu(self.gate(h)) * self.up(h)), training=training)

    def _attention(self, x: Any, mask: Any) -> Any:
        size, batch, time = self.shape, tf.shape(x)[0], tf.shape(x)[1]

        def split(y: Any, heads: int) -> Any:
            return tf.transpose(tf.reshape(y, (batch, time, heads, size.head_dim)), (0, 2, 1, 3))

        shared = size.heads // size.kv_heads
        q = rotate(split(self.q(x), size.heads), size.rope_theta)
        k = tf.repeat(rotate(split(self.k(x), size.kv_heads), size.rope_theta), shared, axis=1)
        v = tf.repeat(split(self.v(x), size.kv_heads), shared, axis=1)
        scores = tf.matmul(q, k, transpose_b=True) * size.head_dim**-0.5 + mask
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), v), (0, 2, 1, 3))
        return self.o(tf.reshape(mixed, (batch, time, size.heads * size.head_dim)))


class Network(keras.Model):  # type: ignore[misc]
    """(prompt [B, P], begins [B], answer [B, A]), all int32, to logits [B, A, vocab_size].

    begins is each prompt's first column that is no padding; the logits of column i are those of the answer's token i.
    """

    def __init__(self, shape: Architecture, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        start = keras.initializers.RandomNormal(stddev=0.05)
        self.embedding = keras.layers.Embedding(shape.vocab_size, shape.dim, embeddings_initializer=start)
        self.blocks = [Block(shape, dropout) for _ in range(shape.layers)]
        self.final_norm = RMSNorm(shape.norm_eps)
        self.dropout = keras.layers.Dropout(dropout)

    def call(self, inputs: Any, training: bool = False) -> Any:
        prompt, begins, answer = inputs
        tokens = tf.concat([prompt, answer[:, :-1]], axis=1)
        column = tf.range(tf.shape(tokens)[1])
        seen = (column[None, :] <= column[:, None])[None] & (column[None, None, :] >= begins[:, None, None])
        mask = tf.where(seen, 0.0, MASKED)[:, None]
        x = self.dropout(self.embedding(tokens), training=training)
        for block in self.blocks:
            x = block(x, mask, training=training)
        x = self.final_norm(x[:, tf.shape(prompt)[1] - 1 :])
        return tf.matmul(x, self.embedding.embeddings, transpose_b=True)


def weights(network: Network) -> dict[str, NDArray[np.float32]]:
    """The weights by their names in a Checkpoint, [out, in]."""
    named: dict[str, Any] = {"embedding": network.embedding.embeddings, "final_norm": network.final_norm.gain}
    for index, block in enumerate(network.blocks):
        named[f"{index}.attention_norm"], named[f"{index}.ffn_norm"] = block.attention_norm.gain, block.ffn_norm.gain
    result = {name: np.asarray(value, np.float32) for name, value in named.items()}
    for index, block in enumerate(network.blocks):
        for name in MATRICES:
            kernel = np.asarray(getattr(block, name).kernel, np.float32)
            result[f"{index}.{name}"] = np.ascontiguousarray(kernel.T)
    return result


def restore(checkpoint: Checkpoint) -> Network:
    """The network of a checkpoint whose head is tied to its embedding."""
    network = Network(checkpoint.architecture)
    network((tf.ones([1, 1], tf.int32), tf.zeros([1], tf.int32), tf.ones([1, 1], tf.int32)))
    network.embedding.embeddings.assign(checkpoint.weights["embedding"])
    network.final_norm.gain.assign(checkpoint.weights["final_norm"])
    for index, block in enumerate(network.blocks):
        block.attention_norm.gain.assign(checkpoint.weights[f"{index}.attention_norm"])
        block.ffn_norm.gain.assign(checkpoint.weights[f"{index}.ffn_norm"])
        for name in MATRICES:
            getattr(block, name).kernel.assign(checkpoint.weights[f"{index}.{name}"].T)
    return network
