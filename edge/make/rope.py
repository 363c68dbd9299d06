"""RoPE's tables: the angles of every position, scaled where a model was trained so (Architecture.rope_scaling)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge.make.checkpoints import Architecture, RopeScaling


def tables(shape: Architecture, context: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """cos and sin of position * frequency, float32 [context, head_dim / 2] (Su et al., 2021, eq. 15)."""
    angles = np.arange(context)[:, None] * frequencies(shape)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def frequencies(shape: Architecture) -> NDArray[np.float64]:
    """Angle by position of each pair of a head, in radians."""
    plain = shape.rope_theta ** (-np.arange(0, shape.head_dim, 2) / shape.head_dim)
    scaling = shape.rope_scaling
    if scaling is None:
        return plain
    slowed: NDArray[np.float64] = plain / scaling.factor
    kept = {"linear": _none, "llama3": _by_turns, "yarn": _by_pairs}[scaling.kind](shape, scaling, plain)
    return kept * plain + (1 - kept) * slowed


def _none(shape: Architecture, scaling: RopeScaling, plain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Position interpolation (Chen et al., 2023): every frequency is divided."""
    return np.zeros_like(plain)


def _by_turns(shape: Architecture, scaling: RopeScaling, plain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Llama 3.1: how much of each frequency is kept, linear in its turns within the original context."""
    turns = scaling.original_context * plain / (2 * math.pi)
    return np.clip((turns - scaling.low) / (scaling.high - scaling.low), 0.0, 1.0)


def _by_pairs(shape: Architecture, scaling: RopeScaling, plain: NDArray[np.float64]) -> NDArray[np.float64]:
    """YaRN (Peng et al., 2023): linear in the pair's number, between the pairs that make `high` and `low` turns."""

    def pair(turns: float) -> float:
        full = math.log(scaling.original_context / (2 * math.pi * turns)) / math.log(shape.rope_theta)
        return full * shape.head_dim / 2

    first = max(math.floor(pair(scaling.high)), 0)
    last = min(math.ceil(pair(scaling.low)), shape.head_dim - 1)
    return np.clip((last - np.arange(plain.size)) / max(last - first, 0.001), 0.0, 1.0)
