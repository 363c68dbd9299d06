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

    @property
    def kept(self) -> tuple[int, ...]:
        """Values that live from one run to the next, outside the arena."""
        return ()

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


@dataclass(frozen=True)
class Border:
    """An input or output of a plain model: value number `value` of the program, as its user sees it.

    real = scale * (stored - zero_point) where scale is not None; shape is the tensor's own.
    """

    name: str
    value: int
    dtype: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class PlainProgram(Program):
    """Any other model, computed once for each set of inputs.

    states: values that live from one inference to the next, each with the byte that fills it at the start. shapes: of
    each call's inputs, as the tensors have them (a value may be seen in several shapes). operators: the operator of the
    file that each call came from.
    """

    borders_in: tuple[Border, ...]
    borders_out: tuple[Border, ...]
    states: tuple[tuple[int, int], ...]
    shapes: tuple[tuple[tuple[int, ...], ...], ...]
    operators: tuple[int, ...]

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(value for value, _ in self.states)


@dataclass(frozen=True)
class UnfusedProgram(DecoderProgram):
    """A language model whose parts nobody recognised: its step is calls of plain ops, for one token.

    inputs are the token and the position, int32; outputs the logits and the new rows. caches: each cache, which is
    kept, as float32 [kv_heads, context, head_dim], with the new row that goes into it after the step. shapes: as those
    of a PlainProgram.
    """

    caches: tuple[tuple[int, int], ...]
    shapes: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(cache for cache, _ in self.caches)
