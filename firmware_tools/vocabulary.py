"""tokenizer.json -> Vocabulary, and its tables as C. Reads the format of Hugging Face `tokenizers` with plain json.

The file comes with a model and is hostile until checked: every id, piece and merge is verified here, and nothing of it
enters C but numbers. All BPE tokenizers can be decoded. The device encodes those of SentencePiece's kind: no splitting
before merging, byte fallback, and at most a dummy prefix and the word mark U+2581 as normalizers.

Text reaches only the pieces that characters and merges lead to. Special tokens and byte tokens are no text: merges with
them are left out, so that a user who types `</s>` gets the characters and never the token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from firmware_tools.errors import BadFile

WORD_MARK = "\u2581"  # SentencePiece writes a space so
MAX_JSON_BYTES = 64 << 20
MAX_PIECES = 1 << 20
MAX_PIECE_BYTES = 255  # a length is one byte on the device
MAX_DEVICE_PIECES = 65_535
MAX_DEVICE_MERGES = 65_536
BLOCK = 16  # pieces for each absolute offset; tokenizer.c knows the number too
HINT = "convert the model again with its own tokenizer.json"

Merge = tuple[int, int, int]


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer.json says, checked.

    pieces: the bytes of each id; empty for special tokens. The rest is empty where can_encode is False, and reason then
    says why. merges: (left, right, result) ids, the first ranks highest. prefix: what is put before a text that is not
    empty. byte_ids: the byte tokens of 0..255. characters: (code point, id), sorted: where each character starts from.
    """

    pieces: tuple[bytes, ...]
    merges: tuple[Merge, ...] = ()
    prefix: bytes = b""
    byte_ids: tuple[int, ...] = ()
    characters: tuple[tuple[int, int], ...] = ()
    can_encode: bool = False
    reason: str = ""


@dataclass(frozen=True)
class _Parsed:
    """The checked parts of the file: strings by id, ids by string, merges in rank order, and what decides the kind."""

    strings: tuple[str, ...]
    ids: Mapping[str, int]
    merges: tuple[Merge, ...]
    model: Mapping[str, Any]
    document: Mapping[str, Any]
    added: Mapping[int, bool]  # id -> is it special


@lru_cache(maxsize=2)  # who reads a model's file, runs it and makes its tokenizer reads the same three times
def read(tokenizer_json: bytes) -> Vocabulary:
    """Reads and checks a tokenizer.json; BadFile where it is not one, is damaged, or is not BPE."""
    parsed = _parse(tokenizer_json)
    byte_ids = _byte_ids(parsed)
    marks = _decoder_marks(parsed.document)
    pieces = _pieces(parsed, set(byte_ids), marks)
    reason = _why_not(parsed, byte_ids, marks)
    if reason:
        return Vocabulary(pieces, reason=reason)
    prefix, _ = _normalizer(parsed.document.get("normalizer")) or ("", False)
    unreachable = {id for id, special in parsed.added.items() if special} | set(byte_ids)
    if marks:
        unreachable |= {id for id, string in enumerate(parsed.strings) if " " in string}
    characters = _characters(parsed.strings, unreachable, marks)
    symbol = prefix.replace(" ", WORD_MARK) if marks else prefix
    if marks and ord(WORD_MARK) not in dict(characters):
        return Vocabulary(pieces, reason="its word mark is not in the vocabulary")
    if len(symbol) > 1 or (symbol and ord(symbol) not in dict(characters) and not symbol.isascii()):
        return Vocabulary(pieces, reason="its prefix is more than one token")
    return Vocabulary(
        pieces=pieces,
        merges=tuple(merge for merge in parsed.merges if not unreachable.intersection(merge)),
        prefix=(prefix.replace(WORD_MARK, " ") if marks else prefix).encode(),
        byte_ids=byte_ids,
        characters=characters,
        can_encode=True,
    )


def added_tokens(tokenizer_json: bytes) -> dict[str, int]:
    """The tokens that a tokenizer.json sees in a text before it splits it, special or not, with their ids."""
    parsed = _parse(tokenizer_json)
    return {parsed.strings[id]: id for id in parsed.added}


