"""Ops that give elements another place or shape, and lookups in tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.make.formats.onnx_ops.builder import (
    Builder,
    Node,
    NotTaken,
    Value,
    axis_of,
    constant_of,
    integers,
    known,
    to_last,
)

Op = Callable[..., "Value | tuple[Value, ...]"]
MOST_ELEMENTS = 1 << 28
MOST_PARTS = 1024


def _seen(b: Builder, x: Value, shape: Sequence[int]) -> Value:
    """The same elements in another shape."""
    return Value(tuple(shape), x.dtype, plain=b.reshaped(b.plain(x), shape, x.dtype))


def reshape(b: Builder, node: Node, x: Value, target: Value) -> Value:
    shape = integers(target, "shape")
    keeps_zeros = node.number("allowzero", 0)
    if any(n == 0 and i >= len(x.shape) for i, n in enumerate(shape)) and not keeps_zeros:
        raise NotTaken(f"its shape {shape} copies an axis that its input has not")
    shape = [x.shape[i] if n == 0 and not keeps_zeros else n for i, n in enumerate(shape)]
    rest = math.prod(n for n in shape if n != -1)
    if min(shape, default=0) < -1 or shape.count(-1) > 1 or -1 in shape and (rest < 1 or math.prod(x.shape) % rest):
        raise NotTaken(f"a shape {list(x.shape)} does not become {shape}")
    return _seen(b, x, [math.prod(x.shape) // rest if n == -1 else n for n in shape])


def flatten(b: Builder, node: Node, x: Value) -> Value:
    axis = node.number("axis", 1)
    axis = axis_of(axis, len(x.shape)) if axis < len(x.shape) else axis
    return _seen(b, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def _axes(node: Node, axes: Value | None, rank: int) -> list[int]:
    given = integers(axes, "axes") if axes is not None else node.numbers("axes", ())
    return [axis_of(axis, rank) for axis in given]


def squeeze(b: Builder, node: Node, x: Value, axes: Value | None = None) -> Value:
    gone = _axes(node, axes, len(x.shape)) or [i for i, n in enumerate(x.shape) if n == 1]
    return _seen(b, x, [n for i, n in enumerate(x.shape) if i not in gone])


def unsqueeze(b: Builder, node: Node, x: Value, axes: Value | None = None) -> Value:
    count = len(integers(axes, "axes")) if axes is not None else len(node.numbers("axes", ()))
    new, rest = _axes(node, axes, len(x.shape) + count), list(x.shape)
    return _seen(b, x, [1 if i in new else rest.pop(0) for i in range(len(x.shape) + count)])


def transpose(b: Builder, node: Node, x: Value) -> Value:
    rank = len(x.shape)
    order = node.numbers("perm", range(rank)[::-1])
    if sorted(order) != list(range(rank)):
        raise NotTaken(f"its order {order} is not one of {rank} axes")
    shape = tuple(x.shape[axis] for axis in order)
    if b.is_last_only(x) and tuple(order) == to_last(range(rank)):  # it is that already
        return Value(shape, x.dtype, plain=x.last)
    if [axis for axis in order if x.shape[axis] > 1] == [axis for axis in range(rank) if x.shape[axis] > 1]:
        return _seen(b, x, shape)
    return Value(shape, x.dtype, plain=b.transposed(b.plain(x), order, x.dtype))


def concat(b: Builder, node: Node, *values: Value) -> Value:
    rank = len(values[0].shape)
    axis = axis_of(node.number("axis", 0), rank)
    values = tuple(value for value in values if math.prod(value.shape)) or values[:1]
    rests = {(len(v.shape), *v.shape[:axis], *v.shape[axis + 1 :]) for v in values}
    if len(rests) != 1 or len({value.dtype.kind for value in values}) != 1:
        raise NotTaken("its inputs do not fit each other")
    shape = list(values[0].shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    dtype = values[0].dtype
    if any(b.is_last_only(v) for v in values):
        place = {0: 0, 1: rank - 1}.get(axis, axis - 1)
        tensors = [b.channels_last(v) for v in values]
        options = schema.ConcatenationOptionsT(axis=place)
        return Value(tuple(shape), dtype, last=b.emit("CONCATENATION", tensors, to_last(shape), options, dtype))
    options = schema.ConcatenationOptionsT(axis=axis)
    return b.made("CONCATENATION", [b.plain(v) for v in values], shape, options, dtype)


def slice_(
    b: Builder,
    node: Node,
    x: Value,
    starts: Value | None = None,
    ends: Value | None = None,
    axes: Value | None = None,
    steps: Value | None = None,
) -> Value:
    rank = len(x.shape)
    first = node.numbers("starts", ()) if starts is None else integers(starts, "start")
    last = node.numbers("ends", ()) if ends is None else integers(ends, "end")
    where = node.numbers("axes", range(len(first))) if axes is None else integers(axes, "axes")
    step = [1] * len(first) if steps is None else integers(steps, "step")
    if not len(first) == len(last) == len(where) == len(step) or 0 in step:
        raise NotTaken("its starts, ends, axes and steps do not fit each other")
    parts = [range(n) for n in x.shape]
    for axis, begin, end, by in zip(where, first, last, step, strict=True):
        axis = axis_of(axis, rank)
        parts[axis] = range(x.shape[axis])[slice(begin, end, by)]
    return _part(b, x, parts)


def _part(b: Builder, x: Value, parts: Sequence[range]) -> Value:
    """What lies in a range of each axis."""
    shape = tuple(len(part) for part in parts)
    if shape == x.shape and all(part.step == 1 for part in parts):
        return x
    if 0 in shape:
        raise NotTaken("nothing is left of its input")
    if b.is_last_only(x) and len(x.shape) > 2:
        moved = to_last(range(len(x.shape)))
        return Value(shape, x.dtype, last=_cut(b, x.last, [parts[axis] for axis in moved], x.dtype))
    return Value(shape, x.dtype, plain=_cut(b, b.plain(x), parts, x.dtype))


def _cut(b: Builder, tensor: int, parts: Sequence[range], dtype: object) -> int:
    shape = [len(part) for part in parts]
    begin = b.numbers(*(part.start for part in parts))
    if all(part.step == 1 or len(part) == 1 for part in parts):
        return b.emit("SLICE", [tensor, begin, b.numbers(*shape)], shape, schema.SliceOptionsT(), dtype)
    ends = [part[-1] + (1 if part.step > 0 else -1) for part in parts]
    mask = sum(1 << i for i, end in enumerate(ends) if end < 0)  # down to the very first
    options = schema.StridedSliceOptionsT(endMask=mask)
    inputs = [tensor, begin, b.numbers(*ends), b.numbers(*(part.step for part in parts))]
    return b.emit("STRIDED_SLICE", inputs, shape, options, dtype)


def split(b: Builder, node: Node, x: Value, sizes: Value | None = None) -> tuple[Value, ...]:
    axis, count = axis_of(node.number("axis", 0), len(x.shape)), len(node.outputs)
    given = integers(sizes, "sizes") if sizes is not None else node.numbers("split", ())
    if not given:
        size = -(-x.shape[axis] // count)
        given = [min(size, x.shape[axis] - size * i) for i in range(count)]
    if sum(given) != x.shape[axis] or len(given) != count or min(given) < 1:
        raise NotTaken(f"its sizes {given} do not make {x.shape[axis]}")
    parts, start = [], 0
    for size in given:
        ranges = [range(n) for n in x.shape]
        ranges[axis] = range(start, start + size)
        parts.append(_part(b, x, ranges))
        start += size
    return tuple(parts)


def gather(b: Builder, node: Node, x: Value, indices: Value) -> Value:
    """Rows of a table: an embedding where the table is stored, a slice where one row is."""
    axis = axis_of(node.number("axis", 0), len(x.shape))
    if indices.dtype.kind not in "iu":
        raise NotTaken(f"its indices are {indices.dtype}")
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    if indices.data is not None:
        chosen = np.where(indices.data < 0, indices.data + x.shape[axis], indices.data)
        if chosen.size and not 0 <= int(chosen.min()) <= int(chosen.max()) < x.shape[axis]:
            raise NotTaken(f"an index is outside of {x.shape[axis]} rows")
        if chosen.size == 1:
            parts = [range(n) for n in x.shape]
            parts[axis] = range(int(chosen.reshape(())), int(chosen.reshape(())) + 1)
            return _seen(b, _part(b, x, parts), shape)
        indices = known(chosen)
    if x.data is not None and axis == 0 and x.data.ndim == 2 and x.data.dtype.kind == "f":
        return _embedding(b, x, indices, shape)
    options = schema.GatherOptionsT(axis=axis)
    return b.made("GATHER", [b.plain(x), b.plain(indices)], shape, options, x.dtype)


def _embedding(b: Builder, table: Value, indices: Value, shape: tuple[int, ...]) -> Value:
    data, rows = constant_of(table, "table"), math.prod(indices.shape)
    stored = b.weights(data)
    where = b.reshaped(b.plain(indices), (rows,), np.int32)
    if b.is_int8(stored):
        made = b.emit("EMBEDDING_LOOKUP", [where, stored], (rows, data.shape[1]), version=3)
    else:
        made = b.emit("GATHER", [stored, where], (rows, data.shape[1]), schema.GatherOptionsT(axis=0))
    return Value(shape, np.dtype(np.float32), plain=b.reshaped(made, shape))


def expand(b: Builder, node: Node, x: Value, target: Value) -> Value:
    try:
        shape = np.broadcast_shapes(x.shape, tuple(integers(target, "shape")))
    except ValueError as error:
        raise NotTaken("its input does not broadcast to its shape") from error
    if shape == x.shape:
        return x
    _check_size(shape)
    same_rank = _seen(b, x, (1,) * (len(shape) - len(x.shape)) + x.shape)
    inputs = [b.plain(same_rank), b.numbers(*shape)]
    return b.made("BROADCAST_TO", inputs, shape, schema.BroadcastToOptionsT(), x.dtype)


def tile(b: Builder, node: Node, x: Value, repeats: Value) -> Value:
    times = integers(repeats, "repeats")
    if len(times) != len(x.shape) or min(times, default=1) < 1:
        raise NotTaken(f"its repeats {times} do not fit its input {list(x.shape)}")
    shape = [n * t for n, t in zip(x.shape, times, strict=True)]
    _check_size(shape)
    return b.made("TILE", [b.plain(x), b.numbers(*times)], shape, schema.TileOptionsT(), x.dtype)


def _check_size(shape: Sequence[int]) -> None:
    if math.prod(shape) > MOST_ELEMENTS:
        raise NotTaken(f"it makes {math.prod(shape)} elements, more than {MOST_ELEMENTS}")


def pad(
    b: Builder, node: Node, x: Value, pads: Value | None = None, fill: Value | None = None, axes: Value | None = None
) -> Value:
    rank = len(x.shape)
    given = node.numbers("pads", ()) if pads is None else integers(pads, "pads")
    where = list(range(rank)) if axes is None else _axes(node, axes, rank)
    if len(given) != 2 * len(where):
        raise NotTaken("its pads do not fit its axes")
    both = [(0, 0)] * rank
    for i, axis in enumerate(where):
        both[axis] = (given[i], given[i + len(where)])
    if min(min(pair) for pair in both) < 0:
        raise NotTaken("it cuts off instead of padding", "cut with a slice")
    shape = [n + sum(pair) for n, pair in zip(x.shape, both, strict=True)]
    _check_size(shape)
    mode = node.text("mode", "constant")
    inputs = [b.plain(x), b.constant(np.array(both, np.int32))]
    if mode == "reflect":
        return b.made("MIRROR_PAD", inputs, shape, schema.MirrorPadOptionsT(mode=schema.MirrorPadMode.REFLECT), x.dtype)
    if mode != "constant":
        raise NotTaken(f"it pads in mode {mode}", "pad with constant or reflect")
    value = float(constant_of(fill, "value").reshape(())) if fill is not None else node.real("value", 0.0)
    if value == 0:
        return b.made("PAD", inputs, shape, schema.PadOptionsT(), x.dtype)
    filling = b.constant(np.array([value], x.dtype))
    return b.made("PADV2", [*inputs, filling], shape, schema.PadV2OptionsT(), x.dtype)


def shape(b: Builder, node: Node, x: Value) -> Value:
    start, end = node.number("start", 0), node.attributes.get("end")
    return known(np.array(x.shape, np.int64)[start : None if end is None else int(end)])


def size(b: Builder, node: Node, x: Value) -> Value:
    return known(np.array(math.prod(x.shape), np.int64))


OPS: Mapping[str, Op] = {
    "Concat": concat,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Pad": pad,
    "Reshape": reshape,
    "Shape": shape,
    "Size": size,
    "Slice": slice_,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
