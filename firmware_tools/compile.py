"""Graph + Board -> Sources: C that a person can read, one call of a kernel for each op of a token's step.

model.c holds the facts and `edge_step`, but no memory: that is its caller's, and in firmware lies in memory.c.
weights.c has the constants as the kernels want them, equal ones once; vocabulary.c the tokenizer's tables. Strings of
the model file enter C as escaped literals alone, never as comments or identifiers. The same model and board give the
same text.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from firmware_tools import ops, vocabulary
from firmware_tools.boards import Board
from firmware_tools.errors import DoesNotFit
from firmware_tools.fuse import program
from firmware_tools.graph import Graph
from firmware_tools.ops import Array, Call
from firmware_tools.plan import ALIGNMENT_BYTES, Plan, plan
from firmware_tools.program import DecoderProgram

OPS = Path(ops.__file__).parent
RUNTIME = Path(__file__).parent / "runtime"
NAME_BYTES = 40
LITERAL = 96  # characters of a string in a line
PLAIN = frozenset(string.ascii_letters + string.digits + " !#$%&'()*+,-./:;<=>@[]^_`{|}~")  # as they are in a C string
C_TYPES = {
    np.dtype(np.float32): "float",
    np.dtype(np.int8): "int8_t",
    np.dtype(np.uint8): "uint8_t",
    np.dtype(np.int16): "int16_t",
    np.dtype(np.uint16): "uint16_t",
    np.dtype(np.int32): "int32_t",
    np.dtype(np.uint32): "uint32_t",
}


@dataclass(frozen=True)
class Sources:
    """Generated C, and what it needs beside.

    files: text by name. kernels: C files of ops/ that model.c calls. includes: folders of their headers. weight_bytes
    and vocabulary_bytes lie in flash, arena_bytes and kv_cache_bytes in RAM.
    """

    files: Mapping[str, str]
    kernels: tuple[Path, ...]
    includes: tuple[Path, ...]
    weight_bytes: int
    vocabulary_bytes: int
    arena_bytes: int
    kv_cache_bytes: int
    model_sha256: str
    model_file_sha256: str
    name: str
    context: int
    can_encode: bool
    vocab_size: int


@dataclass
class Constants:
    """The arrays of weights.c in the order of their first use; equal ones are one."""

    arrays: list[tuple[Array, str]] = field(default_factory=list)
    _names: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)

    def name(self, array: Array, use: str) -> str:
        """The C identifier of an array; use says what it is, for a comment."""
        array = np.ascontiguousarray(array)
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._names:
            self._names[key] = f"w_{len(self.arrays)}"
            self.arrays.append((array, use))
        return self._names[key]


@dataclass(frozen=True)
class Needs:
    """The memory that a model takes on a board, in bytes; can_encode: its tokenizer runs on the device."""

    weight_bytes: int
    vocabulary_bytes: int
    arena_bytes: int
    kv_cache_bytes: int
    can_encode: bool


@dataclass(frozen=True)
class Lowered:
    """A model on its way into C: everything is decided, nothing is written."""

    decoder: DecoderProgram
    memory: Plan
    rows: int
    tokenizer: vocabulary.Vocabulary
    constants: Constants
    step: str

    @property
    def needs(self) -> Needs:
        return Needs(
            weight_bytes=sum(array.nbytes for array, _ in self.constants.arrays),
            vocabulary_bytes=vocabulary.size_bytes(self.tokenizer),
            arena_bytes=self.memory.arena_bytes,
            kv_cache_bytes=self.memory.cache_bytes,
            can_encode=self.tokenizer.can_encode,
        )


def needs(graph: Graph, board: Board, context: int | None = None) -> Needs:
    """What `compile_model` would say of memory, also for a model that is far too large; raises as it does."""
    return _lower(graph, board, context).needs


def compile_model(graph: Graph, board: Board, context: int | None = None) -> Sources:
    """Compiles a language model for a board.

    Args:
        graph: a verified model.
        board: what its core can do decides the kernels.
        context: positions of the KV cache, at most (and by default) those of the file.

    Raises:
        DoesNotFit: the weights alone are larger than the board's flash.
        UserError: the model is no decoder that the compiler knows, or context is out of range.
    """
    lowered = _lower(graph, board, context)
    needs, decoder = lowered.needs, lowered.decoder
    name = _plain_name(graph.card["name"])
    _refuse_what_is_hopeless(needs, name, board)
    used = sorted({call.op for call in decoder.calls})
    return Sources(
        files={
            "model.c": _model_c(used, _facts(graph, lowered), lowered.step),
            "memory.c": _memory_c(needs),
            "weights.c": _weights_c(lowered.constants),
            "weights.h": _weights_h(lowered.constants),
            "vocabulary.c": vocabulary.lower(lowered.tokenizer),
        },
        kernels=tuple(path for op in used for path in _kernels(op, board)),
        includes=(OPS, RUNTIME),
        model_sha256=graph.sha256,
        model_file_sha256=graph.file_sha256,
        name=name,
        context=decoder.context,
        vocab_size=decoder.vocab_size,
        **asdict(needs),
    )


def _lower(graph: Graph, board: Board, context: int | None) -> Lowered:
    decoder, rows = program(graph, context), rows_at_once(board)
    memory, constants = plan(decoder, board.features, rows), Constants()
    step = _step(decoder, memory, board, constants)
    return Lowered(decoder, memory, rows, vocabulary.read(graph.tokenizer), constants, step)


def rows_at_once(board: Board) -> int:
    """How many tokens of a prompt a core computes at once: as many as share what its kernels load."""
    return 2 if "dsp" in board.features else 1


def _refuse_what_is_hopeless(needs: Needs, name: str, board: Board) -> None:
    """Writing C for weights that no build can place would take minutes and gigabytes; build.py counts the rest."""
    tables, flash = needs.weight_bytes + needs.vocabulary_bytes, board.flash.size_bytes
    if tables > flash:
        raise DoesNotFit(
            f"{name} does not fit {board.name}: {tables - flash:,} bytes of flash are missing for its weights and "
            f"vocabulary alone (they need {tables:,}, the board has {flash:,})",
            "take a smaller model or int8 weights; `edge inspect MODEL` shows which boards it fits",
        )


def _kernels(op: str, board: Board) -> Iterator[Path]:
    """The C files of an op: the plain one, and those of the core's features."""
    for name in (op, *(f"{op}_{feature}" for feature in sorted(board.features))):
        if (OPS / f"{name}.c").exists():
            yield OPS / f"{name}.c"


