"""Attention of one token over all positions so far, in block floating point on a core without FPU.

    inputs      qkv int32[(heads + 2 kv_heads) * head_dim + 1], a row of bfp.py: queries, keys, values
    outputs     y int32[heads * head_dim + 1]
    attributes  layer, heads, kv_heads, head_dim (even, at most 1024), context

The step's keys and values become row `position` of the cache, then rows 0 … position are attended. For each kv head:

    keys, values   int8 and scale codes of bfp.code: a value has one, a key one for each half of its head; halves differ
                   much, since RoPE's pairs (i, i + head_dim / 2) do, and two codes instead of one scale save half of
                   what the keys' rounding does to the logits
    query          15 bits times log2 e / sqrt(head_dim)
    score[t]       of both halves: dot(query, key[t]) in 15 bits * the code's factor, in units of the largest code's
    e[t]           2^(score[t] - max score) in 2^-16: exp.exp2_table
    weight[t]      e[t] * the value's code's factor, in 16 bits
    y[d]           dot(weight, value[·, d]) / sum of e

Heads have exponents of their own until all are computed. In the cache all numbers are stored 128 too large, as unsigned
bytes, which LDRB loads; both dot products take it off again at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools import bfp
from firmware_tools.exp import TABLE
from firmware_tools.ops import Array, Call, Run

QUERY_FACTOR_BITS = 16
KEY_BITS, VALUE_BITS = 11, 12  # a factor of the largest code is 8 to 15 times 2 to the power of it
MOST_HEAD_DIM = 1024  # beyond it a dot product leaves 32 bits


def sizes_of(call: Call) -> tuple[int, int, int, int]:
    return tuple(int(call.attributes[name]) for name in ("heads", "kv_heads", "head_dim", "context"))  # type: ignore[return-value]


def query_factor(call: Call) -> tuple[int, int]:
    """log2 e / sqrt(head_dim) in 16 bits, and its exponent."""
    exact = np.array([math.log2(math.e) / math.sqrt(call.attributes["head_dim"])])
    factor, exponent = bfp.constant(exact, QUERY_FACTOR_BITS)
    return int(factor[0]), exponent


def score_shift(call: Call) -> int:
    """Bits that a half's dot product loses to have 15."""
    return 7 + (int(call.attributes["head_dim"]) // 2 - 1).bit_length()


def weight_shift(call: Call) -> int:
    """Bits that e times a factor loses: 16, or more where the sum over a long context would leave 32."""
    return 16 + max((int(call.attributes["context"]) - 1).bit_length() - 8, 0)


def cache(call: Call, run: Run) -> dict[str, Array]:
    """The call's cache, empty at first."""
    layer = int(call.attributes["layer"])
    if layer not in run.caches:
        _, kv_heads, head_dim, context = sizes_of(call)
        shapes = {"keys": (head_dim,), "values": (head_dim,), "key_codes": (2,), "value_codes": (1,)}
        run.caches[layer] = {name: np.zeros((kv_heads, context, *rest), np.int64) for name, rest in shapes.items()}
    return run.caches[layer]


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    heads, kv_heads, head_dim, _ = sizes_of(call)
    exponent, m = bfp.split(inputs[0])
    rows, kept = m.reshape(heads + 2 * kv_heads, head_dim), cache(call, run)
    for g, (key, value) in enumerate(zip(rows[heads : heads + kv_heads], rows[heads + kv_heads :], strict=True)):
        for half, part in enumerate(np.split(key, 2)):
            place = slice(half * head_dim // 2, (half + 1) * head_dim // 2)
            kept["keys"][g, run.position, place], kept["key_codes"][g, run.position, half] = bfp.code(part, exponent)
        kept["values"][g, run.position], kept["value_codes"][g, run.position, 0] = bfp.code(value, exponent)
    filled = {name: array[:, : run.position + 1] for name, array in kept.items()}
    found = []
    for h in range(heads):
        kv = {name: array[h // (heads // kv_heads)] for name, array in filled.items()}
        found.append(attend(call, rows[h], exponent, kv))
    common = max(e for _, e in found)
    return (bfp.join(common, np.concatenate([bfp.scaled(y, common - e) for y, e in found])),)


def attend(call: Call, query: Array, exponent: int, kv: Mapping[str, Array]) -> tuple[Array, int]:
    """One head's y [head_dim] and its exponent, from the filled rows of its kv head."""
    factor, factor_exponent = query_factor(call)
    q, shift = bfp.narrowed(query)
    q = (q * factor) >> QUERY_FACTOR_BITS
    top = int(kv["key_codes"].max())
    key_factors = bfp.code_factors(kv["key_codes"], top, KEY_BITS)
    dots = (kv["keys"] * q).reshape(len(key_factors), 2, -1).sum(axis=2)
    scores = ((dots >> score_shift(call)) * key_factors).sum(axis=1)
    unit = exponent + shift + QUERY_FACTOR_BITS + factor_exponent + score_shift(call) - KEY_BITS + (top >> 3) + bfp.BASE
    e = TABLE[np.minimum((scores.max() - scores) >> min(max(-6 - unit, 0), 31), 1023)]
    value_top = int(kv["value_codes"].max())
    value_factors = bfp.code_factors(kv["value_codes"][:, 0], value_top, VALUE_BITS)
    weights = (e * value_factors) >> weight_shift(call)
    total = int(e.sum())
    spare = total.bit_length() - 16
    y = ((weights @ kv["values"]) * bfp.inverse(total >> spare)) >> 16
    return y, weight_shift(call) - VALUE_BITS - 14 - spare + (value_top >> 3) + bfp.BASE


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_attention_bfp" + ("_v6m" + "_pair" * ("pair" in features) if "v6m" in features else "")


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    heads, kv_heads, head_dim, context = sizes_of(call)
    factor, exponent = query_factor(call)
    shape = f".heads = {heads}, .kv_heads = {kv_heads}, .group = {heads // kv_heads}, .head_dim = {head_dim}"
    shape += f", .context = {context}, .query_factor = {factor}, .query_exponent = {exponent}"
    shape += f", .score_shift = {score_shift(call)}, .weight_shift = {weight_shift(call)}"
    pointer = f"&(edge_attention_bfp_shape){{{shape}}}"
    arguments = (c["position"], c["in0"], c["out0"], pointer, c["cache"], c["workspace"], c["count"])
    return f"{kernel(call, features)}({', '.join(arguments)});"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """An exponent for each head; two dot products and three factors for each position, the query: of each core."""
    heads, _, head_dim, context = sizes_of(call)
    cores = 2 if {"v6m", "pair"} <= features else 1
    return 4 * heads + cores * (4 * head_dim + 14 * context + 2 * (context % 2))


def cache_bytes(call: Call) -> int:
    _, kv_heads, head_dim, context = sizes_of(call)
    return kv_heads * context * (2 * head_dim + 3)


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    heads, kv_heads, head_dim, _ = sizes_of(call)
    filled = position + 1
    return {
        "call": 1,
        "kv_head": kv_heads,
        "head": heads,
        "kv_element": kv_heads * head_dim,
        "element": heads * head_dim,
        "kv_position": kv_heads * filled,
        "position": heads * filled,
        "product": heads * filled * head_dim,
    }
