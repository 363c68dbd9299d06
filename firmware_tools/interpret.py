"""The numpy model of the device: a Program run with the ops' references, equal bit for bit to the compiled firmware."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firmware_tools import ops
from firmware_tools.ops import Array, Run
from firmware_tools.program import DecoderProgram


def start(program: DecoderProgram) -> Run:
    """The state before the first token: an empty KV cache."""
    return Run(context=program.context)


def step(program: DecoderProgram, run: Run, token: int, position: int) -> NDArray[np.float32]:
    """Computes one token and returns its logits, float32 [vocab_size].

    Positions below `position` must have been computed on this run; going back to one of them forgets
    what lay behind it. ValueError for a token or position that the model does not have.
    """
    if not (0 <= token < program.vocab_size and 0 <= position < program.context):
        has = f"the model has {program.vocab_size} tokens and {program.context} positions"
        raise ValueError(f"token {token} at position {position}: {has}")
    run.token, run.position = token, position
    values: dict[int, Array] = {}
    with np.errstate(over="ignore", invalid="ignore"):  # the device has no opinion on a model that overflows either
        for call in program.calls:
            outputs = ops.load(call.op).reference(call, tuple(values[i] for i in call.inputs), run)
            values.update(zip(call.outputs, outputs, strict=True))
    logits: NDArray[np.float32] = values[program.logits]
    return logits
