"""Sources -> a folder of C for somebody's own firmware: CMake, Arduino and Zephyr take it as it is.

    src/PREFIX.h       the few functions a firmware calls; here decoder.h, or plain.h where it is no language model
    src/PREFIX.c       what they do; decoder.c or plain.c here
    src/internal/      the generated model, its weights, and the kernels and runtime parts that it uses
    CMakeLists.txt, library.properties, zephyr/

Every external name begins with the prefix, so that several libraries link into one firmware. Nothing in it is variable:
memory comes from the caller.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from firmware_tools import boards, plain_c
from firmware_tools.boards import Board, Memory
from firmware_tools.c_text import C_TYPES, c_string
from firmware_tools.compile import RUNTIME, Sources, compile_model
from firmware_tools.errors import UserError
from firmware_tools.folder import replace
from firmware_tools.graph import Graph
from firmware_tools.plan import ALIGNMENT_BYTES

HERE = Path(__file__).parent
GENERIC = "generic"
Macro = tuple[str, str, str]  # name, value, why
MARK = "library.properties"  # a folder with this file and src/internal is one of ours
PREFIX = re.compile(r"[a-z][a-z0-9_]{0,30}")
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
# gcc would contract products and sums of floats where no flag forbids it, as in an Arduino sketch
NO_CONTRACTION = """#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#endif
"""
NO_SECTIONS = """/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Constants lie where the linker puts constants. */
#define EDGE_WEIGHTS
#define EDGE_VOCABULARY
"""
# what a core's kernels need of the compiler: (feature, macro of the Arm C Language Extensions)
REQUIREMENTS = (("dsp", "__ARM_FEATURE_DSP"), ("mve", "__ARM_FEATURE_MVE"))


def cores() -> tuple[str, ...]:
    """What a library can be built for: `generic`, and the cores of the boards by the names that GCC's -mcpu takes."""
    return (GENERIC, *sorted({_core(boards.load(name)) for name in boards.names()}))


def build_library(
    graph: Graph, core: str, prefix: str, context: int | None = None, signature: str | None = None
) -> dict[str, str]:
    """The files of a library, by their paths.

    Args:
        graph: a verified model.
        core: one of `cores()`.
        prefix: what external names begin with.
        context, signature: as `compile_model` takes them.

    Raises:
        UserError: there is no such core, the prefix is no C identifier, or the model cannot be compiled.
    """
    if not PREFIX.fullmatch(prefix):
        hint = "lower-case letters, digits and _, a letter first, at most 31 characters"
        raise UserError(f"{prefix!r} cannot begin names in C", hint)
    board = _board(core)
    sources = compile_model(graph, board, context, signature)
    internal = _internal(sources)
    words = {"CORE": core, "PREFIX": prefix, "UPPER": prefix.upper()}  # and no string of the file
    api = f"{_requirements(board)}{NO_CONTRACTION}{_template(f'{sources.kind}.c', words)}"
    if sources.kind == "decoder":
        told = {"SIZES": _macros(_sizes(graph, sources))}
    else:
        told = _of_plain(plain_c.lower(graph, board, signature), sources)
    files = {
        f"src/{prefix}.h": _with_prefix(_template(f"{sources.kind}.h", words | told), prefix),
        f"src/{prefix}.c": _with_prefix(api, prefix),
        "CMakeLists.txt": _template("CMakeLists.txt", words),
        MARK: _template("arduino.properties", words),
        "zephyr/module.yml": _template("module.yml", words),
        "zephyr/Kconfig": _template("Kconfig", words),
    }
    return files | {f"src/internal/{name}": _renamed(text, prefix) for name, text in internal.items()}


def save(files: Mapping[str, str], folder: Path) -> None:
    """Writes the files into folder, all or nothing; a library that lies there already is replaced.

    UserError where the folder holds anything else or cannot be written.
    """

    def is_ours(there: Path) -> bool:
        return (there / MARK).exists() and (there / "src" / "internal").is_dir()

    def write(new: Path) -> None:
        for name, text in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_text(text, encoding="utf-8", newline="\n")

    replace(folder, "a library of `edge build`", is_ours, write)


def _core(board: Board) -> str:
    return board.cpu.partition("+")[0].replace("_", "-")


def _board(core: str) -> Board:
    """A board of that core whose flash nobody knows."""
    if core not in cores():
        raise UserError(f"no library can be built for {core!r}", f"cores: {', '.join(cores())}")
    if core == GENERIC:
        board = dataclasses.replace(boards.load(boards.names()[0]), features=frozenset({"fpu"}))
    else:
        board = next(board for board in map(boards.load, boards.names()) if _core(board) == core)
    return dataclasses.replace(board, name=core, flash=Memory(0, 1 << 32))


def _internal(sources: Sources) -> dict[str, str]:
    """Generated C, kernels, sampler and tokenizer, with all headers that they include; all in one folder."""
    texts = {name: text for name, text in sources.files.items() if name != "memory.c"}
    of_decoders = (RUNTIME / "sampler.c", RUNTIME / "tokenizer.c") if sources.kind == "decoder" else ()
    for path in (*sources.kernels, *of_decoders):
        texts[path.name] = path.read_text(encoding="utf-8")
    texts["section.h"] = NO_SECTIONS
    pending = list(texts.values())
    while pending:
        for name in INCLUDE.findall(pending.pop()):
            if name not in texts:
                texts[name] = _header(name, sources.includes)
                pending.append(texts[name])
    return {name: NO_CONTRACTION + text if name.endswith(".c") else text for name, text in sorted(texts.items())}