# --- model.c


def _model_c(used: list[str], facts: str, step: str) -> str:
    headers = "\n".join(f'#include "{op}.h"' for op in used)
    return f"""/* One token's step through the model. Generated; the headers of the ops explain each call.
 * SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "model.h"
#include "weights.h"

{headers}

{facts}
{step}"""


def _facts(graph: Graph, lowered: Lowered) -> str:
    """What the runtime and the host may know of the model."""
    card, decoder = graph.card, lowered.decoder
    stop_ids, template = card["stop_ids"], card["template"]
    bos_id = "EDGE_NO_TOKEN" if card["bos_id"] is None else f"{card['bos_id']}u"
    info = {
        "model": graph.sha256,
        "name": _plain_name(card["name"]),
        "contract": graph.contract,
        "vocab_size": decoder.vocab_size,
        "context": decoder.context,
        "layers": decoder.layers,
        "bos_id": card["bos_id"],
        "stop_ids": stop_ids,
        **asdict(lowered.needs),
    }
    array = f"static const uint32_t stop_ids[] = {{{', '.join(f'{id}u' for id in stop_ids)}}};\n\n" if stop_ids else ""
    return f"""{array}const edge_facts edge_model = {{
    .vocab_size = {decoder.vocab_size},
    .context = {decoder.context},
    .rows = {lowered.rows},
    .logits_offset_bytes = {lowered.memory.offsets_bytes[decoder.logits]},
    .bos_id = {bos_id},
    .stop_ids = {"stop_ids" if stop_ids else "NULL"},
    .stop_count = {len(stop_ids)},
    .before = {c_string(template["before"].encode())},
    .after = {c_string(template["after"].encode())},
    .name = {c_string(_plain_name(card["name"]).encode())},
    .sha256 = "{graph.sha256}",
    .info = {c_string(json.dumps(info, separators=(",", ":")).encode())},
}};
"""


def _memory_c(needs: Needs) -> str:
    return f"""/* The model's memory in firmware. Generated. SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "model.h"

/* All values and workspaces of a step; those that never live at the same time share memory. */
_Alignas({ALIGNMENT_BYTES}) uint8_t edge_arena[{needs.arena_bytes}];

/* Keys and values of the positions so far, one part a layer. */
_Alignas({ALIGNMENT_BYTES}) uint8_t edge_kv_cache[{needs.kv_cache_bytes}];
"""


def _step(decoder: DecoderProgram, memory: Plan, board: Board, constants: Constants) -> str:
    """edge_step: a statement for each call, under a comment for each layer."""
    starts = headings(decoder)
    lines = []
    for index, call in enumerate(decoder.calls):
        if index == decoder.head:
            lines += ["    /* the caches are written; all that follows serves the last token's logits */"]
            lines += ["    if (!want_logits) return;", "    const uint32_t last = count - 1;"]
        if index in starts:
            lines += ["", f"    /* {starts[index]} */"]
        names = _names(decoder, memory, index, board, constants)
        statement = ops.load(call.op).statement(call, board.features, names)
        lines.append(f"    {statement} /* {_shapes(decoder, call)} */")
    body = "\n".join(lines)
    return f"""void edge_step(uint8_t *arena, uint8_t *kv_cache, const uint32_t *tokens, uint32_t count,
               uint32_t position, int want_logits) {{
{body}
}}
"""