def size_bytes(vocabulary: Vocabulary) -> int:
    """Bytes of the tables in flash."""
    return sum(width // 8 * len(values) for width, _, values in _tables(vocabulary))


def lower(vocabulary: Vocabulary) -> str:
    """The text of vocabulary.c: the tables that runtime/tokenizer.h declares, every piece as numbers."""
    tables = _tables(vocabulary)
    present = {name for _, name, values in tables if values}
    prefix = f"{_symbol(vocabulary)}" if vocabulary.prefix else "EDGE_NO_PREFIX"
    fields = {
        "piece_count": str(len(vocabulary.pieces)),
        "character_count": str(len(vocabulary.characters)),
        "merge_count": str(len(vocabulary.merges)),
        "prefix": prefix if vocabulary.can_encode else "EDGE_NO_PREFIX",
        **{name: name if name in present else "0" for _, name, _ in tables},
    }
    return "\n".join(
        [
            "/* The model's tokenizer: tables as runtime/tokenizer.h explains them, all text as numbers. Generated. "
            "SPDX-License-Identifier: Apache-2.0 OR MIT-0 */",
            '#include "section.h"',
            '#include "tokenizer.h"',
            "",
            f"const int edge_can_encode = {int(vocabulary.can_encode)};",
            "",
            *(_array(*table) for table in tables if table[2]),
            "const edge_vocabulary_tables edge_vocabulary = {",
            *(f"    .{field} = {value}," for field, value in fields.items()),
            "};",
            "",
        ]
    )


# --- the file


def _parse(data: bytes) -> _Parsed:
    document = _document(data)
    model = document.get("model")
    if not isinstance(model, dict):
        raise _bad("has no model")
    if model.get("type", "BPE") != "BPE":
        raise _bad("is of a kind that is not supported; only BPE is")
    strings, added = _strings(model.get("vocab"), document.get("added_tokens"))
    ids = {string: id for id, string in enumerate(strings)}
    return _Parsed(strings, ids, _merges(model, ids), model, document, added)


def _document(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_JSON_BYTES:
        raise _bad(f"has {len(data)} bytes, more than {MAX_JSON_BYTES}")
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _bad("is not JSON") from error
    if not isinstance(document, dict):
        raise _bad("is not a JSON object")
    return document


def _strings(vocab: object, added_tokens: object) -> tuple[tuple[str, ...], dict[int, bool]]:
    """Strings by id, and which of them are added tokens: the ids of both lists together must be 0, 1, 2 …"""
    if not isinstance(vocab, dict):
        raise _bad("has no vocabulary")
    by_id: dict[int, str] = {}
    for string, id in vocab.items():
        _put(by_id, id, string)
    added: dict[int, bool] = {}
    for token in added_tokens if isinstance(added_tokens, list) else ():
        if not isinstance(token, dict):
            raise _bad("has an added token that is not an object")
        _put(by_id, token.get("id"), token.get("content"))
        added[token["id"]] = token.get("special") is True
    if not by_id or sorted(by_id) != list(range(len(by_id))):
        raise _bad("has ids that are not 0, 1, 2 … without a gap")
    strings = tuple(by_id[id] for id in range(len(by_id)))
    if len(set(strings)) != len(strings):
        raise _bad("gives one token two ids")
    return strings, added


def _put(by_id: dict[int, str], id: object, string: object) -> None:
    if type(id) is not int or not 0 <= id < MAX_PIECES:
        raise _bad("has an id that is no number of a token")
    if not isinstance(string, str) or not _is_text(string):
        raise _bad(f"has a token {id} that is not text")
    if by_id.setdefault(id, string) != string:
        raise _bad(f"gives id {id} to two tokens")


def _is_text(string: str) -> bool:
    try:
        string.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _merges(model: Mapping[str, Any], ids: Mapping[str, int]) -> tuple[Merge, ...]:
    listed = model.get("merges")
    if not isinstance(listed, list):
        raise _bad("has no merges")
    merges: dict[tuple[int, int], Merge] = {}
    inner = model.get("continuing_subword_prefix") or ""
    for rank, entry in enumerate(listed):
        pair = entry.split(" ") if isinstance(entry, str) else entry
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) and p for p in pair)):
            raise _bad(f"has a merge {rank} that is not a pair of tokens")
        left, right = pair
        result = left + right.removeprefix(inner if isinstance(inner, str) else "")
        if left not in ids or right not in ids or result not in ids:
            raise _bad(f"has a merge {rank} of tokens that are not in the vocabulary")
        merge = (ids[left], ids[right], ids[result])
        if merges.setdefault(merge[:2], merge) is not merge:
            raise _bad(f"has merge {rank} twice")
    return tuple(merges.values())


def _bad(what: str) -> BadFile:
    return BadFile(f"the tokenizer {what}", HINT)


# --- its kind


def _byte_ids(parsed: _Parsed) -> tuple[int, ...]:
    """The ids of the 256 byte tokens; empty where the model does not fall back to bytes or lacks one of them."""
    if parsed.model.get("byte_fallback") is not True:
        return ()
    ids = [parsed.ids.get(f"<0x{byte:02X}>") for byte in range(256)]
    return tuple(id for id in ids if id is not None) if None not in ids else ()


