"""Strategies that make models of one operator that moves elements: TRANSPOSE, SLICE, CONCATENATION, PAD …"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from hypothesis import assume
from hypothesis import strategies as st
from single_op import Array, Case, T, case, model

Draw = Callable[[Any], Any]
Parts = tuple[str, list[T], list[T], Any, int]  # operator, inputs, outputs, options, version


def number(draw: Draw, low: int, high: int) -> int:
    return int(draw(st.integers(low, high)))


def filled(dtype: str, shape: Sequence[int]) -> Array:
    """Elements that are all different, as far as the type goes."""
    return (
        (np.arange(math.prod(shape)) % (2 if dtype == "bool" else 251) - 100 * (dtype != "bool"))
        .astype(dtype)
        .reshape(shape)
    )


def tensor(dtype: str, shape: Sequence[int], data: Array | None = None) -> T:
    return T(dtype, tuple(shape), *((0.1, 5) if dtype == "int8" else ()), data=data)


def stored(*numbers: int) -> T:
    return T("int32", (len(numbers),), data=np.array(numbers, np.int32))


def scalar(value: int) -> T:
    return T("int32", (), data=np.array(value, np.int32))


def dtype_and_shape(draw: Draw, *dtypes: str, rank: int = 4) -> tuple[str, list[int]]:
    return draw(st.sampled_from(dtypes)), [number(draw, 1, 4) for _ in range(number(draw, 1, rank))]


def transpose(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "int8", "float32", "int16", rank=5)
    order = draw(st.permutations(range(len(shape))))
    inputs = [tensor(dtype, shape), stored(*order)]
    return "TRANSPOSE", inputs, [tensor(dtype, [shape[i] for i in order])], schema.TransposeOptionsT(), 2


def slice_(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "int8", "float32", "int16", "int32", "bool")
    begin = [number(draw, 0, n - 1) for n in shape]
    size = [number(draw, 1, n - b) for n, b in zip(shape, begin, strict=True)]
    asked = [-1 if b + s == n and number(draw, 0, 1) else s for n, b, s in zip(shape, begin, size, strict=True)]
    return (
        "SLICE",
        [tensor(dtype, shape), stored(*begin), stored(*asked)],
        [tensor(dtype, size)],
        schema.SliceOptionsT(),
        2,
    )


def strided_slice(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "int8", "float32", "int32")
    options = schema.StridedSliceOptionsT()
    options.beginMask, options.endMask, options.shrinkAxisMask = (
        number(draw, 0, 3),
        number(draw, 0, 3),
        number(draw, 0, 1),
    )
    strides = [draw(st.sampled_from([1, 2, -1, -2])) for _ in shape]
    if options.shrinkAxisMask:
        strides[0] = 1
    begin = [number(draw, -n, n - 1) for n in shape]
    end = [number(draw, -n - 1, n + 1) for n in shape]
    out = []
    for i, n in enumerate(shape):
        first = None if options.beginMask >> i & 1 else begin[i]
        last = None if options.endMask >> i & 1 else end[i]
        if not options.shrinkAxisMask >> i & 1:
            out.append(len(range(n)[first : last : strides[i]]))
    assume(all(out))
    inputs = [tensor(dtype, shape), stored(*begin), stored(*end), stored(*strides)]
    return "STRIDED_SLICE", inputs, [tensor(dtype, out)], options, 2


def split(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "int8", "float32", "int16")
    axis, parts = number(draw, 0, len(shape) - 1), number(draw, 1, 3)
    options = schema.SplitOptionsT()
    options.numSplits = parts
    whole = [n * parts if i == axis else n for i, n in enumerate(shape)]
    return "SPLIT", [scalar(axis), tensor(dtype, whole)], [tensor(dtype, shape)] * parts, options, 2


def split_v(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "int8", "float32", "int16")
    axis = number(draw, 0, len(shape) - 1)
    sizes = [number(draw, 1, 3) for _ in range(number(draw, 1, 3))]
    options = schema.SplitVOptionsT()
    options.numSplits = len(sizes)
    whole = [sum(sizes) if i == axis else n for i, n in enumerate(shape)]
    outputs = [tensor(dtype, [size if i == axis else n for i, n in enumerate(shape)]) for size in sizes]
    return "SPLIT_V", [tensor(dtype, whole), stored(*sizes), scalar(axis - len(shape))], outputs, options, 2


def concatenation(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "int8", "float32", "int16", "int32")
    axis, sizes = number(draw, 0, len(shape) - 1), [number(draw, 1, 4) for _ in range(number(draw, 1, 3))]
    options = schema.ConcatenationOptionsT()
    options.axis = axis - len(shape) * number(draw, 0, 1)
    shapes = [[size if i == axis else n for i, n in enumerate(shape)] for size in sizes]
    inputs = [tensor(dtype, one) for one in shapes]
    if len(sizes) > 1 and number(draw, 0, 2) == 0:
        inputs[1] = tensor(dtype, shapes[1], filled(dtype, shapes[1]))
    whole = [sum(sizes) if i == axis else n for i, n in enumerate(shape)]
    return "CONCATENATION", inputs, [tensor(dtype, whole)], options, 2


def pad(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "int8", "float32", "int32")
    around = np.array([[number(draw, 0, 2), number(draw, 0, 2)] for _ in shape], np.int32)
    inputs = [tensor(dtype, shape), T("int32", around.shape, data=around)]
    outputs = [tensor(dtype, [n + a + b for n, (a, b) in zip(shape, around.tolist(), strict=True)])]
    if number(draw, 0, 1):
        return "PAD", inputs, outputs, schema.PadOptionsT(), 2
    inputs.append(tensor(dtype, (1,), np.array([number(draw, -100, 100)], dtype)))
    return "PADV2", inputs, outputs, schema.PadV2OptionsT(), 2


def pack(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "int8", "float32", "int32", rank=3)
    options, axis = schema.PackOptionsT(), number(draw, 0, len(shape))
    options.axis, options.valuesCount = axis - (len(shape) + 1) * number(draw, 0, 1), number(draw, 1, 3)
    out = [*shape[:axis], options.valuesCount, *shape[axis:]]
    return "PACK", [tensor(dtype, shape)] * options.valuesCount, [tensor(dtype, out)], options, 2


def unpack(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "int8", "float32", "int32")
    options, axis = schema.UnpackOptionsT(), number(draw, 0, len(shape) - 1)
    options.axis, options.num = axis, shape[axis]
    out = [n for i, n in enumerate(shape) if i != axis]
    return "UNPACK", [tensor(dtype, shape)], [tensor(dtype, out)] * shape[axis], options, 2


def broadcast_to(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "int8", "float32", "int32", rank=3)
    out = [number(draw, 1, 3), *(n * number(draw, 1, 3) if n == 1 else n for n in shape)]
    return "BROADCAST_TO", [tensor(dtype, shape), stored(*out)], [tensor(dtype, out)], schema.BroadcastToOptionsT(), 2


def tile(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "int8", "float32", "int32")
    times = [number(draw, 1, 3) for _ in shape]
    out = [n * t for n, t in zip(shape, times, strict=True)]
    return "TILE", [tensor(dtype, shape), stored(*times)], [tensor(dtype, out)], schema.TileOptionsT(), 2


def reverse(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "float32", "int32", "int16")
    axis = number(draw, 0, len(shape) - 1)
    return "REVERSE_V2", [tensor(dtype, shape), stored(axis)], [tensor(dtype, shape)], schema.ReverseV2OptionsT(), 2


def depth_and_space(draw: Draw) -> Parts:
    dtype, block = draw(st.sampled_from(["int8", "float32", "int32"])), number(draw, 1, 3)
    height, width, channels = (number(draw, 1, 3) for _ in range(3))
    space = tensor(dtype, (2, height * block, width * block, channels))
    depth = tensor(dtype, (2, height, width, channels * block * block))
    if number(draw, 0, 1):
        options = schema.SpaceToDepthOptionsT()
        options.blockSize = block
        return "SPACE_TO_DEPTH", [space], [depth], options, 2
    options = schema.DepthToSpaceOptionsT()
    options.blockSize = block
    return "DEPTH_TO_SPACE", [depth], [space], options, 1


def space_to_batch(draw: Draw) -> Parts:
    """And back again, with crops where there was padding."""
    dtype, blocks = draw(st.sampled_from(["int8", "float32"])), [number(draw, 1, 3), number(draw, 1, 3)]
    sizes = [block * number(draw, 1, 3) for block in blocks]
    around = np.array([[number(draw, 0, (n - 1) // 2), number(draw, 0, (n - 1) // 2)] for n in sizes], np.int32)
    space = (2, *(n - int(pads.sum()) for n, pads in zip(sizes, around, strict=True)), 3)
    batch = (2 * blocks[0] * blocks[1], *(n // block for n, block in zip(sizes, blocks, strict=True)), 3)
    numbers = [stored(*blocks), T("int32", (2, 2), data=around)]
    if number(draw, 0, 1):
        options = schema.SpaceToBatchNDOptionsT()
        return "SPACE_TO_BATCH_ND", [tensor(dtype, space), *numbers], [tensor(dtype, batch)], options, 2
    options = schema.BatchToSpaceNDOptionsT()
    return "BATCH_TO_SPACE_ND", [tensor(dtype, batch), *numbers], [tensor(dtype, space)], options, 2


def mirror_pad(draw: Draw) -> Parts:
    dtype, shape = dtype_and_shape(draw, "int8", "float32", "int32", rank=3)
    options = schema.MirrorPadOptionsT()
    options.mode = number(draw, 0, 1)
    most = [n - 1 + options.mode for n in shape]
    around = np.array([[number(draw, 0, n), number(draw, 0, n)] for n in most], np.int32)
    inputs = [tensor(dtype, shape), T("int32", around.shape, data=around)]
    out = [n + int(pads.sum()) for n, pads in zip(shape, around, strict=True)]
    return "MIRROR_PAD", inputs, [tensor(dtype, out)], options, 2


MAKERS = (
    space_to_batch,
    mirror_pad,
    transpose,
    slice_,
    strided_slice,
    split,
    split_v,
    concatenation,
    pad,
    pack,
    unpack,
    broadcast_to,
    tile,
    reverse,
    depth_and_space,
)


@st.composite
def rearrange(draw: Draw) -> Case:
    name, inputs, outputs, options, version = draw(st.sampled_from(MAKERS))(draw)
    values = tuple(filled(t.dtype, t.shape) for t in inputs if t.data is None)
    return case("rearrange", model(name, inputs, outputs, options, version), [values])
