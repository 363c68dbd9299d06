"""The patterns of RoPE and of attention over a cache, for fuse.py."""

from __future__ import annotations

import math
import re

import numpy as np

from firmware_tools.errors import UserError
from firmware_tools.graph import Operator
from firmware_tools.matcher import Decoder, Indices, Rotated, Step, View, orders

UNSEEN = -1e6  # a score no larger than this has the probability 0, whatever the others are


def rope(decoder: Decoder, operator: Operator) -> list[Step] | None:
    """CONCATENATION(a cos - b sin, b cos + a sin): noted for `attention`, which computes it in place."""
    if operator.op != "CONCATENATION" or not _joins_last_axis(decoder, operator):
        return None
    low, high = decoder.pair(operator.inputs[0], "SUB"), decoder.pair(operator.inputs[1], "ADD")
    if low is None or high is None:
        return None
    terms = [_times_table(decoder, index) for index in (*low, *high)]
    for a_cos, b_sin, *others in ((terms[0], terms[1], terms[2], terms[3]), (terms[0], terms[1], terms[3], terms[2])):
        b_cos, a_sin = others
        if a_cos is None or b_sin is None or b_cos is None or a_sin is None:
            return None
        (a, cos), (b, sin) = a_cos, b_sin
        if not (
            a.is_same(a_sin[0]) and b.is_same(b_cos[0]) and cos == b_cos[1] and sin == a_sin[1] and a.base == b.base
        ):
            continue
        cosines, sines = decoder.floats(cos), decoder.floats(sin)
        if a.base in decoder.rows and cosines is not None and sines is not None and cosines.shape == sines.shape:
            source = View(a.base, np.concatenate([a.indices, b.indices], axis=-1))
            decoder.rotated[operator.outputs[0]] = Rotated(source, cosines, sines)
            return []
    return None


def _times_table(decoder: Decoder, index: int) -> tuple[View, int] | None:
    """(part of a row, RoPE table) that a tensor is the product of: every pair of a head times its entry of the row."""
    for part, factor in orders(decoder.pair(index, "MUL") or (), 2):
        table, view = decoder.gathered(factor, "position"), decoder.view(part)
        if table is not None and view is not None:
            columns, shape = decoder.tensor(table).shape[1], decoder.tensor(part).shape
            fits = decoder.tensor(factor).shape[-1:] == (columns,) and shape[-1:] == (columns,)
            return (view, table) if fits and decoder.tensor(index).shape == shape else None
    return None


def _joins_last_axis(decoder: Decoder, operator: Operator) -> bool:
    """Are the parts of a CONCATENATION put one after the other along the last axis?"""
    rank = len(decoder.tensor(operator.outputs[0]).shape)
    axis = operator.options.get("axis", 0)
    plain = operator.options.get("fused_activation_function", "NONE") == "NONE"
    return plain and rank > 0 and isinstance(axis, int) and axis % rank == rank - 1


def attention(decoder: Decoder, operator: Operator) -> list[Step] | None:
    """p_old V_old + p_new V_new, where p = SOFTMAX(mask(q K_old), q K_new): one token over its cache and itself."""
    sides = [decoder.made_by(i, "BATCH_MATMUL") for i in operator.inputs] if operator.op == "ADD" else []
    for old, new in orders(sides, 2):
        if old is None or new is None or _adjoint(old) != (False, False) or _adjoint(new) != (False, False):
            continue
        cache = decoder.view(old.inputs[1])
        name = decoder.inputs.get(cache.base, "") if cache is not None else ""
        layer = re.fullmatch(r"v_(\d+)", name)
        if cache is None or layer is None or cache.indices.ndim != 3 or not decoder.is_input(old.inputs[1], name):
            continue
        kv_heads, context, head_dim = cache.indices.shape
        scores = _probabilities(decoder, old.inputs[0], new.inputs[0], context)
        if scores is None or decoder.tensor(new.inputs[1]).shape != (kv_heads, 1, head_dim):
            return None
        shape = (kv_heads, context, head_dim)
        query = _query(decoder, scores, int(layer[1]), shape)
        if query is None:
            return None
        return _attention_steps(decoder, operator.outputs[0], query, new.inputs[1], int(layer[1]), shape)
    return None


def _adjoint(operator: Operator) -> tuple[bool, bool]:
    return bool(operator.options.get("adj_x", False)), bool(operator.options.get("adj_y", False))


def _probabilities(decoder: Decoder, old: int, new: int, context: int) -> tuple[int, int] | None:
    """(scores of the cache, scores of the new row) whose softmax the tensors old and new are the two parts of."""
    left, right = decoder.view(old), decoder.view(new)
    softmax = None if left is None else decoder.made_by(left.base, "SOFTMAX")
    if (
        left is None
        or right is None
        or softmax is None
        or left.base != right.base
        or softmax.options.get("beta") != 1.0
    ):
        return None
    shape = decoder.tensor(left.base).shape
    whole: Indices = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    if shape[-1] != context + 1 or not np.array_equal(left.indices, whole[..., :context]):
        return None
    joined = decoder.made_by(softmax.inputs[0], "CONCATENATION")
    if not np.array_equal(right.indices, whole[..., context:]) or joined is None:
        return None
    return (joined.inputs[0], joined.inputs[1]) if _joins_last_axis(decoder, joined) else None


