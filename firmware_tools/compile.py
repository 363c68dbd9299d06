"""Graph + Board -> Sources: C that a person can read, one call of a kernel for each op.

model.c holds the facts and `edge_step`, a language model's step for a token, or a plain model's `edge_invoke`
(plain_c.py), but no memory: that is its caller's, and in firmware lies in memory.c. weights.c has the constants as the
kernels want them, equal ones once; vocabulary.c the tokenizer's tables. The same model and board give the same text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from firmware_tools import ops, plain_c, vocabulary
from firmware_tools.bfp_program import for_board
from firmware_tools.boards import Board
from firmware_tools.c_text import C_TYPES, Constants, c_string, plain_name, weights_c, weights_h
from firmware_tools.errors import DoesNotFit, UserError
from firmware_tools.fuse import program
from firmware_tools.graph import Graph
from firmware_tools.lower import unfused
from firmware_tools.ops import Call
from firmware_tools.plan import ALIGNMENT_BYTES, Plan, plan
from firmware_tools.program import DecoderProgram, PlainProgram, Program, UnfusedProgram

OPS = Path(ops.__file__).parent
RUNTIME = Path(__file__).parent / "runtime"


@dataclass(frozen=True)
class Sources:
    """Generated C, and what it needs beside.

    files: text by name. kernels: C files of ops/ that model.c calls. includes: folders of their headers. kind: which
    runtime it is for, `decoder` or `plain`. weight_bytes and vocabulary_bytes lie in flash, the others in RAM: of a
    plain model kv_cache_bytes are all that it keeps from one inference to the next, and input_bytes its inputs; it has
    neither context nor vocabulary (0). actions: what the board does about answers, in words, where actions.py has added
    that.
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
    kind: str = "decoder"
    input_bytes: int = 0
    actions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Needs:
    """The memory that a model takes on a board, in bytes; can_encode: its tokenizer runs on the device."""

    weight_bytes: int
    vocabulary_bytes: int
    arena_bytes: int
    kv_cache_bytes: int
    can_encode: bool
    input_bytes: int = 0


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
            weight_bytes=self.constants.size_bytes,
            vocabulary_bytes=vocabulary.size_bytes(self.tokenizer),
            arena_bytes=self.memory.arena_bytes,
            kv_cache_bytes=self.memory.cache_bytes,
            can_encode=self.tokenizer.can_encode,
        )


def is_decoder(graph: Graph) -> bool:
    """Is this one of our language models? Any other is plain: inputs, operators, outputs."""
    return graph.contract is not None


def needs(graph: Graph, board: Board, context: int | None = None, signature: str | None = None) -> Needs:
    """What `compile_model` would say of memory, also for a model that is far too large; raises as it does."""
    check_options(graph, context, signature)
    if is_decoder(graph):
        return decoder_needs(decoder_program(graph, context), vocabulary.read(graph.tokenizer), board)
    return _plain_needs(plain_c.lower(graph, board, signature))


def decoder_needs(decoder: DecoderProgram, tokenizer: vocabulary.Vocabulary, board: Board) -> Needs:
    """The same of a language model whose program and tokenizer are known."""
    return _lower(decoder, tokenizer, board).needs


