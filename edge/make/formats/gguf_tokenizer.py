"""The vocabulary in a GGUF file as a tokenizer.json, with the ids that begin and end a text.

`tokenizer.ggml.model` says which kind it is. `gpt2`: byte-level BPE with merges; how a text is split before merging has
a name there (`tokenizer.ggml.pre`) and no rule, so that the rules are here, and an unknown name is an error. `llama`:
SentencePiece's BPE with a score for each token; a merge is each way to cut a token into two, ranked by its score, which
is what Hugging Face makes of such a model, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from firmware_tools import vocabulary
from firmware_tools.errors import BadFile

UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 2, 3, 4, 5, 6  # types of tokens; 1 is a normal one
ENDS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|end_of_text|>", "</s>")
HINT = "take a GGUF that llama.cpp's convert script has made of this model"

# How a text is split, as regular expressions applied one after the other, each to the pieces that the last one left.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")
RULES = (
    (("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4"), (GPT2,)),
    (("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), (r"\p{N}", GPT2)),
    (("llama-bpe", "llama-v3", "llama3", "falcon3", "dbrx", "smaug-bpe"), (LLAMA3,)),
    (("qwen2", "stablelm2", "deepseek-r1-qwen", "megrez", "hunyuan"), (QWEN2,)),
    (("default",), DEFAULT),
)
SPLITS = {name: rules for names, rules in RULES for name in names}
WHOLE_WORDS = ("llama-bpe", "llama-v3", "llama3", "falcon3")  # a word that is a token is not merged; BOS goes first
COMPOSED = ("qwen2", "deepseek-r1-qwen", "megrez", "hunyuan")  # Unicode's NFC first


def tokenizer(values: Mapping[str, Any], name: str) -> bytes:
    """tokenizer.json of the key-value pairs of a file called name; BadFile where they do not make one."""
    tokens = _tokens(values, name)
    types = _types(values, len(tokens), name)
    kind = values.get("tokenizer.ggml.model")
    if "tokenizer.ggml.precompiled_charsmap" in values:
        raise BadFile(f"the tokenizer of {name} normalizes text by a table of its own, which is not supported", HINT)
    if kind == "gpt2":
        return _byte_level(values, tokens, types, name)
    if kind == "llama":
        return _sentence_piece(values, tokens, types, name)
    raise BadFile(f"the tokenizer of {name} is {str(kind)[:60]!a}, read are gpt2 (BPE) and llama (SentencePiece)", HINT)


def ends(values: Mapping[str, Any], name: str) -> tuple[int | None, list[int]]:
    """(the id that a text begins with or None, the ids that end one)."""
    tokens = _tokens(values, name)
    pre = values.get("tokenizer.ggml.pre")
    has_bos = values.get("tokenizer.ggml.add_bos_token")
    if has_bos is None:
        has_bos = values.get("tokenizer.ggml.model") == "llama" or pre in WHOLE_WORDS
    bos = _id(values, "bos", len(tokens), name) if has_bos else None
    stops = [_id(values, key, len(tokens), name) for key in ("eos", "eot", "eom")]
    types = _types(values, len(tokens), name)
    stops += [tokens.index(end) for end in ENDS if end in tokens and types[tokens.index(end)] == CONTROL]
    return bos, list(dict.fromkeys(stop for stop in stops if stop is not None))


def special_names(values: Mapping[str, Any], name: str) -> dict[str, str]:
    """The texts of special tokens, by the names that a chat template has for them."""
    tokens = _tokens(values, name)
    keys = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    ids = {theirs: _id(values, ours, len(tokens), name) for ours, theirs in keys.items()}
    return {f"{what}_token": tokens[id] for what, id in ids.items() if id is not None}


def _id(values: Mapping[str, Any], what: str, count: int, name: str) -> int | None:
    key = f"tokenizer.ggml.{what}_token_id"
    id = values.get(key)
    if id is not None and not (type(id) is int and 0 <= id < count):
        raise BadFile(f"{name} has {key} = {str(id)[:20]}, and {count} tokens", HINT)
    return id


def _tokens(values: Mapping[str, Any], name: str) -> list[str]:
    tokens = values.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not 0 < len(tokens) <= vocabulary.MAX_PIECES:
        raise BadFile(f"{name} has no tokenizer: no list of tokens in tokenizer.ggml.tokens", HINT)
    if len(set(tokens)) != len(tokens):
        raise BadFile(f"the tokenizer of {name} has a token twice", HINT)
    return tokens


def _types(values: Mapping[str, Any], count: int, name: str) -> Sequence[int]:
    types = values.get("tokenizer.ggml.token_type")
    if types is None:
        return [1] * count
    if not isinstance(types, np.ndarray) or types.dtype.kind not in "iu" or types.size != count:
        raise BadFile(f"the tokenizer of {name} has no type for each of its {count} tokens", HINT)
    return list(types.tolist())


# ------------------------------------------------------------------------------------------------------------- kinds


def _byte_level(values: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int], name: str) -> bytes:
    pre = values.get("tokenizer.ggml.pre", "default")
    if pre not in SPLITS:
        known = ", ".join(SPLITS)
        raise BadFile(f"{name} splits text in a way called {str(pre)[:60]!a}, which is not known", f"known: {known}")
    listed = values.get("tokenizer.ggml.merges")
    if not isinstance(listed, list) or not all(isinstance(merge, str) for merge in listed):
        raise BadFile(f"the tokenizer of {name} has no merges", HINT)
    merges = [merge.split(" ", 1) for merge in listed]
    pieces = {token: id for id, token in enumerate(tokens) if types[id] not in (CONTROL, USER_DEFINED, UNUSED)}
    steps: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in SPLITS[pre]
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return _json(
        added=_added(tokens, types),
        normalizer={"type": "NFC"} if pre in COMPOSED else None,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [*steps, byte_level]},
        decoder=byte_level,
        vocab=pieces,
        merges=merges,
        ignore_merges=pre in WHOLE_WORDS,
    )


def _sentence_piece(values: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int], name: str) -> bytes:
    scores = values.get("tokenizer.ggml.scores")
    if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f" or scores.size != len(tokens):
        raise BadFile(f"the tokenizer of {name} has no score for each of its {len(tokens)} tokens", HINT)
    if not np.isfinite(scores).all():
        raise BadFile(f"the tokenizer of {name} has a score that is not finite", HINT)
    mark = vocabulary.WORD_MARK
    dummy_space = values.get("tokenizer.ggml.add_space_prefix", True) is True
    normalizers: list[dict[str, Any]] = [{"type": "Prepend", "prepend": mark}] if dummy_space else []
    normalizers.append({"type": "Replace", "pattern": {"String": " "}, "content": mark})
    decoders: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": mark}, "content": " "}]
    decoders += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    decoders += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if dummy_space else []
    unknown = [token for token, kind in zip(tokens, types, strict=True) if kind == UNKNOWN]
    return _json(
        added=_added(tokens, types),
        normalizer={"type": "Sequence", "normalizers": normalizers},
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": decoders},
        vocab={token: id for id, token in enumerate(tokens)},
        merges=_merges(tokens, types, scores.tolist()),
        unk_token=unknown[0] if unknown else None,
        fuse_unk=True,
        byte_fallback=True,
    )


def _merges(tokens: Sequence[str], types: Sequence[int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Each way to cut a normal token into two, the best score first."""
    ids = {token: id for id, token in enumerate(tokens) if types[id] == 1}
    ranked = [
        (-scores[id], ids[token[:cut]], ids[token[cut:]], token[:cut], token[cut:])
        for token, id in ids.items()
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
    return [(left, right) for *_, left, right in sorted(ranked)]


def _added(tokens: Sequence[str], types: Sequence[int]) -> list[dict[str, Any]]:
    """Tokens that text does not merge to; those for control decode to nothing."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": id, "content": tokens[id], **flags, "special": kind != USER_DEFINED}
        for id, kind in enumerate(types)
        if kind in (UNKNOWN, CONTROL, USER_DEFINED, UNUSED)
    ]


def _json(
    *, added: Any, normalizer: Any, pre_tokenizer: Any, decoder: Any, vocab: Any, merges: Any, **model: Any
) -> bytes:
    defaults = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": {**defaults, **model, "vocab": vocab, "merges": merges},
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