def _query(
    decoder: Decoder, scores: tuple[int, int], layer: int, shape: tuple[int, int, int]
) -> tuple[Rotated, Rotated] | None:
    """(queries, new keys), once the scores are seen to be scaled products with the cache's and the new keys."""
    kv_heads, context, head_dim = shape
    masked = _unmask(decoder, scores[0], context)
    old = None if masked is None else decoder.made_by(masked, "BATCH_MATMUL")
    new = decoder.made_by(scores[1], "BATCH_MATMUL")
    if old is None or new is None or _adjoint(old) != (False, True) or _adjoint(new) != (False, True):
        return None
    if not decoder.is_input(old.inputs[1], f"k_{layer}") or decoder.tensor(old.inputs[1]).shape != shape:
        return None
    if old.inputs[0] != new.inputs[0] or decoder.tensor(new.inputs[1]).shape != (kv_heads, 1, head_dim):
        return None
    query_shape = decoder.tensor(old.inputs[0]).shape
    if len(query_shape) != 3 or query_shape[0] != kv_heads or query_shape[2] != head_dim:
        return None
    key = _rotated(decoder, new.inputs[1])
    for operand, factor in orders(decoder.pair(old.inputs[0], "MUL") or (), 2):
        scale, query = decoder.scalar(factor), _rotated(decoder, operand)
        exact = 1 / math.sqrt(head_dim)
        if scale is not None and abs(scale - exact) <= 1e-6 * exact and query is not None and key is not None:
            return query, key
    return None


def _unmask(decoder: Decoder, index: int, context: int) -> int | None:
    """The scores under the mask MINIMUM(scores, SELECT_V2(slots < position, largest float, -large))."""
    for scores, mask in orders(decoder.pair(index, "MINIMUM") or (), 2):
        select = decoder.made_by(mask, "SELECT_V2") or decoder.made_by(mask, "SELECT")
        less = None if select is None else decoder.made_by(select.inputs[0], "LESS")
        if select is None or less is None or decoder.tensor(mask).shape != (context,):
            continue
        slots, visible = decoder.constant(less.inputs[0]), decoder.scalar(select.inputs[1])
        hidden = decoder.scalar(select.inputs[2])
        if slots is None or slots.size != context or not np.array_equal(slots.reshape(-1), np.arange(context)):
            continue
        if visible == float(np.finfo(np.float32).max) and hidden is not None and hidden <= UNSEEN:
            return scores if decoder.is_input(less.inputs[1], "position") else None
    return None


def _rotated(decoder: Decoder, index: int) -> Rotated | None:
    """The part of a RoPE's result that a tensor is."""
    view = decoder.view(index)
    whole = None if view is None else decoder.rotated.get(view.base)
    if view is None or whole is None:
        return None
    return Rotated(View(whole.source.base, whole.source.indices.reshape(-1)[view.indices]), whole.cos, whole.sin)


def _attention_steps(
    decoder: Decoder,
    output: int,
    query_key: tuple[Rotated, Rotated],
    value: int,
    layer: int,
    shape: tuple[int, int, int],
) -> list[Step] | None:
    """RoPE in place on q|k|v, then attention; None unless the parts lie as the op wants and go where they should."""
    query, key = query_key
    kv_heads, context, head_dim = shape
    values, source = decoder.view(value), query.source.base
    heads = query.source.indices.size // head_dim
    if values is None or values.base != source or key.source.base != source:
        return None
    laid_out = (
        query.source.is_range(0, heads * head_dim)
        and key.source.is_range(heads * head_dim, kv_heads * head_dim)
        and values.is_range((heads + kv_heads) * head_dim, kv_heads * head_dim)
        and decoder.size(source) == (heads + 2 * kv_heads) * head_dim
        and decoder.size(output) == heads * head_dim
        and heads % kv_heads == 0
    )
    tables = (
        query.cos.shape == (context, head_dim // 2)
        and np.array_equal(query.cos, key.cos)
        and np.array_equal(query.sin, key.sin)
    )
    if not laid_out or not tables or not _rows_go_out(decoder, layer, key, values):
        return None
    context = _context(decoder, context)
    constants = {
        name: decoder.kept(table[:context], (context, head_dim // 2))
        for name, table in (("cos", query.cos), ("sin", query.sin))
    }
    rotation = {"heads": heads + kv_heads, "head_dim": head_dim}
    attending = {"layer": layer, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "context": context}
    return [
        Step("rope", (source,), source, constants, rotation),
        Step("attention", (source,), output, {}, attending),
    ]


def _rows_go_out(decoder: Decoder, layer: int, key: Rotated, values: View) -> bool:
    """Are k_new and v_new of the layer, which the caller writes into its cache, what the attention used?"""
    key_out, value_out = (decoder.outputs.get(f"{side}_new_{layer}") for side in "kv")
    if key_out is None or value_out is None:
        return False
    rows, kept = _rotated(decoder, key_out), decoder.view(value_out)
    return (
        rows is not None
        and kept is not None
        and np.array_equal(rows.source.indices.reshape(-1), key.source.indices.reshape(-1))
        and kept.base == values.base
        and np.array_equal(kept.indices.reshape(-1), values.indices.reshape(-1))
    )


def _context(decoder: Decoder, of_file: int) -> int:
    wanted = of_file if decoder.context is None else decoder.context
    if not 1 <= wanted <= of_file:
        hint = f"--context takes 1 to {of_file}; `edge convert --context` makes a file with another"
        raise UserError(f"a context of {wanted} positions is out of range", hint)
    return wanted
