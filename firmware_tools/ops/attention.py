"""Attention of one token over all positions so far: softmax(q·K / sqrt(head_dim)) V; a group of heads shares K and V.

    inputs      qkv float32[(heads + 2 kv_heads) * head_dim]: queries, keys, values, the first two already rotated
    outputs     y float32[heads * head_dim]
    attributes  layer, heads, kv_heads, head_dim, context, cache_bits (8 or 32)

The step's keys and values become row `position` of the cache, then rows 0 … position are attended: nothing is computed
for positions that are not filled. With a float32 cache every sum runs first to last.

Sources: Vaswani et al., 2017, arXiv:1706.03762; groups: Ainslie et al., 2023, arXiv:2305.13245. With an int8 cache, for
each query head:

    keys, values   quantized for each kv head as packed.quantize does; scale kept as float16
    query          quantized likewise, its scale stays float32
    score[t]       dot(query, key[t]) * key_scale[t] * (query_scale * (log2 e / sqrt(head_dim))), in 2^-16 towards zero,
                   an int32 that saturates at ±32768
    e[t]           2^(score[t] - max score) in 2^-16: exp.exp2_table
    factor[t]      value_scale[t] * (limit / max value_scale) in 2^-16 towards zero
    weight[t]      e[t] * factor[t] to the nearest int16
    y[d]           dot(weight, value[·, d]) * (max value_scale / (sum of e * limit))

From the score on all are integers, whose sums need no order. The error of e is at most 0.55 % of itself, from the
table's 64 steps for each halving, and 2^-16, which is half a step of the weights. As int8, the values themselves are
only known to 0.4 % of their row's largest. The sum holds the same e as the weights do, so that what is common to all
values comes out as it went in. Of KL from the float model (.0038), the table costs about .0001.
So the softmax's division happens once a head, and both dot products are of integers. limit is 32767, or what keeps the
second from overflowing in long contexts. In the cache, keys lie as packed.py packs a matrix [position, dim]. Values lie
as it packs [dim, position], but without the 128 on even columns, since int16 weights leave no room for that arithmetic;
instead positions 1 and 2 of each block change places, so that SXTB16 takes neighbours out of a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools.exp import exp2_table, exp_f32
from firmware_tools.ops import Array, Call, Run
from firmware_tools.packed import fixed, half, padded, quantize, sequential_sum

ONE = np.float32(65536)  # of scores, e and factors: they are in 2^-16


def score_scale(call: Call) -> np.float32:
    """The factor of scores whose exponentials are taken to base 2 (int8 cache) or e (float32 cache)."""
    log_base = math.log2(math.e) if call.attributes["cache_bits"] == 8 else 1.0
    return np.float32(log_base / math.sqrt(call.attributes["head_dim"]))


def weight_limit(call: Call) -> int:
    """The largest weight; with values of at most 127 in every position the sum stays below 2^31."""
    return int(min(32767, (2**31 - 1) // (127 * padded(int(call.attributes["context"])))))


def split(call: Call, qkv: Array) -> tuple[Array, Array, Array]:
    """The queries [heads, head_dim], keys and values [kv_heads, head_dim]."""
    heads, kv_heads = int(call.attributes["heads"]), int(call.attributes["kv_heads"])
    rows = qkv.reshape(heads + 2 * kv_heads, -1)
    return rows[:heads], rows[heads : heads + kv_heads], rows[heads + kv_heads :]


def shared(call: Call, rows: Array) -> Array:
    """Rows of kv heads [kv_heads, …], repeated for each query head of their group [heads, …]."""
    return np.repeat(rows, int(call.attributes["heads"] // call.attributes["kv_heads"]), axis=0)


def cache(call: Call, run: Run) -> dict[str, Array]:
    """The call's cache, empty at first: keys, values [kv_heads, context, head_dim]; scales [kv_heads, context]."""
    kv_heads, head_dim = int(call.attributes["kv_heads"]), int(call.attributes["head_dim"])
    shape = (kv_heads, int(call.attributes["context"]), head_dim)
    layer = int(call.attributes["layer"])
    if layer not in run.caches:
        if call.attributes["cache_bits"] == 8:
            names = {"keys": np.int8, "values": np.int8, "key_scales": np.float16, "value_scales": np.float16}
        else:
            names = {"keys": np.float32, "values": np.float32}
        run.caches[layer] = {name: np.zeros(shape[: 2 if "scales" in name else 3], t) for name, t in names.items()}
    return run.caches[layer]


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    queries, keys, values = split(call, inputs[0])
    kept = cache(call, run)
    if call.attributes["cache_bits"] == 32:
        kept["keys"][:, run.position], kept["values"][:, run.position] = keys, values
        return (attend_f32(call, queries, {name: array[:, : run.position + 1] for name, array in kept.items()}),)
    for name, rows in (("key", keys), ("value", values)):
        kept[f"{name}s"][:, run.position], scales = quantize(rows)
        kept[f"{name}_scales"][:, run.position] = half(scales)
    return (attend_s8(call, queries, {name: array[:, : run.position + 1] for name, array in kept.items()}),)


