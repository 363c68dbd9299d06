"""Where a token's instructions and weight bytes go: call by call, counted by an emulator.

The emulator tells when the kernel of each call is entered; what is executed until the next one is the call's. So the
image is the very one that is measured otherwise, and the parts add up to the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edge.measure.record import Part, Profile, Record
from edge.run.target import Running, parse
from firmware_tools import costs, emulators, fuse, ops
from firmware_tools.boards import Board
from firmware_tools.build import Image
from firmware_tools.compile import headings
from firmware_tools.errors import UserError
from firmware_tools.graph import Graph
from firmware_tools.link import Link
from firmware_tools.program import DecoderProgram

STEP, END = "edge_step", "port_gate"  # entered before the first call of a step, and after the last
FIRST = "embedding"  # the heading of what comes before the first layer


def profile_of(running: Running, record: Record) -> Profile:
    """Where the token goes that the record measured; UserError where the target is no emulated board."""
    place = parse(running.target)
    if running.image is None or place.board is None or place.emulator is None or record.decode.position is None:
        raise UserError(
            f"where the time goes on {running.target} cannot be told call by call",
            "--profile is for emulated boards, as --on virtual-m4",
        )
    return profile(running.model, running.image, place.board, place.emulator, record.decode.position)


def profile(model: Graph, image: Image, board: Board, emulator: str, position: int) -> Profile:
    """The parts of one decode step at a cache position, of an image of the model on an emulated board.

    Raises UserError where the emulator cannot count, MissingTool where it is not installed.
    """
    program = fuse.program(model, image.facts.context)
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


def _last_step(passes: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """From where the last step begins to where it ends."""
    names = [name for name, _ in passes]
    end = len(names) - 1 - names[::-1].index(END)
    start = end - 1 - names[end - 1 :: -1].index(STEP)
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
