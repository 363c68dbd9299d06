"""Program -> model.c of a plain model: `edge_invoke`, one call of a kernel for each operator, and the facts.

It keeps no memory: arena and state are its caller's (runtime/plain/plain.h), in firmware those of memory.c.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from firmware_tools import ops
from firmware_tools.boards import Board
from firmware_tools.c_text import C_TYPES, Constants, c_string, plain_name, weights_c, weights_h
from firmware_tools.graph import Graph, Subgraph
from firmware_tools.lower import entry, not_supported, program, refusal
from firmware_tools.ops import Unsupported
from firmware_tools.plan import ALIGNMENT_BYTES, Plan, plan
from firmware_tools.program import Border, PlainProgram, UnfusedProgram

MANY_CALLS = 64  # with more, what calls are given as constants is kept out of the stack
LITERAL = re.compile(r"&\((?:const )?(\w+)\)\{")
MOST_INFO_BYTES = 800  # of the facts in HELLO, which has room for 1,024; longer ones go without the borders
OTHER_NAMES = dict.fromkeys(("count", "workspace", "cache"), "0")  # of a statement, beside its operands and constants


@dataclass(frozen=True)
class LoweredPlain:
    """A plain model on its way into C: everything is decided, nothing is written."""

    program: PlainProgram
    memory: Plan
    constants: Constants
    statements: tuple[str, ...]

    @property
    def input_bytes(self) -> int:
        """What all inputs take, one after the other."""
        return sum(border.size_bytes for border in self.program.borders_in)

    @property
    def used(self) -> list[str]:
        """The ops whose kernels are called."""
        return sorted({name for call in self.program.calls for name in ops.used(call)})


def lower(graph: Graph, board: Board, signature: str | None = None) -> LoweredPlain:
    """Decides kernels, constants and memory; UserError where an operator is not supported."""
    plain, constants = program(graph, signature), Constants()
    _check(plain, entry(graph, signature).subgraph, board)
    memory = plan(plain, board.features)
    return LoweredPlain(plain, memory, constants, statements(plain, memory, board, constants))


def _check(plain: PlainProgram, subgraph: Subgraph, board: Board) -> None:
    """UserError for what a kernel of this core cannot do with an operator's numbers, which its op finds out here."""
    for call, number in zip(plain.calls, plain.operators, strict=True):
        most = max(9, len(call.inputs), len(call.outputs))
        names = {f"{side}{i}{end}": "0" for side in ("in", "out") for i in range(most) for end in ("", "_count")}
        try:
            arrays = ops.layout(call, board.features)
            ops.workspace_bytes(call, board.features)
            ops.load(call.op).statement(call, board.features, {**names, **OTHER_NAMES, **dict.fromkeys(arrays, "0")})
        except Unsupported as error:
            raise not_supported([refusal(subgraph, number, error)]) from None


def unfused_step(decoder: UnfusedProgram, memory: Plan, board: Board, constants: Constants) -> str:
    """edge_step of a language model in plain ops: one token, whose rows then go into the caches."""
    token, position = (memory.offsets_bytes[value] for value in decoder.inputs)
    head_bytes = 4 * decoder.head_dim
    rows = "\n".join(
        f"        __builtin_memcpy(kv_cache + {memory.offsets_bytes[cache]} + at, "
        f"arena + {memory.offsets_bytes[row]} + head * {head_bytes}, {head_bytes});"
        for cache, row in decoder.caches
    )
    body = "\n".join(statements(decoder, memory, board, constants, "kv_cache"))
    return f"""void edge_step(uint8_t *arena, uint8_t *kv_cache, const uint32_t *tokens, uint32_t count,
               uint32_t position, int want_logits) {{
    (void)count, (void)want_logits; /* one token at a time, and always with logits */
    /* rows that are not computed yet are masked, but must be finite */
    for (size_t i = 0; position == 0 && i < {memory.cache_bytes}; i++) kv_cache[i] = 0;
    __builtin_memcpy(arena + {token}, tokens, 4);
    __builtin_memcpy(arena + {position}, &position, 4);

{body}

    for (uint32_t head = 0; head < {decoder.kv_heads}; head++) {{
        const uint32_t at = (head * {decoder.context} + position) * {head_bytes};
{rows}
    }}
}}
"""


