"""Words → ids, for plain models that were trained on words: what the metadata `edge.text` of a file holds.

The metadata is JSON: `pad_id`, and `tokenizer`, a tokenizer.json of a narrow kind. Its normalizer replaces strings, its
pre-tokenizer splits at spaces (or does not), its model is a table of whole words. There are no regular expressions in
it, which in a hostile file could compute for ever. docs/model-file.md describes it for other readers.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.tokenizer import library_encoder
from firmware_tools.errors import BadFile

KEY = "edge.text"
MOST_BYTES = 64 << 20
MOST_REPLACEMENTS = 128
MOST_WORDS = 1 << 20
BLANKS = "\t\n\v\f\r"  # what TensorFlow splits at, besides the space
SURROGATE = re.compile("[\ud800-\udfff]")
HINT = "convert the model again"


class Words:
    """The words that a model knows.

    document: the JSON; BadFile where it is not of the kind that this module describes.
    """

    def __init__(self, document: bytes) -> None:
        self.json = document
        parsed: tuple[int, dict[str, Any]] = _checked(document)
        self.pad_id = parsed[0]
        self._encoder = library_encoder(json.dumps(parsed[1]).encode())

    def ids(self, text: str, length: int) -> NDArray[np.int32]:
        """The ids of a text's first words, padded to a length."""
        known = SURROGATE.sub("\ufffd", text)  # what a command line holds for bytes that are not UTF-8
        found = self._encoder.encode(known, add_special_tokens=False).ids[:length]
        return np.array([*found, *[self.pad_id] * (length - len(found))], np.int32)


@dataclass(frozen=True)
class Rules:
    """How a text becomes words: ASCII letters to lower case, ASCII punctuation away, split at blanks or one word."""

    lower: bool = True
    strip_punctuation: bool = True
    split: bool = True


def of(metadata: Mapping[str, bytes]) -> Words | None:
    """The words of a file, None where it takes no text."""
    return Words(metadata[KEY]) if KEY in metadata else None


def write(words: Sequence[str], rules: Rules, unknown_id: int, pad_id: int) -> bytes:
    """The metadata for words whose ids are 0, 1, 2 …; unknown_id stands for all others."""
    replacements = [(letter, letter.lower()) for letter in string.ascii_uppercase] if rules.lower else []
    replacements += [(mark, "") for mark in string.punctuation] if rules.strip_punctuation else []
    replacements += [(blank, " ") for blank in BLANKS] if rules.split else []
    steps = [{"type": "Replace", "pattern": {"String": old}, "content": new} for old, new in replacements]
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False}
    vocab = {word: id for id, word in enumerate(words)}
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
        "pre_tokenizer": split if rules.split else None,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": words[unknown_id]},
    }
    return json.dumps({"pad_id": pad_id, "tokenizer": tokenizer}, separators=(",", ":")).encode()


# --- the file


def _checked(data: bytes) -> tuple[int, dict[str, Any]]:
    if len(data) > MOST_BYTES:
        raise _bad(f"has {len(data)} bytes, more than {MOST_BYTES}")
    try:
        document = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise _bad("is not JSON") from error
    tokenizer: Any = document.get("tokenizer") if isinstance(document, dict) else None
    if not isinstance(tokenizer, dict):
        raise _bad("has no tokenizer")
    model, pad_id = tokenizer.get("model"), document.get("pad_id")
    vocab = model.get("vocab") if isinstance(model, dict) and model.get("type") == "WordLevel" else None
    if not isinstance(vocab, dict) or not 0 < len(vocab) <= MOST_WORDS:
        raise _bad("has no table of words")
    if any(type(id) is not int or not 0 <= id < MOST_WORDS for id in (pad_id, *vocab.values())):
        raise _bad("has an id that is no number of a word")
    unknown = model.get("unk_token") if isinstance(model, dict) else None
    if not isinstance(unknown, str) or unknown not in vocab:
        raise _bad("has no id for words that it does not know")
    if not _replaces_only(tokenizer.get("normalizer")) or not _splits_only(tokenizer.get("pre_tokenizer")):
        raise _bad("does more to a text than to replace strings and to split at spaces")
    return int(pad_id), tokenizer


def _replaces_only(node: Any) -> bool:
    if node is None:
        return True
    steps: Any = node.get("normalizers") if isinstance(node, dict) and node.get("type") == "Sequence" else None
    return isinstance(steps, list) and len(steps) <= MOST_REPLACEMENTS and all(_is_replacement(step) for step in steps)


def _is_replacement(step: Any) -> bool:
    if not isinstance(step, dict) or step.get("type") != "Replace" or not isinstance(step.get("pattern"), dict):
        return False
    old, new = step["pattern"].get("String"), step.get("content")
    if list(step["pattern"]) != ["String"] or not isinstance(old, str) or not isinstance(new, str):
        return False
    return len(old) > 0 and len(new) <= len(old)  # a text does not grow


def _splits_only(node: Any) -> bool:
    return node is None or (
        isinstance(node, dict)
        and node.get("type") == "Split"
        and node.get("pattern") == {"String": " "}
        and node.get("behavior") == "Removed"
    )


def _bad(what: str) -> BadFile:
    return BadFile(f"the metadata {KEY} {what}", HINT)