def attend_s8(call: Call, queries: Array, filled: Mapping[str, Array]) -> Array:
    """y [heads * head_dim] from float32 queries and the filled rows of an int8 cache."""
    key_scales, value_scales = (shared(call, filled[f"{n}_scales"]).astype(np.float32) for n in ("key", "value"))
    query, query_scale = quantize(queries)
    dots = np.einsum("htd,hd->ht", shared(call, filled["keys"]).astype(np.int32), query)
    scores = fixed(dots.astype(np.float32) * key_scales * (query_scale * score_scale(call))[:, None])
    e = exp2_table(scores.max(axis=1)[:, None] - scores)
    limit, top = np.float32(weight_limit(call)), value_scales.max(axis=1)
    inverse = np.where(top > 0, limit * ONE / np.where(top > 0, top, np.float32(1)), np.float32(0))
    factors = (value_scales * inverse[:, None]).astype(np.int64)
    weights = (e * factors + 2**31) >> 32
    sums = np.einsum("ht,htd->hd", weights, shared(call, filled["values"]).astype(np.int64))
    y: Array = sums.astype(np.float32) * (top * ONE / (e.sum(axis=1).astype(np.float32) * limit))[:, None]
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
    return f"edge_attention_s8{'_dsp' if 'dsp' in features else ''}"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    shape = ", ".join(f".{n} = {int(call.attributes[n])}" for n in ("heads", "kv_heads", "head_dim", "context"))
    shape += f", .scale = {score_scale(call)!s}f, .limit = {weight_limit(call)}"
    shape = f"&(edge_attention_shape){{{shape}}}"
    arguments = (c["position"], c["in0"], c["out0"], shape, c["count"], c["cache"], c["workspace"])
    return f"{kernel(call, features)}({', '.join(arguments)});"


def workspace_bytes(call: Call, features: frozenset[str], rows: int) -> int:
    """A score for each position; with an int8 cache also a factor of the value, and a quantized row of head_dim."""
    slots = padded(int(call.attributes["context"]))
    if call.attributes["cache_bits"] == 32:
        return 4 * slots
    return 8 * slots + 2 * padded(int(call.attributes["head_dim"]))


def cache_bytes(call: Call) -> int:
    kv_heads, context, head_dim = (int(call.attributes[name]) for name in ("kv_heads", "context", "head_dim"))
    if call.attributes["cache_bits"] == 32:
        return 2 * 4 * kv_heads * context * head_dim
    return 2 * kv_heads * padded(context) * (padded(head_dim) + 2)


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    heads, kv_heads, head_dim = (int(call.attributes[name]) for name in ("heads", "kv_heads", "head_dim"))
    slots = padded(position + 1) if call.attributes["cache_bits"] == 8 else position + 1
    return {
        "call": 1,
        "kv_head": kv_heads,
        "head": heads,
        "kv_element": kv_heads * head_dim,
        "element": heads * head_dim,
        "kv_position": kv_heads * slots,
        "position": heads * slots,
        "product": heads * slots * head_dim,
    }