def files(graph: Graph, lowered: LoweredPlain, sizes: Mapping[str, Any]) -> dict[str, str]:
    """The generated files by name; sizes: what HELLO tells of memory."""
    return {
        "model.c": _model_c(graph, lowered, sizes),
        "memory.c": _memory_c(lowered),
        "weights.c": weights_c(lowered.constants),
        "weights.h": weights_h(lowered.constants),
    }


def _model_c(graph: Graph, lowered: LoweredPlain, sizes: Mapping[str, Any]) -> str:
    headers = "\n".join(f'#include "{op}.h"' for op in lowered.used)
    body = "\n".join(lowered.statements)
    unused = "".join(f"    (void){name};\n" for name in ("arena", "state") if name not in body)
    return f"""/* One inference. Generated; the headers of the ops explain each call.
 * SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "plain.h"
#include "weights.h"

{headers}

{_facts(graph, lowered, sizes)}
void edge_invoke(uint8_t *arena, uint8_t *state) {{
{unused}{body}
}}

{_forget(lowered)}"""


def _facts(graph: Graph, lowered: LoweredPlain, sizes: Mapping[str, Any]) -> str:
    """What the runtime and the host may know of the model."""
    plain = lowered.program
    told = {"inputs": described(plain.borders_in), "outputs": described(plain.borders_out)}
    short = {"kind": "plain", "model": graph.sha256, "name": plain_name(graph.name), **sizes}
    info = json.dumps({**short, **told}, separators=(",", ":"))
    if len(info) > MOST_INFO_BYTES:
        info = json.dumps(short, separators=(",", ":"))
    tables = [
        f"static const edge_tensor {name}[] = {{\n{_tensors(borders, lowered.memory)}\n}};\n"
        for name, borders in (("inputs", plain.borders_in), ("outputs", plain.borders_out))
        if borders
    ]
    return (
        "\n".join(tables)
        + f"""
const edge_facts edge_model = {{
    .inputs = {"inputs" if plain.borders_in else "NULL"},
    .outputs = outputs,
    .input_count = {len(plain.borders_in)},
    .output_count = {len(plain.borders_out)},
    .input_bytes = {lowered.input_bytes},
    .name = {c_string(plain_name(graph.name).encode())},
    .info = {c_string(info.encode())},
}};
"""
    )


def described(borders: Sequence[Border]) -> list[dict[str, Any]]:
    """Inputs or outputs as HELLO tells them; a scale as the shortest text that is this float32."""
    return [
        {
            "dtype": border.dtype,
            "shape": list(border.shape),
            "scale": None if border.scale is None else float(str(np.float32(border.scale))),
            "zero_point": border.zero_point,
        }
        for border in borders
    ]


def _tensors(borders: Sequence[Border], memory: Plan) -> str:
    return "\n".join(
        f"    {{.offset_bytes = {memory.offsets_bytes[border.value]}, .size_bytes = {border.size_bytes}, "
        f".kind = EDGE_{border.dtype.upper()}, .scale = {float(np.float32(border.scale or 0)).hex()}f, "
        f".zero_point = {border.zero_point}}}, /* {list(border.shape)} */"
        for border in borders
    )


def _forget(lowered: LoweredPlain) -> str:
    """edge_forget: the state as it is before the first inference."""
    lines = [f"    for (size_t i = 0; i < {lowered.memory.cache_bytes}; i++) state[i] = 0;"]
    values, offsets = lowered.program.values, lowered.memory.offsets_bytes
    for value, byte in lowered.program.states:
        if byte:
            size = values[value].size_bytes
            lines.append(f"    for (size_t i = 0; i < {size}; i++) state[{offsets[value]} + i] = {byte};")
    body = "\n".join(lines if lowered.memory.cache_bytes else ["    (void)state; /* the model has none */"])
    return f"void edge_forget(uint8_t *state) {{\n{body}\n}}\n"


