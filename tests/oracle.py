"""A Llama-family decoder in numpy float64, written from the papers alone: what all others here are held to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make.checkpoints import Checkpoint

Array = NDArray[Any]


class Decoder:
    """Computes one token at a time; keys and values of the positions computed so far are kept."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.shape = checkpoint.architecture
        self.weights = {name: weight.astype(np.float64) for name, weight in checkpoint.weights.items()}
        size = (self.shape.layers, self.shape.context, self.shape.kv_heads, self.shape.head_dim)
        self.keys, self.values = np.zeros(size), np.zeros(size)

    def step(self, token: int, position: int) -> Array:
        """Logits float64 [vocab_size] after token at position; positions below it must have been computed."""
        x = self.weights["embedding"][token]
        for layer in range(self.shape.layers):
            x = x + self._attention(self._norm(x, f"{layer}.attention_norm"), layer, position)
            h = self._norm(x, f"{layer}.ffn_norm")
            gate = self._product(layer, "gate", h)
            x = x + self._product(layer, "down", gate / (1 + np.exp(-gate)) * self._product(layer, "up", h))
        head = self.weights.get("head", self.weights["embedding"])
        logits: Array = head @ self._norm(x, "final_norm")
        return logits

    def _norm(self, x: Array, name: str) -> Array:
        scaled: Array = x / np.sqrt(np.mean(x * x) + self.shape.norm_eps) * self.weights[name]
        return scaled

    def _rotate(self, x: Array, position: int) -> Array:
        """x [heads, D] as D / 2 complex numbers a head, each turned by its angle."""
        half = self.shape.head_dim // 2
        turn = np.exp(1j * position * np.array([self._frequency(pair) for pair in range(half)]))
        turned = (x[:, :half] + 1j * x[:, half:]) * turn
        return np.concatenate([turned.real, turned.imag], axis=1)

    def _frequency(self, pair: int) -> float:
        """Angle by position of one pair, case by case as the papers have it."""
        size, theta, scaling = self.shape.head_dim, self.shape.rope_theta, self.shape.rope_scaling
        plain = theta ** (-2 * pair / size)
        if scaling is None:
            return plain
        original, low, high = scaling.original_context, scaling.low, scaling.high
        if scaling.kind == "linear":
            return plain / scaling.factor
        if scaling.kind == "llama3":
            wavelength = 2 * math.pi / plain
            if wavelength < original / high:
                return plain
            if wavelength > original / low:
                return plain / scaling.factor
            smooth = (original / wavelength - low) / (high - low)
            return (1 - smooth) * plain / scaling.factor + smooth * plain
        corrections = [
            size * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta)) for turns in (high, low)
        ]
        first, last = max(math.floor(corrections[0]), 0), min(math.ceil(corrections[1]), size - 1)
        ramp = min(max((pair - first) / (last - first), 0.0), 1.0)
        return plain / scaling.factor * ramp + plain * (1 - ramp)

    def _product(self, layer: int, name: str, x: Array) -> Array:
        y: Array = self.weights[f"{layer}.{name}"] @ x + self.weights.get(f"{layer}.{name}_bias", 0.0)
        return y

    def _attention(self, x: Array, layer: int, position: int) -> Array:
        q, k, v = (self._product(layer, name, x).reshape(-1, self.shape.head_dim) for name in "qkv")
        self.keys[layer, position] = self._rotate(k, position)
        self.values[layer, position] = v
        shared = self.shape.heads // self.shape.kv_heads
        mixed = []
        for head, query in enumerate(self._rotate(q, position)):
            scores = self.keys[layer, : position + 1, head // shared] @ query / np.sqrt(self.shape.head_dim)
            weights = np.exp(scores - scores.max())
            mixed.append(weights / weights.sum() @ self.values[layer, : position + 1, head // shared])
        return self._product(layer, "o", np.concatenate(mixed))


def log_softmax(logits: Array) -> Array:
    """Log-probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def divergence(truth: Array, logits: Array) -> float:
    """Mean over rows of KL(truth || logits), both logits [rows, vocab_size]; nats per token."""
    p, q = log_softmax(truth), log_softmax(logits)
    return float((np.exp(p) * (p - q)).sum(axis=-1).mean())


def sample(checkpoint: Checkpoint, count: int, seed: int, start: int = 1) -> tuple[list[int], Array]:
    """count tokens sampled from the float model after start, and its logits [count, vocab_size] for each."""
    decoder, random = Decoder(checkpoint), np.random.default_rng(seed)
    tokens, rows = [start], []
    for position in range(count):
        rows.append(decoder.step(tokens[-1], position))
        tokens.append(int(random.choice(rows[-1].size, p=np.exp(log_softmax(rows[-1])))))
    return tokens[:-1], np.array(rows)
