"""The blocks of GGUF's Q4_0 and Q4_1 as they are: 32 columns a block, with one scale, and one offset in Q4_1.

https://github.com/ggml-org/ggml, src/ggml-common.h. A block is float16 d (and m), then 16 bytes: byte i holds column i
in its low and column i + 16 in its high half. Q4_0 is d * (q - 8), Q4_1 is d * q + m, q from 0 to 15.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.make.checkpoints import Grid

BLOCK = 32
HALVES = {2: 1, 3: 2}  # the type's number in a file: float16 numbers in front of a block
CENTRE = 8


def grid(raw: NDArray[np.uint8], kind: int) -> Grid:
    """A matrix of a type in HALVES, raw [rows, bytes]."""
    count = HALVES[kind]
    parts = raw.reshape(len(raw), -1, 2 * count + BLOCK // 2)
    numbers = np.ascontiguousarray(parts[..., : 2 * count]).view("<f2").astype(np.float32)
    packed = parts[..., 2 * count :]
    values = np.concatenate([packed & 15, packed >> 4], axis=2).astype(np.int8) - np.int8(CENTRE)
    scales = numbers[..., 0]
    offsets = numbers[..., 1] + CENTRE * scales if count == 2 else np.zeros_like(scales)
    return Grid(values.reshape(len(raw), -1), scales, offsets)
