"""The float model over whole texts, in numpy: what calibration, sensitivity and reports look into.

One pass computes every position of a batch of texts at once and shows each activation to an observer. It computes what
the graph of decoder.py does, but for the order of sums. Shapes: B texts, T tokens, S tokens with those of a cache
before them (T where there is none), H query heads, G key-value heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make import rope as rope_angles
from edge.make.checkpoints import Architecture

Array = NDArray[np.float32]
Observe = Callable[[str, Array], None]
Weights = Mapping[str, NDArray[np.float32]]
Cache = dict[str, Array]  # `i.k` (after RoPE) and `i.v` [B, G, S, D] of each layer i; empty at first

# matrix of the file -> the activation that it multiplies, both of a layer
INPUT_OF = {"qkv": "attention_norm", "o": "mix", "gate_up": "ffn_norm", "down": "swiglu"}


def forward(
    shape: Architecture,
    weights: Weights,
    ids: NDArray[Any],
    observe: Observe | None = None,
    cache: Cache | None = None,
) -> Array:
    """Logits float32 [B, T, V] of the tokens ids, integers [B, T]; a cache has what came before, and grows by them.

    observe(name, activation) is called for each activation as it is computed: `embedding`, of each layer i
    `i.attention_norm`, `i.q`, `i.k`, `i.v` (before RoPE), `i.q_rope`, `i.k_rope`, `i.scores` (scaled; -inf where a
    token does not look), `i.probabilities`, `i.mix`, `i.o`, `i.attention_residual`, `i.ffn_norm`, `i.gate`, `i.up`,
    `i.sigmoid`, `i.swiglu`, `i.down`, `i.ffn_residual`, at last `final_norm` and `logits`. Rows are [B, T, size],
    heads [B, heads, T, D], scores and probabilities [B, H, T, S].
    """
    see = observe or unseen
    x = embed(weights, ids)
    see("embedding", x)
    for index in range(shape.layers):
        x = layer(shape, weights, index, x, see, {} if cache is None else cache)
    return head(shape, weights, x, see)


def unseen(name: str, activation: Array) -> None:
    """Observes nothing."""


def embed(weights: Weights, ids: NDArray[Any]) -> Array:
    """Rows of the embedding, [B, T, dim]."""
    return np.asarray(weights["embedding"][ids], np.float32)


def head(shape: Architecture, weights: Weights, x: Array, see: Observe) -> Array:
    """Logits [B, T, V] of the last layer's x [B, T, dim]."""
    x = rms_norm(x, weights["final_norm"], shape.norm_eps)
    see("final_norm", x)
    logits = x @ weights["head" if "head" in weights else "embedding"].T
    see("logits", logits)
    return logits


def layer(
    shape: Architecture, weights: Weights, index: int, x: Array, observe: Observe = unseen, cache: Cache | None = None
) -> Array:
    """One layer over x [B, T, dim]."""
    return feed_forward(shape, weights, index, attention(shape, weights, index, x, observe, cache), observe)


def attention(
    shape: Architecture, weights: Weights, index: int, x: Array, observe: Observe = unseen, cache: Cache | None = None
) -> Array:
    """The first half of a layer, added to the residual stream x."""

    def step(name: str, activation: Array) -> Array:
        observe(f"{index}.{name}", activation)
        return activation

    def heads(name: str, rows: Array) -> Array:
        return step(name, _to_heads(product(weights, f"{index}.{name}", rows), shape.head_dim))

    normed = step("attention_norm", rms_norm(x, weights[f"{index}.attention_norm"], shape.norm_eps))
    q, k, v = (heads(name, normed) for name in "qkv")
    past = None if cache is None else cache.get(f"{index}.k")
    tables = _tables(shape, 0 if past is None else past.shape[2], x.shape[1])
    q, k = step("q_rope", rope(q, *tables)), step("k_rope", rope(k, *tables))
    if cache is not None:
        k, v = (_appended(cache, f"{index}.{name}", rows) for name, rows in (("k", k), ("v", v)))
    mix = step("mix", _attend(shape, q, k, v, step))
    return step("attention_residual", x + step("o", product(weights, f"{index}.o", mix)))


def feed_forward(shape: Architecture, weights: Weights, index: int, x: Array, observe: Observe = unseen) -> Array:
    """The second half of a layer, added to the residual stream x."""

    def step(name: str, activation: Array) -> Array:
        observe(f"{index}.{name}", activation)
        return activation

    def project(name: str, rows: Array) -> Array:
        return step(name, product(weights, f"{index}.{name}", rows))

    normed = step("ffn_norm", rms_norm(x, weights[f"{index}.ffn_norm"], shape.norm_eps))
    gate, up = project("gate", normed), project("up", normed)
    sigmoid = step("sigmoid", np.reciprocal(1 + np.exp(-np.clip(gate, -80, 80))))
    return step("ffn_residual", x + project("down", step("swiglu", gate * sigmoid * up)))


def product(weights: Weights, key: str, rows: Array) -> Array:
    """rows times a layer's matrix, with its bias where it has one."""
    y = rows @ weights[key].T
    return y + weights[f"{key}_bias"] if f"{key}_bias" in weights else y


def _appended(cache: Cache, name: str, rows: Array) -> Array:
    """All rows [B, G, S, D] of a cache, with these behind the others."""
    cache[name] = np.concatenate([cache[name], rows], axis=2) if name in cache else rows
    return cache[name]


def _tables(shape: Architecture, position: int, count: int) -> tuple[Array, Array]:
    cos, sin = rope_angles.tables(shape, position + count)
    return cos[position:], sin[position:]


def rms_norm(x: Array, gain: Array, epsilon: float) -> Array:
    """x / sqrt(mean(x^2) + epsilon) * gain, by rows."""
    mean = np.mean(np.square(x), axis=-1, keepdims=True)
    return np.asarray(x / np.sqrt(mean + np.float32(epsilon)) * gain, np.float32)


def rope(x: Array, cos: Array, sin: Array) -> Array:
    """x [B, heads, T, D] with the pairs (i, i + D / 2) turned by the angles of their positions."""
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _to_heads(rows: Array, head_dim: int) -> Array:
    """[B, T, heads * D] -> [B, heads, T, D]."""
    batch, count, _ = rows.shape
    return rows.reshape(batch, count, -1, head_dim).transpose(0, 2, 1, 3)


def _attend(shape: Architecture, q: Array, k: Array, v: Array, step: Callable[[str, Array], Array]) -> Array:
    """Causal softmax attention of q [B, H, T, D] over k, v [B, G, S, D]: [B, T, H * D]."""
    batch, _, count, _ = q.shape
    total = k.shape[2]
    k, v = (np.repeat(rows, shape.heads // shape.kv_heads, axis=1) for rows in (k, v))
    scores = q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(shape.head_dim))
    visible = np.tri(count, total, total - count, dtype=bool)
    scores = step("scores", np.where(visible, scores, np.float32(-np.inf)))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = step("probabilities", weights / weights.sum(axis=-1, keepdims=True)) @ v
    return np.ascontiguousarray(mixed.transpose(0, 2, 1, 3).reshape(batch, count, -1))


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Log-probabilities along the last axis, in nats."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def divergence(truth: NDArray[Any], logits: NDArray[Any]) -> float:
    """Mean KL(truth || logits) over all rows of logits [..., V], in nats a token."""
    p, q = log_softmax(truth), log_softmax(logits)
    return float((np.exp(p) * (p - q)).sum(axis=-1).mean())
