"""Attention of one token over all positions so far: softmax(q·K / sqrt(head_dim)) V; a group of heads shares K and V.

    inputs      qkv float32[(heads + 2 kv_heads) * head_dim]: queries, keys, values, the first two already rotated
    outputs     y float32[heads * head_dim]
    attributes  layer, heads, kv_heads, head_dim, context, cache_bits (8 or 32)

The step's keys and values become row `position` of the cache, then rows 0 … position are attended: nothing is computed
for positions that are not filled. With a float32 cache every sum runs first to last.

Sources: Vaswani et al., 2017, arXiv:1706.03762; groups: Ainslie et al., 2023, arXiv:2305.13245. With an int8 cache, for
each query head:

    base           the key at position 0, in half precision
    keys, values   key - base, and value, quantized for each kv head as packed.quantize_coded does: a byte of scale
    query          quantized as packed.quantize does, its scale stays float32
    score[t]       dot(query, key[t]) * key_scale[t] * (query_scale * (log2 e / sqrt(head_dim))), in 2^-7 towards zero,
                   an int16 that saturates at ±256
    e[t]           2^-((max score - score[t]) >> 1), in steps of 1 / 64 and in 2^-16: exp.exp2_table
    factor[t]      value_scale[t] as an integer: 8 plus the 3 low bits of its byte, 27 bits to the left, then to the
                   right by what its exponent is behind the largest one and by weight_shift
    weight[t]      e[t] * factor[t] / 2^32 to the nearest int16
    y[d]           dot(weight, value[·, d]) * (2^(largest exponent - 19 + weight_shift) / sum of e)

A constant taken off all keys changes all scores of a query alike, which softmax does not see; but keys of one head have
much in common, and int8 is finer for what remains: KL from the float model falls from .0038 to .0028 (stories260K).

From the score on all are integers, whose sums need no order. The error of e is at most 0.55 % of itself, from the
table's 64 steps for each halving, and 2^-16, which is half a step of the weights. As int8, the values themselves are
only known to 0.4 % of their row's largest. The sum holds the same e as the weights do, so that what is common to all
values comes out as it went in. Of KL from the float model the table costs about .0001.
So the softmax's division happens once a head, and both dot products are of integers. weight_shift is 0, or what keeps
the second from overflowing in long contexts. In the cache, keys lie as packed.py packs a matrix [position, dim].
Values lie as it packs [dim, position], but without the 128 on even columns, since int16 weights leave no room for that
arithmetic; instead positions 1 and 2 of each block change places, so that SXTB16 takes neighbours out of a word. For
Helium keys lie [position, dim] as they are, and values in parts of 8 positions, [part, dim, 8].
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools.errors import UserError
from firmware_tools.exp import exp2_table, exp_f32
from firmware_tools.ops import Array, Call, Run, fastest
from firmware_tools.packed import LANES, byte_scale, fixed, half, padded, quantize, quantize_coded, sequential_sum

MOST_COLUMNS = 344  # of a head: SMLAD of bytes up to 255 fits 32 bits, see packed.py
HELIUM_SIZES = (8, 16, 32, 64)  # of heads that have a kernel of their own there
PART = 8  # positions; Helium reads so many values of a dimension at once
LARGEST_WEIGHT = 15 << 11  # of a value, before weight_shift: of a factor of 15 << 27


def score_scale(call: Call) -> np.float32:
    """The factor of scores whose exponentials are taken to base 2 (int8 cache) or e (float32 cache)."""
    log_base = math.log2(math.e) if call.attributes["cache_bits"] == 8 else 1.0
    return np.float32(log_base / math.sqrt(call.attributes["head_dim"]))


def weight_shift(call: Call) -> int:
    """What keeps sums below 2^31 with the largest weight and a value of 127 in every position."""
    most = 127 * padded(int(call.attributes["context"]))
    shift = next((shift for shift in range(5) if (LARGEST_WEIGHT >> shift) * most < 2**31), None)
    if shift is None:
        what = f"a context of {call.attributes['context']} positions is too long for an int8 KV cache"
        raise UserError(what, "a smaller --context, or float32 weights, whose cache is float32")
    return shift


def slots_of(call: Call) -> int:
    """Positions that the cache has room for: whole parts, and two at least, as Helium reads a bit behind some rows."""
    return max(-(-int(call.attributes["context"]) // PART), 2) * PART


def split(call: Call, qkv: Array) -> tuple[Array, Array, Array]:
    """The queries [heads, head_dim], keys and values [kv_heads, head_dim]."""
    heads, kv_heads = int(call.attributes["heads"]), int(call.attributes["kv_heads"])
    rows = qkv.reshape(heads + 2 * kv_heads, -1)
    return rows[:heads], rows[heads : heads + kv_heads], rows[heads + kv_heads :]


def shared(call: Call, rows: Array) -> Array:
    """Rows of kv heads [kv_heads, …], repeated for each query head of their group [heads, …]."""
    return np.repeat(rows, int(call.attributes["heads"] // call.attributes["kv_heads"]), axis=0)


def cache(call: Call, run: Run) -> dict[str, Array]:
    """The call's cache, empty at first: keys, values [kv_heads, context, head_dim]; with 8 bits also scales [kv_heads,
    context] and bases [kv_heads, head_dim]."""
    kv_heads, head_dim = int(call.attributes["kv_heads"]), int(call.attributes["head_dim"])
    shape = (kv_heads, int(call.attributes["context"]), head_dim)
    layer = int(call.attributes["layer"])
    if layer not in run.caches:
        if call.attributes["cache_bits"] == 8:
            run.caches[layer] = {name: np.zeros(shape, np.int8) for name in ("keys", "values")}
            run.caches[layer] |= {name: np.zeros(shape[:2], np.uint8) for name in ("key_scales", "value_scales")}
            run.caches[layer]["bases"] = np.zeros((kv_heads, head_dim), np.float16)
        else:
            run.caches[layer] = {name: np.zeros(shape, np.float32) for name in ("keys", "values")}
    return run.caches[layer]


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    queries, keys, values = split(call, inputs[0])
    kept = cache(call, run)
    if call.attributes["cache_bits"] == 32:
        kept["keys"][:, run.position], kept["values"][:, run.position] = keys, values
        return (attend_f32(call, queries, {name: array[:, : run.position + 1] for name, array in kept.items()}),)
    if run.position == 0:
        kept["bases"][:] = half(keys)
    for name, rows in (("key", keys - kept["bases"].astype(np.float32)), ("value", values)):
        kept[f"{name}s"][:, run.position], kept[f"{name}_scales"][:, run.position] = quantize_coded(rows)
    return (attend_s8(call, queries, {name: array[:, : run.position + 1] for name, array in kept.items()}),)


def attend_s8(call: Call, queries: Array, filled: Mapping[str, Array]) -> Array:
    """y [heads * head_dim] from float32 queries and the filled rows of an int8 cache."""
    key_scales = byte_scale(shared(call, filled["key_scales"]))
    query, query_scale = quantize(queries)
    dots = np.einsum("htd,hd->ht", shared(call, filled["keys"]).astype(np.int32), query)
    scores = fixed(dots.astype(np.float32) * key_scales * (query_scale * score_scale(call))[:, None], 7, bits=16)
    e = exp2_table((scores.max(axis=1)[:, None] - scores) >> 1)
    mantissas, exponents = (shared(call, part).astype(np.int64) for part in np.divmod(filled["value_scales"], 8)[::-1])
    top = exponents.max(axis=1)
    factors = ((mantissas + 8) << 27) >> (top[:, None] - exponents) >> weight_shift(call)
    weights = (e * factors + 2**31) >> 32
    sums = np.einsum("ht,htd->hd", weights, shared(call, filled["values"]).astype(np.int64))
    unit = np.ldexp(np.float32(1), (top - 19 + weight_shift(call)).astype(np.int32))
    y: Array = sums.astype(np.float32) * (unit / e.sum(axis=1).astype(np.float32))[:, None]
    return y.reshape(-1)


def attend_f32(call: Call, queries: Array, filled: Mapping[str, Array]) -> Array:
    """y [heads * head_dim] from queries and the filled rows of a float32 cache."""
    keys, values = shared(call, filled["keys"]), shared(call, filled["values"])
    scores = sequential_sum(queries[:, None, :] * keys) * score_scale(call)
    e = exp_f32(scores - scores.max(axis=1)[:, None])
    y = sequential_sum(e[:, :, None] * values, axis=1) * (np.float32(1) / sequential_sum(e))[:, None]
    return y.reshape(-1)


def kernel(call: Call, features: frozenset[str]) -> str:
    if call.attributes["cache_bits"] == 32:
        return "edge_attention_f32"
    ending = fastest(features, "mve", "dsp")
    head_dim = int(call.attributes["head_dim"])
    if ending == "_dsp" and not _in_pairs(call, features):
        return "edge_attention_s8"
    sizes = {"_mve": HELIUM_SIZES, "_dsp": (8,)}.get(ending, ())  # that have a kernel of their own
    return f"edge_attention_s8{ending}{f'_{head_dim}' if head_dim in sizes else ''}"


def _in_pairs(call: Call, features: frozenset[str]) -> bool:
    """Does the core compute two heads at once by SMLAD?"""
    return fastest(features, "mve", "dsp") == "_dsp" and int(call.attributes["head_dim"]) <= MOST_COLUMNS


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    shape = ", ".join(f".{n} = {int(call.attributes[n])}" for n in ("heads", "kv_heads", "head_dim", "context"))
    shape += f", .scale = {score_scale(call)!s}f, .weight_shift = {weight_shift(call)}"
    shape = f"&(edge_attention_shape){{{shape}}}"
    arguments = (c["position"], c["in0"], c["out0"], shape, c["count"], c["cache"], c["workspace"])
    return f"{kernel(call, features)}({', '.join(arguments)});"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """A score for each position; with an int8 cache also a factor of the value, or another head's score, and rows of
    head_dim."""
    slots, head_dim = slots_of(call), padded(int(call.attributes["head_dim"]))
    if call.attributes["cache_bits"] == 32:
        return 4 * slots
    if "mve" in features:  # a factor takes 2 bytes; behind the weights and on both sides of the row there are zeros
        return 2 * (slots + PART) + 2 * slots + 4 * head_dim + PART + -(-head_dim // LANES) * LANES + LANES
    return 4 * slots + 12 * head_dim if _in_pairs(call, features) else 6 * slots + 6 * head_dim


def cache_bytes(call: Call) -> int:
    kv_heads, context, head_dim = (int(call.attributes[name]) for name in ("kv_heads", "context", "head_dim"))
    if call.attributes["cache_bits"] == 32:
        return 2 * 4 * kv_heads * context * head_dim
    return 2 * kv_heads * (slots_of(call) * (padded(head_dim) + 1) + padded(head_dim))


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    heads, kv_heads, head_dim = (int(call.attributes[name]) for name in ("heads", "kv_heads", "head_dim"))
    slots = padded(position + 1) if call.attributes["cache_bits"] == 8 else position + 1
    pairs = kv_heads * -(heads // kv_heads // -2)  # by SMLAD, two heads of a group are computed at once
    return {
        "repeated": kv_heads * (slots - position),
        "base": kv_heads * head_dim * (position == 0),
        "pair": pairs,
        "pair_position": pairs * slots,
        "pair_product": pairs * slots * padded(head_dim),
        "call": 1,
        "kv_head": kv_heads,
        "head": heads,
        "kv_element": kv_heads * head_dim,
        "element": heads * head_dim,
        "kv_position": kv_heads * slots,
        "position": heads * slots,
        "product": heads * slots * head_dim,
    }