def headings(decoder: DecoderProgram) -> dict[int, str]:
    """Call -> what starts there: a layer starts with the norm before its attention, the end with the last norm."""
    attentions = [index for index, call in enumerate(decoder.calls) if call.op == "attention"]
    norms = [index for index, call in enumerate(decoder.calls) if call.op == "rms_norm"]
    starts = {}
    for layer, attention in enumerate(attentions):
        starts[max((norm for norm in norms if norm < attention), default=attention)] = f"layer {layer}"
    starts[max((norm for norm in norms if norm > attentions[-1]), default=len(decoder.calls) - 1)] = "logits"
    return starts


def _names(decoder: DecoderProgram, memory: Plan, index: int, board: Board, constants: Constants) -> dict[str, str]:
    """The C expressions for what a call uses, by the names of `ops/__init__.py`."""
    call, first = decoder.calls[index], decoder.first_calls()
    in_head = index >= decoder.head
    names = {"tokens": "tokens", "position": "position", "count": "1" if in_head else "count"}
    for side, values in (("in", call.inputs), ("out", call.outputs)):
        for i, number in enumerate(values):
            value = decoder.values[number]
            at = f"({C_TYPES[np.dtype(value.dtype)]} *)({_at('arena', memory.offsets_bytes[number])})"
            names[f"{side}{i}"] = f"{at} + last * {value.size}" if in_head and first[number] < decoder.head else at
            names[f"{side}{i}_count"] = str(value.size)
    for key, array in ops.layout(call, board.features).items():
        names[key] = constants.name(array, f"{call.op} {key}")
    workspace, cache = memory.workspace_offsets_bytes[index], memory.cache_offsets_bytes[index]
    names["workspace"] = "NULL" if workspace is None else _at("arena", workspace)
    names["cache"] = "NULL" if cache is None else _at("kv_cache", cache)
    return names


def _at(array: str, offset: int) -> str:
    return f"{array} + {offset}" if offset else array


def _shapes(decoder: DecoderProgram, call: Call) -> str:
    inputs = ", ".join(f"[{decoder.values[value].size}]" for value in call.inputs) or "token"
    outputs = ", ".join(f"[{decoder.values[value].size}]" for value in call.outputs)
    return f"{inputs} in place" if call.inputs == call.outputs else f"{inputs} -> {outputs}"


# --- strings


def _plain_name(name: str) -> str:
    """A name in printable ASCII, short enough for the runtime."""
    return "".join(c if " " <= c <= "~" else "?" for c in name)[:NAME_BYTES]


def c_string(data: bytes) -> str:
    """Bytes as C string literals, one a line where they are long.

    Whatever is not plain (line ends, NUL, backslash, trigraphs) becomes three octal digits.
    """
    words = ['\\"' if byte == ord('"') else chr(byte) if chr(byte) in PLAIN else f"\\{byte:03o}" for byte in data]
    lines = [f'"{"".join(words[i : i + LITERAL])}"' for i in range(0, len(words), LITERAL)] or ['""']
    return "\n        ".join(lines)


# --- weights


def _weights_h(constants: Constants) -> str:
    lines = [
        f"extern const {C_TYPES[array.dtype]} w_{index}[{array.size}]; /* {use} {list(array.shape)} */"
        for index, (array, use) in enumerate(constants.arrays)
    ]
    body = "\n".join(lines)
    return f"""/* The model's constants. Generated. SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_WEIGHTS_H
#define EDGE_WEIGHTS_H

#include <stdint.h>

{body}

#endif
"""


def _weights_c(constants: Constants) -> str:
    title = "/* The model's constants. Generated. SPDX-License-Identifier: Apache-2.0 OR MIT-0 */"
    parts = [f'{title}\n#include "weights.h"\n\n#include "section.h"\n']
    for index, (array, _) in enumerate(constants.arrays):
        head = f"const {C_TYPES[array.dtype]} w_{index}[{array.size}] EDGE_WEIGHTS __attribute__((aligned(4)))"
        parts.append(f"{head} = {{\n{_rows(array)}\n}};\n")
    return "\n".join(parts)


def _rows(array: Array) -> str:
    """The elements as C, some to a line; floats in hexadecimal, which is exact."""
    if array.dtype == np.float32:
        words, width = _hex_floats(array), 8
    else:
        words, width = _integers(array), 32
    return "\n".join(",".join(words[i : i + width]) + "," for i in range(0, len(words), width))


def _integers(array: Array) -> list[str]:
    if array.dtype.itemsize == 1:  # a table of the 256 texts is faster than str of each
        low = int(np.iinfo(array.dtype).min)
        texts = np.array([str(low + i) for i in range(256)], dtype=object)
        return list(texts[array.reshape(-1).astype(np.int16) - low])
    return list(map(str, array.reshape(-1).tolist()))


def _hex_floats(array: Array) -> list[str]:
    """0x1.99999ap-4f and the like; a float32's last seven digits of a double are zeros."""
    values: list[Any] = array.reshape(-1).tolist()
    return [f"{value.hex().replace('0000000p', 'p')}f" for value in values]
