"""Where a token's instructions and weight bytes go: call by call, counted by an emulator.

The emulator tells when the kernel of each call is entered; what is executed until the next one is the call's. So the
image is the very one that is measured otherwise, and the parts add up to the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edge.measure.record import Part, Profile, Record
from edge.run.plain import PlainRunning
from edge.run.target import Running, parse
from firmware_tools import costs, emulators, fuse, lower, ops
from firmware_tools.bfp_program import for_board
from firmware_tools.boards import Board
from firmware_tools.build import Image
from firmware_tools.compile import headings
from firmware_tools.errors import UserError
from firmware_tools.graph import Graph
from firmware_tools.link import Link
from firmware_tools.ops import Array
from firmware_tools.program import DecoderProgram, Program

STEP, INVOKE, END = "edge_step", "edge_invoke", "port_gate"  # entered before a step's first call, and after its last
FIRST = "embedding"  # the heading of what comes before the first layer


def profile_of(running: Running, record: Record) -> Profile:
    """Where the token goes that the record measured; UserError where the target is no emulated board."""
    place = parse(running.target)
    if running.image is None or place.board is None or place.emulator is None or record.decode.position is None:
        raise _cannot_tell(running.target)
    return profile(running.model, running.image, place.board, place.emulator, record.decode.position)


def profile(model: Graph, image: Image, board: Board, emulator: str, position: int) -> Profile:
    """The parts of one decode step at a cache position, of an image of the model on an emulated board.

    Raises UserError where the emulator cannot count, MissingTool where it is not installed.
    """
    program = for_board(fuse.program(model, image.facts.context), board)
    if not 0 <= position < program.context:
        raise UserError(f"position {position} is not in the cache, which holds 0 to {program.context - 1}")
    kernels = [ops.load(call.op).kernel(call, board.features) for call in program.calls]
    ids = [int(i) for i in np.random.default_rng(0).integers(program.vocab_size, size=position + 1)]

    def request(link: Link) -> None:
        if position:
            link.prefill(ids[:position])
        link.forward(ids[position], position)

    passes = emulators.load(emulator).trace(image, {STEP, END, *kernels}, request)
    parts = tuple(_parts(program, board, kernels, _last_step(passes)))
    return Profile(position, parts, costs.predict(program, board, position))


def profile_of_plain(running: PlainRunning, signature: str | None, inputs: Sequence[Array]) -> Profile:
    """The same of an inference of a plain model, operator by operator."""
    place = parse(running.target)
    if running.image is None or place.board is None or place.emulator is None:
        raise _cannot_tell(running.target)
    program, board = lower.program(running.model, signature), place.board
    kernels = [ops.load(call.op).kernel(call, board.features) for call in program.calls]
    data = b"".join(array.tobytes() for array in inputs)
    passes = emulators.load(place.emulator).trace(
        running.image, {INVOKE, END, *kernels}, lambda link: link.invoke(data)
    )
    step = _last_step(passes, INVOKE)
    starts = _starts(step, kernels)
    costs_ = [step[0][1], *starts[1:], step[-1][1]]
    parts = [
        Part(
            op=call.op,
            shape="→".join(_size(program, values) for values in (call.inputs, call.outputs)),
            layer=f"operator {program.operators[index]}",
            instructions=costs_[index + 1] - costs_[index],
            weight_bytes=ops.weight_bytes(call, board.features),
        )
        for index, call in enumerate(program.calls)
    ]
    return Profile(None, tuple(parts), costs.predict(program, board))


def _starts(step: Sequence[tuple[str, int]], kernels: Sequence[str]) -> list[int]:
    """The count at which each call's kernel was entered; kernels may call one another."""
    starts: list[int] = []
    for name, count in step[1:-1]:
        if len(starts) < len(kernels) and name == kernels[len(starts)]:
            starts.append(count)
    if len(starts) != len(kernels):
        missing = kernels[len(starts)]
        raise UserError(f"where the time goes cannot be told: {missing} was not entered", "leave --profile out")
    return starts


def _size(program: Program, values: Sequence[int]) -> str:
    return str(max((program.values[value].size for value in values), default=1))


def _cannot_tell(target: str) -> UserError:
    return UserError(
        f"where the time goes on {target} cannot be told call by call",
        "--profile is for emulated boards, as --on virtual-m4",
    )


def _last_step(passes: Sequence[tuple[str, int]], first: str = STEP) -> list[tuple[str, int]]:
    """From where the last step begins to where it ends."""
    names = [name for name, _ in passes]
    end = len(names) - 1 - names[::-1].index(END)
    start = end - 1 - names[end - 1 :: -1].index(first)
    return list(passes[start : end + 1])


def _parts(
    program: DecoderProgram, board: Board, kernels: Sequence[str], step: Sequence[tuple[str, int]]
) -> Iterable[Part]:
    """A part for each call; what comes before the first kernel is the first call's."""
    entered = [name for name, _ in step[1:-1]]
    if entered != list(kernels):
        raise AssertionError(f"the step entered {entered}, not {list(kernels)}")
    counts = [step[0][1], *(count for _, count in step[2:])]
    starts, heading = headings(program), FIRST
    for index, call in enumerate(program.calls):
        heading = starts.get(index, heading)
        instructions = counts[index + 1] - counts[index]
        yield Part(call.op, _shape(program, index), heading, instructions, ops.weight_bytes(call, board.features))


def _shape(program: DecoderProgram, index: int) -> str:
    """Elements in and out, as 64→172."""
    call = program.calls[index]
    sizes = [max((program.values[v].size for v in side), default=1) for side in (call.inputs, call.outputs)]
    return "→".join(map(str, sizes))
