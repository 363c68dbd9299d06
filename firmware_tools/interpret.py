"""The numpy model of the device: a Program run with the ops' references, equal bit for bit to the compiled firmware."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from firmware_tools import ops
from firmware_tools.ops import Array, Run
from firmware_tools.program import DecoderProgram, PlainProgram, UnfusedProgram


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
    if isinstance(program, UnfusedProgram):
        return _unfused_step(program, run, token, position)
    values: dict[int, Array] = {}
    with np.errstate(over="ignore", invalid="ignore"):  # the device has no opinion on a model that overflows either
        for call in program.calls:
            outputs = ops.load(call.op).reference(call, tuple(values[i] for i in call.inputs), run)
            values.update(zip(call.outputs, outputs, strict=True))
    logits: NDArray[np.float32] = values[program.logits]
    return logits


def _unfused_step(program: UnfusedProgram, run: Run, token: int, position: int) -> NDArray[np.float32]:
    """The same of a model in plain ops, whose caches lie in the run under the number of the layer."""
    size = (program.kv_heads, program.context, program.head_dim)
    if position == 0:
        run.caches = {0: {str(cache): np.zeros(size, np.float32) for cache, _ in program.caches}}
    values: dict[int, Array] = {int(name): array.reshape(-1) for name, array in run.caches[0].items()}
    values |= {program.inputs[0]: np.array([token], np.int32), program.inputs[1]: np.array([position], np.int32)}
    _compute(program, values, run)
    for cache, row in program.caches:
        run.caches[0][str(cache)][:, position] = values[row].reshape(program.kv_heads, program.head_dim)
    logits: NDArray[np.float32] = values[program.logits].reshape(-1)
    return logits


def _compute(program: PlainProgram | UnfusedProgram, values: dict[int, Array], run: Run) -> None:
    """Adds what every call computes to values, each operand in the shape that the call sees."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for call, shapes in zip(program.calls, program.shapes, strict=True):
            taken = tuple(values[i].reshape(shape) for i, shape in zip(call.inputs, shapes, strict=True))
            outputs = ops.load(call.op).reference(call, taken, run)
            values.update(zip(call.outputs, outputs, strict=True))


class Plain:
    """A plain model and what it keeps from one inference to the next; `reset` forgets that."""

    def __init__(self, program: PlainProgram) -> None:
        self.program = program
        self.reset()

    def reset(self) -> None:
        values, self.run = self.program.values, Run()
        self.kept = {
            value: np.frombuffer(bytes([byte]) * values[value].size_bytes, values[value].dtype).copy()
            for value, byte in self.program.states
        }

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs, in the file's order, for inputs as the file stores them."""
        program = self.program
        values: dict[int, Array] = dict(self.kept)
        for border, array in zip(program.borders_in, inputs, strict=True):
            assert array.dtype == border.dtype and array.shape == border.shape
            values[border.value] = array
        _compute(program, values, self.run)
        self.kept = {value: values[value] for value in self.kept}
        return [values[border.value].reshape(border.shape) for border in program.borders_out]
