"""The tokenizer of a command model: a BPE with byte fallback whose pieces never hold a space, `_` or a second digit.

A word then has the same pieces in a command (`silver river`) and in its answer (`song=silver_river`), so a small model
can copy words it has never seen. It is the device's kind of tokenizer, without a dummy prefix.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from edge.tokenizer import BOS, BYTES, EOS, UNKNOWN

CUTS = r"[ _,.?!:\n]"  # each stands alone
BOS_ID, EOS_ID = 1, 2


def train(texts: Iterable[str], vocab_size: int) -> bytes:
    """The tokenizer.json of a vocabulary of at most vocab_size pieces, learned from the texts."""
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(CUTS), "isolated"),
            pre_tokenizers.Split(tokenizers.Regex("="), "merged_with_previous"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    alphabet = list("abcdefghijklmnopqrstuvwxyz0123456789 _=,.?!:'-%")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[UNKNOWN, BOS, EOS, *BYTES],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    return _document(model["vocab"], [tuple(merge) for merge in model["merges"]])


def _document(vocab: dict[str, int], merges: list[tuple[str, ...]]) -> bytes:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id, "content": name, **flags} for id, name in enumerate((UNKNOWN, BOS, EOS))],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
            "merges": [list(merge) for merge in merges],
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()
