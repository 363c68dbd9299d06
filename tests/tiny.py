"""Small random checkpoints, for tests that need a model but not its words."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np

from edge.make.checkpoints import Architecture, Checkpoint, bias_shapes, expected_shapes
from edge.tokenizer import from_llama2c

SHAPE = Architecture(vocab_size=300, dim=32, hidden_dim=44, layers=2, heads=4, kv_heads=2, context=24)
CARD = {
    "name": "tiny",
    "licence": "Apache-2.0",
    "source": "random numbers",
    "bos_id": 1,
    "stop_ids": [1, 2],
    "template": {"before": "", "after": ""},
}


def llama2c_tokenizer(vocab_size: int) -> bytes:
    """A tokenizer file of llama2.c: specials, byte tokens, then pieces made of letters."""
    names = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = "eariotnslcudpmhgbfywkvxzjq "
    names += [*letters, *(a + b for a in letters for b in letters)][: vocab_size - len(names)]
    records = (struct.pack("<fi", -float(i), len(name.encode())) + name.encode() for i, name in enumerate(names))
    return struct.pack("<i", max(map(len, names))) + b"".join(records)


def checkpoint(seed: int = 0, tied: bool = True, card: Any = None, biases: str = "", **changes: Any) -> Checkpoint:
    """A checkpoint of SHAPE with changes; its logits spread over some units, as those of a trained one do.

    biases: of which matrices there are some, as in "q k v".
    """
    shape = replace(SHAPE, **{"head_dim": 0, **changes})
    random = np.random.default_rng(seed)
    weights = {}
    for name, size in expected_shapes(shape, tied).items():
        spread = random.standard_normal(size)
        weights[name] = (1 + 0.1 * spread if len(size) == 1 else spread / np.sqrt(size[-1])).astype(np.float32)
    weights["embedding"] *= np.float32(3)
    for name, size in bias_shapes(shape).items():
        if name.removesuffix("_bias").partition(".")[2] in biases.split():
            weights[name] = (0.5 * random.standard_normal(size)).astype(np.float32)
    return Checkpoint(shape, weights, from_llama2c(llama2c_tokenizer(shape.vocab_size)), {**CARD, **(card or {})})