def _memory_c(lowered: LoweredPlain) -> str:
    arena, state, inputs = (max(1, size) for size in _memories(lowered))
    return f"""/* The model's memory in firmware. Generated. SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "plain.h"

/* All values and workspaces of an inference; those that never live at the same time share memory. */
_Alignas({ALIGNMENT_BYTES}) uint8_t edge_arena[{arena}];

/* What lives from one inference to the next. */
_Alignas({ALIGNMENT_BYTES}) uint8_t edge_state[{state}];

/* The inputs as the host gave them: an inference overwrites those in the arena. */
uint8_t edge_inputs[{inputs}];
"""


def _memories(lowered: LoweredPlain) -> tuple[int, int, int]:
    return lowered.memory.arena_bytes, lowered.memory.cache_bytes, lowered.input_bytes


def statements(
    plain: PlainProgram | UnfusedProgram, memory: Plan, board: Board, constants: Constants, state: str = "state"
) -> tuple[str, ...]:
    """The C of every call; state: the array of what is kept."""
    made = (_statement(plain, memory, index, board, constants, state) for index in range(len(plain.calls)))
    return tuple(made if len(plain.calls) <= MANY_CALLS else (_with_static_literals(statement) for statement in made))


def _with_static_literals(statement: str) -> str:
    """The statement with what it passes the address of (`&(T){…}`) as constants of its own, not on the stack.

    A compiler keeps a place on the stack for each such literal of a function, all at once: in a few calls that is the
    shortest code, in a hundred it is kilobytes. Literals that depend on arena or state stay as they are.
    """
    found, at = [], 0
    while match := LITERAL.search(statement, at):
        depth, at = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(statement[at], 0)
            at += 1
        if not re.search(r"\b(arena|state|kv_cache)\b", statement[match.end() : at]):
            found.append((match.start(), at, match[1], statement[match.end() - 1 : at]))
    if not found:
        return statement
    for index, (start, end, _, _) in reversed(list(enumerate(found))):
        statement = f"{statement[:start]}&k{index}{statement[end:]}"
    declared = "".join(f"static const {kind} k{i} = {value}; " for i, (_, _, kind, value) in enumerate(found))
    return f"    {{ {declared}{statement.strip()} }}"


def _statement(
    plain: PlainProgram | UnfusedProgram, memory: Plan, index: int, board: Board, constants: Constants, state: str
) -> str:
    """The C of one call, and the shapes it sees."""
    call = plain.calls[index]
    names = {"count": "1"}
    for side, values in (("in", call.inputs), ("out", call.outputs)):
        for i, number in enumerate(values):
            value = plain.values[number]
            place = _at(state if number in plain.kept else "arena", memory.offsets_bytes[number])
            names[f"{side}{i}"] = f"({C_TYPES[np.dtype(value.dtype)]} *)({place})"
            names[f"{side}{i}_count"] = str(value.size)
    for key, array in ops.layout(call, board.features).items():
        names[key] = constants.name(array, f"{call.op} {key}")
    workspace, cache = memory.workspace_offsets_bytes[index], memory.cache_offsets_bytes[index]
    names["workspace"] = "NULL" if workspace is None else _at("arena", workspace)
    names["cache"] = "NULL" if cache is None else _at(state, cache)
    shapes = ", ".join(str(list(shape)) for shape in plain.shapes[index])
    made = ", ".join(str(list(plain.values[value].shape)) for value in call.outputs)
    return f"    {ops.load(call.op).statement(call, board.features, names)} /* {shapes} -> {made} */"


def _at(array: str, offset: int) -> str:
    return f"{array} + {offset}" if offset else array