def compile_model(graph: Graph, board: Board, context: int | None = None, signature: str | None = None) -> Sources:
    """Compiles a model for a board.

    Args:
        graph: a verified model.
        board: what its core can do decides the kernels.
        context: of a language model: positions of the KV cache, at most (and by default) those of the file.
        signature: of any other: which of its signatures, as `lower.program` chooses.

    Raises:
        DoesNotFit: the weights alone are larger than the board's flash.
        UserError: something in the model is not supported, or context or signature is not one that it has.
    """
    check_options(graph, context, signature)
    name = plain_name(graph.name)
    if is_decoder(graph):
        lowered = _lower(decoder_program(graph, context), vocabulary.read(graph.tokenizer), board)
        needs, decoder = lowered.needs, lowered.decoder
        _refuse_what_is_hopeless(needs, name, board)
        used, kind = sorted({name for call in decoder.calls for name in ops.used(call)}), "decoder"
        files = {
            "model.c": _model_c(used, _facts(graph, lowered), lowered.step),
            "memory.c": _memory_c(needs),
            "weights.c": weights_c(lowered.constants),
            "weights.h": weights_h(lowered.constants),
            "vocabulary.c": vocabulary.lower(lowered.tokenizer),
        }
        context, vocab_size = decoder.context, decoder.vocab_size
    else:
        plain = plain_c.lower(graph, board, signature)
        needs, used, kind = _plain_needs(plain), plain.used, "plain"
        _refuse_what_is_hopeless(needs, name, board)
        files = plain_c.files(graph, plain, asdict(needs))
        context, vocab_size = 0, 0
    return Sources(
        files=files,
        kernels=tuple(path for op in used for path in _kernels(op, board)),
        includes=(OPS, RUNTIME) if kind == "decoder" else (OPS, RUNTIME, RUNTIME / kind),
        model_sha256=graph.sha256,
        model_file_sha256=graph.file_sha256,
        name=name,
        context=context,
        vocab_size=vocab_size,
        kind=kind,
        **asdict(needs),
    )


def check_options(graph: Graph, context: int | None, signature: str | None) -> None:
    """UserError where an option is of the other kind of model."""
    if is_decoder(graph) and signature is not None:
        raise UserError("--signature is not of language models", "they have prefill and decode: leave it out")
    if not is_decoder(graph) and context is not None:
        raise UserError("--context is of language models alone", f"{graph.name} has no KV cache: leave it out")


def _plain_needs(lowered: plain_c.LoweredPlain) -> Needs:
    return Needs(
        weight_bytes=lowered.constants.size_bytes,
        vocabulary_bytes=0,
        arena_bytes=lowered.memory.arena_bytes,
        kv_cache_bytes=lowered.memory.cache_bytes,
        can_encode=False,
        input_bytes=lowered.input_bytes,
    )


def _lower(decoder: DecoderProgram, tokenizer: vocabulary.Vocabulary, board: Board) -> Lowered:
    constants = Constants()
    if isinstance(decoder, UnfusedProgram):
        rows, memory = 1, plan(decoder, board.features)
        step = plain_c.unfused_step(decoder, memory, board, constants)
    else:
        decoder, rows = for_board(decoder, board), rows_at_once(board, decoder)
        memory = plan(decoder, board.features, rows)
        step = _step(decoder, memory, board, constants)
    return Lowered(decoder, memory, rows, tokenizer, constants, step)


def decoder_program(graph: Graph, context: int | None = None) -> DecoderProgram:
    """A language model in fused ops; in plain ones, which is slower, where something in its graph is not understood.

    Raises UserError where an operator is not supported either, or for a context that such a graph cannot have.
    """
    try:
        return program(graph, context)
    except UserError as not_understood:
        made_for = graph.card["architecture"]["context"]
        if context not in (None, made_for):
            raise UserError(
                f"{not_understood.message}, and so it keeps its context of {made_for}", "leave --context out"
            ) from None
        try:
            return unfused(graph)
        except UserError as error:
            raise UserError(f"{not_understood.message}, and {error.message}", not_understood.hint) from None


def rows_at_once(board: Board, program: Program) -> int:
    """How many tokens of a prompt a core computes at once: as many as share what its kernels load."""
    if isinstance(program, UnfusedProgram | PlainProgram):
        return 1
    return {"_mve": 2, "_dsp": 3}.get(ops.fastest(board.features, "mve", "dsp"), 1)


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
        "kind": "decoder",
        "model": graph.sha256,
        "name": plain_name(graph.name),
        "contract": graph.contract,
        "vocab_size": decoder.vocab_size,
        "context": decoder.context,
        "layers": decoder.layers,
        "bos_id": card["bos_id"],
        "stop_ids": stop_ids,
        **{name: value for name, value in asdict(lowered.needs).items() if name != "input_bytes"},
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
    .name = {c_string(plain_name(graph.name).encode())},
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
    attentions = [index for index, call in enumerate(decoder.calls) if call.op.startswith("attention")]
    norms = [index for index, call in enumerate(decoder.calls) if call.op.startswith("rms_norm")]
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