def _header(name: str, folders: Iterable[Path]) -> str:
    return next(folder / name for folder in folders if (folder / name).exists()).read_text(encoding="utf-8")


def _renamed(text: str, prefix: str) -> str:
    """Every name that a linker may see begins with the prefix."""
    return re.sub(r"\b(edge_\w|w_\d)", rf"{prefix}_\1", text)


def _with_prefix(text: str, prefix: str) -> str:
    """A template of C, whose own names begin with model_."""
    text = re.sub(r"\bmodel_", f"{prefix}_", re.sub(r"\bMODEL_", f"{prefix.upper()}_", text))
    return _renamed(text.replace('#include "model.h"', f'#include "{prefix}.h"'), prefix)


def _template(name: str, words: Mapping[str, str]) -> str:
    text = (HERE / name).read_text(encoding="utf-8")
    for word, replacement in words.items():
        text = text.replace(f"@{word}@", replacement)
    return text


def _requirements(board: Board) -> str:
    return "".join(
        f'#if !defined({macro})\n#error "this library was built for {board.name}, whose kernels need {macro}"\n#endif\n'
        for feature, macro in REQUIREMENTS
        if feature in board.features
    )


def _of_plain(lowered: plain_c.LoweredPlain, sources: Sources) -> dict[str, str]:
    """The macros of a plain model's header, and a function for each input and output that tells where it lies."""
    plain, offsets = lowered.program, lowered.memory.offsets_bytes
    macros: list[Macro] = [
        ("INPUTS", str(len(plain.borders_in)), ""),
        ("OUTPUTS", str(len(plain.borders_out)), ""),
    ]
    functions = []
    for side, borders in (("input", plain.borders_in), ("output", plain.borders_out)):
        for index, border in enumerate(borders):
            name, kind = f"{side}_{index}", C_TYPES[np.dtype(border.dtype)]
            macros.append((f"{name.upper()}_ELEMENTS", f"{border.size}u", f"{kind} {list(border.shape)}"))
            if border.scale is not None:
                macros.append((f"{name.upper()}_SCALE", f"{float(np.float32(border.scale))!r}f", ""))
                macros.append((f"{name.upper()}_ZERO_POINT", f"({border.zero_point})", ""))
            pointer, state = (
                (f"{kind} *", "model_state") if side == "input" else (f"const {kind} *", "const model_state")
            )
            body = f"return ({pointer})(const void *)(state->arena + {offsets[border.value]});"
            body = body.replace("(const void *)", "(void *)") if side == "input" else body
            functions.append(f"static inline {pointer}model_{name}({state} *state) {{ {body} }}")
    macros += [
        ("KEPT_BYTES", f"{sources.kv_cache_bytes}u", "of the memory: what is kept from one inference to the next"),
        ("ARENA_BYTES", f"{sources.arena_bytes}u", "of the memory, behind that: values and scratch"),
        ("MEMORY_BYTES", f"{sources.arena_bytes + sources.kv_cache_bytes}u", "both"),
        ("SHA256", f'"{sources.model_sha256}"', "model.sha256 of records"),
    ]
    return {"SIZES": _macros(macros), "BORDERS": "\n".join(functions)}


def _sizes(graph: Graph, sources: Sources) -> Sequence[Macro]:
    """The macros of a language model's header."""
    assert sources.kv_cache_bytes % ALIGNMENT_BYTES == 0  # the arena lies behind it, as aligned as it
    card = graph.card
    before, after = (" ".join(c_string(card["template"][side].encode()).split("\n")) for side in ("before", "after"))
    return (
        ("VOCAB_SIZE", f"{sources.vocab_size}u", "ids are below it"),
        ("CONTEXT", f"{sources.context}u", "positions a text can have"),
        ("NO_TOKEN", "0xFFFFFFFFu", ""),
        ("BOS", "MODEL_NO_TOKEN" if card["bos_id"] is None else f"{card['bos_id']}u", "what a text begins with"),
        ("BEFORE", before, "a prompt is BOS, then the tokens of BEFORE, the text and AFTER"),
        ("AFTER", after, ""),
        ("CAN_ENCODE", str(int(sources.can_encode)), "does model_encode know this tokenizer"),
        ("KV_CACHE_BYTES", f"{sources.kv_cache_bytes}u", "of the memory: what is kept of the text"),
        ("ARENA_BYTES", f"{sources.arena_bytes}u", "of the memory, behind that: logits and scratch"),
        ("MEMORY_BYTES", f"{sources.arena_bytes + sources.kv_cache_bytes}u", "both"),
        ("SHA256", f'"{sources.model_sha256}"', "model.sha256 of records"),
    )


def _macros(macros: Iterable[Macro]) -> str:
    return "\n".join(f"#define MODEL_{name} {value}" + (f" /* {why} */" if why else "") for name, value, why in macros)