def _steps(node: object, list_name: str) -> list[Mapping[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder, whether it is one or a sequence."""
    if not isinstance(node, dict):
        return []
    inner = node.get(list_name) if node.get("type") == "Sequence" else [node]
    return [step for step in inner if isinstance(step, dict)] if isinstance(inner, list) else []


def _replaces(step: Mapping[str, Any], old: str, new: str) -> bool:
    return step.get("type") == "Replace" and step.get("pattern") == {"String": old} and step.get("content") == new


def _decoder_marks(document: Mapping[str, Any]) -> bool:
    """Does the decoder turn word marks into spaces?"""
    steps = _steps(document.get("decoder"), "decoders")
    return any(_replaces(step, WORD_MARK, " ") or step.get("type") == "Metaspace" for step in steps)


def _byte_level(document: Mapping[str, Any]) -> bool:
    """Does each character of a token stand for a byte, as in GPT-2?"""
    return any(step.get("type") == "ByteLevel" for step in _steps(document.get("decoder"), "decoders"))


def _normalizer(node: object) -> tuple[str, bool] | None:
    """(dummy prefix, are spaces turned into word marks) of a normalizer of the device's kind, else None."""
    prefix, marks = "", False
    steps = _steps(node, "normalizers")
    if node is not None and not steps:
        return None
    for step in steps:
        prepend = step.get("prepend")
        if step.get("type") == "Prepend" and isinstance(prepend, str) and _is_text(prepend) and not (prefix or marks):
            prefix = prepend
        elif _replaces(step, " ", WORD_MARK):
            marks = True
        else:
            return None
    return prefix, marks


def _why_not(parsed: _Parsed, byte_ids: Sequence[int], marks: bool) -> str:
    """Why the device cannot encode with this tokenizer; empty where it can."""
    model, normalizer = parsed.model, _normalizer(parsed.document.get("normalizer"))
    options = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    if not byte_ids:
        return "it does not fall back to byte tokens"
    if _byte_level(parsed.document):
        return "its tokens spell bytes as characters"
    if parsed.document.get("pre_tokenizer") is not None:
        return "it splits the text before merging"
    if normalizer is None or normalizer[1] != marks:
        return "it normalizes the text"
    if any(model.get(option) for option in options):
        return f"it uses {next(option for option in options if model.get(option))}"
    if len(parsed.strings) > MAX_DEVICE_PIECES:
        return f"it has more than {MAX_DEVICE_PIECES} tokens"
    if len(parsed.merges) > MAX_DEVICE_MERGES:
        return f"it has more than {MAX_DEVICE_MERGES} merges"
    return ""


def _characters(strings: Sequence[str], unreachable: set[int], marks: bool) -> tuple[tuple[int, int], ...]:
    """Code point -> id of the tokens of one character; with word marks a space is one of them."""
    table = {ord(string): id for id, string in enumerate(strings) if len(string) == 1 and id not in unreachable}
    if marks and ord(WORD_MARK) in table:
        table[ord(" ")] = table[ord(WORD_MARK)]
    return tuple(sorted(table.items()))


# --- pieces as bytes


def _pieces(parsed: _Parsed, byte_ids: set[int], marks: bool) -> tuple[bytes, ...]:
    byte_level = _byte_level(parsed.document)
    alphabet = _byte_level_alphabet() if byte_level else {}
    pieces = []
    for id, string in enumerate(parsed.strings):
        if id in byte_ids:
            piece = bytes([int(string[3:5], 16)])
        elif id in parsed.added:
            piece = b"" if parsed.added[id] else string.encode()
        elif byte_level and alphabet.keys() >= set(string):
            piece = bytes(map(alphabet.__getitem__, string))
        else:
            piece = (string.replace(WORD_MARK, " ") if marks else string).encode()
        if len(piece) > MAX_PIECE_BYTES:
            raise _bad(f"has a token {id} of {len(piece)} bytes, more than {MAX_PIECE_BYTES}")
        pieces.append(piece)
    return tuple(pieces)


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable characters for bytes: printable Latin-1 stands for itself, the others follow from U+0100."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


# --- C


def _tables(vocabulary: Vocabulary) -> list[tuple[int, str, Sequence[int]]]:
    """(bits, name, values) of every array, the widest first so that the section needs no padding."""
    lengths = [len(piece) for piece in vocabulary.pieces]
    starts = [sum(lengths[i : i + BLOCK]) for i in range(0, len(lengths), BLOCK)]
    merges = sorted((left << 16 | right, rank, result) for rank, (left, right, result) in enumerate(vocabulary.merges))
    return [
        (32, "piece_starts", _running(starts)),
        (32, "character_codes", [code for code, _ in vocabulary.characters]),
        (32, "merge_pairs", [pair for pair, _, _ in merges]),
        (16, "character_ids", [id for _, id in vocabulary.characters]),
        (16, "merge_ranks", [rank for _, rank, _ in merges]),
        (16, "merge_results", [result for _, _, result in merges]),
        (16, "byte_ids", vocabulary.byte_ids),
        (8, "piece_lengths", lengths),
        (8, "piece_bytes", b"".join(vocabulary.pieces) or b"\0"),
    ]


def _running(sizes: Iterable[int]) -> list[int]:
    starts, total = [], 0
    for size in sizes:
        starts.append(total)
        total += size
    return starts


def _symbol(vocabulary: Vocabulary) -> int:
    """The one id that the prefix starts as."""
    code = ord(vocabulary.prefix.decode())
    characters = dict(vocabulary.characters)
    return characters[code] if code in characters else vocabulary.byte_ids[code]


def _array(width: int, name: str, values: Sequence[int]) -> str:
    digits = [f"0x{value:02x}" if width == 8 else str(value) for value in values]
    rows = [", ".join(digits[i : i + 16]) for i in range(0, len(digits), 16)]
    body = "".join(f"    {row},\n" for row in rows)
    return f"static const uint{width}_t {name}[{len(values)}] EDGE_VOCABULARY = {{\n{body}}};\n"
