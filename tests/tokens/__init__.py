"""Token ids measured with llama.cpp, and the vocabularies they are of; tests/bench/llama_ids.py measures them again.

byte_level.json and sentence_piece.json are vocabularies trained on the texts below; ids.json has, for each vocabulary
and each way to split text, the ids of every text: as they are where they are few, else their number and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokens.texts import TEXTS

FOLDER = Path(__file__).parent
FEW = 24  # ids that are kept as they are
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SPLITS = ("gpt-2", "smollm", "llama-bpe", "qwen2", "default")
# a vocabulary, and how text is split before merging or whether a space is put before it
KINDS = [("byte_level", split) for split in SPLITS]
SPELLS_NONE = [text for text in TEXTS if not any(name in text for name in (*CONTROL, "<repo_name>", "<file_sep>"))]
KINDS += [("sentence_piece", "dummy space"), ("sentence_piece", "no dummy space")]


def kept(ids: Sequence[int]) -> list[int] | str:
    """Ids as ids.json has them."""
    if len(ids) <= FEW:
        return list(ids)
    return f"{len(ids)} {hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()[:16]}"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def values(kind: str, way: str) -> dict[str, Any]:
    """The key-value pairs of a GGUF with one of the vocabularies."""
    vocabulary = read(kind)
    names = vocabulary["tokens"]
    if kind == "byte_level":
        return {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": way,
            "tokenizer.ggml.tokens": names,
            "tokenizer.ggml.token_type": [3 if name in CONTROL else 1 for name in names],
            "tokenizer.ggml.merges": vocabulary["merges"],
            "tokenizer.ggml.add_bos_token": False,
            "tokenizer.ggml.eos_token_id": names.index("<|im_end|>"),
        }
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.scores": [float(-id) for id in range(len(names))],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (len(names) - 259)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_space_prefix": way == "dummy space",
    }
