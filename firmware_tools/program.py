"""A model as the device computes it: calls of ops in order, and the values between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from firmware_tools.ops import Call


@dataclass(frozen=True)
class Value:
    """What a call leaves for others: an array of numpy's type `dtype`; of a decoder's, one row for each token."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements of a row."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of a row."""
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Program:
    """Calls in an order in which they can be computed.

    inputs are the values that come from outside, outputs those that live to the end. Calls from number `head` on are of
    the last row alone: where several tokens are computed at once, nobody asks for the others' logits.
    """

    calls: tuple[Call, ...]
    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    head: int

    def first_calls(self) -> tuple[int, ...]:
        """The call that computes each value; -1 for an input."""
        first = [-1] * len(self.values)
        for index in reversed(range(len(self.calls))):
            for value in self.calls[index].outputs:
                first[value] = index
        return tuple(-1 if value in self.inputs else first[value] for value in range(len(first)))


@dataclass(frozen=True)
class DecoderProgram(Program):
    """A language model for a token's step: its output is the logits, and the calls from `head` on serve these alone."""

    vocab_size: int
    context: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int

    @property
    def logits(self) -> int:
        """The value that holds them."""
        return self.outputs[0]
